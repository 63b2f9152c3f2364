"""Fitting the few numbers of the CT card: how far slice probabilities and contrast evidence are to be believed.

Every number is fitted on answers of networks that never saw the person (`evaluate ct` passes only other people
when it judges somebody), every person weighing the same; all collections but openKBP and the sarcomas have one
person here, so their fold never saw the collection either.  Networks without any neck or limb are no measure of
ones that have seen them, and fit nothing.  The thresholds below which an answer is withheld are set in the same
way, after the calibration.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.classifier import Reading, Rules, contrast_finding, slices_logit
from qc_node.classifiers.ct.part import SURE_FIT, part_finding
from qc_node.domain import BodyPart
from qc_node.training.ct.data.trials import Case

_NECK_UNIT = 10.0
"""HU of vessel excess that the fit starts to count as one logit."""
_RIDGE = 0.1
"""Penalty on squared weights, against the log loss summed over people; set before anything was fitted with it."""


TEMPERATURES = (0.7, 1.0, 1.4, 2.0)
"""What the temperature of the position network is chosen from."""
MOST_WRONG = 0.01
"""Share of wrong answers among those given that the thresholds aim at, people weighing the same.  No guarantee."""
LEAST_ANSWERED = 0.85
"""Share of the people's answers that a threshold leaves, whatever is wrong among them."""
_UNLIKE = 0.02
"""Share of real bodies that may be called unlike anything known."""
_MOST_FIT = 0.5
"""The least fit that may be asked for: 1.5 then leaves no doubt, and two unseen people reach 1.7 to 2.4."""
_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97)


@dataclass
class Answer:
    """What the networks said about one case, kept so that rules can be fitted without running them again.

    Attributes
    ----------
    fold
        The fold of the case's person, whichever networks answered.
    run
        Name of the run whose networks answered; empty: that of the fold.
    """

    case: Case
    fold: int
    reading: Reading
    run: str = ""
    _aligned: dict[float, tuple[Reading, anatomy.BodyAlignment]] = field(default_factory=dict, repr=False)
    _losses: npt.NDArray[np.float64] | None = field(default=None, repr=False)

    def aligned(self, temperature: float) -> tuple[Reading, anatomy.BodyAlignment]:
        """The reading at `temperature` and the line through it; the latest is kept, as a fit is not free."""
        if temperature not in self._aligned:
            self._aligned.clear()
            reading = tempered(self.reading, temperature)
            self._aligned[temperature] = reading, anatomy.align(reading.sections, reading.used)
        return self._aligned[temperature]

    def part_losses(self, base: Rules) -> npt.NDArray[np.float64]:
        """Log loss of the true body part at each of :data:`TEMPERATURES`."""
        if self._losses is None:
            found = [part_probabilities(self, replace(base, position_temperature=t)) for t in TEMPERATURES]
            self._losses = np.array([-np.log(max(1e-3, p[self.case.part])) for p in found])  # type: ignore[index]
        return self._losses


def fit_rules(answers: Sequence[Answer], base: Rules = Rules()) -> Rules:  # noqa: B008
    """Temperature, contrast calibration and thresholds on answers about unseen people, who weigh the same."""
    real = [a for a in answers if not a.case.group.startswith("simulated")]
    # Every third case is plenty for one number, and a line fit is not free.
    parts = [a for a in real if a.case.part is not None][::3]
    temperature = base.position_temperature
    if parts:
        losses = person_weights(parts) @ np.stack([a.part_losses(base) for a in parts])
        temperature = TEMPERATURES[int(np.argmin(losses))]
    known = [a for a in answers if a.case.enhanced >= 0 and on_axis(a)]
    told = [(a, z) for a in known if (z := slices_logit(a.reading, base)) is not None]
    scale, bias = _logistic([a for a, _ in told], np.array([[z] for _, z in told]))
    measured = [a for a in known if a.reading.neck is not None]
    pairs = [[slices_logit(a.reading, base) or 0.0, (_neck(a) - base.neck_excess) / _NECK_UNIT] for a in measured]
    network, vessels, shift = _logistic(measured, np.array(pairs), _RIDGE) if measured else (1.0, 1.0, 0.0)
    rules = replace(
        base,
        position_temperature=temperature,
        contrast_scale=round(scale, 4),
        contrast_bias=round(bias, 4),
        neck_network=round(network, 4),
        neck_slope=round(_NECK_UNIT / vessels, 4),
        neck_excess=round(base.neck_excess - shift * _NECK_UNIT / vessels, 4),
    )
    return fit_thresholds(real, rules)


def fit_thresholds(answers: Sequence[Answer], rules: Rules) -> Rules:
    """`rules` with the lowest thresholds, from their own on, that keep wrong answers below :data:`MOST_WRONG`."""
    part, neck, other = _Confidences(), _Confidences(), _Confidences()
    rules = replace(rules, least_fit=_least_fit(answers, rules))
    for a in answers:
        reading, alignment = a.aligned(rules.position_temperature)
        if a.case.part is not None:
            found = part_finding(reading, alignment, replace(rules, least_part=0.0))
            if found.value is not None:
                part.add(a, found.probabilities[str(found.value)], found.value == a.case.part.value)
        if a.case.enhanced >= 0 and on_axis(a):
            free = replace(rules, least_contrast=0.0, least_contrast_neck=0.0)
            answer = contrast_finding(reading, alignment, free)
            if answer.value is not None:
                group = neck if a.case.part is BodyPart.NECK else other
                sure = max(answer.probabilities.values())
                group.add(a, sure, bool(answer.value) == bool(a.case.enhanced))
    return replace(
        rules,
        least_part=part.threshold(rules.least_part),
        least_contrast=other.threshold(rules.least_contrast),
        least_contrast_neck=neck.threshold(rules.least_contrast_neck),
    )


def _least_fit(answers: Sequence[Answer], rules: Rules) -> float:
    """A third of what all but 2 % of the bodies reach, people weighing the same.

    From three times the least fit on nothing is doubted (:data:`qc_node.classifiers.ct.part.SURE_FIT`).
    """
    bodies = [a for a in answers if on_axis(a)]
    if not bodies:
        return rules.least_fit
    fits = np.array([a.aligned(rules.position_temperature)[1].fit for a in bodies])
    order = np.argsort(fits)
    share = np.cumsum(person_weights(bodies)[order])
    worst = float(fits[order][int(np.searchsorted(share, _UNLIKE * share[-1]))])
    return round(float(np.clip(worst / SURE_FIT, rules.least_fit, _MOST_FIT)), 3)


class _Confidences:
    """How sure answers were, and which were right."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.sure: list[float] = []
        self.right: list[bool] = []

    def add(self, answer: Answer, sure: float, right: bool) -> None:
        self.answers.append(answer)
        self.sure.append(sure)
        self.right.append(right)

    def threshold(self, least: float) -> float:
        """The lowest from `least` on at which few enough of the answers that are left are wrong.

        None is chosen that would leave less than :data:`LEAST_ANSWERED`; where none leaves few enough wrong ones,
        the lowest of those that leave fewest, as a threshold does nothing about answers that are wrong and sure.
        """
        weight, sure = person_weights(self.answers), np.array(self.sure)
        wrong = weight * ~np.array(self.right, bool)
        shares: dict[float, float] = {}
        for candidate in (least, *(t for t in _THRESHOLDS if t > least)):
            kept = sure >= candidate
            left = float(weight[kept].sum())
            if shares and left < LEAST_ANSWERED * weight.sum():
                break
            shares[candidate] = float(wrong[kept].sum()) / left if left else 0.0
        few = max(MOST_WRONG, min(shares.values()) + 1e-9)
        return min(t for t, share in shares.items() if share <= few)


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
    return shows_vessels(answer.case.name, answer.case.part.value if answer.case.part else None)


def shows_vessels(name: str, part: str | None) -> bool:
    """Whether the case `name` of body part `part` is of head or trunk, where large vessels can be looked for."""
    return part != BodyPart.OTHER.value or name.startswith(("acrin", "openkbp", "composed"))


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
    finding = part_finding(*answer.aligned(rules.position_temperature), rules)
    return {BodyPart(k): v for k, v in finding.probabilities.items()}
