"""What may be said for certain of an image, from what was measured on it and from what the networks think.

Pure rules on numbers.  A certain reject needs evidence of its own: a head that is complete and sharp, on whatever
scanner, must not come to one because something else is odd (coil, contrast agent, fat, age, tilt).  So

- where the head lies must be known by two independent means before anything is said of what is missing or turned:
  grey values (as they are, or evened) and the brain mask;
- "not a head" needs all of them to find nothing;
- the order of the tissues says what is not T1-weighted;
- a network alone, against what was measured, makes an image undetermined and never a reject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from qc_node.classifiers.brain_mri.checks import MAX_TURN_DEG, PITCH_DEG, AtPlace, Measures
from qc_node.classifiers.brain_mri.tissue_order import Contrast
from qc_node.domain import Reason

AS_IS_NCC = 0.72
"""From here the average head fits the image as it is."""
EVENED_NCC = 0.40
"""From here it fits an evened copy (heads under any coil: 0.49-0.85; anything else: up to 0.2)."""
NO_NCC, NO_EVENED_NCC = 0.45, 0.25
"""Below: grey values find no head."""
BRAIN_FIT, NO_BRAIN_FIT = 0.86, 0.80
"""From the one the mask is shaped like a brain, below the other it is not (heads 0.90-0.93, others up to 0.79)."""
BRAIN_ML = (600.0, 2600.0)
COMPACT = 1.02
"""A brain is that compact; what the network marks in a trunk or in noise has up to 0.97."""
MAX_APART_MM = 12.0
"""Mean distance of the brain as placed by grey values and by the mask."""
MAX_LOST_BRAIN = 0.05
"""Share of the average brain that may lie outside the image or in blanked voxels."""
MIN_SHELL = 0.3
"""Share of skull-and-scalp points with signal; whole heads have 0.9 and more, stripped brains 0.10 and less."""
SCALES = (0.62, 1.35)
"""Size of the head against the average head that occurs, per direction (measured: 0.77-1.01)."""
EDGE_CM2 = 20.0
"""A mask of a brain that ends at the edge of the image on such an area is cut (brain stems: up to 10)."""
LITTLE_LOST = 0.01
CLEARLY_T1W = 0.10
"""Probability of a reject below which a network may take an image without any order of tissues for T1-weighted,
where the average head fits it as it is.  Low-contrast T1w: 0.00 to 0.28, fit 0.47 to 0.87.  Real FLAIR by networks
that never saw their scanner: 0.06 to 0.75, and below 0.5 none fits."""
TURN_SLACK_DEG = 8.0
"""So much nearer to straight the second means may see a head that is turned too far by the first."""


class Place(StrEnum):
    """How the head was found."""

    AS_IS = "as_is"
    EVENED = "evened"
    MASK = "mask"
    """Only by the brain mask: a head whose grey values are unlike T1, or a brain alone."""
    UNCLEAR = "unclear"
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class Ruling:
    """A reason to reject for certain, or why the image is undetermined, or neither: the next one decides."""

    reason: Reason | None = None
    doubt: str | None = None


NOTHING = Ruling()

NOT_LOCATED = "It is not certain that this is a head. Please look at the image."
NOT_SURELY_T1W = "The tissues do not have the clear order of a T1-weighted image. Please look at the image."
TWO_MEANINGS = "Two measurements disagree on whether the head is whole and straight. Please look at the image."
CONTRADICTED: Mapping[Reason, str] = {
    Reason.COVERAGE: "The network misses part of the brain, but it was measured to be complete. Please look.",
    Reason.SKULL_STRIPPED: "The network misses skull and scalp, but they were measured. Please look.",
    Reason.ORIENTATION: "The network takes the head for turned, but it was measured as straight. Please look.",
    Reason.NOT_BRAIN: "The network sees no head, but one was measured. Please look.",
    Reason.SEGMENTED: "The network takes this for a segmentation, but its values are those of an image.",
    Reason.NOT_T1W: "The network sees another contrast, but the tissues have the order of T1. Please look.",
}
"""Why an image is undetermined, per reason that only a network gave, against the measurements."""


def place_of(m: Measures) -> Place:
    """How the head was found, if it was."""
    if m.ncc is None or m.ncc >= AS_IS_NCC:
        return Place.AS_IS
    if m.evened_ncc is not None and m.evened_ncc >= EVENED_NCC:
        return Place.EVENED
    if is_brain(m):
        return Place.MASK
    seen = m.mask is None or m.mask.fit >= NO_BRAIN_FIT
    if not seen and m.ncc < NO_NCC and (m.evened_ncc or 0.0) < NO_EVENED_NCC:
        return Place.NOWHERE
    return Place.UNCLEAR


def is_brain(m: Measures) -> bool:
    """Whether the mask has size and shape of a brain."""
    mask = m.mask
    return (
        mask is not None
        and mask.fit >= BRAIN_FIT
        and mask.compact >= COMPACT
        and BRAIN_ML[0] <= mask.volume_ml <= BRAIN_ML[1]
    )


def unplain(m: Measures) -> bool:
    """Whether the second opinion is to be asked: cheap evidence does not say "a whole straight head"."""
    return m.ncc is None or m.ncc < AS_IS_NCC or m.at is None or fault(m.at) is not None


def fault(at: AtPlace) -> Reason | None:
    """What is wrong with an image in which the head lies there."""
    if at.lost_brain > MAX_LOST_BRAIN:
        return Reason.COVERAGE
    if at.shell_share < MIN_SHELL:
        return Reason.SKULL_STRIPPED
    if not PITCH_DEG[0] <= at.pitch_deg <= PITCH_DEG[1] or at.turn_deg > MAX_TURN_DEG:
        return Reason.ORIENTATION
    return None


def measured(m: Measures) -> Ruling:
    """What the measurements alone say."""
    place = place_of(m)
    if m.at is None:
        return NOTHING
    if m.turned and place in (Place.UNCLEAR, Place.NOWHERE, Place.MASK):
        return Ruling(Reason.ORIENTATION)
    if place in (Place.UNCLEAR, Place.NOWHERE) and (m.cut_above or cut_at_edge(m) or _part(m)):
        # In noise the outline has no top; a mask that is nearly a brain and ends inside the image has one.
        return Ruling(doubt=NOT_LOCATED) if _inside(m) else Ruling(Reason.COVERAGE)
    if place is Place.NOWHERE:
        return Ruling(Reason.NOT_BRAIN)
    if place is Place.UNCLEAR:
        return Ruling(doubt=NOT_LOCATED)
    if not SCALES[0] <= m.at.scales[0] <= m.at.scales[2] <= SCALES[1]:
        return Ruling(doubt=NOT_LOCATED)
    first = fault(m.at)
    if first is not None:
        return Ruling(first) if _confirmed(first, m) else Ruling(doubt=TWO_MEANINGS)
    if m.cut_above or cut_at_edge(m):
        lost = max(m.at.lost_brain, 0.0 if m.by_mask is None else m.by_mask.lost_brain)
        if lost > LITTLE_LOST:
            return Ruling(Reason.COVERAGE)
        if cut_at_edge(m):  # a wide upper section alone is noise, a cap or a hand on the head
            return Ruling(doubt=TWO_MEANINGS)
    if m.order is not None and m.order.contrast is Contrast.OTHER:
        return Ruling(Reason.NOT_T1W)
    return NOTHING


def cut_at_edge(m: Measures) -> bool:
    """Whether a brain is marked that ends at the edge of the image."""
    return m.mask is not None and m.mask.fit >= NO_BRAIN_FIT and m.mask.edge_cm2 >= EDGE_CM2


def _part(m: Measures) -> bool:
    """Whether part of a brain is marked: nearly of its shape, and the rest, so placed, is outside or blanked."""
    near = m.mask is not None and m.mask.fit >= NO_BRAIN_FIT
    return near and m.by_mask is not None and m.by_mask.lost_brain > MAX_LOST_BRAIN


def _inside(m: Measures) -> bool:
    """Whether the mask finds a brain that is whole and nowhere at the edge of the image."""
    mask, at = m.mask, m.by_mask
    if mask is None or at is None:
        return False
    return mask.fit >= NO_BRAIN_FIT and mask.edge_cm2 < EDGE_CM2 / 2 and at.lost_brain <= LITTLE_LOST


def _confirmed(reason: Reason, m: Measures) -> bool:
    """Whether the second means says the same."""
    if reason is Reason.COVERAGE and (m.cut_above or cut_at_edge(m)):
        return True
    if m.by_mask is None or not is_brain(m):
        # Part of a brain has no shape of a brain; then the grey values must fit well.
        return reason is Reason.COVERAGE and m.mask is not None and (m.ncc or 0.0) >= NO_NCC
    at = m.by_mask
    if reason is Reason.COVERAGE:
        return at.lost_brain > MAX_LOST_BRAIN / 2
    if reason is Reason.SKULL_STRIPPED:
        return at.shell_share < MIN_SHELL + 0.1
    low, high = PITCH_DEG[0] + TURN_SLACK_DEG, PITCH_DEG[1] - TURN_SLACK_DEG
    return not low <= at.pitch_deg <= high or at.turn_deg > MAX_TURN_DEG - TURN_SLACK_DEG


def accepted(m: Measures, p_reject: float) -> Ruling:
    """What the measurements say to a network that takes the image for a proper T1w.

    An image whose grey and white matter are alike has no order: its contrast is poor, which is a grade.  So the
    order speaks only where the network, which has seen other contrasts too, is not clearly for a T1w, or the
    average head does not fit the grey values.

    Parameters
    ----------
    p_reject
        Probability of a straight reject by the network, in [0, 1].
    """
    if m.order is None or m.order.contrast is Contrast.T1:
        return NOTHING
    like_t1 = (m.ncc or 0.0) >= AS_IS_NCC and p_reject < CLEARLY_T1W
    if m.order.contrast is Contrast.OTHER or not like_t1:
        return Ruling(doubt=NOT_SURELY_T1W)
    return NOTHING


def rejected(reason: Reason, m: Measures) -> Ruling:
    """What becomes of a reject that a network alone gave."""
    against = AGAINST.get(reason)
    if against is not None and m.at is not None and against(m, m.at):
        return Ruling(doubt=CONTRADICTED[reason])
    return Ruling(reason)


def _complete(m: Measures, at: AtPlace) -> bool:
    second = m.by_mask is None or m.by_mask.lost_brain < 0.02
    return at.lost_brain < 0.02 and second and not m.cut_above and not cut_at_edge(m)


def _has_shell(m: Measures, at: AtPlace) -> bool:
    return at.shell_share > 2 * MIN_SHELL


def _straight(m: Measures, at: AtPlace) -> bool:
    return PITCH_DEG[0] <= at.pitch_deg <= PITCH_DEG[1] and at.turn_deg <= MAX_TURN_DEG and not m.turned


def _found(m: Measures, at: AtPlace) -> bool:
    return place_of(m) in (Place.AS_IS, Place.EVENED, Place.MASK)


def _is_image(m: Measures, at: AtPlace) -> bool:
    return (m.flat_share or 0.0) < 0.2 and (m.n_values or 0) > 50 and _has_shell(m, at)


def _is_t1(m: Measures, at: AtPlace) -> bool:
    return m.order is not None and m.order.contrast is Contrast.T1


AGAINST: Mapping[Reason, Callable[[Measures, AtPlace], bool]] = {
    Reason.COVERAGE: _complete,
    Reason.SKULL_STRIPPED: _has_shell,
    Reason.ORIENTATION: _straight,
    Reason.NOT_BRAIN: _found,
    Reason.SEGMENTED: _is_image,
    Reason.NOT_T1W: _is_t1,
}
"""What speaks against each reason that a network may give."""
