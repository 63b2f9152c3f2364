"""Several raters, one label: the paper's consensus, and Dawid-Skene with a severity per rater.

Votes are ordinal classes ``0 .. n_classes - 1`` (larger is worse) in an array ``(n_items, n_raters)`` with
:data:`MISSING` where a rater did not vote.

Which to use: the paper's rule (the higher grade wins) keeps every imperfection that anyone saw, and is
right for two trained raters with a written protocol.  With few and unequal raters it takes the strictest for
the truth: it excludes a third of the ABIDE scans, Dawid-Skene 22 %, and a model trained on it ranks scans as
well but agrees less with the lenient rater (docs/raters.md).  There the soft labels of Dawid-Skene are better,
because they know who is strict and who is lenient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.training.scores import weighted_kappa

MISSING = -1
"""No vote."""

Votes = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def consensus_grade(votes: npt.ArrayLike) -> Votes:
    """The paper's rule for motion, contrast, noise and gadolinium: the higher grade of those who voted.

    Items without a vote are :data:`MISSING` (Bottani et al. 2022, section 2.3.3).
    """
    v = np.asarray(votes, dtype=np.int64)
    return np.asarray(v.max(1), dtype=np.int64)


def consensus_reject(votes: npt.ArrayLike) -> tuple[Votes, npt.NDArray[np.bool_]]:
    """The paper's rule for straight rejects: agreement counts, disagreement goes to joint review.

    Returns
    -------
    label, review
        ``(n_items,)`` the agreed answer or :data:`MISSING`, and True where the raters have to sit together.
    """
    v = np.asarray(votes, dtype=np.int64)
    low = np.where(v == MISSING, np.iinfo(np.int64).max, v).min(1)
    high = v.max(1)
    agreed = (high != MISSING) & (low == high)
    return np.where(agreed, high, MISSING), (high != MISSING) & ~agreed


def agreement(votes: npt.ArrayLike, names: Sequence[str], n_classes: int) -> list[dict[str, Any]]:
    """Cohen's kappa of every pair of raters on the items both saw: plain, linear, quadratic, worst-vs-rest."""
    v = np.asarray(votes, dtype=np.int64)
    rows = []
    for a, b in combinations(range(v.shape[1]), 2):
        both = (v[:, a] != MISSING) & (v[:, b] != MISSING)
        x, y = v[both, a], v[both, b]
        rows.append(
            {
                "raters": [names[a], names[b]],
                "n": int(both.sum()),
                "kappa": weighted_kappa(x, y, n_classes, None),
                "linear": weighted_kappa(x, y, n_classes, "linear"),
                "quadratic": weighted_kappa(x, y, n_classes, "quadratic"),
                "worst_vs_rest": weighted_kappa(x == n_classes - 1, y == n_classes - 1, 2, None),
            }
        )
    return rows


@dataclass(frozen=True)
class DawidSkene:
    """What the votes say about items and raters.

    Attributes
    ----------
    labels
        ``(n_items, n_classes)`` probability of each true class: soft training targets.
    confusion
        ``(n_raters, n_classes, n_classes)``: rows are the true class, columns what the rater says.
    prior
        ``(n_classes,)`` share of each true class.
    severity
        ``(n_raters,)`` mean of (said - true): positive is strict (says worse), negative is lenient.
    iterations
        Rounds until the labels stood still.
    """

    labels: FloatArray
    confusion: FloatArray
    prior: FloatArray
    severity: FloatArray
    iterations: int


def dawid_skene(
    votes: npt.ArrayLike,
    n_classes: int,
    smoothing: float = 1.0,
    min_votes: int = 20,
    max_iterations: int = 200,
    tolerance: float = 1e-6,
) -> DawidSkene:
    """Expectation maximisation for the true classes and each rater's confusion (Dawid & Skene 1979).

    Parameters
    ----------
    smoothing
        Dirichlet pseudo-counts per confusion row, mostly on the diagonal, so that a rater who never uses a
        class is not taken to be certain.
    min_votes
        Raters with fewer votes share one pooled confusion.
    """
    v = np.asarray(votes, dtype=np.int64)
    n_items, n_raters = v.shape
    voted = v != MISSING
    one_hot = np.zeros((n_items, n_raters, n_classes))
    items, raters = np.nonzero(voted)
    one_hot[items, raters, v[items, raters]] = 1.0
    sparse = voted.sum(0) < min_votes
    pseudo = smoothing * (0.5 * np.eye(n_classes) + 0.5 / n_classes)
    counts = one_hot.sum(1)
    labels = (counts + 1e-3) / (counts + 1e-3).sum(1, keepdims=True)
    confusion = np.zeros((n_raters, n_classes, n_classes))
    prior = np.full(n_classes, 1 / n_classes)
    rounds, moving = 0, True
    while moving and rounds < max_iterations:
        rounds += 1
        raw = np.einsum("ic,irk->rck", labels, one_hot)
        if sparse.any():
            raw[sparse] = raw[sparse].sum(0)
        confusion = raw + pseudo
        confusion /= confusion.sum(2, keepdims=True)
        prior = labels.sum(0) + 1e-9
        prior /= prior.sum()
        log = np.log(prior) + np.einsum("irk,rck->ic", one_hot, np.log(confusion))
        new = np.exp(log - log.max(1, keepdims=True))
        new /= new.sum(1, keepdims=True)
        moving = float(np.abs(new - labels).max()) >= tolerance
        labels = new
    said = confusion @ np.arange(n_classes)
    severity = ((said - np.arange(n_classes)) * prior).sum(1)
    return DawidSkene(labels, confusion, prior, severity, rounds)
