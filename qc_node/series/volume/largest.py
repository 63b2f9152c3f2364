"""The largest group of parallel slices, one image per place: what is measured where no regular stack is judged.

Several images at one place (diffusion weightings, phases of a heart, repetitions), several orientations (radial
slices) and uneven distances are no fault of an image, so its noise and sharpness can be told all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qc_node.series.errors import SeriesRefused
from qc_node.series.volume.geometry import SAME_DIRECTION, SPACING, close_together, grouped, is_frame, preference
from qc_node.series.volume.grid import POSITION, Array, Stack, depths, images, normal
from qc_node.series.volume.instances import KEYS, Frame

SAME_PLACE_MM = 0.01
"""Slices nearer to each other than this lie at one place."""
UNPLACED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Taken for the orientation of a slice that states none."""


def largest_group(frames: Sequence[Frame], thickness_mm: float | None) -> tuple[Stack, int]:
    """Slices of one matrix, orientation and pixel size, the first acquired of each place.

    Parameters
    ----------
    thickness_mm
        Stands for the slice distance where there is one slice.

    Returns
    -------
    stack
        At distances that are taken as even (their median), which a warning says where they are not.
    groups
        How many images lie at each place (median).

    Raises
    ------
    SeriesRefused
        No slice has a pixel size.
    """
    sized = [f for f in frames if f.rows and f.columns and f.spacing and min(f.spacing) > 0]
    if not sized:
        raise SeriesRefused(f"{SPACING} is absent, unreadable or not positive.")
    placed = [f for f in sized if f.position and f.orientation and is_frame(f.orientation)]
    if not placed:
        return _alone(sized, thickness_mm), 1
    kept = max(_parallel(placed), key=_size)
    places = _places(kept)
    chosen = [min(place, key=_first_acquired) for place in places]
    groups = int(np.median([len(place) for place in places]))
    said = []
    if len(kept) < len(frames):
        said.append(f"{images(len(frames) - len(kept))} of other matrix, pixel size or orientation left out.")
    if groups > 1:
        said.append(f"About {groups} images lie at each place; those acquired first are measured.")
    affine, even = _affine(chosen, thickness_mm)
    if not even:
        said.append(f"{POSITION} is not evenly spaced; the median distance is taken.")
    return Stack(tuple(chosen), affine, (), tuple(said)), groups


def images_per_place(stack: Stack, frames: Sequence[Frame]) -> int:
    """How many of `frames` lie at each place of `stack` (median), in its matrix and orientation."""
    first = stack.present[0]
    assert first.orientation is not None
    placed = [f for f in frames if f.position and f.orientation]
    like = [f for f in placed if (f.rows, f.columns) == (first.rows, first.columns)]
    parallel = [f for f in like if np.allclose(f.orientation or (), first.orientation, atol=SAME_DIRECTION)]
    counts = [len(place) for place in _places(parallel)] if parallel else [1]
    return max(1, int(np.median(counts)))


def _parallel(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Groups of one matrix, orientation and pixel size."""
    found: list[list[Frame]] = []
    for matrix in grouped(frames, lambda f: (f.rows, f.columns)):
        for direction in close_together(matrix, "orientation"):
            found.extend(close_together(direction, "spacing"))
    return found


def _size(frames: Sequence[Frame]) -> tuple[int, int]:
    """Places, then images; :func:`max` takes the first of equal ones, which was acquired first."""
    return len(_places(frames)), len(frames)


def _places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Parallel slices by their depth, ascending."""
    depth = depths(frames)
    order = np.argsort(depth, kind="stable")
    cuts = np.flatnonzero(np.diff(depth[order]) > SAME_PLACE_MM) + 1
    return [[frames[i] for i in part] for part in np.split(order, cuts)]


def _first_acquired(frame: Frame) -> tuple[object, ...]:
    """Magnitude before phase, the first echo, weighting and phase before others, then the order of the numbers."""
    told = tuple(preference(frame.keys.get(key)) for key in KEYS[:-1])
    number = frame.instance.instance_number
    return (*told, number is None, number or 0, frame.number)


def _affine(frames: Sequence[Frame], thickness_mm: float | None) -> tuple[Array, bool]:
    """From (column, row, slice) to LPS mm, and whether the distances are even within a tenth."""
    first = frames[0]
    positions = np.array([f.position for f in frames], dtype=np.float64)
    across = normal(frames)
    if len(frames) == 1:
        return _affine_at(first, positions[0], across * (thickness_mm or 1.0)), True
    steps = np.diff(positions, axis=0)
    step = np.median(steps, axis=0)
    if abs(float(step @ across)) < SAME_PLACE_MM:
        step = across * float(np.median(steps @ across))
    along = steps @ across
    even = bool(np.abs(along - np.median(along)).max() <= 0.1 * abs(float(np.median(along))))
    return _affine_at(first, positions[0], step), even


def _affine_at(frame: Frame, position: Array, step: Array) -> Array:
    assert frame.spacing is not None
    orientation = np.array(frame.orientation if frame.orientation and is_frame(frame.orientation) else UNPLACED)
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * frame.spacing[1]
    affine[:3, 1] = orientation[3:] * frame.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = position
    return affine


def _alone(frames: Sequence[Frame], thickness_mm: float | None) -> Stack:
    """The middle one of slices that nothing places in space."""
    ordered = sorted(frames, key=lambda f: (f.instance.instance_number or 0, f.number))
    middle = ordered[len(ordered) // 2]
    affine = _affine_at(middle, np.zeros(3), np.array([0.0, 0.0, thickness_mm or 1.0]))
    said = "" if len(frames) == 1 else f" of {len(frames)}, the middle one,"
    return Stack((middle,), affine, (), (f"{POSITION} is absent or unreadable; one slice{said} is measured.",))
