"""What every head, neck and trunk has and a limb or a test object has not: air inside, or a closed skull.

A network that has seen two dozen people takes a knee for a neck now and then.  A neck without an airway
does not exist, nor a chest without lung, nor a brain without a skull around it; both are measured.
What is missing is a reason to doubt and no proof of a limb: a bowel may be empty and a skull masked away.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.calibration import AIR
from qc_node.domain import BodyPart

LEAST_AIR = 0.15
"""Share of slices with air inside the body: whole series of necks and trunks reach 0.5, limbs 0.1."""
LEAST_SKULL_ML = 40.0
"""Volume inside closed bone that a brain needs where no sinus is seen."""
LEAST_TRUNK = 25
"""Slices (100 mm) from which on an abdomen without any gas is not believed."""


def air_share(coarse: npt.NDArray[np.int16]) -> float:
    """Share of the slices with tissue that hold at least 0.5 cm2 of air (airway, lung, sinus, bowel gas).

    Air counts where tissue encloses it, and where the body mask kept it although the border of a small
    field of view opens it: what lies outside the body is exactly :data:`AIR`.
    """
    tissue = coarse > TISSUE
    rows = np.flatnonzero(tissue.any((1, 2)))
    if not rows.size:
        return 0.0
    inside = [(ndimage.binary_fill_holes(tissue[z]) | (coarse[z] > AIR)) & (coarse[z] < -400) for z in rows]
    return float(np.mean([air.sum() >= 3 for air in inside]))


def impossible(air: float, skull_ml: float, slices: int) -> frozenset[BodyPart]:
    """Body parts that a scan with so little air and so small a skull does not show as far as is known.

    Parameters
    ----------
    air
        From :func:`air_share`.
    skull_ml
        Volume inside closed bone in mL.
    slices
        Coarse slices that were read.
    """
    parts: set[BodyPart] = set()
    if air < LEAST_AIR:
        parts |= {BodyPart.NECK, BodyPart.CHEST}
        if skull_ml < LEAST_SKULL_ML:
            parts.add(BodyPart.BRAIN)
        if slices >= LEAST_TRUNK:
            parts |= {BodyPart.ABDOMEN, BodyPart.ABDOMEN_PELVIS}
    return frozenset(parts)
