"""Which body part a series shows, out of where it lies along the body; or a sentence why that cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.plausibility import impossible
from qc_node.classifiers.ct.projections import COARSE_MM
from qc_node.domain import BodyPart, Finding, Question

if TYPE_CHECKING:
    from qc_node.classifiers.ct.classifier import Reading, Rules

_LEAST_SLICES = 3
"""Coarse slices without which no coverage can be stated: 12 mm; a localizer or a single slice has fewer."""
LEAST_SHARE = 0.65
"""Below this probability of the best body part nothing is said, whatever the card allows: less than two to one is
a border."""
SURELY_SEVERAL = 0.8
"""Least probability of ``other`` for a body: several whole parts are one border more than one part has, and a
chest or an abdomen called "other" is believed by nobody."""
SURELY_OTHER = 0.5
"""From this probability of limb or object on, what speaks against a body speaks for ``other``; below it the answer
is withheld in proportion, because then the network saw a body and something else is unusual."""
_NAMES = {BodyPart.OTHER.value: "several parts"}
SURE_FIT = 3.0
"""So many times the least fit leaves no doubt; at the least fit all is doubted.  Real bodies reach seven times."""


def part_finding(reading: Reading, alignment: anatomy.BodyAlignment, rules: Rules) -> Finding:
    """The body part that the posterior of `alignment` speaks for, or why there is none."""
    shares, doubt = doubted(anatomy.part_probabilities(alignment), reading, alignment, rules)
    probabilities = {part.value: value for part, value in shares.items()}
    if 0 < alignment.slices < _LEAST_SLICES:
        sentence = f"The series shows only {alignment.slices * COARSE_MM:.0f} mm of the body."
        return Finding(Question.BODY_PART, None, probabilities, abstained=sentence)
    best, second = sorted(probabilities, key=lambda p: -probabilities[p])[:2]
    several = best == BodyPart.OTHER.value and alignment.anatomy >= 0.5
    if probabilities[best] >= max(rules.least_part, SURELY_SEVERAL if several else LEAST_SHARE):
        return Finding(Question.BODY_PART, best, probabilities)
    names = " or ".join(_NAMES.get(p, p.replace("_", " and ")) for p in (best, second))
    sentence = doubt or f"The coverage lies on a border ({names}) and neither is likely enough."
    return Finding(Question.BODY_PART, None, probabilities, abstained=sentence)


def doubted(
    shares: dict[BodyPart, float], reading: Reading, alignment: anatomy.BodyAlignment, rules: Rules
) -> tuple[dict[BodyPart, float], str | None]:
    """`shares` after everything that speaks against a body, and the sentence of the strongest doubt.

    What is doubted goes to ``other`` where the slices themselves look like limb or object, else evenly to every
    body part: then nothing is known.
    """
    told = None
    to_other = min(1.0, (1.0 - alignment.anatomy) / SURELY_OTHER)
    gone = impossible(reading.air, reading.skull_ml, alignment.slices)
    taken = sum(shares[part] for part in gone)
    if taken > 0.0:
        shares = _moved({part: 0.0 if part in gone else value for part, value in shares.items()}, taken, to_other)
        told = "The slices resemble a body part, but the air or the skull that belongs to it was not found."
    if alignment.anatomy >= 0.5 and alignment.fit < SURE_FIT * rules.least_fit:
        # Slices that look like a body but do not follow each other like one: no part is believable.
        doubt = min(1.0, (SURE_FIT - alignment.fit / max(rules.least_fit, 1e-6)) / (SURE_FIT - 1.0))
        shares = _moved({part: value * (1 - doubt) for part, value in shares.items()}, doubt, to_other)
        told = "The slices look like a body but do not follow each other like one."
    return shares, told


def _moved(shares: dict[BodyPart, float], mass: float, to_other: float) -> dict[BodyPart, float]:
    """`shares` and `mass` more of probability: `to_other` of it for ``other``, the rest for every part alike."""
    even = mass * (1.0 - to_other) / len(shares)
    return {
        part: value + even + (mass * to_other if part is BodyPart.OTHER else 0.0) for part, value in shares.items()
    }
