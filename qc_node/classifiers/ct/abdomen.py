"""Kidneys, spleen and liver on both sides of the spine against muscle, measured rather than learnt.

Plain kidneys have 25-40 HU, spleen 40-55, liver 50-70 (fatty: less; iron or amiodarone: up to 100) and muscle
50-65.  With contrast kidneys and spleen have 100-220 from the arterial phase on, the liver 90-130 in the portal
venous one.
So behind the front of the vertebrae, on *both* sides of the spine, something large is much brighter than muscle
with contrast, and nothing is without.  One side alone is no evidence: oral contrast lies in the stomach or in one
colon, iron in the liver.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.ct.levels import statistics
from qc_node.classifiers.ct.vessels import Spine, longest_run, strongest

RANGE_MM = (475.0, 650.0)
"""Where on the body axis: from below the dome to the lower poles of the kidneys, above the iliacus muscle."""
_AREA = 25
"""Pixels (4 cm2): a third of a kidney's cross-section."""
_ASIDE = (7, 22)
"""Columns (28-88 mm) from the spine: beside psoas, within the ribs, medial to most of the colon."""
_AHEAD = 5
"""Rows (20 mm) in front of the vertebral bodies that still count."""
_BEHIND = 5
_NOISE = 22.0
_MIXING = 0.12
"""Cortex and medulla differ in the arterial phase."""
_FAT = -50


@dataclass(frozen=True)
class Organs:
    """Excess over muscle in HU of what lies beside the spine.

    Attributes
    ----------
    both
        What both sides exceed in their brightest 48 mm.
    either
        What the brighter side exceeds there.
    """

    both: float
    either: float


def organ_excess(coarse: npt.NDArray[np.int16], spine: Spine, position: npt.NDArray[np.float64]) -> Organs | None:
    """How much brighter than muscle the organs beside the spine are.

    Parameters
    ----------
    coarse
        ``(Z, 96, 96)`` HU at 4 mm.
    spine
        Of the same slices.
    position
        ``(Z,)`` mm on the body axis, NaN off it.

    Returns
    -------
    Organs or None
        `both` about -20 to 5 without contrast, 15 to 150 with it; None where fewer than 28 mm show calm tissue
        on both sides.
    """
    rows = np.flatnonzero(longest_run(position, RANGE_MM))
    if not rows.size:
        return None
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    levels = _sides(coarse[part], spine.canal[part], spine.front[part], spine.muscle)
    good = ~np.asarray(np.isnan(levels).any(axis=1), dtype=bool)
    lower, upper = strongest(levels.min(1), good), strongest(levels.max(1), good)
    return Organs(lower, upper) if lower is not None and upper is not None else None


def _sides(
    coarse: npt.NDArray[np.int16],
    canal: npt.NDArray[np.float64],
    front: npt.NDArray[np.float64],
    muscle: float,
) -> npt.NDArray[np.float64]:
    """``(Z, 2)``: level that 4 cm2 to the right and to the left exceed; NaN where there is no calm tissue."""
    mean, spread = statistics(coarse, (1, 3, 3))
    # Ribs and folds of bowel are not as bright in the slices above and below.
    excess = ndimage.minimum_filter1d(mean, 3, axis=0) - muscle
    calm = (spread < _NOISE + _MIXING * np.maximum(excess, 0)) & (coarse > _FAT)
    y, x = np.mgrid[: coarse.shape[1], : coarse.shape[2]]
    levels = np.full((len(coarse), 2), np.nan)
    for z in np.flatnonzero(~np.isnan(front)):
        dy, dx = y - canal[z, 0], x - canal[z, 1]
        deep = (dy >= front[z] - _AHEAD) & (dy <= _BEHIND) & calm[z]
        for side, sign in enumerate((-1, 1)):
            tissue = excess[z][deep & (sign * dx >= _ASIDE[0]) & (sign * dx <= _ASIDE[1])]
            if tissue.size >= 2 * _AREA:
                levels[z, side] = np.sort(tissue)[-_AREA]
    return levels
