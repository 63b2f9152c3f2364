"""Scores for classifiers and raters: what the evaluation tables are made of.

Everything is a pure function of arrays.  Randomness comes in as a ``numpy.random.Generator``.

What scikit-learn and SciPy have is theirs, with nan where scikit-learn says 0, warns or refuses.  Accuracy, AUC,
balanced accuracy and kappa are computed here, because the bootstrap asks for them a hundred thousand times (and
training every epoch) and scikit-learn looks through its input each time (2 to 10 ms against 4 to 300 µs);
the tests hold them against scikit-learn.  The node itself does without scikit-learn: it is in the extra ``train``.

Conventions
-----------
``truth`` and ``predicted`` hold class numbers ``0 .. n_classes - 1``; in binary questions 1 is the
"positive" answer (straight reject, gadolinium, the worse tier).  Undefined ratios (an empty class) are
``nan`` and stay ``nan``; nothing is silently counted as zero or one.

The paper's trap: Bottani et al. 2022 report an "AUC" that equals the balanced accuracy to the last
digit, because it was computed on hard labels.  Both are given here: ``label_auc`` for comparison with
the paper and ``score_auc``, the area under the true ROC curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from qc_node.domain import QcNodeError, agreement

try:
    from sklearn import metrics
except ModuleNotFoundError:
    raise QcNodeError("Scores need scikit-learn: pip install 'qc-node[train]'.") from None

FloatArray = npt.NDArray[np.float64]
POWERS = {None: 0, "linear": 1, "quadratic": 2}
"""Power of the distance of two grades in a weighted kappa."""


def _integers(*arrays: npt.ArrayLike) -> list[npt.NDArray[np.int64]]:
    return [np.asarray(a, dtype=np.int64) for a in arrays]


def confusion(truth: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.int64]:
    """Count matrix ``(n_classes, n_classes)``, rows = truth, columns = predicted."""
    t, p = _integers(truth, predicted)
    if not t.size and not p.size:  # scikit-learn refuses it
        return np.zeros((n_classes, n_classes), dtype=np.int64)
    return np.asarray(metrics.confusion_matrix(t, p, labels=np.arange(n_classes)), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class BinaryScores:
    """Scores of one binary question, each in [0, 1] except ``mcc`` in [-1, 1]."""

    n: int
    positives: int
    balanced_accuracy: float
    sensitivity: float
    specificity: float
    ppv: float
    npv: float
    f1: float
    """F1 averaged over both classes, weighted by class size (the paper's convention)."""
    f1_positive: float
    """F1 of the positive class alone."""
    mcc: float
    label_auc: float
    """The "AUC" of hard labels as in Bottani et al. 2022: identical with the balanced accuracy."""
    score_auc: float
    """Area under the ROC curve of the score; nan without a score."""

    def as_dict(self) -> dict[str, float]:
        """JSON-ready."""
        return {k: float(v) for k, v in asdict(self).items()}


def binary_scores(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, score: npt.ArrayLike | None = None
) -> BinaryScores:
    """All scores of a binary question.

    Parameters
    ----------
    truth, predicted
        ``(n,)`` of 0/1 or bool.
    score
        ``(n,)``, larger means "more positive"; used for ``score_auc`` only.
    """
    t, p = _integers(truth, predicted)
    if not t.size:
        return BinaryScores(0, 0, *[float("nan")] * 10)
    rows = metrics.precision_recall_fscore_support(t, p, labels=[0, 1], zero_division=np.nan)
    (npv, ppv), (specificity, sensitivity), (_, f1_positive) = ([float(v) for v in row] for row in rows[:3])
    # A class without a member has no F1 of its own and no weight in the average.
    f1 = metrics.f1_score(t, p, average="weighted", zero_division=np.nan)
    balanced = (sensitivity + specificity) / 2
    return BinaryScores(
        n=t.size,
        positives=int(t.sum()),
        balanced_accuracy=balanced,
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=ppv,
        npv=npv,
        f1=float(f1),
        f1_positive=f1_positive,
        # scikit-learn says 0 where it is not defined.
        mcc=float(metrics.matthews_corrcoef(t, p)) if np.ptp(t) and np.ptp(p) else float("nan"),
        label_auc=balanced,
        score_auc=float("nan") if score is None else auc(t, score),
    )


def balanced_accuracy(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Mean recall over the classes that occur in `truth`; nan when `truth` is empty."""
    t, p = _integers(truth, predicted)
    return float(np.mean([(p[t == c] == c).mean() for c in np.unique(t)])) if t.size else float("nan")


def balanced_accuracy_of_both(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Mean of sensitivity and specificity of a binary question; nan where a class does not occur."""
    t, p = np.asarray(truth, dtype=bool), np.asarray(predicted, dtype=bool)
    return float(p[t].mean() + 1 - p[~t].mean()) / 2 if t.any() and not t.all() else float("nan")


def accuracy(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of equal entries; nan when empty."""
    equal = np.asarray(truth) == np.asarray(predicted)
    return float(equal.mean()) if equal.size else float("nan")


def macro_f1(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Unweighted mean F1 over the classes that occur in truth or prediction; nan when empty."""
    t, p = _integers(truth, predicted)
    return float(metrics.f1_score(t, p, average="macro")) if t.size else float("nan")


def auc(truth: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under the ROC curve (ties count half): P(score of a positive > score of a negative).

    nan where a class does not occur.
    """
    t = np.asarray(truth, dtype=bool)
    positives, negatives = int(t.sum()), int((~t).sum())
    if not positives or not negatives:
        return float("nan")
    u = stats.rankdata(score)[t].sum() - positives * (positives + 1) / 2
    return float(u / (positives * negatives))


def roc_curve(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``(false positive rate, true positive rate, threshold)``, thresholds falling from +inf."""
    fpr, tpr, threshold = metrics.roc_curve(np.asarray(truth, dtype=bool), score, drop_intermediate=False)
    return fpr, tpr, threshold


def ppv_at_prior(sensitivity: float, specificity: float, prior: float) -> float:
    """Positive predictive value where a share `prior` of cases is positive (Bayes)."""
    hit, false_alarm = sensitivity * prior, (1 - specificity) * (1 - prior)
    return hit / (hit + false_alarm) if hit + false_alarm else float("nan")


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and empirical standard deviation (n - 1) over folds; the SD of one fold is nan."""
    v = np.asarray(values, dtype=np.float64)
    return float(v.mean()), float(v.std(ddof=1)) if v.size > 1 else float("nan")


def bootstrap_ci(
    metric: Callable[..., float],
    people: npt.ArrayLike,
    arrays: Sequence[npt.ArrayLike],
    rng: np.random.Generator,
    n: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval that resamples people, not images.

    Images of one person are not independent; resampling images would give intervals that are too narrow.

    Parameters
    ----------
    metric
        Called with the resampled `arrays`; resamples for which it is nan are left out.
    people
        ``(n_images,)`` identifier of the person behind each image.
    arrays
        Arrays of length ``n_images`` that the metric takes.

    Returns
    -------
    (low, high), both nan when there is only one person (nothing can be said about others).
    """
    ids = np.asarray(people)
    groups = [np.flatnonzero(ids == p) for p in np.unique(ids)]
    if len(groups) < 2:
        return float("nan"), float("nan")
    columns = [np.asarray(a) for a in arrays]
    values = []
    for _ in range(n):
        rows = np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))])
        value = metric(*(c[rows] for c in columns))
        if np.isfinite(value):
            values.append(value)
    if not values:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike) -> float:
    """Exact two-sided McNemar p-value for two classifiers judged on the same cases.

    Parameters
    ----------
    correct_a, correct_b
        ``(n,)`` bool: was classifier a (b) right on this case?
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def mann_whitney_bonferroni(
    values: npt.ArrayLike, factors: Mapping[str, Sequence[object] | npt.NDArray[Any]], min_group: int = 5
) -> list[dict[str, Any]]:
    """Does a factor (scanner, field, sex, age group) shift the values?  As in Bottani et al. 2022, 3.3.

    The test takes the values as independent: several images of one person are to be averaged first, or p is too
    small.  Factors are looked at one by one, so one that goes along with another is found with it.

    Parameters
    ----------
    values
        ``(n,)`` score per image or person, for example 1 where the prediction was right.
    factors
        Level of each factor per image; None where unknown (left out).
    min_group
        Levels with fewer images are not compared.

    Returns
    -------
    One row per pair of levels: factor, levels, group sizes, means, p and ``p_corrected``
    (Bonferroni over all rows).
    """
    v = np.asarray(values, dtype=np.float64)
    rows: list[dict[str, Any]] = []
    for factor, labels in factors.items():
        names = sorted({str(x) for x in labels if x is not None})
        groups = {name: v[[x is not None and str(x) == name for x in labels]] for name in names}
        kept = [name for name in names if groups[name].size >= min_group]
        for a, b in combinations(kept, 2):
            x, y = groups[a], groups[b]
            constant = np.unique(np.concatenate([x, y])).size == 1
            p = 1.0 if constant else float(stats.mannwhitneyu(x, y, alternative="two-sided").pvalue)
            rows.append(
                {
                    "factor": factor,
                    "levels": [a, b],
                    "n": [int(x.size), int(y.size)],
                    "means": [float(x.mean()), float(y.mean())],
                    "p": p,
                }
            )
    for row in rows:
        row["p_corrected"] = min(1.0, row["p"] * len(rows))
    return rows


def weighted_kappa(a: npt.ArrayLike, b: npt.ArrayLike, n_classes: int, weights: str | None = "quadratic") -> float:
    """Cohen's kappa of two raters; `weights` is ``"quadratic"``, ``"linear"`` or None.

    Bottani et al. 2022 say "weighted" without saying which, so tables give both.  Two raters who both use
    one and the same class only have no chance-corrected agreement: nan.
    """
    if weights not in POWERS:
        raise ValueError(f"weights must be 'quadratic', 'linear' or None, not {weights!r}")
    x, y = _integers(a, b)
    kappa = agreement.weighted_kappa(zip(x.tolist(), y.tolist(), strict=True), n_classes, POWERS[weights])
    return float("nan") if kappa is None else kappa


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> FloatArray:
    """Softmax over the last axis of ``logits / temperature``."""
    return np.asarray(special.softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=-1))


def negative_log_likelihood(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Mean of ``-log p(truth)``, weighted where `weights` ``(n,)`` are given; probabilities ``(n, n_classes)``."""
    p, t = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    share = None if weights is None else np.asarray(weights, dtype=np.float64)
    return float(np.average(-np.log(np.clip(p[np.arange(t.size), t], 1e-12, 1.0)), weights=share))


def fit_temperature(
    logits: npt.ArrayLike,
    truth: npt.ArrayLike,
    low: float = 0.25,
    high: float = 10.0,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Temperature in [low, high] that minimises the log loss (Guo et al. 2017, section 4.2).

    Fit it on people that took no part in training.  ``logits`` is ``(n, n_classes)``, `weights` ``(n,)``.
    """
    z, t = np.asarray(logits, dtype=np.float64), np.asarray(truth, dtype=np.int64)

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(softmax(z, float(np.exp(log_temperature))), t, weights)

    result = optimize.minimize_scalar(loss, bounds=(np.log(low), np.log(high)), method="bounded")
    return float(np.exp(result.x))


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of a reliability diagram."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = 10) -> list[Reliability]:
    """Confidence against accuracy in equal-width bins; empty bins are left out.

    ``probabilities`` is ``(n, n_classes)``; the confidence is that of the winning class.
    """
    p, t = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    confidence, right = p.max(1), p.argmax(1) == t
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    return [
        Reliability(b / bins, (b + 1) / bins, int(m.sum()), float(confidence[m].mean()), float(right[m].mean()))
        for b in range(bins)
        if (m := index == b).any()
    ]


def expected_calibration_error(probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = 10) -> float:
    """ECE: mean gap between confidence and accuracy, weighted by bin size (Guo et al. 2017)."""
    rows = reliability(probabilities, truth, bins)
    total = sum(r.n for r in rows)
    return sum(r.n * abs(r.confidence - r.accuracy) for r in rows) / total if total else float("nan")
