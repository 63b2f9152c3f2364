"""Enhanced vessels inside the skull, measured rather than learnt.

Contrast in a head is a small thing: arteries of the base, sinuses, veins, a few mL in a litre of brain.
The measure is the white top hat of the 4 mm volume (how much brighter a voxel is than the median of its
20 mm surroundings) inside the skull, away from bone.  Brain and a shifted scale have little of it; a haemorrhage
is thick and left out; a pineal calcification has it in too few voxels to reach the 99.7th percentile; enhanced
vessels, spread through all cisterns, exceed it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.projections import COARSE_MM

BONE = 220
"""HU above which a 4 mm voxel counts as skull."""
LEAST_ML = 90.0
"""Below this volume inside the skull nothing is said."""
LEAST_SOFT = 0.2
"""Share of soft tissue below which a head is taken for a skull without a brain."""
LUMP_ML = 1.5
"""From this volume on a thick bright piece is taken for a haemorrhage and left out."""
QUANTILE = 99.7
"""Share of intracranial voxels (in %) below the measured top hat: the brightest 3 mL of a litre."""


def intracranial(coarse: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """What lies inside a closed ring of bone, at least 4 mm away from it: ``(Z, 96, 96)``.

    Only the largest piece is kept, so that an orbit or a spinal canal does not count.
    """
    bone = coarse > BONE
    ring = ndimage.generate_binary_structure(2, 1)
    inside = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, ring)) for plane in bone]) & ~bone
    core = ndimage.binary_erosion(inside, ndimage.generate_binary_structure(3, 1)) & (coarse > -20)
    labels, count = ndimage.label(core)
    if not count:
        return np.zeros(coarse.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: npt.NDArray[np.bool_] = labels == sizes.argmax()
    return largest


def hollow(coarse: npt.NDArray[np.int16], head: npt.NDArray[np.bool_]) -> bool:
    """Is there hardly any soft tissue in these slices of a head, as in a plastic skull on a stand?

    Of everything denser than fat, a real head is brain and muscle (0 to 90 HU) to at least a quarter, the
    face included; a skull with a test insert stays below an eighth.

    Parameters
    ----------
    coarse, head
        As in :func:`vessel_excess`.
    """
    part = coarse[head]
    if len(part) < 5:
        return False
    return bool(((part > 0) & (part < 90)).sum() < LEAST_SOFT * (part > TISSUE).sum())


def vessel_excess(coarse: npt.NDArray[np.int16], head: npt.NDArray[np.bool_]) -> float | None:
    """How much brighter than their surroundings the brightest intracranial voxels are, in HU.

    Parameters
    ----------
    coarse
        ``(Z, 96, 96)`` HU at 4 mm.
    head
        ``(Z,)``: slices that show the head above the skull base.

    Returns
    -------
    float or None
        About 4-15 without contrast, 20-100 with it; None where too little of the skull is in the scan.
    """
    rows = np.flatnonzero(head)
    if rows.size < 5:
        return None
    part = coarse[rows[0] : rows[-1] + 1]
    inside = intracranial(part)
    if inside.sum() * COARSE_MM**3 / 1000.0 < LEAST_ML:
        return None
    values = np.clip(part, -100, 600).astype(np.int16)
    # What is bright and thicker than a vessel is a haemorrhage or a tumour: neither it nor its rim counts.
    bright = (values > np.median(values[inside]) + 15) & inside
    thick = ndimage.binary_opening(bright, ndimage.generate_binary_structure(3, 1), iterations=1)
    labels, count = ndimage.label(thick)
    if count:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        lumps = (sizes * COARSE_MM**3 / 1000.0 >= LUMP_ML)[labels]
        inside &= ~ndimage.binary_dilation(lumps, iterations=3)
    hat = (values - ndimage.median_filter(values, 5))[inside]
    return float(np.percentile(hat, QUANTILE)) if hat.size else None
