"""Where along the body a series lies: slice scores, a straight line through them, and what it covers.

The *body axis* runs from the vertex (0) to the thighs in the millimetres of an average adult; six
landmarks that a person can mark on a MIP pin it down (the idea of body-part regression: Yan et al. 2018).
A small network gives every slice of the coarse volume a distribution over sections of that axis, "limb"
and "no anatomy".  One slice may err; but slices of a scan follow each other at a known distance, so a
straight line (offset and stretch of this patient against the average) is fitted to all of them together.
The posterior over lines, not a winner, is pushed through the rules that turn coverage into a body part:
that gives probabilities, and an honest "other" where no line fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.projections import COARSE_MM
from qc_node.domain import BodyPart, Region

Array = npt.NDArray[np.float64]

LANDMARKS: Mapping[str, float] = {
    "vertex": 0.0,
    "skull_base": 135.0,
    "apex": 268.0,
    "dome": 458.0,
    "crest": 683.0,
    "hip": 800.0,
}
"""Position of each landmark on the body axis in mm: vertex, foramen magnum, apex of the lung, dome of the
right diaphragm, iliac crest, top of the femoral head."""

LANDMARK_NAMES: Mapping[str, str] = {
    "vertex": "vertex",
    "skull_base": "skull base",
    "apex": "lung apex",
    "dome": "dome of the diaphragm",
    "crest": "iliac crest",
    "hip": "hip joint",
}

SECTION_MM = 40.0
SECTIONS = 22
"""The axis from the vertex to 880 mm (below the ischium) in sections of 40 mm."""
LIMB, NOTHING = SECTIONS, SECTIONS + 1
CLASSES = SECTIONS + 2
"""Outputs of the position network: sections, limb, no anatomy."""
CENTRES = (np.arange(SECTIONS) + 0.5) * SECTION_MM

REGIONS: Mapping[Region, tuple[float, float]] = {
    Region.HEAD: (0.0, 135.0),
    Region.NECK: (135.0, 268.0),
    Region.CHEST: (268.0, 473.0),
    Region.ABDOMEN: (473.0, 683.0),
    Region.PELVIS: (683.0, 860.0),
}
"""Region to its range on the body axis.  Chest ends 15 mm below the dome, where lung still surrounds it."""

_STRETCHES = np.concatenate([np.linspace(0.8, 1.25, 10), [1.35, 1.45, 1.6, 1.75, 1.95]])
"""Axis millimetres per millimetre of the patient: adults, then children down to half of an adult's length."""
_ADULT_SPREAD, _CHILD_SPREAD, _CHILDREN = 0.10, 0.35, 0.03
"""Spread of the logarithm of the stretch of adults, of everybody, and how common the latter are."""
_STEP_MM = 8.0
_MARGIN_MM = 120.0
_CORRELATION_SLICES = 6.0
"""Neighbouring slices err alike: this many count as one observation (24 mm, a vertebra)."""


def neighbours(coarse: npt.NDArray[np.int16], step: int = 2) -> npt.NDArray[np.float32]:
    """Every slice with the ones `step` above and below it: ``(Z, 3, 96, 96)`` float32 in HU."""
    index = np.arange(len(coarse))
    above, below = np.maximum(index - step, 0), np.minimum(index + step, len(coarse) - 1)
    return np.stack([coarse[above], coarse, coarse[below]], 1).astype(np.float32)


def readable(coarse: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """``(Z,)``: slices with at least 10 mL of tissue, about a wrist."""
    result: npt.NDArray[np.bool_] = (coarse > TISSUE).sum((1, 2)) * COARSE_MM**3 / 1000.0 >= 10.0
    return result


@dataclass(frozen=True)
class BodyAlignment:
    """The posterior over where the scan lies.

    Attributes
    ----------
    top, bottom
        ``(L,)`` body-axis position of the first and last slice for each candidate line.
    weight
        ``(L,)`` posterior probability of each line; sums to 1.
    anatomy
        Probability that the scan shows head or trunk at all, rather than a limb or nothing.
    limb
        Probability that it shows a limb.
    fit
        Mean log-likelihood per slice of the best line, above that of a uniform guess, each slice weighing as much
        as it looks like a body: below 0 the slices do not follow each other like one.
    upside_down
        True where the best line runs from feet to head.
    """

    top: Array
    bottom: Array
    weight: Array
    anatomy: float
    limb: float
    fit: float
    upside_down: bool
    slices: int = 0
    """Slices that were read."""

    @property
    def best(self) -> tuple[float, float]:
        """Posterior mean of (top, bottom) in mm on the body axis."""
        return float(self.weight @ self.top), float(self.weight @ self.bottom)


def align(probabilities: Array, used: npt.NDArray[np.bool_]) -> BodyAlignment:
    """Fit a line through the slice distributions.

    Parameters
    ----------
    probabilities
        ``(Z, CLASSES)`` of the position network, cranial slice first.
    used
        ``(Z,)``: which slices hold enough tissue to be read.

    Returns
    -------
    BodyAlignment
        With `anatomy` 0 where no slice can be read.
    """
    index = np.flatnonzero(used)
    if not index.size:
        empty = np.zeros(1)
        return BodyAlignment(empty, empty, np.ones(1), 0.0, 0.0, -1.0, False)
    floor = 0.02
    p = probabilities[index]
    sections = np.log(p[:, :SECTIONS] / SECTION_MM * 1.0 + floor / (SECTIONS * SECTION_MM))
    z = index * COARSE_MM
    length = z[-1] - z[0]
    effective = max(1.0, len(index) / _CORRELATION_SLICES) / len(index)
    body_share = p[:, :SECTIONS].sum(1)
    lines = []
    for direction in (1.0, -1.0):
        for stretch in _STRETCHES:
            span = length * stretch
            low, high = (0.0, SECTIONS * SECTION_MM) if direction > 0 else (span, SECTIONS * SECTION_MM + span)
            starts = np.arange(low - _MARGIN_MM - (span if direction > 0 else 0), high + _MARGIN_MM, _STEP_MM)
            at = starts[:, None] + direction * stretch * (z - z[0])[None]
            # Off the axis only the floor remains: nothing was ever learnt there.
            cell = at / SECTION_MM - 0.5
            lower = np.clip(np.floor(cell).astype(int), 0, SECTIONS - 1)
            upper = np.clip(lower + 1, 0, SECTIONS - 1)
            part = np.clip(cell - lower, 0.0, 1.0)
            rows = np.arange(len(index))[None]
            value = sections[rows, lower] * (1 - part) + sections[rows, upper] * part
            value = np.where(
                (at < -20) | (at > SECTIONS * SECTION_MM + 40), np.log(floor / (SECTIONS * SECTION_MM)), value
            )
            prior = _stretch_prior(float(stretch)) + (0.0 if direction > 0 else np.log(0.01))
            # How well it fits is asked of the slices that look like a body: raised arms above a head do not.
            fit = value @ body_share / max(float(body_share.sum()), 1e-9)
            lines.append((starts, starts + direction * span, value.sum(1) * effective + prior, fit))
    top, bottom, score, mean = (np.concatenate([line[n] for line in lines]) for n in range(4))
    weight = np.exp(score - score.max())
    weight /= weight.sum()
    best = int(np.argmax(score))
    uniform = np.log(1.0 / (SECTIONS * SECTION_MM))
    body, limb, nothing = body_share.mean(), p[:, LIMB].mean(), p[:, NOTHING].mean()
    total = body + limb + nothing
    # Slices above the first read one (air above the head) still belong to the field of view.
    return BodyAlignment(
        top,
        bottom,
        weight,
        float(body / total),
        float(limb / total),
        float(mean[best] - uniform),
        bool(top[best] > bottom[best]),
        len(index),
    )


def _stretch_prior(stretch: float) -> float:
    """Logarithm of how common a stretch is, up to a constant."""
    adult = np.exp(-0.5 * (np.log(stretch) / _ADULT_SPREAD) ** 2)
    anybody = np.exp(-0.5 * (np.log(stretch) / _CHILD_SPREAD) ** 2)
    return float(np.log((1.0 - _CHILDREN) * adult + _CHILDREN * anybody))


def coverage_mm(low: Array, high: Array) -> dict[Region, Array]:
    """Covered millimetres of each region for scans from `low` to `high` on the body axis."""
    return {
        region: np.clip(np.minimum(high, end) - np.maximum(low, start), 0.0, None)
        for region, (start, end) in REGIONS.items()
    }


LEAST_SHARE = 0.35
"""A region counts as covered from this share of it on."""
MOST_CHEST = 0.6
"""Share of the chest that may come with an abdomen: lung bases, in expiration up to the middle of the heart."""
MOST_ABDOMEN = 0.85
"""Share of the abdomen that may come with a whole chest: down to the lower pole of the kidneys."""


def body_part(low: Array, high: Array) -> npt.NDArray[np.int64]:
    """The body part that each scan from `low` to `high` shows, as an index into ``list(BodyPart)``.

    The rules, in words (fractions are of the whole region).  What a scan shows most of is its part; ``other`` is
    left for what is none of the five, and for scans of several regions of which each is there as a whole:

    - **brain**: mostly head, at most 45 % of the neck.
    - **neck**: at least half of the neck, or mostly neck; face, skull base or even the whole head and the
      upper chest (70 %) belong to it.
    - **chest**: mostly chest; the abdomen to the lower pole of the kidneys (85 %) and the lower neck (70 %)
      belong to it.
    - **abdomen**: mostly abdomen, to the iliac crest or a little further (35 % of the pelvis); of the chest the
      lung bases (60 %).
    - **abdomen_pelvis**: at least 40 % of the abdomen and more than 35 % of the pelvis; of the chest as above.
    - **other**: pelvis alone, whole neck with whole chest, whole chest with whole abdomen, whole body, and what
      is not on the axis.
    """
    cover = coverage_mm(low, high)
    fraction = {region: mm / (REGIONS[region][1] - REGIONS[region][0]) for region, mm in cover.items()}
    head, neck, chest, abdomen, pelvis = (cover[r] for r in REGIONS)
    _, f_neck, f_chest, f_abdomen, f_pelvis = (fraction[r] for r in REGIONS)
    order = list(BodyPart)
    result = np.full(np.shape(head), order.index(BodyPart.OTHER))
    both = (f_chest > MOST_CHEST) & (f_abdomen > MOST_ABDOMEN)
    rules = {
        BodyPart.BRAIN: (f_neck <= 0.45) & (chest <= 0) & (head > neck),
        BodyPart.NECK: ((f_neck > 0.45) | (neck > np.maximum(head, chest)))
        & (f_chest <= 0.7)
        & (neck > chest * 0.85)
        & (abdomen <= 0),
        BodyPart.CHEST: (f_neck <= 0.7) & (chest > abdomen) & (chest > neck) & ~both,
        BodyPart.ABDOMEN: (abdomen >= chest) & (abdomen > pelvis) & (f_pelvis <= 0.35) & (f_neck <= 0) & ~both,
        BodyPart.ABDOMEN_PELVIS: (f_abdomen >= 0.4) & (f_pelvis > 0.35) & (f_chest <= MOST_CHEST),
    }
    for part, holds in rules.items():
        result[holds] = order.index(part)
    return result


SHORT_MM = 60.0
"""A scan shorter than this at the dome of the diaphragm tells no chest from an abdomen."""
ERRORS_MM = np.array([-32.0, -16.0, 0.0, 16.0, 32.0])
"""How far either end may lie from where the line has it: bodies differ in more than offset and stretch."""
_ERROR_WEIGHTS = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0


def part_probabilities(alignment: BodyAlignment) -> dict[BodyPart, float]:
    """Probability of every body part under the posterior of `alignment`.

    Each end of the scan is moved by :data:`ERRORS_MM` both ways, so that a scan on the border between two
    rules is told with a probability near one half; so is one that shows two parts alike (:func:`_ties`).
    """
    kept = alignment.weight > 1e-6 * alignment.weight.max()  # the other lines say nothing and take time
    low, high = (
        np.minimum(alignment.top, alignment.bottom)[kept],
        np.maximum(alignment.top, alignment.bottom)[kept],
    )
    shape = (len(low), len(ERRORS_MM), len(ERRORS_MM))
    lows = np.broadcast_to((low[:, None] + ERRORS_MM)[:, :, None], shape)
    highs = np.maximum((high[:, None] + ERRORS_MM)[:, None, :], lows + COARSE_MM)
    weight = alignment.weight[kept, None, None] * _ERROR_WEIGHTS[:, None] * _ERROR_WEIGHTS
    parts = body_part(lows, highs)
    order = list(BodyPart)
    mass = np.array([weight[parts == n].sum() for n in range(len(order))])
    for one, other, alike in _ties(lows, highs, (high - low)[:, None, None]):
        pair = [order.index(one), order.index(other)]
        held = np.array([weight[alike & (parts == n)].sum() for n in pair])
        mass[pair] += held.mean() - held
    mass *= alignment.anatomy / mass.sum()
    mass[order.index(BodyPart.OTHER)] += 1.0 - alignment.anatomy
    return {part: float(mass[n]) for n, part in enumerate(order)}


def _ties(low: Array, high: Array, length: Array) -> Iterator[tuple[BodyPart, BodyPart, npt.NDArray[np.bool_]]]:
    """Two parts that some scans show alike, and which of the scans these are."""
    dome, chest = LANDMARKS["dome"], REGIONS[Region.CHEST]
    # Lung bases and the dome of the liver in a few slices belong to a chest as much as to an abdomen.
    slab = (length < SHORT_MM) & (low < dome + 50) & (high > dome - 50)
    yield BodyPart.CHEST, BodyPart.ABDOMEN, slab
    # A whole head with much of the neck and no chest: an examination of either.
    whole_head = low <= LANDMARKS["vertex"]
    neck = REGIONS[Region.NECK]
    yield (
        BodyPart.BRAIN,
        BodyPart.NECK,
        whole_head & (high > neck[0] + 0.45 * (neck[1] - neck[0])) & (high < chest[0]),
    )
    # Head, neck and so much of the chest that it counts as covered: a neck with more than enough, or three parts.
    yield BodyPart.NECK, BodyPart.OTHER, whole_head & (high - chest[0] > LEAST_SHARE * (chest[1] - chest[0]))


def regions_seen(alignment: BodyAlignment) -> tuple[Region, ...]:
    """Regions of which at least 35 % is covered, or that make up half of the scan; the limb where it dominates.

    A chest scan ends in the liver and an abdominal one begins in the lung: less than a third of the
    neighbour is not called covered.
    """
    if alignment.anatomy < 0.5:
        return (Region.LIMB,) if alignment.limb > 0.5 else ()
    low, high = sorted(alignment.best)
    cover = coverage_mm(np.array(low), np.array(high))
    return tuple(
        r
        for r, mm in cover.items()
        if mm >= min(LEAST_SHARE * (REGIONS[r][1] - REGIONS[r][0]), 0.5 * max(high - low, 4.0))
    )


def outermost(alignment: BodyAlignment) -> tuple[str | None, str | None]:
    """Names of the most cranial and the most caudal landmark inside the scan.

    A single landmark names the end that it lies nearer to, and the other end has no name: half of a head does not
    reach from vertex to vertex.
    """
    if alignment.anatomy < 0.5:
        return None, None
    low, high = sorted(alignment.best)
    inside = [name for name, at in LANDMARKS.items() if low - 6 <= at <= high + 6]
    if not inside:
        return None, None
    top, bottom = LANDMARK_NAMES[inside[0]], LANDMARK_NAMES[inside[-1]]
    if len(inside) > 1:
        return top, bottom
    return (top, None) if LANDMARKS[inside[0]] - low <= high - LANDMARKS[inside[0]] else (None, bottom)


def axis_position(slices_from_top_mm: npt.NDArray[Any], landmarks_mm: Mapping[str, float]) -> Array:
    """Body-axis position of points along a scan, from marked landmarks.

    Parameters
    ----------
    slices_from_top_mm
        Distance of each point from the top of the scan.
    landmarks_mm
        Distance of each marked landmark from the top of the scan; may lie outside.  Between landmarks the
        axis is stretched linearly; beyond the outermost one a millimetre is a millimetre.
    """
    known = sorted((mm, LANDMARKS[name]) for name, mm in landmarks_mm.items())
    at, score = np.array([k[0] for k in known]), np.array([k[1] for k in known])
    inside = np.interp(slices_from_top_mm, at, score)
    before = score[0] + (slices_from_top_mm - at[0])
    after = score[-1] + (slices_from_top_mm - at[-1])
    result: Array = np.where(
        slices_from_top_mm < at[0], before, np.where(slices_from_top_mm > at[-1], after, inside)
    )
    return result
