"""Enhanced vessels inside the skull, measured rather than learnt.

Contrast in a head is a small thing: arteries of the base, sinuses, veins, a few mL in a litre of brain.  Two
things are measured on the white top hat of the 4 mm volume (how much brighter a voxel is than the median of its
20 mm surroundings) inside the skull, away from bone.

- *How bright*: its 99.7th percentile.  Brain and a shifted scale have little of it; a haemorrhage is thick and
  left out.  Without anything bright a head is plain.
- *In how many places*: vessels run through all of the brain.  Calcified plexus, pineal gland and falx, blood in
  the ventricles and a clip are bright, but in few of 27 places.  Only what is bright in two fifths of them is
  contrast.  Pieces thicker than a vessel are left out: several haemorrhages or masses, or blood in all ventricles,
  lie in many places.

Noise adds to both; what Gaussian noise of the measured size would give is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass

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
THICK_ML, _THICK_RIM = 0.4, 2
"""The same for the places, where a small piece is enough to be taken for a vessel, and voxels of rim around it."""
_LUMP_RIM = 3
QUANTILE = 99.7
"""Share of intracranial voxels (in %) below the measured top hat: the brightest 3 mL of a litre."""
_GAUSSIAN = 2.75
"""Standard deviations that :data:`QUANTILE` of Gaussian values reaches."""
_USUAL_NOISE = 4.5
"""HU of top hat that gyri and sulci alone have."""
_SOME_BONE = 160
_LEAST_SKULL = 200
"""Voxels (13 mL) of a piece of skull; a calcification is smaller."""
_LARGEST_ISLAND = 16
"""Pixels (2.5 cm2)."""
_VOXELS = 3
"""Brightest voxels (0.2 mL) of a place that are averaged."""
_LEAST_PLACE = 40
_PIECE, _LIME = 45, 110
"""HU above brain of a bright piece, and of the core that only lime, metal or an artery has."""
_SHORT = 7
"""Voxels (28 mm) that a calcification is long at most; arteries and sinuses as bright as that go on."""


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


@dataclass(frozen=True)
class HeadVessels:
    """How bright things inside the skull are, and in how many places.

    Attributes
    ----------
    excess
        HU that the brightest 0.3 % exceed their surroundings by, thick lumps left out: about 4 to 20 without
        contrast, 20 to 100 with it, and as much with calcification or noise.
    spread
        HU above brain and noise that the brightest voxels reach in two fifths of the places: -10 to 5 where bright
        things are few, however bright.
    places
        The same for one fifth of the places.
    noise
        Standard deviation in HU of brain against its surroundings.
    """

    excess: float
    spread: float
    places: float
    noise: float

    @property
    def beyond_noise(self) -> float:
        """`excess` without what Gaussian noise adds to it."""
        return self.excess - _GAUSSIAN * max(0.0, self.noise - _USUAL_NOISE)


def head_vessels(coarse: npt.NDArray[np.int16], head: npt.NDArray[np.bool_]) -> HeadVessels | None:
    """Measure bright structures inside the skull.

    Parameters
    ----------
    coarse
        ``(Z, 96, 96)`` HU at 4 mm.
    head
        ``(Z,)``: slices that show the head above the skull base.

    Returns
    -------
    HeadVessels or None
        None where too little of the skull is in the scan.
    """
    rows = np.flatnonzero(head)
    if rows.size < 5:
        return None
    part = coarse[rows[0] : rows[-1] + 1]
    inside = intracranial(part)
    if inside.sum() * COARSE_MM**3 / 1000.0 < LEAST_ML:
        return None
    # Only the surroundings of the brain are filtered.
    box = ndimage.find_objects(inside.astype(np.int8))[0]
    box = tuple(slice(max(0, s.start - 3), s.stop + 3) for s in box)
    part, inside = part[box], inside[box]
    values = np.clip(part, -100, 600).astype(np.int16)
    hat = values - ndimage.median_filter(values, 5)
    noise = _noise(hat[inside])
    brain = np.median(values[inside])
    above = np.minimum(hat, values - brain)  # gyri in wide sulci exceed their surroundings, but not brain
    arteries = _islands(part)
    away = (inside | arteries) & ~_near_bone(part, arteries) & ~_lime(part - brain, inside | arteries)
    spread = _in_places(above, away & ~_lumps(values, inside, THICK_ML, _THICK_RIM))
    lumps = _lumps(values, inside, LUMP_ML, _LUMP_RIM)
    apart = hat[inside & ~lumps]
    if not apart.size or spread is None:
        return None
    return HeadVessels(float(np.percentile(apart, QUANTILE)), spread[0], spread[1], noise)


def _noise(hat: npt.NDArray[np.int16]) -> float:
    return float(1.4826 * np.median(np.abs(hat - np.median(hat))))


def _islands(part: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Pieces as dense as bone of at most 2.5 cm2 within the ring of a slice: arteries of an angiography.

    So are clinoids and tips of the petrous bone, but in few places.
    """
    dense = part > _SOME_BONE
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    labels, _ = ndimage.label(dense, in_plane)
    small = np.bincount(labels.ravel()) <= _LARGEST_ISLAND
    small[0] = False
    ring = ndimage.generate_binary_structure(2, 1)
    filled = np.stack([ndimage.binary_erosion(ndimage.binary_fill_holes(plane), ring, 3) for plane in dense])
    islands: npt.NDArray[np.bool_] = small[labels] & filled
    return islands


def _near_bone(part: npt.NDArray[np.int16], islands: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What holds some of the skull: within 4 mm of a large piece above :data:`_SOME_BONE`."""
    labels, _ = ndimage.label((part > _SOME_BONE) & ~islands)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    skull = (sizes > _LEAST_SKULL)[labels]
    near: npt.NDArray[np.bool_] = ndimage.binary_dilation(skull, ndimage.generate_binary_structure(3, 1))
    return near


def _lime(above: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Short pieces with a very dense core, and what of them their neighbours hold."""
    labels, count = ndimage.label((above > _PIECE) & inside, np.ones((3, 3, 3)))
    peaks = np.asarray(ndimage.maximum(above, labels, np.arange(count + 1)))
    dense = peaks > _LIME
    dense[0] = False
    for n, box in enumerate(ndimage.find_objects(labels), 1):
        if dense[n]:
            dense[n] = max(side.stop - side.start for side in box) <= _SHORT
    grown: npt.NDArray[np.bool_] = ndimage.binary_dilation(dense[labels], iterations=2)
    return grown


def _in_places(above: npt.NDArray[np.int16], inside: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """What the brightest voxels of 27 places of equal depth, height and width reach beyond noise."""
    at = np.argwhere(inside)
    if len(at) < 27 * _LEAST_PLACE:
        return None
    found = above[inside].astype(np.float64)
    thirds = [np.searchsorted(np.quantile(axis, [1 / 3, 2 / 3]), axis, side="right") for axis in at.T]
    place = thirds[0] * 9 + thirds[1] * 3 + thirds[2]
    # The mean of the brightest three of some hundred Gaussian values is about 2.9 standard deviations.
    limit = 2.9 * _noise(above[inside])
    brightest = [
        float(np.sort(values)[-_VOXELS:].mean()) - limit
        for values in (found[place == n] for n in range(27))
        if values.size >= _LEAST_PLACE
    ]
    if len(brightest) < 18:
        return None
    share = np.percentile(brightest, [60, 80])
    return float(share[0]), float(share[1])


def _lumps(
    values: npt.NDArray[np.int16], inside: npt.NDArray[np.bool_], least_ml: float, rim: int
) -> npt.NDArray[np.bool_]:
    """What is bright and thicker than a vessel is a haemorrhage or a tumour: neither it nor its rim counts."""
    bright = (values > np.median(values[inside]) + 15) & inside
    labels, count = ndimage.label(ndimage.binary_opening(bright, ndimage.generate_binary_structure(3, 1)))
    if not count:
        return np.zeros(inside.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    lumps = (sizes * COARSE_MM**3 / 1000.0 >= least_ml)[labels]
    out: npt.NDArray[np.bool_] = ndimage.binary_dilation(lumps, iterations=rim)
    return out
