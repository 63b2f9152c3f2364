"""Metal in CT: how much of it, and how far its streaks reach."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.ct_slices import CtSlice, Mask, ct_slice

CT = frozenset({"CT"})

METAL_MEASURES = (
    Measure("metal_share", "metal in the body", Unit.PERCENT, Better.LOWER, 0, 100, CT, "own", False),
    Measure("metal_streaks", "streaks around metal", Unit.HU, Better.LOWER, 0, 4000, CT, "own", False),
)

WITH_METAL = 8
"""In so many of the slices with most metal, metal is sought inside the body and streaks are measured."""

METAL_HU = 3000.0
"""Enamel is below, undiluted contrast agent may be above; most scanners store no more than 3071."""


def of_metal(slices: Slices, body: float) -> dict[str, float | str]:
    """``metal_share`` and ``metal_streaks``; `body` is its share of all voxels, 0 to 1."""
    per_slice = _metal_per_slice(slices)
    most = [int(k) for k in np.argsort(-per_slice)[:WITH_METAL] if per_slice[k] > 0]
    if not most or body <= 0:
        return {"metal_share": 0.0, "metal_streaks": "No metal is in the body."}
    planes = [ct_slice(slices, k) for k in most]
    masks = [(plane.hu >= METAL_HU) & plane.pixels(plane.body) for plane in planes]
    inside = sum(int(mask.sum()) for mask in masks) / max(1, int(per_slice[most].sum()))
    share = 100.0 * inside * float(per_slice.sum()) / (body * slices.volume.voxels.size)
    streaks = [s for s in map(streaks_around, planes, masks) if s is not None]
    return {
        "metal_share": min(100.0, share),
        "metal_streaks": min(4000.0, max(streaks)) if streaks else "No metal is in the body.",
    }


def _metal_per_slice(slices: Slices) -> npt.NDArray[np.int64]:
    volume = slices.volume
    if volume.slope <= 0 or not math.isfinite(volume.slope + volume.intercept):
        return np.zeros(volume.shape[0], np.int64)
    level = (METAL_HU - volume.intercept) / volume.slope
    return np.array([np.count_nonzero(plane >= level) for plane in volume.voxels])


def streaks_around(plane: CtSlice, metal: Mask) -> float | None:
    """Streaks around the largest piece of metal of a slice, in HU; None where there is none.

    A streak is a ray: dark or bright over a small angle, near and far alike.  So HU are averaged along rays from
    the metal in two shells, slow changes with the angle (over 30°) are taken away, and what both shells have in
    common remains: the root of their covariance, 0 where they have nothing in common.  Anatomy is no ray.
    """
    labels, count = ndimage.label(metal)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    centre = ndimage.center_of_mass(labels == 1 + int(sizes.argmax()))
    radius = math.sqrt(float(sizes.max()) / math.pi) * min(plane.spacing)
    shells = [_shell(plane, centre, radius + near, radius + far) for near, far in ((3.0, 25.0), (25.0, 50.0))]
    return math.sqrt(max(0.0, float(np.mean(shells[0] * shells[1]))))


def _shell(plane: CtSlice, centre: Sequence[float], near: float, far: float) -> npt.NDArray[np.float64]:
    """Mean HU along each of 360 rays between two distances in mm, without slow changes; 0 where a ray leaves."""
    angles = np.deg2rad(np.arange(360.0))[:, None]
    steps = np.arange(near, far, 1.0)[None, :]
    at = [
        c + steps * turn / mm
        for c, turn, mm in zip(centre, (np.sin(angles), np.cos(angles)), plane.spacing, strict=True)
    ]
    hu = ndimage.map_coordinates(plane.hu.clip(-300, 300), at, order=1, mode="nearest")
    body = ndimage.map_coordinates(plane.pixels(plane.body).view(np.uint8), at, order=0, mode="constant")
    rays = np.where(body.mean(axis=1) > 0.9, hu.mean(axis=1), np.nan)
    if np.isnan(rays).all():
        return np.zeros(360)
    slow = ndimage.median_filter(np.where(np.isnan(rays), np.nanmedian(rays), rays), 31, mode="wrap")
    return np.asarray(np.nan_to_num(rays - slow), np.float64)
