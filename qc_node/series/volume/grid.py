"""Slices as the places of a regular grid: depths along the normal, spacing, affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qc_node.series.errors import SeriesRefused
from qc_node.series.volume.instances import Frame
from qc_node.series.volume.places import Places, places

Array = npt.NDArray[np.float64]

POSITION = "Image Position (Patient) (0020,0032)"

ROUNDING_MM = 0.08
"""Positions rounded to a tenth of a millimetre are forgiven up to a quarter of the slice distance."""
GRID_TOLERANCE = 0.1
"""Largest distance of a slice from the regular grid, as a part of the slice distance."""
TILT_DEG = 0.5
"""A stack sheared by less is upright; rounding of positions alone makes some hundredths of a degree."""
MISSING_SHARE = 0.02
"""Up to this share of slices (at least one) may be missing and is interpolated."""
MIN_FOR_MISSING = 20
"""Below this number of slices none may be missing."""


@dataclass(frozen=True)
class Stack:
    """A regular stack, or slices with their places on a regular grid.

    Attributes
    ----------
    frames
        One per slice in the order of space, None where a slice is missing and will be interpolated.  Where there
        are `places`, every slice that is there.
    affine
        ``(4, 4)`` from (column, row, slice) to LPS mm.
    doubles
        Pairs of frames at one place that no tag tells apart; they must hold the same pixels.
    places
        Where the frames lie on the grid of `affine`; None where they are the grid.
    """

    frames: tuple[Frame | None, ...]
    affine: Array
    doubles: tuple[tuple[Frame, Frame], ...] = ()
    warnings: tuple[str, ...] = ()
    places: Places | None = None

    @property
    def slots(self) -> int:
        """Slices of the volume."""
        return len(self.frames) if self.places is None else self.places.slots

    @property
    def present(self) -> list[Frame]:
        """The frames that are there."""
        return [f for f in self.frames if f is not None]


def images(n: int) -> str:
    """E.g. "2 images"."""
    return f"{n} image{'s' if n != 1 else ''}"


def normal(frames: Sequence[Frame]) -> Array:
    """``(3,)``: the unit normal of the first of `frames` in LPS."""
    orientation = np.array(frames[0].orientation)
    across = np.cross(orientation[:3], orientation[3:])
    return np.asarray(across / np.linalg.norm(across), dtype=np.float64)


def depths(frames: Sequence[Frame]) -> Array:
    """``(n,)``: how far each of `frames` lies along the normal of the first, in mm."""
    return np.asarray(np.array([f.position for f in frames]) @ normal(frames), dtype=np.float64)


def regular(frames: Sequence[Frame], allow_doubles: bool = False, otherwise: SeriesRefused | None = None) -> Stack:
    """The stack that `frames` form, if they are evenly spaced along a line.

    Raises
    ------
    SeriesRefused
        They are not; `otherwise` is raised in place of complaints about doubles that would be misleading.
    """
    depth = depths(frames)
    order = np.argsort(depth, kind="stable")
    ordered = [frames[i] for i in order]
    depth = depth[order]
    doubles: list[tuple[Frame, Frame]] = []
    single = np.concatenate([[True], np.diff(depth) > 0.01])
    if not single.all():
        if not allow_doubles:
            raise SeriesRefused(
                f"{POSITION}: {int((~single).sum())} of {len(frames)} images lie where another image lies, "
                "and no tag tells them apart."
            )
        keep = np.flatnonzero(single)
        owner = np.maximum.accumulate(np.where(single, np.arange(len(single)), 0))
        doubles = [(ordered[owner[i]], ordered[i]) for i in np.flatnonzero(~single)]
        ordered = [ordered[i] for i in keep]
        depth = depth[keep]
    if len(ordered) < 2:
        raise otherwise or SeriesRefused("The series has one slice, and one slice is not a volume.")
    try:
        index = _grid(depth)
    except SeriesRefused as refusal:
        raise (otherwise or refusal) if doubles else refusal from None
    affine, warnings = affine_of(ordered, index)
    slots: list[Frame | None] = [None] * (int(index[-1]) + 1)
    for i, frame in zip(index, ordered, strict=True):
        slots[int(i)] = frame
    missing = len(slots) - len(ordered)
    if missing:
        warnings.append(
            f"{images(missing)} of {len(slots)} missing ({POSITION} leaves gaps); interpolated between neighbours."
        )
    return Stack(tuple(slots), affine, tuple(doubles), tuple(warnings))


def _grid(depth: Array) -> npt.NDArray[np.int64]:
    """Slice numbers on a regular grid, some perhaps missing."""
    steps = np.diff(depth)
    step = float(np.median(steps))
    # counted from slice to slice: the median step is rounded like the positions and would drift away
    index = np.concatenate([[0], np.cumsum(np.round(steps / step))]).astype(np.int64)
    if len(depth) > 2 and index[-1] > 0:
        step, start = np.polyfit(index, depth, 1)
    else:
        start = depth[0]
    off = np.abs(depth - start - step * index)
    holes = np.diff(index) - 1
    missing = int(holes.sum())
    worst = int(np.argmax(steps))
    tolerance = max(GRID_TOLERANCE * step, min(ROUNDING_MM, 0.25 * step))
    if off.max() > tolerance or holes.min() < 0:
        raise SeriesRefused(
            f"{POSITION} is not evenly spaced: neighbours lie between {steps.min():.2f} and {steps.max():.2f} "
            f"mm apart."
        )
    allowed = max(1, int(MISSING_SHARE * len(depth))) if len(depth) >= MIN_FOR_MISSING else 0
    if missing > allowed or holes.max() > 2:
        raise SeriesRefused(
            f"{POSITION} leaves a gap of {steps[worst]:.2f} mm between slices {worst + 1} and {worst + 2} where "
            f"neighbours lie {step:.2f} mm apart ({images(missing)} missing)."
        )
    return np.asarray(index, dtype=np.int64)


def affine_of(frames: Sequence[Frame], index: npt.NDArray[np.int64] | Array) -> tuple[Array, list[str]]:
    """Voxel (column, row, slice) to LPS mm, sheared where the gantry was tilted."""
    warnings: list[str] = []
    positions = np.array([f.position for f in frames], dtype=np.float64)
    mean_index = index - index.mean()
    step = mean_index @ (positions - positions.mean(axis=0)) / (mean_index @ mean_index)
    start = positions.mean(axis=0) - step * index.mean()
    first = frames[0]
    assert first.orientation is not None and first.spacing is not None
    row, col = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    row /= np.linalg.norm(row)
    col -= (col @ row) * row
    col /= np.linalg.norm(col)
    normal = np.cross(row, col)
    sideways = positions - start - np.outer(index, step)
    drift = float(np.linalg.norm(sideways - np.outer(sideways @ normal, normal), axis=1).max())
    if drift > max(1.0, *first.spacing):
        raise SeriesRefused(
            f"{POSITION} wanders sideways by up to {drift:.1f} mm, so the slices form no straight stack."
        )
    shear = step - (step @ normal) * normal
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(shear), abs(step @ normal))))
    if tilt > TILT_DEG:
        warnings.append(f"The slices are sheared by {tilt:.1f} degrees against their normal (tilted gantry).")
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]
    affine[:3, 1] = col * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = start
    return affine, warnings


def uneven(frames: Sequence[Frame]) -> Stack:
    """All of `frames` at their places on a regular grid.

    Raises
    ------
    SeriesRefused
        There is no grid that they fit.
    """
    if not frames:
        raise SeriesRefused("There is no slice.")
    # Of two slices at one place, where two protocols meet, the first one counts.
    ordered = sorted(frames, key=lambda f: (f.instance.instance_number or 0, f.number))
    depth = depths(ordered)
    order = np.argsort(depth, kind="stable")
    ordered, depth = [ordered[i] for i in order], depth[order]
    single = np.concatenate([[True], np.diff(depth) > 0.01])
    twice = int((~single).sum())
    if twice > 2:
        raise SeriesRefused(f"{POSITION}: {twice} of {len(frames)} images lie where another image lies.")
    ordered, depth = [f for f, keep in zip(ordered, single, strict=True) if keep], depth[single]
    found = places(depth, POSITION)
    if found is None:
        raise SeriesRefused(f"{POSITION} is not evenly spaced.")
    affine, warnings = affine_of(ordered, found.at)
    if twice:
        warnings.append(f"{images(twice)} left out, at the place of another one.")
    return Stack(tuple(ordered), affine, (), (*warnings, *found.warnings), found)
