"""Planes sampled from slices or from a radiograph: what the measures of structure look at.

The sharpness of a volume needs no more than some 2 million of its pixels.  They are taken where the object is, so
that air around it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from qc_node.domain.measurable import Slices

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

PIXELS = 2_000_000
"""About how many pixels are looked at in all planes together."""
MOST, FEWEST = 12, 3
"""How many planes are taken across one axis; half as many where there are three axes."""
ISOTROPIC = 1.5
"""Slices at most this many pixels apart can be cut in any direction."""
SMALLEST = 16
"""A plane with fewer rows or columns than this is none."""
COARSE = 128
"""The object is found on a grid of about this many places."""
TILE = 512
HUGE = 1e9
"""No scanner stores more; squares of larger numbers would not be finite."""
CT_RANGE = (-1024.0, 3071.0)
"""HU outside are padding or metal, which would outshine everything."""


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """One plane with its object.

    Attributes
    ----------
    values
        Rescaled values ``(rows, columns)``, finite.
    spacing_mm
        Distance of neighbouring (rows, columns).
    inside
        The object with its cavities.
    signal
        How far the object lies above the air, in units of `values`; above 0.
    air_level
        The value of air.
    stored
        Whether it is a slice as stored; else it was cut across slices.
    """

    values: Floats
    spacing_mm: tuple[float, float]
    inside: Mask
    signal: float
    air_level: float = 0.0
    stored: bool = True

    @cached_property
    def box(self) -> tuple[slice, slice]:
        """The object's bounding box."""
        rows, columns = (np.flatnonzero(self.inside.any(axis=axis)) for axis in (1, 0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    @cached_property
    def power(self) -> Floats:
        """Power of the object's box under a Hann window ``(rows, columns // 2 + 1)``; see :func:`hann`."""
        part = self.values[self.box]
        mean = part.mean()
        spectrum = fft.rfft2((part - mean) * hann(part.shape))
        return np.asarray(spectrum.real**2 + spectrum.imag**2, np.float32)


def hann(shape: tuple[int, ...]) -> Floats:
    """Hann window of two dimensions."""
    rows, columns = (np.hanning(n + 2)[1:-1].astype(np.float32) for n in shape)
    return np.asarray(np.outer(rows, columns))


def planes_of(slices: Slices) -> tuple[ImagePlane, ...]:
    """Some planes through the object, in three directions where slices are about as close as pixels.

    Empty where there is no object: all of one value, or fewer than 16 rows or columns.
    """
    found = _object_in(slices)
    if found is None:
        return ()
    level, air, boxes = found
    spacing = slices.volume.spacing_mm[::-1]
    axes = [axis for axis in _axes(slices) if _is_large(slices.volume.shape, axis)]
    planes = []
    for axis in axes:
        for k in _places(boxes[axis], _how_many(slices.volume.shape, axis, len(axes))):
            across = (spacing[1], spacing[2]) if axis == 0 else (spacing[0], spacing[3 - axis])
            planes.append(_plane(_cut(slices, axis, k), across, level, air, stored=axis == 0))
    return tuple(plane for plane in planes if plane is not None)


def is_known(spacing_mm: tuple[float, float] | None) -> TypeGuard[tuple[float, float]]:
    """Whether these can be distances of pixels in mm."""
    return spacing_mm is not None and all(0 < mm < 1000 for mm in spacing_mm)


def tiles_of(
    pixels: npt.NDArray[np.generic], spacing_mm: tuple[float, float] | None = None
) -> tuple[ImagePlane, ...]:
    """Up to nine tiles of at most 512 × 512 pixels, evenly spread over a radiograph ``(rows, columns)``.

    Everything in a tile counts as object; its signal is the distance of the 5th and 95th percentile of the image.
    Square pixels are assumed where no distance is stated.
    """
    spacing = spacing_mm if is_known(spacing_mm) else (1.0, 1.0)
    if pixels.ndim != 2 or min(pixels.shape) < SMALLEST:
        return ()
    low, high = np.percentile(finite(pixels[::7, ::7]), (5, 95))
    if not high > low:
        return ()
    tiles = (
        finite(pixels[rows, columns]) for rows in _spread(pixels.shape[0]) for columns in _spread(pixels.shape[1])
    )
    return tuple(
        ImagePlane(tile, spacing, np.ones(tile.shape, bool), float(high - low), float(low))
        for tile in tiles
        if tile.max() > tile.min()
    )


def finite(values: npt.NDArray[np.generic]) -> Floats:
    """Values as ``float32``; what is not finite or beyond any scanner becomes 0 or the border."""
    floats = values.astype(np.float32)
    if values.dtype.kind in "iub":
        return floats
    return np.nan_to_num(floats, copy=False, nan=0.0, posinf=HUGE, neginf=-HUGE).clip(-HUGE, HUGE)


def cleaned(slices: Slices, values: npt.NDArray[np.generic]) -> Floats:
    """Rescaled and finite; HU within what CT can show."""
    volume = slices.volume
    slope, intercept = (number if abs(number) < HUGE else 0.0 for number in (volume.slope, volume.intercept))
    rescaled = finite(values) * np.float32(slope) + np.float32(intercept)
    return rescaled.clip(*CT_RANGE) if volume.modality == "CT" else rescaled


def object_of(values: Floats, level: float) -> Mask:
    """What is above `level` on a coarse grid: its large parts, with their cavities, ``(rows, columns)``."""
    step = max(1, min(values.shape) // COARSE + 1)
    coarse = block_means(values, step) > level
    labels, count = ndimage.label(coarse)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = sizes >= max(4, 0.1 * sizes.max())
    filled = ndimage.binary_fill_holes(large[labels])
    return np.repeat(np.repeat(filled, step, 0), step, 1)[: values.shape[0], : values.shape[1]]


def block_means(values: Floats, step: int) -> Floats:
    """Means of blocks of `step` × `step`; the last ones are filled up with their border."""
    rows, columns = (-n % step for n in values.shape)
    padded = np.pad(values, ((0, rows), (0, columns)), mode="edge") if rows or columns else values
    by_rows = padded.reshape(padded.shape[0] // step, step, -1).sum(axis=1)
    return np.asarray(by_rows.reshape(len(by_rows), -1, step).sum(axis=2) / np.float32(step**2))


def threshold(values: Floats) -> tuple[float, float] | None:
    """The level that parts object from air and the value of air; None where all is about one value.

    Ridler and Calvard's threshold (1978) of square roots, sought from below: tissue that is much brighter than the
    rest (fat, fluid) never takes the object's place.  It lies too high for dark tissue: half of it is the level.
    """
    low, high = np.percentile(values, (0.5, 99.5))
    if not high > low:
        return None
    roots = np.sqrt((values.ravel() - low).clip(0, high - low))
    level = _isodata(roots)
    air = float(low) + float(np.median(roots[roots <= level])) ** 2
    return air + (float(low) + level**2 - air) / 2, air


def _isodata(values: Floats) -> float:
    """The lowest level that is half way between the means on both its sides."""
    counts, borders = np.histogram(values, 256)
    below, sums = np.cumsum(counts), np.cumsum(counts * (borders[1:] + borders[:-1]) / 2)
    bin_, step = 256 // 16, 1
    while step and 0 <= bin_ < 255:
        under, over = sums[bin_] / max(below[bin_], 1), (sums[-1] - sums[bin_]) / max(below[-1] - below[bin_], 1)
        step = int((under + over) / 2 > borders[bin_ + 1])
        bin_ += step
    return float(borders[min(bin_, 254) + 1])


def _object_in(slices: Slices) -> tuple[float, float, list[slice]] | None:
    """Level, value of air, and the object's box, from every fourth voxel or so."""
    voxels = slices.volume.voxels
    if voxels.ndim != 3 or min(voxels.shape[1:]) < SMALLEST or not voxels.shape[0]:
        return None
    steps = [max(1, n // 64) for n in voxels.shape]
    coarse = cleaned(slices, voxels[:: steps[0], :: steps[1], :: steps[2]])
    found = threshold(coarse)
    if found is None:
        return None
    mask = coarse > found[0]
    boxes = []
    for axis, step in enumerate(steps):
        shares = mask.mean(axis=tuple({0, 1, 2} - {axis}))
        used = np.flatnonzero(shares > 0.2 * shares.max())
        boxes.append(slice(int(used[0]) * step, min(voxels.shape[axis], int(used[-1] + 1) * step)))
    return (*found, boxes)


def _axes(slices: Slices) -> tuple[int, ...]:
    i, j, k = slices.volume.spacing_mm
    return (0, 1, 2) if k <= ISOTROPIC * min(i, j) and slices.volume.shape[0] >= 2 * SMALLEST else (0,)


def _is_large(shape: tuple[int, int, int], axis: int) -> bool:
    return min(n for a, n in enumerate(shape) if a != axis) >= SMALLEST


def _how_many(shape: tuple[int, int, int], axis: int, axes: int) -> int:
    pixels = np.prod([n for a, n in enumerate(shape) if a != axis])
    return int(np.clip(PIXELS / axes / pixels, FEWEST, MOST if axes == 1 else MOST // 2))


def _places(box: slice, count: int) -> list[int]:
    """Evenly spread over the inner 70 % of the box."""
    length = box.stop - box.start
    return sorted({round(box.start + length * share - 0.5) for share in np.linspace(0.15, 0.85, count)})


def _cut(slices: Slices, axis: int, k: int) -> Floats:
    return cleaned(slices, np.take(slices.volume.voxels, k, axis=axis))


def _plane(
    values: Floats, spacing: tuple[float, float], level: float, air: float, *, stored: bool
) -> ImagePlane | None:
    inside = object_of(values, level)
    if inside.sum() < SMALLEST**2 or not is_known(spacing):
        return None
    plane = ImagePlane(values, spacing, inside, float(np.median(values[inside])) - air, air, stored)
    usable = plane.signal > 0 and min(inside[plane.box].shape) >= SMALLEST
    return plane if usable else None


def _spread(length: int) -> Iterator[slice]:
    """Up to three pieces of at most 512, symmetric about the middle."""
    count = min(3, -(-length // TILE))
    size = min(TILE, length)
    for share in np.linspace(0, 1, count + 2)[1:-1]:
        start = int(np.clip(round(length * share - size / 2), 0, length - size))
        yield slice(start, start + size)
