"""Frequencies and entropy: how detail falls off, and how concentrated the signal is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.planes import ImagePlane, planes_of, tiles_of

SLOPE = Measure(
    "spectrum_slope",
    "slope of the power spectrum",
    Unit.ONE,
    Better.NEITHER,
    -20.0,
    6.0,
    frozenset({"MR", "CT", "CR", "DX", "MG"}),
    "exponent of the radial power spectrum, van der Schaaf 1996 (Vision Res 36:2759); range of frequencies own",
)
ENTROPY = Measure(
    "entropy_focus",
    "entropy focus criterion of the object",
    Unit.ONE,
    Better.LOWER,
    0.0,
    1.0,
    frozenset({"MR"}),
    "Atkinson 1997 (IEEE TMI 16:903), on the object alone and as of an object of 65,536 pixels",
)
MEASURES = (SLOPE, ENTROPY)

BAND = 0.1, 0.6
"""From and to which share of the Nyquist frequency the slope is fitted: above the shape, below the corners."""
RINGS = 12
PIXELS = 65_536
NO_OBJECT = "No object stands out from the background."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Slope and entropy of MR slices, slope alone of CT; see :func:`of_planes`."""
    planes = planes_of(slices)
    return of_planes(planes) if slices.volume.modality == "MR" else slope_of(planes)


def of_image(pixels: npt.NDArray[np.generic], spacing_mm: tuple[float, float] | None) -> dict[str, float | str]:
    """Slope of a radiograph ``(rows, columns)``; square pixels are assumed where no distance is stated."""
    return slope_of(tiles_of(pixels, spacing_mm))


def of_planes(planes: Sequence[ImagePlane]) -> dict[str, float | str]:
    """Median slope and median entropy focus of the planes."""
    return slope_of(planes) | entropy_of(planes)


def slope_of(planes: Sequence[ImagePlane]) -> dict[str, float | str]:
    """Median over planes of d log power / d log frequency; about -3 for anatomy, 0 for white noise."""
    slopes = [slope for plane in planes if (slope := _slope(plane)) is not None]
    if not slopes:
        return {SLOPE.name: NO_OBJECT}
    return {SLOPE.name: float(np.clip(np.median(slopes), SLOPE.low, SLOPE.high))}


def entropy_of(planes: Sequence[ImagePlane]) -> dict[str, float | str]:
    """Median over planes of the entropy focus criterion; 1 where all pixels of the object are equal."""
    values = [entropy_focus(plane.values[plane.inside]) for plane in planes]
    if not values:
        return {ENTROPY.name: NO_OBJECT}
    return {ENTROPY.name: float(np.clip(np.median(values), ENTROPY.low, ENTROPY.high))}


def entropy_focus(values: npt.NDArray[np.floating]) -> float:
    """Entropy focus criterion over its maximum, for these values repeated up to 65,536.

    With ``u`` the values over their mean and ``c`` the root of the mean of ``u²``, Atkinson's entropy of N pixels
    over its maximum ``√N ln √N`` is ``1/c (1 + (ln c - mean(u ln u)) / ln √N)``: N is fixed here, so that the size
    of the object does not matter.
    """
    x = np.abs(values.astype(np.float64))
    mean = x.mean() if x.size else 0.0
    if not mean > 0:
        return 1.0
    u = x[x > 0] / mean
    c = np.sqrt((u**2).sum() / x.size)
    return float((1 + (np.log(c) - (u * np.log(u)).sum() / x.size) / np.log(np.sqrt(PIXELS))) / c)


def _slope(plane: ImagePlane) -> float | None:
    rings, centres = _rings(plane.values[plane.box].shape, plane.spacing_mm)
    counts = np.bincount(rings.ravel(), minlength=RINGS + 1)[:RINGS]
    sums = np.bincount(rings.ravel(), plane.power.ravel(), minlength=RINGS + 1)[:RINGS]
    used = (counts > 3) & (sums > 0)
    if used.sum() < RINGS // 2:
        return None
    return float(np.polyfit(centres[used], np.log(sums[used] / counts[used]), 1)[0])


@lru_cache(maxsize=32)
def _rings(
    shape: tuple[int, int], spacing_mm: tuple[float, float]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Number of each frequency's ring (RINGS: none) and log centres; radius as share of the coarser Nyquist."""
    rows = np.fft.fftfreq(shape[0], spacing_mm[0])[:, None]
    columns = np.fft.rfftfreq(shape[1], spacing_mm[1])[None]
    radius = np.hypot(rows, columns) * 2 * max(spacing_mm)
    borders = np.geomspace(*BAND, RINGS + 1)
    number = np.searchsorted(borders, radius, side="right") - 1
    number[(radius < BAND[0]) | (radius >= BAND[1])] = RINGS
    return number, np.log(np.sqrt(borders[1:] * borders[:-1]))
