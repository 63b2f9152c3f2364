"""From a network's raw answers to probabilities: temperatures, priors, and what may be answered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.domain import Question

REJECT_HEAD = "reject"

REJECT_REASONS = (
    "ok",
    "coverage",
    "segmented",
    "skull_stripped",
    "not_t1w",
    "not_brain",
    "orientation",
    "thick_slices",
)
"""Answers of the reject head; the first means "a proper whole-brain T1w"."""

THICK = REJECT_REASONS.index("thick_slices")


def reject_probability(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probability of a straight reject from answers ``(n, 8)`` of the reject head.

    "Thick slices" does not count: slice thickness is known from the geometry, and to a network every blurred
    or resampled head looks thick (it rejected the one real head with gadolinium on that ground).
    """
    return np.asarray(1 - p[:, 0] - p[:, THICK], dtype=np.float64)


HEADS: dict[str, int] = {
    REJECT_HEAD: len(REJECT_REASONS),
    Question.GADOLINIUM.value: 2,
    Question.MOTION.value: 3,
    Question.CONTRAST.value: 3,
    Question.NOISE.value: 3,
    "damage": 3,
}
"""Outputs of the shipped network; ``damage`` is a helper task of training (three regressions)."""


@dataclass(frozen=True)
class Decision:
    """How probabilities become answers; read from the model card.

    Attributes
    ----------
    temperatures
        Per question; logits are divided by it.
    pixel_share
        Per question: weight of the network on pixels, 0 .. 1; the rest is that of the measured features.
    reject_at
        Straight reject when its probability reaches this.
    unsure
        Per question: below this probability of the winning answer there is no answer.
    prior
        Per question: how common each answer is taken to be, in any unit.  The networks learnt as if all
        answers were equally common (weighted cross-entropy).
    unsure_severe
        Per grade: below this probability of "severe", the answer with the most consequence, there is none.
    unlike_at
        Above this distance from the training images (:mod:`qc_node.classifiers.brain_mri.novelty`) no image is
        taken for a proper one.
    """

    temperatures: Mapping[str, float] = field(default_factory=dict)
    reject_at: float = 0.5
    unsure: Mapping[str, float] = field(default_factory=dict)
    pixel_share: Mapping[str, float] = field(default_factory=dict)
    prior: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    unlike_at: float = math.inf
    unsure_severe: Mapping[str, float] = field(default_factory=dict)


def decision_of(content: Mapping[str, Any]) -> Decision:
    """The decision rules of a card."""
    return Decision(
        {str(k): float(v) for k, v in content.get("temperatures", {}).items()},
        float(content.get("reject_at", 0.5)),
        {str(k): float(v) for k, v in content.get("unsure", {}).items()},
        {str(k): float(v) for k, v in content.get("pixel_share", {}).items()},
        {str(k): tuple(float(x) for x in v) for k, v in content.get("prior", {}).items()},
        float(content.get("unlike_at", math.inf)),
        {str(k): float(v) for k, v in content.get("unsure_severe", {}).items()},
    )


def posterior(z: npt.NDArray[np.float64], decision: Decision, name: str) -> npt.NDArray[np.float64]:
    """Logits ``(n, n_answers)`` of one head -> probabilities, temperature-scaled and under the prior."""
    scaled = z / decision.temperatures.get(name, 1.0)
    prior = decision.prior.get(name)
    if prior:
        scaled = scaled + np.log(np.array(prior))
    e = np.exp(scaled - scaled.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))
