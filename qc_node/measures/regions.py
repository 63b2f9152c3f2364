"""Where the body is, where air, and what the scanner blanked: by the means of small blocks of a volume.

Blocks of about 4 mm are smooth enough that noise as strong as the signal does not hide the body, and few enough
that everything on them takes milliseconds.  The body lies above a level between two classes of their square roots
(Otsu 1979): noise of magnitudes is brought near the spread of tissue by the root, and 0.35 of the way from dark to
bright keeps the dark ends of the body.  Air is what lies below it and away from it.  What was set to one value, as
outside a mask or where an image was padded, is not air: it has no noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

BLOCK_MM = 4.0
"""Side of a block; blocks of thick slices are as thick as one slice."""
MOST_IN_BLOCK = 8
"""Voxels along one side of a block at most."""
MOST_LOOKED_AT = 160_000_000
"""Voxels: of longer series (600 slices of 512 x 512) only some slices of each block are looked at."""
LEVEL = 0.35
"""Where the body begins, from the dark (0) to the bright class (1) of square roots."""
BODY_HU = -500.0
"""Where it begins in Hounsfield units: between air and fat."""
CLASSES_APART = 1.02
"""The bright class is so many times the dark one where there is something to be seen."""
NOISE_ALIKE = 0.9
"""Squared mean over mean square of a block, below which it holds noise alone (Rayleigh: 0.79; tissue: near 1)."""
BLANKED = 0.9
"""Share of a block at the lowest value from which it was blanked."""
SMALLEST_PIECE = 0.05
"""Pieces of the body smaller than this share of the largest one are left out."""

NO_NUMBERS = "The image holds no numbers."
ALL_ONE_VALUE = "All pixels have the same value."
BAD_SLOPE = "The rescale of the values is not usable."
NOTHING_SEEN = "Nothing stands out from the background."


@dataclass(frozen=True, eq=False)
class Regions:
    """A volume in blocks.

    Attributes
    ----------
    factors
        Voxels per block along ``(K, J, I)``.
    starts
        First voxel of the first block along ``(K, J, I)``; what does not fill a block is left out on both sides.
    block_mm
        Size of a block along ``(K, J, I)``.
    scale
        Rescaled value of one unit below: the absolute rescale slope.
    mean, square
        Mean and mean square of each block ``(k, j, i)``, in stored values counted from the value that means 0.
    empty
        Share of each block that has the lowest stored value, the padding value, or is no number.
    body
        Blocks of the body, holes within a slice filled.
    tissue
        Those of them that are bright.
    air
        Blocks that are certainly air and were not blanked.
    blanked
        Blocks that hold no signal and no noise.
    lowest
        Lowest stored value, counted as above.
    whole_numbers
        Whether the stored values are integers.
    """

    factors: tuple[int, int, int]
    starts: tuple[int, int, int]
    block_mm: tuple[float, float, float]
    scale: float
    mean: FloatArray
    square: FloatArray
    empty: FloatArray
    body: Mask
    tissue: Mask
    air: Mask
    blanked: Mask
    lowest: float
    whole_numbers: bool

    @property
    def block_size(self) -> int:
        """Voxels in a block."""
        return int(np.prod(self.factors))


def regions_of(slices: Slices, hounsfield: bool = False) -> Regions | str:
    """Body and air of a volume; a sentence where nothing can be told.

    Parameters
    ----------
    hounsfield
        Whether the rescaled values are Hounsfield units, so that the body begins at :data:`BODY_HU`.
    """
    volume = slices.volume
    voxels = volume.voxels
    if voxels.ndim != 3 or not voxels.size:
        return NO_NUMBERS
    if not (np.isfinite(volume.slope) and np.isfinite(volume.intercept) and volume.slope):
        return BAD_SLOPE
    lowest, highest = extremes(voxels)
    if not np.isfinite(lowest):
        return NO_NUMBERS
    if lowest == highest:
        return ALL_ONE_VALUE
    sign = float(np.sign(volume.slope))
    zero = 0.0 if hounsfield else -volume.intercept / volume.slope
    spacing = volume.spacing_mm[::-1]
    factors = _factors(voxels.shape, spacing)
    starts, mean, square, empty = _blocks(voxels, factors, lowest, volume.padding_value)
    square = square - 2 * np.float32(zero) * mean + np.float32(zero) ** 2
    mean = (mean - np.float32(zero)) * np.float32(sign)
    blanked = empty >= BLANKED
    bright = _above_hu(mean, slices) if hounsfield else _bright(mean, square, blanked)
    if isinstance(bright, str):
        return bright
    body = _body(bright)
    k, j, i = (f * s for f, s in zip(factors, spacing, strict=True))
    return Regions(
        factors,
        starts,
        (k, j, i),
        abs(volume.slope),
        mean,
        np.maximum(square, 0.0),
        empty,
        body,
        body & bright & ~blanked,
        _air(body, bright, blanked),
        blanked,
        sign * (lowest - zero),
        voxels.dtype.kind in "iub",
    )


def extremes(voxels: npt.NDArray[Any]) -> tuple[float, float]:
    """Lowest and highest finite value; NaN where there is none."""
    low, high = float(voxels.min()), float(voxels.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    finite = voxels[np.isfinite(voxels)]
    return (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)


def _factors(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[int, int, int]:
    """Voxels per block along each axis."""
    k, j, i = (
        max(1, min(round(BLOCK_MM / s) if np.isfinite(s) and s > 0 else 1, MOST_IN_BLOCK, n))
        for n, s in zip(shape, spacing, strict=True)
    )
    return k, j, i


def _blocks(
    voxels: npt.NDArray[Any], factors: tuple[int, int, int], lowest: float, padding: float | None
) -> tuple[tuple[int, int, int], FloatArray, FloatArray, FloatArray]:
    """First voxel of the blocks; mean, mean square and share of empty voxels of each, in stored values."""
    fk, fj, fi = factors
    nk, nj, ni = (n // f for n, f in zip(voxels.shape, factors, strict=True))
    k0, j0, i0 = (n % f // 2 for n, f in zip(voxels.shape, factors, strict=True))
    whole = voxels.dtype.kind in "iub"
    step = min(fk, max(1, -(-voxels.size // MOST_LOOKED_AT)))
    mean: FloatArray
    square: FloatArray
    empty: FloatArray
    mean, square, empty = (np.empty((nk, nj, ni), np.float32) for _ in range(3))
    for n in range(nk):
        first = k0 + n * fk
        raw = voxels[first : first + fk : step, j0 : j0 + nj * fj, i0 : i0 + ni * fi]
        none = raw == lowest
        if padding is not None and padding != lowest:
            none |= raw == padding
        slab = raw.astype(np.float32)
        if not whole:
            bad = ~np.isfinite(slab)
            none |= bad
            slab[bad] = lowest
        mean[n] = _folded(slab.sum(0), nj, ni)
        square[n] = _folded(np.einsum("kji,kji->ji", slab, slab), nj, ni)
        empty[n] = _folded(none.sum(0, dtype=np.float32), nj, ni)
    size = np.float32(len(range(0, fk, step)) * fj * fi)
    for sums in (mean, square, empty):
        sums /= size
    return (k0, j0, i0), mean, square, empty


def _folded(plane: FloatArray, nj: int, ni: int) -> FloatArray:
    """Sums of the blocks of one plane ``(nj * fj, ni * fi)`` -> ``(nj, ni)``."""
    rows = plane.reshape(nj, -1, plane.shape[1]).sum(1)
    out: FloatArray = rows.reshape(nj, ni, -1).sum(2)
    return out


def _above_hu(mean: FloatArray, slices: Slices) -> Mask:
    """Blocks above :data:`BODY_HU`."""
    volume = slices.volume
    return np.asarray(mean * np.float32(abs(volume.slope)) + np.float32(volume.intercept) > BODY_HU)


def _bright(mean: FloatArray, square: FloatArray, blanked: Mask) -> Mask | str:
    """Blocks above the level between dark and bright; a sentence where there are no two classes.

    Where a part of the air was blanked, noise in the rest is the dark class and not what was blanked: else strong
    noise counts as body.  It is noise where values of a block are spread as magnitudes of noise are.
    """
    lowest = min(float(np.quantile(mean, 0.001)), 0.0)
    root = np.sqrt(np.maximum(mean - np.float32(lowest), 0.0))
    root = np.minimum(root, np.quantile(root, 0.995))
    of_all = _level(root)
    left = ~blanked
    if blanked.any() and left.any():
        of_rest = _level(root[left])
        if of_rest is not None:
            dark = left & (root <= of_rest)
            alike = mean[dark] ** 2 / np.maximum(square[dark], np.float32(1e-30))
            if float(np.median(alike)) < NOISE_ALIKE:
                of_all = of_rest
    return NOTHING_SEEN if of_all is None else np.asarray((root > of_all) & left)


def _level(root: FloatArray) -> float | None:
    """The level between dark and bright square roots; None where there are no two classes."""
    cut = otsu(root)
    dark, bright = root[root <= cut], root[root > cut]
    if not dark.size or not bright.size:
        return None
    low, high = float(dark.mean()), float(bright.mean())
    return low + LEVEL * (high - low) if high > CLASSES_APART * low else None


def otsu(values: FloatArray) -> float:
    """The threshold that best parts the values in two (Otsu 1979)."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[1:] + edges[:-1]) / 2
    share = np.cumsum(counts) / counts.sum()
    mean = np.cumsum(counts * middles) / counts.sum()
    between = (mean[-1] * share - mean) ** 2 / np.maximum(share * (1 - share), 1e-6)
    return float(edges[1 + int(between[:-1].argmax())])


_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


def _body(bright: Mask) -> Mask:
    """What is bright in pieces of some size, holes within each slice filled."""
    labels, count = ndimage.label(bright)
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        bright = (sizes >= SMALLEST_PIECE * sizes.max())[labels]
    return np.asarray(ndimage.binary_fill_holes(bright, _IN_PLANE), dtype=bool)


def _air(body: Mask, bright: Mask, blanked: Mask) -> Mask:
    """Two blocks away from the body, one from what was blanked and from the border of the slice."""
    near = ndimage.binary_dilation(body | bright, iterations=2)
    near |= ndimage.binary_dilation(blanked, _IN_PLANE)
    air = ~near
    if min(air.shape[1:]) > 8:
        air[:, [0, -1]] = False
        air[:, :, [0, -1]] = False
    return np.asarray(air, dtype=bool)
