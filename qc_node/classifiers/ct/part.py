"""Which body part a series shows, out of where it lies along the body; or a sentence why that cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.plausibility import believable
from qc_node.classifiers.ct.projections import COARSE_MM
from qc_node.domain import BodyPart, Finding, Question

if TYPE_CHECKING:
    from qc_node.classifiers.ct.classifier import Reading, Rules

_LEAST_SLICES = 3
"""Coarse slices without which no coverage can be stated: 12 mm; a localizer or a single slice has fewer."""


def part_finding(reading: Reading, alignment: anatomy.BodyAlignment, rules: Rules) -> Finding:
    """The body part that the posterior of `alignment` speaks for, or why there is none."""
    shares = anatomy.part_probabilities(alignment)
    shares = believable(shares, reading.air, reading.skull_ml, alignment.slices)
    if alignment.anatomy >= 0.5 and alignment.fit < rules.least_fit:
        # Slices that look like a body but do not follow each other like one: no part is believable.
        doubt = min(1.0, max(0.0, (rules.least_fit - alignment.fit) / rules.least_fit))
        shares = {p: v * (1 - doubt) for p, v in shares.items()}
        shares[BodyPart.OTHER] += doubt
    probabilities = {part.value: value for part, value in shares.items()}
    if 0 < alignment.slices < _LEAST_SLICES:
        sentence = f"The series shows only {alignment.slices * COARSE_MM:.0f} mm of the body."
        return Finding(Question.BODY_PART, None, probabilities, abstained=sentence)
    best, second = sorted(probabilities, key=lambda p: -probabilities[p])[:2]
    if probabilities[best] < rules.least_part:
        names = " or ".join(p.replace("_", " and ") for p in (best, second))
        sentence = f"The coverage lies on a border ({names}) and neither is likely enough."
        return Finding(Question.BODY_PART, None, probabilities, abstained=sentence)
    return Finding(Question.BODY_PART, best, probabilities)
