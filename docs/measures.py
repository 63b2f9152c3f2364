"""Writes the table of docs/measures.md from the catalogue of measures: ``python docs/measures.py``.

A test holds the page to the code.  What a law says of each measure stands here, because the tests that hold it are
many; a measure without one fails the test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.catalogue import MEASURES

PAGE = Path(__file__).with_name("measures.md")
BEGIN, END = "<!-- table of measures: written by docs/measures.py -->", "<!-- end of the table -->"

_QUADRATURE = "planted noise σ reads √(σ² + σ₀²) within 10 % from σ₀ to 30 σ₀"
_RATIO = "a gain changes nothing; noise moves it by less than 3 %"
_HEADER = "what the header states, where it is possible"

LAWS: Mapping[str, str] = {
    "noise_air": _QUADRATURE + "; a gain scales it; blanked air has none",
    "noise_object": _QUADRATURE + " down to an SNR of 1; a gain scales it",
    "noise_air_percent": "100 `noise_air` / signal; a gain changes nothing",
    "noise_percent": "100 / `snr_object`; a gain changes nothing",
    "snr_object": "its signal does not grow with noise (3 %); a gain changes nothing",
    "nonuniformity": "a planted field moves it in order; a gain changes nothing; noise and fat by less than 10 %",
    "clipped_share": "planted clipping moves it in order; 0 where one pixel is the highest",
    "empty_share": "a blanked quarter reads 25 %",
    "edge_width_mm": "planted blur moves it in order; a gain changes nothing",
    "spectrum_slope": "planted blur makes it steeper in order; a gain changes nothing",
    "entropy_focus": "planted motion moves it in order; a gain changes nothing",
    "wave_level": "planted spikes of k-space move it in order",
    "line_level": "planted bright lines move it in order",
    "ghost_along_rows": "a planted ghost along this axis moves it in order, and not the other",
    "ghost_along_columns": "a planted ghost along this axis moves it in order, and not the other",
    "slice_jump": "a planted loss of signal in one slice moves it in order",
    "slice_shift": "a planted shift of one slice moves it in order",
    "coverage_lr_mm": "geometry",
    "coverage_ap_mm": "geometry",
    "coverage_hf_mm": "geometry",
    "slice_gap_mm": "geometry: distance less thickness",
    "slice_count": "a count",
    "missing_slices": "slices that are emptied are counted",
    "grey_white_ratio": _RATIO,
    "csf_white_ratio": "a gain changes nothing; small ventricles read too high",
    "white_grey_cnr": "of a made brain within 8 % of (white − grey) / σ, under a coil too",
    "tissue_overlap": "noise moves it in order; a gain changes nothing",
    "noise_hu": "planted noise adds in quadrature",
    "air_hu": "textbook: −1000 HU; noise leaves it",
    "fat_hu": "textbook: −115 to −85 HU; noise leaves it",
    "muscle_hu": "textbook: 45 to 70 HU (brain 30 to 40); noise leaves it",
    "metal_share": "planted metal moves it in order",
    "metal_streaks": "planted streaks move it in order; metal without streaks does not",
    "cut_outline": "a body moved out of the field moves it in order",
    "body_diameter": "geometry: of a circle with the body's area",
    "ctdi_vol": _HEADER,
    "kvp": _HEADER,
    "mas": _HEADER,
    "slice_thickness": _HEADER,
    "field_share": "the field between planted blades, also tilted",
    "direct_share": "what lies beside the body",
    "exposure_index": _HEADER,
    "target_exposure_index": _HEADER,
    "deviation_index": "10 log₁₀(EI / EI_T), or what the header states",
    "target_miss": "the Deviation Index without its sign",
    "deviation_index_error": "0 where the header agrees with itself",
    "field_level": "planted exposure moves it in order, both ways",
    "grain": "fewer quanta move it in order",
    "black_clipped": "lungs that are lost in black are counted",
    "white_clipped": "white inside the body is counted, a white border is not",
    "grid_lines": "planted lines of a hundredth of the signal stand out",
}
"""What a test shows of each measure, by its name."""

BETTER = {Better.HIGHER: "higher", Better.LOWER: "lower", Better.NEITHER: "—"}
UNITS = {Unit.ONE: "", Unit.GREY: "grey values", Unit.HU: "HU", Unit.PER_MM: "1/mm", Unit.MGY_CM: "mGy·cm"}


def table() -> str:
    """The table, one row per measure in the order of the catalogue."""
    head = "| Measure | What | Unit | Better | Range | Of | Source | Law |"
    return "\n".join([head, "|---" * 8 + "|", *(row(m, LAWS[m.name]) for m in MEASURES.values())])


def row(measure: Measure, law: str) -> str:
    """One row; names of measures that are not compared with what is normal are in italics."""
    name = f"`{measure.name}`" if measure.charted else f"*`{measure.name}`*"
    unit = UNITS.get(measure.unit, str(measure.unit))
    cells = (name, measure.title, unit, BETTER[measure.better], limits(measure), of(measure), measure.source, law)
    return "| " + " | ".join(cells) + " |"


def of(measure: Measure) -> str:
    """Of which modalities."""
    return ", ".join(sorted(measure.modalities))


def limits(measure: Measure) -> str:
    """The range of values."""
    if math.isinf(measure.high):
        return f"from {measure.low:g}"
    return f"{measure.low:g} to {measure.high:g}".replace("-", "−")


def page() -> str:
    """The whole page with a new table."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
