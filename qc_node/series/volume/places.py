"""Slices that lie unevenly: the places on a regular grid onto which a CT is interpolated.

Head protocols of CT have thin slices below and thick ones above; a table moves unevenly; an image is lost on its
way.  The slices that are there still show the patient, so they are judged at their true places; what lies between
them is interpolated and said.  Where a gap is so wide that interpolating would invent anatomy, it stays empty.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEAST_SLICES = 4
"""Fewer slices that do not lie evenly are no volume."""
GAP_MM = 15.0
"""A gap up to here, or 2.5 times the usual distance, is interpolated; half a vertebra changes little."""
GAP_FACTOR = 2.5
WIDER = 1.5
"""A distance this many times that of both neighbours is a gap, and no second spacing."""
MOST_GAP = 0.35
"""Share of the length that may lie in gaps; beyond, what is left is not the series that was acquired."""
MOST_OVERLAPS = 0.1
"""Share of slices that may lie closer than half of the distance to both neighbours: where two protocols meet.  Of
two acquisitions that interleave, every second slice does, and they are not one stack."""
MOST_SLOTS, MANY_SLOTS = 3, 1500
"""The grid has at most three places for each slice, and in all at most 1500 or as many as there are slices; those
of empty gaps come on top."""
_EVEN = 1.6
"""Distances whose largest and smallest differ by less are one spacing that varies."""


@dataclass(frozen=True)
class Places:
    """Where slices lie on a regular grid.

    Attributes
    ----------
    at
        ``(n,)`` place of each slice on the grid, ascending from 0, whole numbers where a slice meets the grid.
    slots
        Places of the grid.
    empty
        Numbers of the slices behind which nothing is interpolated up to the next one.
    warnings
        What was interpolated and what is missing.
    """

    at: Array
    slots: int
    empty: frozenset[int]
    warnings: tuple[str, ...]


def places(depth: Array, tag: str) -> Places | None:
    """The grid for slices at `depth`; None where there is no good one.

    Parameters
    ----------
    depth
        mm along the normal, ascending and distinct.
    tag
        Name of the attribute that told the places, for the sentences.
    """
    steps = np.diff(depth)
    if len(depth) < LEAST_SLICES:
        return None
    before, after = np.r_[np.inf, steps[:-1]], np.r_[steps[1:], np.inf]
    overlaps = steps < 0.5 * np.minimum(before, after)
    overlaps[[0, -1]] = False
    if overlaps.sum() > max(1, int(MOST_OVERLAPS * len(steps))):
        return None
    local = np.maximum(np.where(np.isinf(before), 0.0, before), np.where(np.isinf(after), 0.0, after))
    gaps = steps > WIDER * local
    usual = float(np.median(steps[~gaps])) if not gaps.all() else float(np.median(steps))
    empty = gaps & (steps > np.maximum(GAP_MM, GAP_FACTOR * local))
    if (steps - local)[gaps].sum() > MOST_GAP * (depth[-1] - depth[0]):
        return None
    plain = steps[~gaps & ~overlaps]
    plain = plain if plain.size else steps
    step = usual if plain.max() < _EVEN * plain.min() else float(np.percentile(plain, 10, method="lower"))
    most = max(len(depth), min(MOST_SLOTS * len(depth), MANY_SLOTS))
    step = max(step, float(steps[~empty].sum()) / most)
    at = (depth - depth[0]) / step
    # Where slices meet the grid but for rounding they are taken as they are.
    at = np.where(np.abs(at - np.round(at)) < 0.02, np.round(at), at)
    slots = round(float(at[-1])) + 1
    said = [*_spacing_said(plain, step), *_gaps_said(steps, gaps, empty, local, tag)]
    return Places(at, slots, frozenset(np.flatnonzero(empty).tolist()), tuple(said))


def _spacing_said(steps: Array, step: float) -> list[str]:
    """The distances that occur, where they are not one."""
    counts = Counter(np.round(steps, 1).tolist())
    common = sorted(value for value, count in counts.items() if count > 0.1 * len(steps))
    low, high = float(steps.min()), float(steps.max())
    if high - low < 0.1 * step:
        return []
    if len(common) == 2 and counts[common[0]] + counts[common[1]] > 0.8 * len(steps):
        apart = f"{common[0]:g} and {common[1]:g} mm"
    else:
        apart = f"between {low:.3g} and {high:.3g} mm"
    return [f"Slices lie {apart} apart; they were interpolated to {step:.3g} mm."]


def _gaps_said(
    steps: Array, gaps: npt.NDArray[np.bool_], empty: npt.NDArray[np.bool_], local: Array, tag: str
) -> list[str]:
    numbers = np.flatnonzero(gaps)
    if not numbers.size:
        return []
    widest = int(numbers[np.argmax(steps[numbers])])
    others = "" if len(numbers) == 1 else f", and {len(numbers) - 1} smaller"
    done = "interpolated" if not empty.any() else "left empty" if (gaps == empty).all() else "the wider left empty"
    return [
        f"{tag} leaves a gap of {steps[widest]:.2f} mm between slices {widest + 1} and {widest + 2} where "
        f"neighbours lie {local[widest]:.2f} mm apart{others}; {done}, and the slices that are there were judged."
    ]
