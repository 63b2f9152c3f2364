"""Made-up measures for tests of reports; what is really measured stands in :mod:`qc_node.measures.catalogue`."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from qc_node.domain.measure import Better, ImageFinding, Measure, Unit
from qc_node.report.measured_report import build_measured_report
from qc_node.report.measures_group import MeasuredBlock
from tests.report.sources import CREATED, evidence, key, source

INF = float("inf")


def one(name: str, title: str, unit: Unit, low: float = 0.0, high: float = INF) -> Measure:
    return Measure(name, title, unit, Better.LOWER, low, high, frozenset({"MR", "CT", "DX"}), "own")


KNOWN = {
    measure.name: measure
    for measure in (
        one("noise_air", "noise in air", Unit.GREY),
        one("snr_object", "signal-to-noise ratio", Unit.ONE),
        one("sharpness", "width of edges", Unit.MM),
        one("spectrum_slope", "slope of the spectrum", Unit.PER_MM, -INF),
        one("coverage_of_the_acquisition", "coverage of the whole acquisition", Unit.CM),
        one("clipped", "share of clipped values", Unit.PERCENT, 0.0, 100.0),
        one("air_hu", "attenuation of air", Unit.HU, -INF),
        one("ctdi_vol", "CTDIvol", Unit.MGY),
        one("dlp", "dose-length product", Unit.MGY_CM),
        one("kvp", "tube voltage", Unit.KV),
        one("tube_current", "tube current", Unit.MA),
        one("mas", "exposure", Unit.MAS),
        one("exposure_time", "exposure time", Unit.MS),
        one("tilt", "tilt", Unit.DEG, -INF),
        one("exposure_index", "exposure index", Unit.ONE),
        one("deviation_index", "deviation index", Unit.ONE, -INF),
    )
}
VALUES = {name: 1.2345678 * (n + 1) for n, name in enumerate(KNOWN)} | {"spectrum_slope": -2.5e-05, "mas": 1e7 / 3}
FINDINGS = tuple(
    ImageFinding(kind, f"Sentence about {kind}.")
    for kind in ("clipping", "metal", "noise", "truncation", "underexposure", "overexposure")
)
BLOCK = MeasuredBlock(3, VALUES, KNOWN, FINDINGS)


def measured_report(block: MeasuredBlock = BLOCK, header: Dataset | None = None, **changes: Any) -> Dataset:
    """A report on a series that was measured only, with defaults for everything."""
    header = source("CT") if header is None else header
    options = {
        "summary": "Measured, not judged.",
        "software_version": "0.1.0",
        "node": "QCNODE",
        "created": CREATED,
        "sr_class": "comprehensive",
        **changes,
    }
    refs = options.pop("evidence", evidence())
    return build_measured_report(header, refs, key(header), block, **options)
