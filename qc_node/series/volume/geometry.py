"""Slices in space: which of them form one regular stack, in which order, and why the others do not.

Order and spacing come from Image Position and Image Orientation (Patient) alone (PS3.3 C.7.6.2.1.1);
Instance Number, Slice Location and Slice Thickness describe how the images were made or numbered and are
often wrong about where they lie.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from qc_node.series.errors import SeriesRefused
from qc_node.series.volume.grid import POSITION, Array, Stack, depths, images, normal, regular, uneven
from qc_node.series.volume.instances import KEYS, Frame
from qc_node.series.volume.places import GAP_FACTOR, GAP_MM

ORIENTATION = "Image Orientation (Patient) (0020,0037)"
SPACING = "Pixel Spacing (0028,0030)"

SAME_DIRECTION = 5e-3
"""Direction cosines that differ by less are one orientation (about 0.3 degrees)."""
SPLIT_SHARE = 0.4
"""A part of a series is judged in place of the whole only if it covers this share of its places."""
MOST_TOGETHER = 0.6
"""Share of the slices that a part without gaps must hold to be judged alone."""
LEAST_OF_IT = 0.4
"""Share of the images of a CT that one matrix, spacing and orientation must hold for: half of a head in each of
two tilts is still a head."""
SAME_PLANE = 0.7
"""Cosine between normals from which on slices image the same stretch of the body; scouts lie across."""
MOST_OF_IT = 0.9
"""A part of a CT is judged in place of the whole only if it reaches over this share of its length."""


def find_stack(frames: Sequence[Frame], coverage: bool = False) -> Stack:
    """The largest consistent stack among `frames`.

    All slices that share matrix, spacing and orientation with the majority are taken; where several lie at
    one place (echoes, phases, magnitude and phase, repetitions), one tag after the other of :data:`KEYS` is
    tried to tell them apart, and the largest part is judged (the first echo, the first phase, magnitude
    before phase), which a warning says.

    Parameters
    ----------
    coverage
        Also take slices that lie unevenly, where a regular stack would be refused or leave much of the series out,
        and say how far what is judged reaches: for CT, whose coverage is judged; in a 3D head of MR a gap is a
        fault.

    Raises
    ------
    SeriesRefused
        No regular stack of at least two slices; the sentence names the tag at fault.
    """
    usable, left_out = _placed(frames)
    main, warnings = _majority(usable, least=LEAST_OF_IT if coverage else 0.5)
    if left_out:
        warnings.append(f"{images(left_out)} without {POSITION} or {ORIENTATION} left out.")
    if len(main) == 1:
        raise SeriesRefused("The series has one slice, and one slice is not a volume.")
    if not coverage:
        stack = _split(main, KEYS)
    else:
        stack = _of_all(main)
        whole = _reach([f for f in usable if abs(float(normal([f]) @ normal(main))) > SAME_PLANE])
        if _reach(stack.present) < MOST_OF_IT * whole:
            warnings.append(
                f"The slices that are judged reach over {_reach(stack.present):.0f} of {whole:.0f} mm of the "
                "series, and so does the coverage that is told."
            )
    return replace(stack, warnings=(*warnings, *stack.warnings))


def _of_all(frames: list[Frame]) -> Stack:
    """The regular stack of `frames` if it reaches about as far as they do, else all of them at their places."""
    refusal: SeriesRefused | None = None
    try:
        stack: Stack | None = _split(frames, KEYS)
    except SeriesRefused as error:
        stack, refusal = None, error
    if stack is not None and _reach(stack.present) >= MOST_OF_IT * _reach(frames):
        return stack
    for judged in (frames, _together(frames)):
        try:
            found = uneven(judged)
        except SeriesRefused:
            continue
        if stack is None or _reach(found.present) > _reach(stack.present):
            return found
    if stack is None:
        raise refusal or SeriesRefused("The series has no regular stack.")
    return stack


def _together(frames: Sequence[Frame]) -> list[Frame]:
    """The largest part of `frames` without a wide gap, if most of them are in it; else none."""
    depth = depths(frames)
    order = np.argsort(depth, kind="stable")
    steps = np.diff(depth[order])
    cuts = np.flatnonzero(steps > max(GAP_MM, GAP_FACTOR * float(np.median(steps))))
    part = max(np.split(order, cuts + 1), key=len)
    return [frames[i] for i in part] if len(part) >= MOST_TOGETHER * len(frames) else []


def _reach(frames: Sequence[Frame]) -> float:
    """From the first to the last of `frames` along the normal, in mm."""
    return float(np.ptp(depths(frames)))


def _placed(frames: Sequence[Frame]) -> tuple[list[Frame], int]:
    usable = [f for f in frames if f.position and f.orientation and is_frame(f.orientation)]
    if 2 * len(usable) >= len(frames) and usable:
        return usable, len(frames) - len(usable)
    if not any(f.position for f in frames):
        raise SeriesRefused(f"{POSITION} is absent or unreadable, so the slices cannot be placed in space.")
    if not any(f.orientation for f in frames):
        raise SeriesRefused(f"{ORIENTATION} is absent or unreadable, so the slices cannot be placed in space.")
    if not usable:
        raise SeriesRefused(f"{ORIENTATION} does not hold two perpendicular unit vectors.")
    raise SeriesRefused(f"{POSITION} or {ORIENTATION} is absent or unreadable in most of the images.")


def is_frame(orientation: Sequence[float]) -> bool:
    """Whether `orientation` holds two perpendicular unit vectors."""
    row, col = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(col)
    return bool(np.allclose(lengths, 1.0, atol=0.02) and abs(row @ col) < 0.02)


def _majority(frames: Sequence[Frame], least: float) -> tuple[list[Frame], list[str]]:
    """The frames of the most frequent matrix, spacing and orientation, if more than `least` of them have these."""
    warnings: list[str] = []
    kept = list(frames)
    for name, groups in (
        ("Rows (0028,0010) and Columns (0028,0011)", grouped(kept, lambda f: (f.rows, f.columns))),
        (ORIENTATION, None),
        (SPACING, None),
    ):
        if groups is None:
            groups = close_together(kept, "orientation" if name == ORIENTATION else "spacing")
        if len(groups) == 1:
            continue
        groups.sort(key=len, reverse=True)
        if len(groups[0]) <= least * len(kept):
            if len(groups) == len(kept) > 1 and name == ORIENTATION:
                raise SeriesRefused(f"{name} differs from image to image, so the series is not a volume.")
            raise SeriesRefused(
                f"{name} takes {len(groups)} values in the series and none holds for most of its {len(kept)} "
                f"images."
            )
        warnings.append(
            f"{name} takes {len(groups)} values; {images(len(kept) - len(groups[0]))} left out of "
            f"{len(kept)}, the largest stack is judged."
        )
        kept = groups[0]
    spacing = kept[0].spacing
    if spacing is None or min(spacing) <= 0:
        raise SeriesRefused(f"{SPACING} is absent, unreadable or not positive.")
    return kept, warnings


def grouped(frames: Iterable[Frame], key: object) -> list[list[Frame]]:
    """Frames by what the function `key` says of each, in order of appearance."""
    groups: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[key(frame)].append(frame)  # type: ignore[operator]
    return list(groups.values())


def close_together(frames: Sequence[Frame], attribute: str) -> list[list[Frame]]:
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
        return regular(frames)
    except SeriesRefused as refusal:
        first = refusal
    places = len(np.unique(np.round(depths(frames), 2)))
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
        warning = f"{key} takes {len(groups)} values in the series; {images(len(stack.present))} of {told} judged."
        return replace(stack, warnings=(warning, *stack.warnings))
    runs = _runs(frames)
    if runs:
        try:
            stack = regular(runs[0])
        except SeriesRefused:
            pass
        else:
            warning = (
                f"Each place was imaged {len(runs)} times and no tag tells the times apart; the first run by "
                "Instance Number (0020,0013) is judged."
            )
            return replace(stack, warnings=(warning, *stack.warnings))
    stack = regular(frames, allow_doubles=True, otherwise=first)
    return stack


def _by_key(frames: Sequence[Frame], key: str) -> list[tuple[float | str | None, list[Frame]]]:
    """Groups by one tag, the preferred first."""
    groups: dict[float | str | None, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[frame.keys.get(key)].append(frame)
    return sorted(groups.items(), key=lambda item: preference(item[0]))


_LESS_WANTED = frozenset(
    {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "T1 MAP", "T2 MAP"}
    | {"F", "FAT", "FAT_FRACTION", "FF", "OPP_PHASE", "OUT_PHASE", "OPPOSED"}
)
"""Values of Image Type and Complex Image Component that are judged only where there is nothing else: no magnitude,
or Dixon's by-products."""


def preference(value: float | str | None) -> tuple[int, float, str]:
    """Sorts the values of one of :data:`KEYS`: what is judged rather comes first."""
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
    depth = depths(ordered)
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
