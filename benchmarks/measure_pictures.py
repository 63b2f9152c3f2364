"""One picture for each measure of structure: a made head as it is, and with the fault that the measure finds.

Run ``python -m benchmarks.measure_pictures``; it writes ``docs/images/measures-NAME.png``.  The head is the
demo's: it belongs to nobody.  Faults are planted as the tests plant them; the numbers are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from qc_node.demo.samples import SampleHead
from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices
from qc_node.measures import between_slices, edges, ghosts, patterns, planes, spectrum
from qc_node.training.brain_mri.simulation.artefacts import add_noise
from tests.measures import planting

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SPACING_MM = (4.0, 1.0, 1.0)
FIELD = 256
"""Pixels: half as much again as the head, as the field of view of a scanner."""
PANEL, CAPTION, LINE = 230, 40, 15
LARGEST_BYTES = 80_000
Picture = tuple[npt.NDArray[Any], str]


def head() -> Slices:
    """An invented head as a stack of axial slices of 4 mm with some noise."""
    rng = np.random.default_rng(7)
    made = add_noise(SampleHead(ROOT / "models", SPACING_MM, rng).t1w(), 0.015, rng)
    rows, columns = (FIELD - n for n in made.shape[1:])
    margins = (0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    air = np.abs(rng.normal(0, 0.015, (len(made), FIELD, FIELD)))
    field = np.pad(made, margins) + np.where(np.pad(made, margins) > 0, 0, air)
    volume = Volume((field * 600).astype(np.float32), np.diag([*SPACING_MM[::-1], 1.0]), modality="MR")
    return Slices(volume, thickness_mm=SPACING_MM[0])


def values_of(slices: Slices) -> Mapping[str, float | str]:
    sampled = planes.planes_of(slices)
    of_planes = (module.of_planes(sampled) for module in (edges, spectrum, patterns, ghosts))
    return dict(pair for found in of_planes for pair in found.items()) | between_slices.of_slices(slices)


def axial(slices: Slices) -> npt.NDArray[Any]:
    return np.asarray(slices.volume.voxels[slices.volume.shape[0] // 2])


def coronal(slices: Slices) -> npt.NDArray[Any]:
    """Across the slices, from head to feet, as high as it is."""
    cut = slices.volume.voxels[::-1, FIELD // 2]
    return np.repeat(cut, round(SPACING_MM[0]), axis=0)


def spectrum_of(slices: Slices) -> npt.NDArray[Any]:
    """Logarithm of the power of the middle slice."""
    power = np.fft.fftshift(np.abs(np.fft.fft2(axial(slices))) ** 2)
    return np.asarray(np.log10(power + power.max() * 1e-9))


def caption(name: str, slices: Slices, what: str) -> str:
    value = values_of(slices)[name]
    unit = {"edge_width_mm": " mm", "slice_shift": " mm", "spectrum_slope": ""}.get(name, " %")
    number = value if isinstance(value, str) else f"{value:.2f}{unit}"
    return f"{what}\n{name} {number}"


def pictures() -> dict[str, list[Picture]]:
    """What is drawn, by name of the measure."""
    clean = head()
    faults = {
        "edge_width_mm": ("blurred, sigma 1.5 mm", planting.blurred(clean, 1.5)),
        "spectrum_slope": ("blurred, sigma 1.5 mm", planting.blurred(clean, 1.5)),
        "wave_level": ("a spike in k-space, 10 %", planting.spiked(clean, 0.1)),
        "line_level": ("a bright line, 30 %", planting.striped(clean, 0.3)),
        "ghost_along_columns": ("a ghost of 10 %", planting.ghosted(clean, 0.1)),
        "slice_shift": ("every second slice 4 mm aside", planting.displaced(clean, 4.0)),
    }
    drawn = {"spectrum_slope": spectrum_of, "slice_shift": coronal}
    return {
        name: [
            (drawn.get(name, axial)(slices), caption(name, slices, text))
            for text, slices in (("as it is", clean), (what, faulty))
        ]
        for name, (what, faulty) in faults.items()
    }


def drawing(panels: list[Picture]) -> Image.Image:
    """Panels side by side on one grey scale, each with its caption below."""
    low, high = np.percentile(panels[0][0].astype(float), (1, 99.7))
    canvas = Image.new("L", (len(panels) * (PANEL + 6) - 6, PANEL + CAPTION), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for number, (values, text) in enumerate(panels):
        grey = ((values.astype(float) - low) / (high - low)).clip(0, 1) * 255
        panel = Image.fromarray(grey.astype(np.uint8)).resize((PANEL, PANEL), Image.Resampling.LANCZOS)
        canvas.paste(panel, (number * (PANEL + 6), 0))
        for line, words in enumerate(text.splitlines()):
            draw.text((number * (PANEL + 6) + 3, PANEL + 3 + line * (LINE + 2)), words, 0, font)
    return canvas.quantize(48)


def main() -> None:
    for name, panels in pictures().items():
        path = IMAGES / f"measures-{name}.png"
        drawing(panels).save(path, optimize=True)
        size = path.stat().st_size
        assert size < LARGEST_BYTES, f"{path.name} has {size} bytes"
        print(path.name, size, [text.splitlines()[-1] for _, text in panels])


if __name__ == "__main__":
    main()
