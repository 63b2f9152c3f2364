"""From measured vessels and organs to an answer: is the series contrast-enhanced?

| region | evidence | plain | enhanced | counts for at most |
|---|---|---|---|---|
| head | bright structures in many places | nothing bright | bright in two fifths of 27 places | 150 : 1 |
| neck | what stays bright over 20 mm | 0-30 HU | 35-600 HU above muscle | 150 : 1, network included |
| chest | homogeneous blood between the lungs | -30-15 | 40-700 | 150 : 1 |
| chest, abdomen | aorta above the duodenum | -25-8 | 20-500 | 150 : 1 |
| lower abdomen | aorta below, where none is seen above | -25-8 | 20-500 | 20 : 1 (bowel) |
| abdomen | kidneys, spleen, liver on both sides | -20-16 | 15-150 | 20 : 1 plain, 150 : 1 enhanced |
| pelvis | vessels of both groins | -5-15 | 25-300 | 3 : 1 plain, 20 : 1 enhanced |
| below the skull base | network over all slices | | | 20 : 1 |

Each is the strongest stretch along the body, so that a pale pelvis says nothing about an enhanced abdomen above
it.  The kinds add up as logits and keep their own limits: where they contradict each other the answer is withheld.
Where nothing was measured the network alone does not decide.

Contrast that has left the blood is contrast: kidneys bright on both sides speak for it.  A bright bladder is not
looked at; plain images after an earlier injection (pale aorta, bright kidneys) contradict themselves: withheld.
"""

from __future__ import annotations

import numpy as np

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.abdomen import Organs
from qc_node.classifiers.ct.head import HeadVessels
from qc_node.classifiers.ct.readout import Reading, Rules
from qc_node.classifiers.ct.unlike import HALF_DOUBTED, unlike
from qc_node.classifiers.ct.voting import pooled_logit
from qc_node.domain import Finding, Question, Region

HEAD_SECTIONS = 4
"""Sections of the body axis above the skull base and the slices at it."""
_MOST_LOGIT = 5.0
"""No single kind of evidence may count for more than 150 to 1."""
_MOST_WEAK = 3.0
_MOST_PALE_GROIN = 1.0

_CLEARLY = 0.8
"""Pooled logit of the slices from which they contradict the vessels of a neck."""
_AT_ODDS = 2.5
"""Logit of one kind of evidence from which the others do not make a series plain: a pale head does not outvote an
aorta that is bright."""
_SPREAD = 22.0
"""HU above noise in two fifths of the places inside the skull: more than bone, gyri and blood in all cisterns and
ventricles leave in a plain head (up to 14; large calcifications in a sharp one mostly up to 20)."""
_SOME_SPREAD = 5.0
"""Above this a head is no longer plain for certain."""
_BRIGHT_EXCESS, _BRIGHT_PLACES = 40.0, 22.0
"""Blood in all cisterns (60-80 HU, half of a voxel) is spread like vessels but not brighter than this."""
_DULL = 5.0
"""HU around ``head_excess`` within which a head ceases to be plain: few enhanced vessels are as bright as lime."""
_QUIET, _LOUD = 8.0, 12.0
"""HU of noise up to which a head can be called plain, and from where on it cannot."""

_ORGANS_ENHANCED, _ORGANS_SLOPE = 15.0, 4.0
"""Both sides: plain kidneys, spleen and liver are at most as bright as muscle on the darker side."""
_ORGANS_PLAIN, _ORGANS_PLAIN_SLOPE = 25.0, 5.0
"""Either side: a plain liver has up to 20 HU more than muscle, an enhanced organ 40 and more."""
_FEMORAL, _FEMORAL_SLOPE = 20.0, 5.0


def slices_logit(reading: Reading, rules: Rules) -> float | None:
    """Pooled logit of the slices below the skull base before calibration; None where there are too few."""
    body = reading.sections[:, HEAD_SECTIONS - 1 : anatomy.SECTIONS].sum(1) * reading.used
    if float(body.sum()) >= 5 or (reading.head is None and float(body.sum()) >= 2):
        return pooled_logit(reading.contrast, body, rules.contrast_correlation)
    return None


def head_logit(head: HeadVessels, rules: Rules) -> float:
    """Evidence from inside the skull: 0 where something is bright in a few places only."""
    spread = (head.spread - _SPREAD) / rules.head_slope
    bright = max((head.beyond_noise - _BRIGHT_EXCESS) / 5.0, (head.places - _BRIGHT_PLACES) / 4.0)
    if spread > 0 and bright > 0:
        return min(spread, bright)
    spread = (head.spread - _SOME_SPREAD) / rules.head_slope
    dull = np.clip((rules.head_excess - head.excess) / _DULL + 0.2, 0.0, 1.0)
    quiet = np.clip((_LOUD - head.noise) / (_LOUD - _QUIET), 0.0, 1.0)
    return -float(max(1.0, -spread, (rules.head_excess - head.excess) / 4.0) * dull * quiet)


def organs_logit(organs: Organs) -> float:
    """Evidence from kidneys, spleen and liver: 0 where one side is bright and the other is not."""
    if organs.both > _ORGANS_ENHANCED:
        return (organs.both - _ORGANS_ENHANCED) / _ORGANS_SLOPE
    return float(np.clip((organs.either - _ORGANS_PLAIN) / _ORGANS_PLAIN_SLOPE, -_MOST_WEAK, 0.0))


def measured_logits(reading: Reading, rules: Rules) -> dict[str, float]:
    """Logits of everything that was measured below the neck."""
    logits = {}
    if reading.chest is not None:
        logits["chest"] = (reading.chest - rules.chest_excess) / rules.chest_slope
    if reading.aorta is not None:
        logits["aorta"] = (reading.aorta - rules.aorta_excess) / rules.aorta_slope
    elif reading.aorta_low is not None:
        low = (reading.aorta_low - rules.aorta_excess) / rules.aorta_slope
        logits["aorta"] = float(np.clip(low, -_MOST_WEAK, _MOST_WEAK))
    if reading.organs is not None:
        logits["organs"] = organs_logit(reading.organs)
    if reading.femoral is not None:
        groin = (reading.femoral - _FEMORAL) / _FEMORAL_SLOPE
        logits["femoral"] = float(np.clip(groin, -_MOST_PALE_GROIN, _MOST_WEAK))
    return logits


def contrast_evidence(reading: Reading, rules: Rules) -> dict[str, float]:
    """Logits of "enhanced": ``"body"`` or ``"neck"``, what was measured, and ``"head"`` from inside the skull.

    ``"neck"`` joins the slices below the skull base with the measured vessels, where there are any, and is 0 where
    the slices outweigh vessels that say the opposite; ``"body"`` is the slices alone.  A kind of evidence that the
    scan does not offer is absent.
    """
    evidence = measured_logits(reading, rules)
    logit = slices_logit(reading, rules)
    if reading.neck is not None:
        vessels = (reading.neck - rules.neck_excess) / rules.neck_slope
        both = rules.neck_network * (logit or 0.0) + vessels
        # A network that is for the opposite does not overrule measured vessels, nor they it: sharp kernels make
        # edges bright, and weak phases leave vessels pale.  Then neither says anything.
        against = logit is not None and logit * vessels < 0 and abs(logit) > _CLEARLY
        evidence["neck"] = 0.0 if against or both * vessels <= 0 else both
    elif logit is not None and (evidence or reading.head is None):  # of heads the network knows nothing
        most = rules.most_network_chest if evidence else rules.most_network
        evidence["body"] = float(np.clip(rules.contrast_scale * logit + rules.contrast_bias, -most, most))
    if reading.head is not None:
        evidence["head"] = head_logit(reading.head, rules)
    return {name: float(np.clip(value, -_MOST_LOGIT, _MOST_LOGIT)) for name, value in evidence.items()}


def contrast_finding(reading: Reading, alignment: anatomy.BodyAlignment, rules: Rules) -> Finding:
    """Whether the slices that show a body are enhanced, or why that cannot be said."""
    question = Question.CONTRAST_ENHANCED
    evidence = contrast_evidence(reading, rules)
    if alignment.anatomy < 0.5 or not evidence:
        return Finding(question, None, abstained="No region with large vessels was recognised.")
    yes = float(1.0 / (1.0 + np.exp(-sum(evidence.values()))))
    probabilities = {"yes": yes, "no": 1 - yes}
    # Where the line is doubted, vessels were looked for where they are not; a skull is found by its bone.
    strange = unlike(alignment, rules.least_fit * (1.0 if set(evidence) <= {"head", "body"} else HALF_DOUBTED))
    if strange is not None:
        return Finding(question, None, probabilities, abstained=strange)
    if set(evidence) == {"body"}:
        sentence = "No large vessel or organ could be measured in what the series shows."
        return Finding(question, None, probabilities, abstained=sentence)
    low, high = sorted(alignment.best)
    cover = {region: float(mm) for region, mm in anatomy.coverage_mm(np.array(low), np.array(high)).items()}
    # Necks, and heads with something bright in few places, need clearer evidence from the rest.
    unsure = max(cover, key=cover.__getitem__) is Region.NECK or abs(evidence.get("head", _MOST_LOGIT)) < 1.0
    least = rules.least_contrast_neck if unsure else rules.least_contrast
    found = [value for name, value in evidence.items() if name != "body"]
    at_odds = yes < 0.5 and max(found) > _AT_ODDS
    if at_odds or max(yes, 1 - yes) < least:
        return Finding(question, None, probabilities, abstained=_unclear(evidence))
    return Finding(question, yes > 0.5, probabilities)


def _unclear(evidence: dict[str, float]) -> str:
    if max(evidence.values()) > 1.5 and min(evidence.values()) < -1.5:
        return "Vessels, organs and the look of the slices contradict each other."
    if set(evidence) <= {"head", "body"} and abs(evidence.get("head", 9.0)) < 1.0:
        return "Bright structures in the head are too few to tell vessels from calcification or blood."
    return "The evidence for enhancement is not clear enough."
