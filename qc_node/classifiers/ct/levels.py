"""What fat and muscle of this patient measure: the anchors of a scale that may be off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

TRUNK_MM = 300.0
"""Where on the body axis there is fat enough, below neck and shoulders."""
FAT = -101.0
"""HU of fat at 4 mm: -87 to -114 in twenty trunks of a dozen scanners, by tube voltage and partial volume."""
TOLERANCE = 15.0
"""HU that fat may differ without anything being wrong with the scale."""
_LEAST_FAT = 400
"""Voxels (26 mL) of homogeneous fat without which nothing is said."""
_HOMOGENEOUS = 12.0
_CALM = 25.0
_LEAST_CALM = 80
_MUSCLE_ABOVE_FAT = (128.0, 186.0)
"""HU between fat (-120 to -95) and muscle (45 to 70), at any tube voltage."""
_BRIGHTEST = 1500


def longest_stretch(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``(Z,)``: the longest unbroken run of slices that are `inside`; nothing where none is."""
    labels, count = ndimage.label(inside)
    if not count:
        return np.zeros(len(inside), bool)
    sizes = np.bincount(labels)
    sizes[0] = 0
    longest: npt.NDArray[np.bool_] = labels == sizes.argmax()
    return longest


def statistics(
    coarse: npt.NDArray[np.int16], size: tuple[int, int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation in HU of the box of `size` voxels around every voxel of ``(Z, Y, X)``."""
    values = np.clip(coarse, -200, _BRIGHTEST).astype(np.float32)
    mean = ndimage.uniform_filter(values, size)
    square = ndimage.uniform_filter(values * values, size)
    return mean, np.sqrt(np.maximum(0.0, square - mean * mean))


def scale_offset(trunk: npt.NDArray[np.int16]) -> float:
    """By how many HU the scale of the slices `trunk` ``(Z, 96, 96)`` is too high, told by their fat.

    Returns
    -------
    float
        0 where there is too little fat, or where it lies within :data:`TOLERANCE` of :data:`FAT`.
    """
    if not len(trunk):
        return 0.0
    mean, spread = statistics(trunk, (3, 3, 3))
    fat = mean[(spread < _HOMOGENEOUS) & (mean > -160) & (mean < -40)]
    if fat.size < _LEAST_FAT:
        return 0.0
    offset = float(np.median(fat)) - FAT
    return offset if abs(offset) > TOLERANCE else 0.0


def muscle_level(coarse: npt.NDArray[np.int16], where: npt.NDArray[np.bool_] | None = None) -> float | None:
    """HU of the commonest homogeneous tissue of ``(Z, 96, 96)`` that is as far above fat as muscle is.

    Not merely the commonest: in a chest that may be effusion (100-125 HU above fat) or enhanced liver (more than
    190).  Fat of the same slices moves with the scale.  With `where`, only that tissue is asked; fat is looked for
    everywhere.

    Returns
    -------
    float or None
        In HU; None where there is less than 5 mL of such tissue.
    """
    _, spread = statistics(coarse, (1, 3, 3))
    homogeneous = spread < _CALM
    fat = _commonest(coarse[homogeneous], -160, -40)
    asked = homogeneous if where is None else homogeneous & where
    return _commonest(coarse[asked], *((FAT if fat is None else fat) + step for step in _MUSCLE_ABOVE_FAT))


def _commonest(values: npt.NDArray[np.int16], low: float, high: float) -> float | None:
    inside = values[(values > low) & (values < high)]
    if inside.size < _LEAST_CALM:
        return None
    counts, edges = np.histogram(inside, np.arange(low, high + 2, 2))
    # Beyond the ends lies another tissue: nothing of it is counted.
    return float(edges[int(ndimage.gaussian_filter1d(counts.astype(np.float64), 3, mode="constant").argmax())] + 1)
