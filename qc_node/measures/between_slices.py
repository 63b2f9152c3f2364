"""Motion between slices that were acquired one after another: jumps of intensity, shifts in the plane.

Each slice is compared with the mean of its two neighbours: anatomy that changes steadily does not count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.planes import Floats, Mask, block_means, cleaned, object_of, threshold

JUMP = Measure(
    "slice_jump",
    "jumps of intensity between slices",
    Unit.PERCENT,
    Better.LOWER,
    0.0,
    1000.0,
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

GRID = 128
SMOOTH = 2.0
"""Points of the grid: it decides how far a displacement can be followed."""
STEPS = 3
FEWEST = 5
ENOUGH = 0.5
"""Slices count where they hold at least this share of the object that slices usually hold."""
NOT_IN_TURN = "The slices of a three-dimensional acquisition are not taken one after another."
TOO_FEW = f"Fewer than {FEWEST} slices show enough of the object to compare them."
NO_SPACING = "The distance of pixels is not known."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Largest jump in percent of the object's signal and largest displacement in mm, slice against neighbours."""
    if slices.is_3d:
        return {JUMP.name: NOT_IN_TURN, SHIFT.name: NOT_IN_TURN}
    stack, step = _stack(slices)
    spacing = slices.volume.spacing_mm[1] * step, slices.volume.spacing_mm[0] * step
    found = threshold(stack) if stack.size and min(stack.shape[1:]) >= 16 else None
    if found is None:
        return {JUMP.name: TOO_FEW, SHIFT.name: TOO_FEW}
    objects = np.stack([object_of(plane, found[0]) for plane in stack])
    places = _places(objects)
    if len(places) < FEWEST - 2:
        return {JUMP.name: TOO_FEW, SHIFT.name: TOO_FEW}
    jumps = [_jump(stack[k - 1 : k + 2], objects[k - 1 : k + 2].all(axis=0), found[1]) for k in places]
    smooth = ndimage.gaussian_filter(stack, (0, SMOOTH, SMOOTH))
    shifts = [_shift(smooth[k - 1 : k + 2], objects[k - 1 : k + 2].any(axis=0), spacing) for k in places]
    return {
        JUMP.name: float(np.clip(100 * max(jumps), JUMP.low, JUMP.high)),
        SHIFT.name: float(np.clip(max(shifts), SHIFT.low, SHIFT.high)) if _known(spacing) else NO_SPACING,
    }


def _known(spacing: tuple[float, float]) -> bool:
    return all(0 < mm < 1000 for mm in spacing)


def _stack(slices: Slices) -> tuple[Floats, int]:
    """All slices on a grid of about 128 × 128, and how many pixels one point of it spans."""
    voxels = slices.volume.voxels
    step = max(1, round(min(voxels.shape[1:], default=1) / GRID))
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
        shifted = ndimage.shift(reference, moved, order=1, mode="nearest")
        moved += np.clip(_step(target[inside], shifted, inside), -2 * SMOOTH, 2 * SMOOTH)
    return float(np.hypot(*(moved * spacing)))


def _step(target: npt.NDArray[np.float32], reference: Floats, inside: Mask) -> npt.NDArray[np.float64]:
    """Points by which the reference should move along (rows, columns)."""
    rows, columns = np.gradient(reference)
    terms = np.stack([reference[inside], -rows[inside], -columns[inside], np.ones(len(target))], 1).astype(float)
    fitted = np.linalg.lstsq(terms, target.astype(float), rcond=None)[0]
    return np.asarray(fitted[1:3] / fitted[0]) if fitted[0] > 0.1 else np.zeros(2)
