"""From cross-fitted answers to the decision of the card: temperatures, priors, and when to say nothing.

Answers are those of networks that never saw the protocol (:mod:`.left_out`) where the pack has several, and that
never saw the person otherwise.  Every protocol counts the same, however many people it has: a threshold is for the
next scanner, not for the one with the most heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.brain_mri.decision import THICK, reject_probability
from qc_node.training import scores
from qc_node.training.brain_mri.training import left_out, packed, unlike

FloatArray = npt.NDArray[np.float64]

QUESTIONS = ("reject", "gadolinium", *packed.GRADED)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the pixel network that are tried."""
PRIORS = (1.0, 0.7, 0.5, 0.35, 0.25)
"""Shares of a moderate or severe grade, against no artefact at 1, that are tried."""
PRICE = {"reject": 0.2, "gadolinium": 0.25, **dict.fromkeys(packed.GRADED, 0.35)}
"""What an undetermined answer costs, a wrong one costing 1 (Chow 1970): with probabilities that are true, an
answer is given where it is wrong with at most this probability."""
PRICE_SEVERE = 0.35
"""The same for calling an image severe, which makes it tier 3 alone."""
MOST_WITHHELD = 0.15
"""Of no protocol and question may more be withheld for being unsure."""
ENOUGH = 100
"""Images with which a protocol counts fully; that of one person has a few dozen, which are mostly chance."""


@dataclass(frozen=True)
class Answered:
    """Answers to one question: logits of the measured and, if there is one, the pixel network, and the truth.

    ``groups`` ``(n,)`` is the protocol of each.
    """

    measured: FloatArray
    pixels: FloatArray | None
    truth: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]

    @property
    def weights(self) -> FloatArray:
        """``(n,)``: every protocol of :data:`ENOUGH` images or more weighs the same; mean 1."""
        _, of, counts = np.unique(self.groups, return_inverse=True, return_counts=True)
        share = np.minimum(1.0, counts / ENOUGH) / counts
        return np.asarray(share[of] * len(of) / share[of].sum(), dtype=np.float64)


def fit(answered: Mapping[str, Answered]) -> dict[str, Any]:
    """How the networks are mixed, temperatures, priors and abstention limits: the card's ``decision``."""
    decision: dict[str, Any] = {"temperatures": {}, "pixel_share": {}, "prior": {}, "reject_at": 0.5}
    decision |= {"unsure": {}, "unsure_severe": {}}
    for name, a in answered.items():
        tried: list[tuple[float, float, float]] = []
        mixtures = {
            s: (1 - s) * a.measured + s * (0.0 if a.pixels is None else a.pixels)
            for s in (SHARES if a.pixels is not None else SHARES[:1])
        }
        for share, logits in mixtures.items():
            temperature = scores.fit_temperature(logits, a.truth, 0.5, 5.0, a.weights)
            p = scores.softmax(logits, temperature)
            tried.append((scores.negative_log_likelihood(p, a.truth, a.weights), share, temperature))
        _, share, temperature = min(tried)
        decision["temperatures"][name] = round(temperature, 3)
        decision["pixel_share"][name] = share
        p = scores.softmax(mixtures[share], temperature)
        if name in packed.GRADED:
            decision["prior"][name] = fit_prior(p, a.truth)
            p = p * np.array(decision["prior"][name])
            p /= p.sum(1, keepdims=True)
            decision["unsure_severe"][name] = fit_severe(p, a.truth, a.weights)
        decision["unsure"][name] = fit_unsure(name, p, a.truth, a.groups)
    return decision


def fit_prior(p: FloatArray, truth: npt.NDArray[np.int64]) -> list[float]:
    """How common the three grades are to be taken to be, so that quadratic kappa is highest.

    Weighted cross-entropy answers as if all grades were equally common; most images are good, and each false
    "severe" costs kappa four times a near miss.  `p` ``(n, 3)`` are cross-fitted answers.
    """
    best = (scores.weighted_kappa(truth, p.argmax(1), 3), [1.0, 1.0, 1.0])
    for moderate in PRIORS:
        for severe in PRIORS:
            prior = [1.0, moderate, severe]
            kappa = scores.weighted_kappa(truth, (p * np.array(prior)).argmax(1), 3)
            # A difference in the third digit is chance: the even prior stands first, the next even ones follow.
            if kappa > best[0] + 0.002:
                best = (kappa, prior)
    return best[1]


def confidence_of(name: str, p: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Probability of the answer that would be given, and the answer: for straight rejects 0 or 1."""
    if name != "reject":
        return p.max(1), p.argmax(1)
    yes = reject_probability(p)
    return np.maximum(yes, 1 - yes), (yes >= 0.5).astype(np.int64)


def fit_unsure(name: str, p: FloatArray, truth: npt.NDArray[np.int64], groups: npt.NDArray[np.str_]) -> float:
    """The abstention limit that costs least on protocols left out, wrong at 1 and undetermined at :data:`PRICE`.

    Parameters
    ----------
    p
        ``(n, n_answers)`` final probabilities.

    Returns
    -------
    float
        As the decision has it: the least probability of an answer, and for straight rejects the least distance
        of the probability from one half.
    """
    if name == "reject":
        # Thick slices are known from the geometry; the network's idea of them is not asked.
        use = truth != THICK
        p, truth, groups = p[use], truth[use], groups[use]
    sure, said = confidence_of(name, p)
    right = said == ((truth > 0).astype(np.int64) if name == "reject" else truth)
    lowest = 0.5 if p.shape[1] == 2 or name == "reject" else 1.0 / p.shape[1]
    names, counts = np.unique(groups, return_counts=True)
    share = np.minimum(1.0, counts / ENOUGH)
    best = (np.inf, lowest)
    for limit in np.round(np.arange(lowest, 0.991, 0.01), 2):
        withheld = [float((sure[groups == g] < limit).mean()) for g in names]
        wrong = [float(((sure >= limit) & ~right)[groups == g].mean()) for g in names]
        if float(np.max(share * withheld)) > MOST_WITHHELD:
            break
        cost = float(np.average(wrong, weights=share) + PRICE[name] * np.average(withheld, weights=share))
        if cost < best[0] - 1e-9:
            best = (cost, float(limit))
    return round(best[1] - 0.5, 2) if name == "reject" else round(best[1], 2)


def fit_severe(p: FloatArray, truth: npt.NDArray[np.int64], weights: FloatArray) -> float:
    """The least probability of "severe" from which so few of these answers are wrong that they pay.

    Among the images that are called severe, wrong at 1 and undetermined at :data:`PRICE_SEVERE`; no share is too
    much to withhold here, since hardly a clean image is among them.
    """
    use = p.argmax(1) == 2
    sure, right, share = p[use, 2], truth[use] == 2, weights[use]
    best = (np.inf, 0.34)
    for limit in np.round(np.arange(0.34, 0.901, 0.01), 2):
        given = sure >= limit
        cost = float((share * (given & ~right)).sum() + PRICE_SEVERE * (share * ~given).sum())
        if cost < best[0] - 1e-9:
            best = (cost, float(limit))
    return round(best[1], 2)


def answered_of(
    logits: Mapping[str, FloatArray],
    targets: Mapping[str, npt.NDArray[Any]],
    groups: npt.NDArray[np.str_],
    pixels: Mapping[str, FloatArray] | None = None,
    questions: Sequence[str] = QUESTIONS,
) -> dict[str, Answered]:
    """Per question the rows that have a truth; arrays are as long as `groups`."""
    out = {}
    for name in questions:
        use = np.flatnonzero(targets[name] >= 0)
        seen = pixels[name][use] if pixels is not None and name in pixels else None
        out[name] = Answered(logits[name][use], seen, targets[name][use].astype(np.int64), groups[use])
    return out


def without(pack: packed.Pack, out: Path, group: str | None = None) -> dict[str, Any]:
    """The decision chosen on protocols left out (:mod:`.left_out`); with `group`, on all but that one."""
    cross = left_out.cross_fitted(pack, out)
    if group is not None:
        cross = cross.without(group)
    targets = {k: v[cross.rows] for k, v in pack.targets.items()}
    found = fit(answered_of(cross.logits, targets, cross.groups))
    gone = () if group is None else (group,)
    return {**found, "unlike_at": unlike.limit(pack, gone), "chosen_on": "protocols left out"}
