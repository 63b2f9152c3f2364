"""Blood of heart and great vessels, measured rather than learnt.

Without contrast blood is a little darker than muscle (35-50 against 50-65 HU); with it, 50 to 700 HU brighter.
In the chest there is much of it between the lungs, and it is homogeneous.  So the measure is the level above this
patient's own muscle that 2 cm2 of homogeneous tissue between the lungs exceed.  A scale that is off by 30 HU
cancels out, and no brightness is too bright.  What else is bright is excluded by what it is: calcification, leads
and streaks are not homogeneous over 12 mm; marrow is not over 20 mm, as endplates and discs interrupt it; breast
implants lie in front of the lungs, and contrast in the stomach below them.  Where one lung is missing (small field
of view, pneumonectomy, large effusion) nothing is said, because then the heart may be out of view too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.calibration import AIR
from qc_node.classifiers.ct.levels import muscle_level, statistics

RANGE_MM = (310.0, 458.0)
"""Where on the body axis: from the arch of the aorta to the dome of the diaphragm."""
LEAST_SLICES = 6
"""Slices of 4 mm without which nothing is said."""
_BOX = (5, 3, 3)
"""What must be homogeneous: 12 x 12 mm over 20 mm along the body, more than lies between most endplates."""
_AREA = 12
"""Pixels (2 cm2), as in the neck: what is left of the aorta alone when its border of 4 mm is taken away."""
_NOISE = 12.0
"""Standard deviation in HU within the box up to which tissue is homogeneous."""
_MIXING = 0.05
"""The same as a share of the excess over muscle: contrast medium is never mixed perfectly."""
_LUNG = -500
_FAT = -50


def blood_excess(coarse: npt.NDArray[np.int16], chest: npt.NDArray[np.bool_]) -> float | None:
    """How much brighter than muscle the blood between the lungs is, in HU.

    Parameters
    ----------
    coarse
        ``(Z, 96, 96)`` HU at 4 mm, outside the body :data:`~qc_node.classifiers.ct.calibration.AIR`.
    chest
        ``(Z,)``: slices from the arch to the dome, one run.

    Returns
    -------
    float or None
        About -20 to 20 without contrast, 50 to 700 with it; None where there are too few slices with homogeneous
        tissue between two lungs.
    """
    part = coarse[chest]
    if len(part) < LEAST_SLICES:
        return None
    muscle = muscle_level(part)
    if muscle is None:
        return None
    mean, spread = statistics(part, _BOX)
    excess = mean - muscle
    calm = (spread < _NOISE + _MIXING * np.maximum(excess, 0)) & (mean > _FAT) & between_lungs(part)
    # With fewer than twice the area the level would be that of whatever happens to be calm.
    found = [
        float(np.sort(level[mask])[-_AREA])
        for level, mask in zip(excess, calm, strict=True)
        if mask.sum() >= 2 * _AREA
    ]
    return float(np.median(found)) if len(found) >= LEAST_SLICES else None


def between_lungs(coarse: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """``(Z, 96, 96)``: tissue that has air of the body both to its left and to its right in the same row."""
    air = (coarse < _LUNG) & (coarse > AIR)
    right = np.logical_or.accumulate(air, axis=2)
    left = np.logical_or.accumulate(air[:, :, ::-1], axis=2)[:, :, ::-1]
    inside: npt.NDArray[np.bool_] = right & left & (coarse > TISSUE)
    return inside
