"""Slices in space: which of them form one regular stack, in which order, and why the others do not.

Order and spacing come from Image Position and Image Orientation (Patient) alone (PS3.3 C.7.6.2.1.1);
Instance Number, Slice Location and Slice Thickness describe how the images were made or numbered and are
often wrong about where they lie.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qc_node.series.errors import SeriesRefused
from qc_node.series.volume.instances import KEYS, Frame

Array = npt.NDArray[np.float64]

POSITION = "Image Position (Patient) (0020,0032)"
ORIENTATION = "Image Orientation (Patient) (0020,0037)"
SPACING = "Pixel Spacing (0028,0030)"

ROUNDING_MM = 0.08
"""Positions rounded to a tenth of a millimetre are forgiven up to a quarter of the slice distance."""
SAME_DIRECTION = 5e-3
"""Direction cosines that differ by less are one orientation (about 0.3 degrees)."""
GRID_TOLERANCE = 0.1
"""Largest distance of a slice from the regular grid, as a part of the slice distance."""
TILT_DEG = 0.5
"""A stack sheared by less is upright; rounding of positions alone makes some hundredths of a degree."""
MISSING_SHARE = 0.02
"""Up to this share of slices (at least one) may be missing and is interpolated."""
SPLIT_SHARE = 0.4
"""A part of a series is judged in place of the whole only if it covers this share of its places."""
MIN_FOR_MISSING = 20
"""Below this number of slices none may be missing."""


@dataclass(frozen=True)
class Stack:
    """A regular stack.

    Attributes
    ----------
    frames
        One per slice in the order of space, None where a slice is missing and will be interpolated.
    affine
        ``(4, 4)`` from (column, row, slice) to LPS mm.
    doubles
        Pairs of frames at one place that no tag tells apart; they must hold the same pixels.
    """

    frames: tuple[Frame | None, ...]
    affine: Array
    doubles: tuple[tuple[Frame, Frame], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def present(self) -> list[Frame]:
        """The frames that are there."""
        return [f for f in self.frames if f is not None]


def find_stack(frames: Sequence[Frame]) -> Stack:
    """The largest consistent stack among `frames`.

    All slices that share matrix, spacing and orientation with the majority are taken; where several lie at
    one place (echoes, phases, magnitude and phase, repetitions), one tag after the other of :data:`KEYS` is
    tried to tell them apart, and the largest part is judged (the first echo, the first phase, magnitude
    before phase), which a warning says.

    Raises
    ------
    SeriesRefused
        No regular stack of at least two slices; the sentence names the tag at fault.
    """
    usable, left_out = _placed(frames)
    main, warnings = _majority(usable)
    if left_out:
        warnings.append(f"{_images(left_out)} without {POSITION} or {ORIENTATION} left out.")
    if len(main) == 1:
        raise SeriesRefused("The series has one slice, and one slice is not a volume.")
    stack = _split(main, KEYS)
    return replace(stack, warnings=(*warnings, *stack.warnings))


def _images(n: int) -> str:
    return f"{n} image{'s' if n != 1 else ''}"


def _placed(frames: Sequence[Frame]) -> tuple[list[Frame], int]:
    usable = [f for f in frames if f.position and f.orientation and _is_frame(f.orientation)]
    if 2 * len(usable) >= len(frames) and usable:
        return usable, len(frames) - len(usable)
    if not any(f.position for f in frames):
        raise SeriesRefused(f"{POSITION} is absent or unreadable, so the slices cannot be placed in space.")
    if not any(f.orientation for f in frames):
        raise SeriesRefused(f"{ORIENTATION} is absent or unreadable, so the slices cannot be placed in space.")
    if not usable:
        raise SeriesRefused(f"{ORIENTATION} does not hold two perpendicular unit vectors.")
    raise SeriesRefused(f"{POSITION} or {ORIENTATION} is absent or unreadable in most of the images.")


def _is_frame(orientation: Sequence[float]) -> bool:
    row, col = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(col)
    return bool(np.allclose(lengths, 1.0, atol=0.02) and abs(row @ col) < 0.02)


def _majority(frames: Sequence[Frame]) -> tuple[list[Frame], list[str]]:
    """The frames of the most frequent matrix, spacing and orientation."""
    warnings: list[str] = []
    kept = list(frames)
    for name, groups in (
        ("Rows (0028,0010) and Columns (0028,0011)", _grouped(kept, lambda f: (f.rows, f.columns))),
        (ORIENTATION, None),
        (SPACING, None),
    ):
        if groups is None:
            groups = _close(kept, "orientation" if name == ORIENTATION else "spacing")
        if len(groups) == 1:
            continue
        groups.sort(key=len, reverse=True)
        if 2 * len(groups[0]) <= len(kept):
            if len(groups) == len(kept) > 1 and name == ORIENTATION:
                raise SeriesRefused(f"{name} differs from image to image, so the series is not a volume.")
            raise SeriesRefused(
                f"{name} takes {len(groups)} values in the series and none holds for most of its {len(kept)} "
                f"images."
            )
        warnings.append(
            f"{name} takes {len(groups)} values; {_images(len(kept) - len(groups[0]))} left out of "
            f"{len(kept)}, the largest stack is judged."
        )
        kept = groups[0]
    spacing = kept[0].spacing
    if spacing is None or min(spacing) <= 0:
        raise SeriesRefused(f"{SPACING} is absent, unreadable or not positive.")
    return kept, warnings


def _grouped(frames: Iterable[Frame], key: object) -> list[list[Frame]]:
    groups: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[key(frame)].append(frame)  # type: ignore[operator]
    return list(groups.values())


def _close(frames: Sequence[Frame], attribute: str) -> list[list[Frame]]:
    """Groups of frames whose vectors agree within tolerance."""
    groups: list[tuple[Array | None, list[Frame]]] = []
    exact: dict[object, list[Frame]] = {}
    for frame in frames:
        value = getattr(frame, attribute)
        if value in exact:
            exact[value].append(frame)
            continue
        vector = None if value is None else np.array(value)
        members: list[Frame]
        for reference, members in groups:  # noqa: B007 (used after the break)
            if vector is None or reference is None:
                if vector is None and reference is None:
                    break
                continue
            limit = SAME_DIRECTION if attribute == "orientation" else 1e-3 * float(np.abs(reference).max())
            if np.abs(vector - reference).max() < limit:
                break
        else:
            members = []
            groups.append((vector, members))
        members.append(frame)
        exact[value] = members
    return [members for _, members in groups]


def _split(frames: list[Frame], keys: Sequence[str]) -> Stack:
    """A regular stack of `frames`, told apart by `keys` where they are several."""
    try:
        return _regular(frames)
    except SeriesRefused as refusal:
        first = refusal
    places = len(np.unique(np.round(_depths(frames), 2)))
    for n, key in enumerate(keys):
        groups = _by_key(frames, key)
        if len(groups) < 2:
            continue
        largest = max(len(members) for _, members in groups)
        if largest < 2:
            continue
        chosen = next((v, members) for v, members in groups if len(members) >= 0.9 * largest)
        try:
            stack = _split(chosen[1], keys[n + 1 :])
        except SeriesRefused:
            continue
        if len(stack.present) < SPLIT_SHARE * places:
            continue
        shown = key.split(" (")[0]
        value = chosen[0] if chosen[0] is not None else "none"
        value = f"{value:g}" if isinstance(value, float) else value
        told = f"{shown} {value}" if key != KEYS[-1] else "the first object"
        warning = (
            f"{key} takes {len(groups)} values in the series; {_images(len(stack.present))} of {told} judged."
        )
        return replace(stack, warnings=(warning, *stack.warnings))
    runs = _runs(frames)
    if runs:
        try:
            stack = _regular(runs[0])
        except SeriesRefused:
            pass
        else:
            warning = (
                f"Each place was imaged {len(runs)} times and no tag tells the times apart; the first run by "
                "Instance Number (0020,0013) is judged."
            )
            return replace(stack, warnings=(warning, *stack.warnings))
    stack = _regular(frames, allow_doubles=True, otherwise=first)
    return stack


def _by_key(frames: Sequence[Frame], key: str) -> list[tuple[float | str | None, list[Frame]]]:
    """Groups by one tag, the preferred first."""
    groups: dict[float | str | None, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[frame.keys.get(key)].append(frame)
    return sorted(groups.items(), key=lambda item: _preference(item[0]))


_LESS_WANTED = frozenset(
    {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "T1 MAP", "T2 MAP"}
    | {"F", "FAT", "FAT_FRACTION", "FF", "OPP_PHASE", "OUT_PHASE", "OPPOSED"}
)
"""Values of Image Type and Complex Image Component that are judged only where there is nothing else: no magnitude,
or Dixon's by-products."""


def _preference(value: float | str | None) -> tuple[int, float, str]:
    if value is None:
        return (3, 0.0, "")
    if isinstance(value, float):
        return (0, value, "")
    parts = str(value).upper().split("\\")
    derived = parts[0] == "DERIVED"
    return (2 if _LESS_WANTED & set(parts) else 1 if derived else 0, 0.0, str(value))


def _runs(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames cut by Instance Number into runs that visit each place once; empty if they do not."""
    if any(f.instance.instance_number is None for f in frames):
        return []
    ordered = sorted(frames, key=lambda f: (f.instance.instance_number or 0, f.number))
    depth = _depths(ordered)
    places = np.unique(np.round(depth, 2))
    times, rest = divmod(len(ordered), len(places))
    if times < 2 or rest:
        return []
    runs = [ordered[i : i + len(places)] for i in range(0, len(ordered), len(places))]
    for i, _ in enumerate(runs):
        here = np.unique(np.round(depth[i * len(places) : (i + 1) * len(places)], 2))
        if len(here) != len(places):
            return []
    return runs


def _normal(frames: Sequence[Frame]) -> Array:
    orientation = np.array(frames[0].orientation)
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def _depths(frames: Sequence[Frame]) -> Array:
    return np.asarray(np.array([f.position for f in frames]) @ _normal(frames), dtype=np.float64)


def _regular(
    frames: Sequence[Frame], allow_doubles: bool = False, otherwise: SeriesRefused | None = None
) -> Stack:
    """The stack that `frames` form, if they are evenly spaced along a line.

    Raises
    ------
    SeriesRefused
        They are not; `otherwise` is raised in place of complaints about doubles that would be misleading.
    """
    depth = _depths(frames)
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
    affine, warnings = _affine(ordered, index)
    slots: list[Frame | None] = [None] * (int(index[-1]) + 1)
    for i, frame in zip(index, ordered, strict=True):
        slots[int(i)] = frame
    missing = len(slots) - len(ordered)
    if missing:
        warnings.append(
            f"{_images(missing)} of {len(slots)} missing ({POSITION} leaves gaps); interpolated between "
            f"neighbours."
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
            f"neighbours lie {step:.2f} mm apart ({_images(missing)} missing)."
        )
    return np.asarray(index, dtype=np.int64)


def _affine(frames: Sequence[Frame], index: npt.NDArray[np.int64]) -> tuple[Array, list[str]]:
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
