"""Patterns that no anatomy has: waves over the whole image, and single lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.planes import Floats, ImagePlane, finite, hann, planes_of, tiles_of

WAVES = Measure(
    "wave_level",
    "waves over the image",
    Unit.PERCENT,
    Better.LOWER,
    0.0,
    100.0,
    frozenset({"MR", "CT", "CR", "DX", "MG"}),
    "points of the spectrum above 40 times those around them (spikes of k-space, herringbone), own",
)
LINES = Measure(
    "line_level",
    "stripes",
    Unit.PERCENT,
    Better.LOWER,
    0.0,
    100.0,
    frozenset({"MR", "CT", "CR", "DX", "MG"}),
    "difference of a line to the median of its neighbouring lines (zipper, dead detector line), own",
)
MEASURES = (WAVES, LINES)

OUTLIER = 40.0
"""Noise reaches this above the mean of the points around it hardly ever; spokes of straight edges do not."""
AXIS = 4
"""Frequencies so near to an axis hold the borders of the image."""
LOWEST = 0.2
"""As a share of the Nyquist frequency: shapes of anatomy lie below."""
TOGETHER = 8
RIM_MM = 15.0
ENOUGH = 0.7
"""A line counts where it crosses at least this share of what lines usually cross of the object."""
NO_OBJECT = "No object stands out from the background."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Waves and stripes of MR or CT slices; see :func:`of_planes`."""
    return of_planes(planes_of(slices))


def of_image(
    pixels: npt.NDArray[np.generic], spacing_mm: tuple[float, float] | None = None
) -> dict[str, float | str]:
    """Waves and stripes of a radiograph ``(rows, columns)``; every line of it is looked at."""
    tiles = tiles_of(pixels, spacing_mm)
    if not tiles:
        return {WAVES.name: NO_OBJECT, LINES.name: NO_OBJECT}
    signal = tiles[0].signal
    across = [finite(part) for part in (pixels[:, :: _step(pixels.shape[1])], pixels[:: _step(pixels.shape[0])].T)]
    levels = [_line_level(part, np.ones(part.shape, bool)) / signal for part in across]
    return _percent(WAVES, max(map(wave_share, tiles))) | _percent(LINES, max(levels))


def of_planes(planes: Sequence[ImagePlane]) -> dict[str, float | str]:
    """Waves of the worst plane and stripes of the upper quartile, in percent of the object's signal.

    Stripes run through many slices, and the cleft between the hemispheres is one in a few: so not the worst plane.
    """
    if not planes:
        return {WAVES.name: NO_OBJECT, LINES.name: NO_OBJECT}
    stripes = float(np.quantile([line_share(plane) for plane in planes], 0.75))
    return _percent(WAVES, max(map(wave_share, planes))) | _percent(LINES, stripes)


def wave_share(plane: ImagePlane) -> float:
    """Amplitude of the waves over the object's signal."""
    shape = plane.values[plane.box].shape
    power = plane.power
    nine, inner, outer = (n * n * ndimage.uniform_filter(power, n, mode="nearest") for n in (3, 5, 7))
    around = np.maximum((outer - inner) / 24, 1e-12 * float(power.max()))
    outliers = (power > OUTLIER * around) & _looked_at(shape)
    outliers &= power >= ndimage.maximum_filter(power, 3)
    window = float((hann(shape) ** 2).sum())
    return 2 * float(np.sqrt(nine[outliers].sum() / (shape[0] * shape[1] * window))) / plane.signal


def line_share(plane: ImagePlane) -> float:
    """How far the worst row or column lies from its neighbours, over the object's signal."""
    part, inside = plane.values[plane.box], plane.inside[plane.box]
    rows, columns = (_without_rim(mask, mm) for mask, mm in zip((inside, inside.T), plane.spacing_mm, strict=True))
    return max(_line_level(part, rows), _line_level(part.T, columns)) / plane.signal


def _without_rim(inside: npt.NDArray[np.bool_], mm: float) -> npt.NDArray[np.bool_]:
    """Less what lies within 15 mm of the object's border across lines: skin and skull run along lines there."""
    rim = int(np.clip(RIM_MM / mm, 2, len(inside) // 6))
    eroded = ndimage.minimum_filter1d(inside.view(np.uint8), 2 * rim + 1, axis=0, mode="constant")
    return np.asarray(eroded, bool)


def _line_level(values: Floats, inside: npt.NDArray[np.bool_]) -> float:
    """How far at least seven eighths of a row lie above, or below, the median of the four rows around: the worst.

    Anatomy that runs along a row moves some of its pixels; a stripe moves all.  Pixels are taken eight together,
    so that noise hides little.
    """
    if len(values) < 5:
        return 0.0
    middle, *around = (values[start : len(values) - 4 + start] for start in (2, 0, 1, 3, 4))
    usual = (sum(around[1:], around[0]) - np.maximum.reduce(around) - np.minimum.reduce(around)) / 2
    within = inside[2:-2] & inside[:-4] & inside[4:]
    differences, counts = _together(np.where(within, middle - usual, 0)), _together(within)
    full = counts == TOGETHER
    long = full.sum(axis=1)
    used = long >= max(4, ENOUGH * float(np.median(long)))
    if not used.any():
        return 0.0
    ordered = np.sort(np.where(full, differences / TOGETHER, np.inf)[used], axis=1)
    rows, eighth = np.arange(len(ordered)), long[used] // 8
    above, below = ordered[rows, eighth], ordered[rows, long[used] - 1 - eighth]
    return max(0.0, float(above.max()), float(-below.min()))


def _together(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums of each eight columns; what is left over at the end does not count."""
    count = values.shape[1] // TOGETHER
    return values[:, : count * TOGETHER].reshape(len(values), count, TOGETHER).sum(axis=2)  # type: ignore[no-any-return]


@lru_cache(maxsize=32)
def _looked_at(shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Frequencies that are neither low nor near an axis."""
    rows = np.abs(np.fft.fftfreq(shape[0]))[:, None]
    columns = np.fft.rfftfreq(shape[1])[None]
    near_axis = (rows * shape[0] < AXIS) | (columns * shape[1] < AXIS)
    return np.asarray((np.hypot(rows, columns) > LOWEST / 2) & ~near_axis)


def _step(length: int) -> int:
    return max(1, length // 256)


def _percent(measure: Measure, share: float) -> dict[str, float | str]:
    return {measure.name: float(np.clip(100 * np.nan_to_num(share), measure.low, measure.high))}
