"""Fitting the few numbers of the CT card: how far slice probabilities and contrast evidence are to be believed.

Every number is fitted on answers of networks that never saw the person (`evaluate ct` passes only the other
folds when it judges a fold), every person weighing the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.classifier import Reading, Rules, slices_logit
from qc_node.classifiers.ct.part import part_finding
from qc_node.domain import BodyPart
from qc_node.training.ct.data.trials import Case

_NECK_UNIT = 10.0
"""HU of vessel excess that the fit starts to count as one logit."""
_RIDGE = 0.1
"""Penalty on squared weights, against the log loss summed over people; set before anything was fitted with it."""


@dataclass
class Answer:
    """What the networks said about one case, kept so that rules can be fitted without running them again."""

    case: Case
    fold: int
    reading: Reading


def fit_rules(answers: Sequence[Answer], base: Rules = Rules()) -> Rules:  # noqa: B008
    """Temperature and contrast calibration on out-of-fold answers, every person weighing the same."""
    real = [a for a in answers if not a.case.group.startswith("simulated")]
    # Every third case is plenty for one number, and a line fit is not free.
    parts = [a for a in real if a.case.part is not None][::3]
    weight = person_weights(parts)
    best_loss, best_temperature = np.inf, 1.0
    for temperature in (0.7, 1.0, 1.4, 2.0):
        rules = replace(base, position_temperature=temperature)
        loss = 0.0
        for a, w in zip(parts, weight, strict=True):
            p = part_probabilities(a, rules)
            loss -= w * np.log(max(1e-3, p[a.case.part]))  # type: ignore[index]
        if loss < best_loss:
            best_loss, best_temperature = loss, temperature
    known = [a for a in answers if a.case.enhanced >= 0 and on_axis(a)]
    told = [(a, z) for a in known if (z := slices_logit(a.reading, base)) is not None]
    scale, bias = _logistic([a for a, _ in told], np.array([[z] for _, z in told]))
    measured = [a for a in known if a.reading.neck is not None]
    pairs = [[slices_logit(a.reading, base) or 0.0, (_neck(a) - base.neck_excess) / _NECK_UNIT] for a in measured]
    network, vessels, shift = _logistic(measured, np.array(pairs), _RIDGE) if measured else (1.0, 1.0, 0.0)
    return replace(
        base,
        position_temperature=best_temperature,
        contrast_scale=round(scale, 4),
        contrast_bias=round(bias, 4),
        neck_network=round(network, 4),
        neck_slope=round(_NECK_UNIT / vessels, 4),
        neck_excess=round(base.neck_excess - shift * _NECK_UNIT / vessels, 4),
    )


def _neck(answer: Answer) -> float:
    return answer.reading.neck if answer.reading.neck is not None else float("nan")


def _logistic(answers: Sequence[Answer], x: npt.NDArray[np.float64], ridge: float = 0.0) -> list[float]:
    """Weights (all positive) and bias of a logistic regression of enhancement on ``(N, features)``.

    A light penalty keeps the weights near 1 and the bias near 0; `ridge` keeps them small where a feature tells
    all people apart, because two dozen people who agree entirely are no proof of certainty.
    """
    made = np.array([a.case.group.startswith("simulated") for a in answers])
    weight = person_weights(answers) * np.where(made, 0.3, 1.0)
    y = np.array([a.case.enhanced for a in answers], float)

    def loss_of(theta: npt.NDArray[np.float64]) -> float:
        z = x @ np.exp(theta[:-1]) + theta[-1]
        penalty = 0.02 * (theta**2).sum() + ridge * np.exp(2 * theta[:-1]).sum()
        return float((weight * (np.logaddexp(0, z) - y * z)).sum() + penalty)

    theta = optimize.minimize(loss_of, np.zeros(x.shape[1] + 1), method="Nelder-Mead").x
    return [*np.exp(theta[:-1]).tolist(), float(theta[-1])]


def on_axis(answer: Answer) -> bool:
    """Does the case show head or trunk?  Limbs and test objects teach nothing about contrast."""
    return answer.case.part is not BodyPart.OTHER or answer.case.name.startswith(("acrin", "openkbp", "composed"))


def person_weights(answers: Sequence[Answer]) -> npt.NDArray[np.float64]:
    """``(N,)``: one over the number of cases of each answer's person."""
    count: dict[str, int] = defaultdict(int)
    for a in answers:
        count[a.case.person] += 1
    return np.array([1.0 / count[a.case.person] for a in answers]) if answers else np.zeros(0)


def tempered(reading: Reading, temperature: float) -> Reading:
    """`reading` with its slice probabilities as another temperature gives them."""
    if temperature == 1.0:
        return reading
    log = np.log(np.clip(reading.sections, 1e-12, 1.0)) / temperature
    p = np.exp(log - log.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True) * reading.used[:, None]
    return replace(reading, sections=p)


def part_probabilities(answer: Answer, rules: Rules) -> dict[BodyPart, float]:
    """Probabilities of the body parts under `rules`."""
    reading = tempered(answer.reading, rules.position_temperature)
    finding = part_finding(reading, anatomy.align(reading.sections, reading.used), rules)
    return {BodyPart(k): v for k, v in finding.probabilities.items()}
