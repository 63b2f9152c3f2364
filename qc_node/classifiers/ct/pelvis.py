"""Femoral vessels in both groins against muscle, measured rather than learnt.

In the pelvis bowel with oral contrast, a bladder full of excreted contrast and hip prostheses are bright with and
without enhancement.  In the groin none of them is: in front of the femoral heads there is fat, muscle and, on
both sides, an artery and a vein of about a centimetre each that run along the body.  What stays bright over 20 mm
there, on *both* sides, is blood.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.levels import muscle_level
from qc_node.classifiers.ct.vessels import LEAST_GOOD, strongest

RANGE_MM = (785.0, 870.0)
"""Where on the body axis: from the middle of the acetabulum to below the ischium."""
_RUN = 5
"""Slices (20 mm) along which a vessel keeps its brightness."""
_AREA = 3
"""Pixels (0.5 cm2) of one side: half of its artery and vein."""
_ASIDE = (6, 19)
"""Columns (24-76 mm) from the midline: lateral to bladder and bowel, medial to the hip's outer muscles."""
_BONE = 220
_LEAST_BONE = 8
_MARGIN = 2
_BRIGHTEST = 1000
_LEAST_ZONE = 20


def femoral_excess(coarse: npt.NDArray[np.int16], groin: npt.NDArray[np.bool_]) -> float | None:
    """How much brighter than muscle the vessels of both groins are, in HU.

    Parameters
    ----------
    coarse
        ``(Z, 96, 96)`` HU at 4 mm.
    groin
        ``(Z,)``: slices with femoral heads, one run.

    Returns
    -------
    float or None
        About -15 to 15 without contrast, 25 to 300 with it: what the paler side shows in its brightest 48 mm.
        None where fewer than 28 mm show both groins.
    """
    part = coarse[groin]
    if len(part) < LEAST_GOOD:
        return None
    muscle = muscle_level(part)
    if muscle is None:
        return None
    labels, count = ndimage.label(part > _BONE)
    large = np.bincount(labels.ravel(), minlength=count + 1) >= _LEAST_BONE
    large[0] = False
    bone = _without_vessels(large[labels])
    near = ndimage.binary_dilation(bone, ndimage.generate_binary_structure(3, 1), iterations=_MARGIN)
    lasting = ndimage.minimum_filter1d(np.clip(part, -200, _BRIGHTEST), _RUN, axis=0, mode="nearest")
    across = np.cumsum((part > TISSUE).sum((0, 1)))
    midline = int(np.searchsorted(across, across[-1] / 2))
    columns = np.arange(part.shape[2]) - midline
    levels = np.full((len(part), 2), np.nan)
    for z in range(len(part)):
        for side, sign in enumerate((-1, 1)):
            beside = (sign * columns >= _ASIDE[0]) & (sign * columns <= _ASIDE[1])
            rows = np.flatnonzero((bone[z] & beside).sum(1) >= 3)
            if not rows.size:
                continue
            zone = (part[z] > -50) & ~near[z] & beside
            zone[rows[0] :] = False
            if zone.sum() >= _LEAST_ZONE:
                levels[z, side] = np.sort(lasting[z][zone])[-_AREA] - muscle
    good = ~np.isnan(levels).any(1)
    return strongest(np.nan_to_num(levels.min(1)), good)


def _without_vessels(bone: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """`bone` but for slender pieces along the body, which in the arterial phase are arteries."""
    labels, _ = ndimage.label(bone)
    kept = bone.copy()
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        piece = labels[box] == label
        if box[0].stop - box[0].start >= LEAST_GOOD and piece.sum((1, 2)).max() <= 14:
            kept[box] &= ~piece
    return kept
