"""Everything that is measured of X-ray images: CR, DX and MG."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qc_node.domain.measurable import Radiograph
from qc_node.domain.measure import ALL, Better, Measure, Measured, Unit
from qc_node.domain.technique import Technique
from qc_node.measures import collimation, edges, exposure, patterns, spectrum
from qc_node.measures.collimation import XRAY, Irradiated
from qc_node.measures.volumes import within

MEASURES = (
    Measure("grid_lines", "lines of the grid", Unit.ONE, Better.LOWER, 0, math.inf, XRAY, "Lin et al. 2006; own"),
)

STRUCTURE = (*edges.MEASURES, spectrum.SLOPE, *patterns.MEASURES)

BY_NAME: Mapping[str, Measure] = {
    m.name: m for m in (*MEASURES, *collimation.MEASURES, *exposure.MEASURES, *STRUCTURE)
}

SMALLEST = 8
"""An image with fewer rows or columns is none."""

WINDOW = 512
"""Grid lines are looked for in pieces of rows and columns of this length."""

PIECES = 96
"""In how many rows (and columns)."""

Values = dict[str, float | str]


def measure_radiographs(images: Sequence[Radiograph], technique: Technique) -> Measured:
    """Measures of the X-ray images of one series.

    Of several images the worst value of each measure counts, or the first one's where no direction is worse.
    """
    begun = time.perf_counter()
    collimated = technique.modality != "MG"
    each = [of_image(image, collimated) for image in images if _is_large(image.pixels.shape)]
    if not each:
        return Measured({}, {ALL: "The series has no large enough grey image."}, time.perf_counter() - begun)
    found = {name: _worst(BY_NAME[name], [values[name] for values in each]) for name in each[0]}
    found |= exposure.of_statement(technique.stated)
    found = {name: within(BY_NAME[name], value) for name, value in found.items()}
    values = {name: value for name, value in found.items() if not isinstance(value, str)}
    unmeasured = {name: value for name, value in found.items() if isinstance(value, str)}
    return Measured(values, unmeasured, time.perf_counter() - begun)


def _is_large(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and min(shape) >= SMALLEST


def of_image(image: Radiograph, collimated: bool = True) -> Values:
    """What one image shows by itself; every measure in it is a value or a sentence why not."""
    if not np.issubdtype(image.pixels.dtype, np.integer):
        image = _finite(image)
    found = collimation.irradiated(image, collimated)
    return {
        **collimation.of_field(found),
        **exposure.of_greys(image, found),
        "grid_lines": grid_lines(image.pixels),
        **_structure(image, found),
    }


def grid_lines(pixels: npt.NDArray[np.generic]) -> float | str:
    """How far the strongest line of the spectrum stands above its neighbours, along rows or columns.

    Parameters
    ----------
    pixels
        ``(J, I)``, any finite values.

    Returns
    -------
    The square root of the ratio of power at one frequency (0.1 to 0.5 per pixel) to the median of the frequencies
    around it; a picture without a grid has 1 to 2.  A grid that is seen is a line at one frequency (Lin et al.
    2006, J Digit Imaging 19:351).
    """
    if min(pixels.shape) < WINDOW // 2:
        return "The image is too small to see lines of a grid."
    return max(_line(pixels), _line(pixels.T))


def _line(pixels: npt.NDArray[np.generic]) -> float:
    """The strongest line along rows."""
    rows, columns = pixels.shape
    length = min(WINDOW, columns)
    picked = np.linspace(rows * 0.1, rows * 0.9, PIECES).astype(int).clip(0, rows - 1)
    starts = np.unique(np.linspace(0, columns - length, max(1, columns // length)).astype(int))
    pieces = np.stack([pixels[picked, start : start + length] for start in starts], axis=1).astype(np.float32)
    changes = np.diff(pieces, axis=-1) * np.hanning(length - 1).astype(np.float32)
    power = np.median(np.abs(np.fft.rfft(changes, axis=-1)) ** 2, axis=(0, 1))[: length // 2]
    return _above_neighbours(power[length // 10 :])


def _above_neighbours(power: npt.NDArray[np.float64]) -> float:
    half = 12
    padded = np.pad(power, half, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=-1)
    floor = max(float(power.max()) * 1e-9, 1e-12)
    return float(np.sqrt((power / np.maximum(around, floor)).max()))


def _structure(image: Radiograph, found: Irradiated) -> Values:
    """Edge width, slope of the spectrum, waves and lines between the borders of the collimator.

    The borders themselves are sharp however much the patient moved.
    """
    inner = found.full(found.inner)
    at = [np.flatnonzero(inner.any(axis=axis)) for axis in (1, 0)]
    if not (at[0].size and at[1].size):
        return dict.fromkeys((m.name for m in STRUCTURE), collimation.NOTHING)
    rows, columns = (slice(int(places[0]), int(places[-1]) + 1) for places in at)
    pixels = image.pixels[rows, columns]
    spacing = (image.spacing_mm[1], image.spacing_mm[0]) if image.spacing_mm else None
    return (
        edges.of_image(pixels, spacing) | spectrum.of_image(pixels, spacing) | patterns.of_image(pixels, spacing)
    )


def _worst(measure: Measure, seen: Sequence[float | str]) -> float | str:
    """The worst value in the measure's direction, else the first; a sentence where there is none."""
    numbers = [value for value in seen if not isinstance(value, str)]
    if not numbers:
        return seen[0]
    if measure.better is Better.NEITHER:
        return numbers[0]
    return max(numbers) if measure.better is Better.LOWER else min(numbers)


def _finite(image: Radiograph) -> Radiograph:
    """Floating pixels without what no detector delivers."""
    low, high = (float(np.clip(np.nan_to_num(end), -1e9, 1e9)) for end in (image.lowest, image.highest))
    pixels = np.nan_to_num(image.pixels.astype(np.float32), nan=low, posinf=high, neginf=low).clip(-1e9, 1e9)
    return replace(image, pixels=pixels, lowest=low, highest=high)
