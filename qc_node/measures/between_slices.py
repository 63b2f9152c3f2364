"""Motion between slices that were acquired one after another: jumps of intensity, shifts in the plane.

Each slice is compared with the mean of its two neighbours: anatomy that changes steadily does not count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.planes import SMALLEST, Floats, Mask, block_means, cleaned, is_known, object_of, threshold

JUMP = Measure(
    "slice_jump",
    "jumps of intensity between slices",
    Unit.PERCENT,
    Better.LOWER,
    0.0,
    100.0,
    frozenset({"MR", "CT"}),
    "second difference of intensity across slices, own; after Power 2012 (DVARS, Neuroimage 59:2142)",
)
SHIFT = Measure(
    "slice_shift",
    "displacement between slices",
    Unit.MM,
    Better.LOWER,
    0.0,
    100.0,
    frozenset({"MR", "CT"}),
    "second difference of position across slices by Lucas and Kanade 1981, own",
)
MEASURES = (JUMP, SHIFT)

GRID = 80
SMOOTH = 1.5
"""Points of the grid: it decides how far a displacement can be followed."""
STEPS = 3
CLOSE = 0.03
FEWEST, MOST = 5, 200
ENOUGH = 0.7
"""Slices count where they hold at least this share of the object that slices usually hold."""
NOT_IN_TURN = "The slices of a three-dimensional acquisition are not taken one after another."
TOO_FEW = f"Fewer than {FEWEST} slices show enough of the object to compare them."
TOO_MANY = f"More than {MOST} slices are a volume and are not compared one by one."
NO_SPACING = "The distance of pixels is not known."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Largest jump in percent of the object's signal and largest displacement in mm, slice against neighbours."""
    stack, step = _stack(slices) if (why := _why_not(slices)) is None else (None, 1)
    found = None if stack is None else threshold(stack)
    if stack is None or found is None:
        return {JUMP.name: why or TOO_FEW, SHIFT.name: why or TOO_FEW}
    objects = np.stack([object_of(plane, found[0]) for plane in stack])
    places = _places(objects)
    if len(places) < FEWEST - 2:
        return {JUMP.name: TOO_FEW, SHIFT.name: TOO_FEW}
    spacing = slices.volume.spacing_mm[1] * step, slices.volume.spacing_mm[0] * step
    return {JUMP.name: _largest_jump(stack, objects, places, found[1])} | {
        SHIFT.name: _largest_shift(stack, objects, places, spacing) if is_known(spacing) else NO_SPACING
    }


def _why_not(slices: Slices) -> str | None:
    count, rows, columns = slices.volume.shape
    if slices.is_3d:
        return NOT_IN_TURN
    if count > MOST:
        return TOO_MANY
    return TOO_FEW if count < FEWEST or min(rows, columns) < SMALLEST else None


def _largest_jump(stack: Floats, objects: Mask, places: list[int], air: float) -> float:
    """In percent of the object's signal."""
    jumps = [_jump(stack[k - 1 : k + 2], objects[k - 1 : k + 2].min(axis=0), air) for k in places]
    return float(np.clip(100 * max(jumps), JUMP.low, JUMP.high))


def _largest_shift(stack: Floats, objects: Mask, places: list[int], spacing: tuple[float, float]) -> float:
    """In mm."""
    smooth = ndimage.gaussian_filter(stack, (0, SMOOTH, SMOOTH))
    shifts = [_shift(smooth[k - 1 : k + 2], objects[k - 1 : k + 2].max(axis=0), spacing) for k in places]
    return float(np.clip(max(shifts), SHIFT.low, SHIFT.high))


def _stack(slices: Slices) -> tuple[Floats, int]:
    """All slices on a grid of about 80 × 80, and how many pixels one point of it spans."""
    voxels = slices.volume.voxels
    step = max(1, round(min(voxels.shape[1:]) / GRID))
    return np.stack([block_means(cleaned(slices, plane), step) for plane in voxels]), step


def _places(objects: Mask) -> list[int]:
    """Slices that hold enough of the object, and so do both neighbours."""
    sizes = objects.sum(axis=(1, 2))
    usual = np.median(sizes[sizes > 0]) if sizes.any() else np.inf
    enough = sizes >= max(64, ENOUGH * float(usual))
    return [k for k in range(1, len(sizes) - 1) if enough[k - 1 : k + 2].all()]


def _jump(three: Floats, inside: Mask, air: float) -> float:
    """How far the middle slice is brighter or darker than the mean of its neighbours."""
    if inside.sum() < 64:
        return 0.0
    before, middle, after = three[:, inside] - np.float32(air)
    usual = (before + after) / 2
    signal = float(np.median(usual))
    return abs(float(np.median(middle - usual))) / signal if signal > 0 else 0.0


def _shift(three: Floats, inside: Mask, spacing: tuple[float, float]) -> float:
    """Displacement in mm of the middle slice against the mean of its neighbours, intensity fitted as well."""
    target, reference = three[1], (three[0] + three[2]) / 2
    moved = np.zeros(2)
    for _ in range(STEPS):
        shifted = ndimage.shift(reference, moved, order=1, mode="nearest") if moved.any() else reference
        step = _step(target, shifted, inside)
        moved += np.clip(step, -2 * SMOOTH, 2 * SMOOTH)
        if np.abs(step).max() < CLOSE:
            break
    return float(np.hypot(*(moved * spacing)))


def _step(target: Floats, reference: Floats, inside: Mask) -> npt.NDArray[np.float64]:
    """Points by which the reference should move along (rows, columns): least squares of four terms."""
    rows, columns = map(np.asarray, np.gradient(reference))
    terms = [reference[inside], -rows[inside], -columns[inside], np.ones(int(inside.sum())), target[inside]]
    products = np.array(terms, np.float64) @ np.array(terms, np.float64).T
    fitted = np.asarray(np.linalg.lstsq(products[:4, :4], products[:4, 4], rcond=None)[0])
    return np.asarray(fitted[1:3] / fitted[0]) if fitted[0] > 0.1 else np.zeros(2)
