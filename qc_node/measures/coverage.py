"""Coverage: how much of the patient was imaged, and whether slices are missing between."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.planes import finite

_BOTH = frozenset({"MR", "CT"})
_SOURCE = "Image Plane Module (PS3.3 C.7.6.2)"
AXES = tuple(
    Measure(f"coverage_{name}_mm", title, Unit.MM, Better.NEITHER, 0.0, 1e5, _BOTH, _SOURCE)
    for name, title in (
        ("lr", "coverage from left to right"),
        ("ap", "coverage from front to back"),
        ("hf", "coverage from head to feet"),
    )
)
GAP = Measure(
    "slice_gap_mm",
    "gap between slices",
    Unit.MM,
    Better.NEITHER,
    -1000.0,
    1000.0,
    _BOTH,
    _SOURCE + ": distance less thickness",
    charted=False,
)
SLICES = Measure(
    "slice_count", "number of slices", Unit.ONE, Better.NEITHER, 0.0, 1e6, _BOTH, _SOURCE, charted=False
)
MISSING = Measure(
    "missing_slices",
    "missing slices",
    Unit.PERCENT,
    Better.LOWER,
    0.0,
    100.0,
    _BOTH,
    "slices that are empty or interpolated between others, own",
)
MEASURES = (*AXES, GAP, SLICES, MISSING)

STEP, CHANGE = 5, 4.0
NO_GEOMETRY = "The positions of the slices are not known."
NO_THICKNESS = "The slice thickness is not stated."
ONE_SLICE = "There is one slice only."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Extent along each patient axis, slice gap, number of slices and share of empty ones."""
    return {
        **_extents(slices),
        GAP.name: _gap(slices),
        SLICES.name: float(slices.volume.voxels.shape[0]),
        MISSING.name: _missing(slices),
    }


def _extents(slices: Slices) -> dict[str, float | str]:
    """Size in mm of the box along (L, P, S) that holds the whole volume, borders of voxels included."""
    counts = np.array(slices.volume.voxels.shape[::-1], float)
    if counts.shape != (3,):
        return {measure.name: NO_GEOMETRY for measure in AXES}
    extents = np.abs(slices.volume.affine[:3, :3]) @ counts
    return {
        measure.name: float(mm) if 0 < mm <= measure.high else NO_GEOMETRY
        for measure, mm in zip(AXES, extents, strict=True)
    }


def _gap(slices: Slices) -> float | str:
    """Distance of slices, at right angles to them, less their thickness; below 0 where they overlap."""
    if slices.volume.voxels.shape[0] < 2:
        return ONE_SLICE
    if slices.thickness_mm is None or not 0 < slices.thickness_mm < GAP.high:
        return NO_THICKNESS
    columns, rows, between = slices.volume.affine[:3, :3].T
    normal = np.cross(columns, rows)
    length = np.linalg.norm(normal)
    distance = float(abs(between @ normal) / length) if length > 0 else np.inf
    return round(distance - slices.thickness_mm, 6) + 0.0 if 0 < distance < GAP.high else NO_GEOMETRY


def _missing(slices: Slices) -> float | str:
    """Share of slices without content of their own, in percent, between the first and the last that vary."""
    voxels = slices.volume.voxels
    places = np.flatnonzero([_varies(plane) for plane in voxels])
    if not len(places):
        return 100.0 if len(voxels) else NO_GEOMETRY
    span = int(places[-1] - places[0] + 1)
    return 100.0 * (span - len(places) + _interpolated(voxels)) / span


def _varies(plane: npt.NDArray[np.generic]) -> bool:
    for part in (plane[::STEP, ::STEP], plane):  # of most slices a part of the pixels says so
        values = finite(part)
        if values.size and values.min() < values.max():
            return True
    return False


def _interpolated(voxels: npt.NDArray[np.generic]) -> int:
    """How many slices lie on a straight line between their neighbours in every pixel, as reading fills gaps."""
    if len(voxels) < 3:
        return 0
    some = finite(voxels[:, ::STEP, ::STEP]).reshape(len(voxels), -1)
    own = np.abs(some[1:-1] - (some[:-2] + some[2:]) / 2).max(axis=1)
    change = np.percentile(np.abs(some[2:] - some[:-2]), 95, axis=1)
    tolerance = 1.0 if voxels.dtype.kind in "iu" else 1e-4 * change
    return int(((own <= tolerance) & (change > CHANGE * tolerance)).sum())
