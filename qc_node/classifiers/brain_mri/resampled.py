"""Slices that the sender made from thicker ones: copies of their neighbours, or halfway between two others.

A series of 2 mm slices may come from slices of 5 mm; its header does not say so, and its voxels do.  The nearest
neighbour repeats planes exactly; linear interpolation puts planes on the straight line between two others.
Neither happens in slices that were measured, on any scanner: noise differs from plane to plane.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

COPY = 0.02
"""Mean difference of two planes, over that of two planes of the usual difference, of a copy."""
STRAIGHT = 0.08
"""Distance of a plane from the mean of its neighbours, over their difference, of a plane on a line."""
LEAST_STRAIGHT = 0.25
"""Least share of planes on a line to say that they were interpolated."""
MIN_PLANES = 20


def measured_spacing(values: FloatArray, spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    """Distance in mm of planes that carry something of their own, per array direction ``(I, J, K)``.

    Parameters
    ----------
    values
        ``(K, J, I)``.
    spacing_mm
        Of the voxels, along ``(I, J, K)``.
    """
    i, j, k = (s * _thicker(np.moveaxis(values, 2 - n, 0)) for n, s in enumerate(spacing_mm))
    return i, j, k


def _thicker(planes: FloatArray) -> float:
    """How many times thicker than they are spaced the planes were, 1 where each has something of its own."""
    n = len(planes)
    middle = planes[n // 5 : n - n // 5, ::2, ::2]
    middle = middle - float(middle.min())
    level = middle.mean((1, 2))
    filled = level > 0.3 * float(level.max())
    middle = middle[filled]
    if len(middle) < MIN_PLANES:
        return 1.0
    first = np.abs(np.diff(middle, axis=0)).mean((1, 2))
    usual = float(np.mean(np.sort(first)[len(first) // 2 :]))
    if not usual > 0:
        return 1.0
    copies = float((first < COPY * usual).mean())
    if copies > 0:
        return 1.0 / max(1.0 - copies, 1.0 / len(middle))
    off = np.abs(middle[1:-1] - (middle[:-2] + middle[2:]) / 2).mean((1, 2))
    apart = np.abs(middle[2:] - middle[:-2]).mean((1, 2)) / 2
    # Of whatever scale: a lower bound in grey values would call an image in tiny units interpolated.
    straight = float((off < STRAIGHT * np.maximum(apart, 1e-3 * usual)).mean())
    return 2.0 / (1.0 - min(straight, 0.9)) if straight > LEAST_STRAIGHT else 1.0
