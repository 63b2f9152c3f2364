"""Enhanced vessels of the neck, measured rather than learnt.

What a physician compares is the lumen of carotid and jugular with muscle of the same slices: without contrast
blood is a little darker than muscle, with it 60 to 300 HU brighter.  A vessel runs along the body for many slices
and keeps its brightness; streaks, teeth, lymph node rims and noise do not.  So the measure is what stays bright
over 20 mm along the body, away from bone, above this patient's own muscle: a scale that is 30 HU low, as in some
planning scans, cancels out.  The thyroid, bright by its own iodine, and cartilage are in too few slices to count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.ct.levels import longest_stretch

RANGE_MM = (150.0, 260.0)
"""Where on the body axis carotids and jugulars run free: below the skull base, above clavicles and first ribs."""
LEAST_SLICES = 6
"""Slices of 4 mm without which nothing is said."""
RUN_SLICES = 5
"""Slices along which a vessel keeps its brightness: 20 mm."""
BONE = 250
"""HU of bone at 4 mm; a piece with a core 100 HU denser is bone, unless it is as slender and long as a vessel."""
_CORE = BONE + 100
_LEAST_BONE = 4
_VESSEL_SLICES = 12
_WIDEST_VESSEL = 25
_BRIGHTEST = 1000
_MARGIN = 2
"""Voxels around bone (8 mm) that hold some of it."""
_LUMEN = 12
"""Brightest pixels of a slice that are averaged: 2 cm2, both jugulars or half of all four vessels."""
_QUANTILE = 40.0
"""Share of the slices (in %) that may be less bright than the answer."""
_LEAST_SOFT = 100
"""Pixels (16 cm2) of soft tissue that a slice must offer."""


def muscle_level(coarse: npt.NDArray[np.int16]) -> float | None:
    """HU of the commonest homogeneous soft tissue of ``(Z, 96, 96)``; in a neck that is muscle.

    Returns
    -------
    float or None
        Between -10 and 110; None where there is less than 5 mL of homogeneous tissue.
    """
    values = coarse.astype(np.float32)
    mean = ndimage.uniform_filter(values, (1, 3, 3))
    spread = np.sqrt(np.maximum(0.0, ndimage.uniform_filter(values * values, (1, 3, 3)) - mean * mean))
    calm = coarse[(spread < 25) & (coarse > -10) & (coarse < 110)]
    if calm.size < 80:
        return None
    counts, edges = np.histogram(calm, np.arange(-10, 112, 2))
    return float(edges[int(ndimage.gaussian_filter1d(counts.astype(np.float64), 3).argmax())] + 1)


def slices(position: npt.NDArray[np.float64], range_mm: tuple[float, float] = RANGE_MM) -> npt.NDArray[np.bool_]:
    """``(Z,)``: the longest run of slices whose `position` (mm on the body axis, NaN off it) is in `range_mm`."""
    return longest_stretch((position > range_mm[0]) & (position < range_mm[1]))


def bones(coarse: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """``(Z, 96, 96)``: pieces above :data:`BONE` with a dense core, but for slender ones along the body.

    In the arterial phase carotids and jugulars have 300-700 HU, as bone has; but no bone of the neck that is free
    of the others is 48 mm long and nowhere wider than 4 cm2.
    """
    labels, count = ndimage.label(coarse > BONE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    densest = np.asarray(ndimage.maximum(coarse, labels, np.arange(count + 1)))
    bone = (sizes >= _LEAST_BONE) & (densest > _CORE)
    bone[0] = False
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if bone[label] and box[0].stop - box[0].start >= _VESSEL_SLICES:
            bone[label] = (labels[box] == label).sum((1, 2)).max() > _WIDEST_VESSEL
    found: npt.NDArray[np.bool_] = bone[labels]
    return found


def vessel_excess(coarse: npt.NDArray[np.int16], neck: npt.NDArray[np.bool_]) -> float | None:
    """How much brighter than muscle the brightest lengthwise structures of a neck are, in HU.

    Parameters
    ----------
    coarse
        ``(Z, 96, 96)`` HU at 4 mm.
    neck
        ``(Z,)``: slices of the neck, one run.

    Returns
    -------
    float or None
        About 0-30 without contrast, 35-600 with it; None where there is too little of a neck.
    """
    part = coarse[neck]
    if len(part) < LEAST_SLICES:
        return None
    muscle = muscle_level(part)
    if muscle is None:
        return None
    near = ndimage.binary_dilation(bones(part), ndimage.generate_binary_structure(3, 1), iterations=_MARGIN)
    lasting = ndimage.minimum_filter(np.clip(part, -100, _BRIGHTEST), (RUN_SLICES, 1, 1), mode="nearest")
    usable = (part > -50) & ~near
    found = [
        float(np.sort(plane[mask])[-_LUMEN:].mean()) - muscle
        for plane, mask in zip(lasting, usable, strict=True)
        if mask.sum() > _LEAST_SOFT
    ]
    return float(np.percentile(found, _QUANTILE)) if len(found) >= LEAST_SLICES else None
