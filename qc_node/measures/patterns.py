"""Patterns that no anatomy has: waves over the whole image, and single lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

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
    1000.0,
    frozenset({"MR", "CT", "CR", "DX", "MG"}),
    "points of the spectrum above 40 times the median of their ring (spikes of k-space, herringbone), own",
)
LINES = Measure(
    "line_level",
    "stripes",
    Unit.PERCENT,
    Better.LOWER,
    0.0,
    1000.0,
    frozenset({"MR", "CT", "CR", "DX", "MG"}),
    "median difference of a line to its neighbouring lines (zipper, dead detector line), own",
)
MEASURES = (WAVES, LINES)

OUTLIER = 40.0
"""White noise reaches this above the median of its ring once in 10^12 points."""
AXIS = 4
"""Frequencies so near to an axis hold the borders of the image."""
LOWEST = 0.2
"""As a share of the Nyquist frequency: shapes of anatomy lie below."""
ENOUGH = 0.5
"""A line counts where it crosses at least this share of what lines usually cross of the object."""
NO_OBJECT = "No object stands out from the background."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Waves and stripes of MR or CT slices; see :func:`of_planes`."""
    return of_planes(planes_of(slices))


def of_image(
    pixels: npt.NDArray[np.generic], spacing_mm: tuple[float, float] | None = None
) -> dict[str, float | str]:
    """Waves and stripes of a radiograph ``(rows, columns)``; every line of it is looked at."""
    tiles = tiles_of(pixels, spacing_mm or (1.0, 1.0))
    if not tiles:
        return {WAVES.name: NO_OBJECT, LINES.name: NO_OBJECT}
    signal = tiles[0].signal
    across = [finite(part) for part in (pixels[:, :: _step(pixels.shape[1])], pixels[:: _step(pixels.shape[0])].T)]
    levels = [_line_level(part, np.ones(part.shape, bool)) / signal for part in across]
    return _percent(WAVES, max(map(wave_share, tiles))) | _percent(LINES, max(levels))


def of_planes(planes: Sequence[ImagePlane]) -> dict[str, float | str]:
    """Waves and stripes of the worst plane, in percent of the object's signal; 0 where there are none."""
    if not planes:
        return {WAVES.name: NO_OBJECT, LINES.name: NO_OBJECT}
    return _percent(WAVES, max(map(wave_share, planes))) | _percent(LINES, max(map(line_share, planes)))


def wave_share(plane: ImagePlane) -> float:
    """Amplitude of the waves over the object's signal."""
    shape = plane.values[plane.box].shape
    rings = _rings(shape)
    power = plane.power
    typical = ndimage.median(power, rings, np.arange(rings.max() + 1))
    typical = np.maximum(typical, 1e-12 * float(power.max()))
    outliers = (power > OUTLIER * typical[rings]) & (rings > 0)
    outliers &= power >= ndimage.maximum_filter(power, 3)
    energy = ndimage.uniform_filter(power, 3, mode="constant")[outliers].sum() * 9
    window = float((hann(shape) ** 2).sum())
    return 2 * float(np.sqrt(max(energy, 0.0) / (shape[0] * shape[1] * window))) / plane.signal


def line_share(plane: ImagePlane) -> float:
    """How far the worst row or column lies from its neighbours, over the object's signal."""
    part, inside = plane.values[plane.box], plane.inside[plane.box]
    return max(_line_level(part, inside), _line_level(part.T, inside.T)) / plane.signal


def _line_level(values: Floats, inside: npt.NDArray[np.bool_]) -> float:
    """Largest absolute median, over the object's pixels of a row, of its difference to the four rows around."""
    if len(values) < 5:
        return 0.0
    middle, *around = (values[start : len(values) - 4 + start] for start in (2, 0, 1, 3, 4))
    usual = (sum(around[1:], around[0]) - np.maximum.reduce(around) - np.minimum.reduce(around)) / 2
    within = inside[2:-2] & inside[:-4] & inside[4:]
    long = within.sum(axis=1)
    used = long >= max(8, ENOUGH * float(np.median(long)))
    if not used.any():
        return 0.0
    differences = np.where(within, middle - usual, np.nan)[used]
    return float(np.abs(np.nanmedian(differences, axis=1)).max())


@lru_cache(maxsize=32)
def _rings(shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Number of the ring of each frequency, about four points wide; 0 where none is looked for."""
    rows = np.abs(np.fft.fftfreq(shape[0]))[:, None]
    columns = np.fft.rfftfreq(shape[1])[None]
    radius = np.hypot(rows, columns) * 2
    number = 1 + (radius * min(shape) / 8).astype(np.int64)
    near_axis = (rows * shape[0] < AXIS) | (columns * shape[1] < AXIS)
    number[(radius < LOWEST) | (radius > 1) | near_axis] = 0
    return np.unique(number, return_inverse=True)[1].reshape(number.shape)


def _step(length: int) -> int:
    return max(1, length // 256)


def _percent(measure: Measure, share: float) -> dict[str, float | str]:
    return {measure.name: float(np.clip(100 * np.nan_to_num(share), measure.low, measure.high))}
