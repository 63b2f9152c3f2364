"""Models of votes, judged at sites that took no part.

Nothing of a left-out site decides anything about it: ridge, scaling and cut-offs come from an inner
leave-one-site-out over the other sites, and Dawid-Skene labels are made again without the left-out votes.
The one thing taken from a left-out site is, where the inner loop prefers ``each site``, the median and spread
of its *metrics*, which a site has before anybody has voted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from qc_node.domain import QcNodeError
from qc_node.training.raters import consensus
from qc_node.training.raters.ordinal import SCALINGS, FloatArray, Mask, fit_ordinal, scaled
from qc_node.training.raters.vote_table import EXCLUDE, GRADES, VoteTable

RIDGES = (3.0, 10.0, 30.0, 100.0, 300.0)

LabelRule = Callable[[consensus.Votes], FloatArray]
"""``(n, n_raters)`` votes to ``(n, GRADES)`` soft labels; rows of zeros where there is no label."""


def one_hot(grades: npt.ArrayLike) -> FloatArray:
    """``(n,)`` grades to ``(n, GRADES)``; :data:`consensus.MISSING` becomes a row of zeros."""
    return np.asarray(np.asarray(grades)[:, None] == np.arange(GRADES), dtype=np.float64)


def label_rules(table: VoteTable) -> dict[str, LabelRule]:
    """The ways to make training labels of the votes: each rater, and three rules that join them."""

    def of(column: int) -> LabelRule:
        return lambda votes: one_hot(votes[:, column])

    rules = {name: of(column) for column, name in enumerate(table.rater_names)}
    if len(table.rater_names) > 1:
        rules["highest grade"] = lambda votes: one_hot(consensus.consensus_grade(votes))
        rules["mean vote"] = mean_vote
        rules["Dawid-Skene"] = lambda votes: consensus.dawid_skene(votes, GRADES, tolerance=1e-3).labels
    return rules


def mean_vote(votes: consensus.Votes) -> FloatArray:
    """Share of each grade among those who voted."""
    counts = np.asarray(votes[:, :, None] == np.arange(GRADES), dtype=np.float64).sum(1)
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1.0), dtype=np.float64)


@dataclass(frozen=True)
class Said:
    """What a predictor, model or person, says about scans; all arrays ``(n,)``.

    ``score`` rises with "exclude" (a probability for a model, the grade for a person); ``likely`` is the
    answer "exclude" at even odds, ``balanced`` that at the cut-off of best balanced accuracy on the training
    sites; ``grade`` has as many of each grade as the training sites have.  A person has one answer for all.
    """

    score: FloatArray
    likely: Mask
    balanced: Mask
    grade: consensus.Votes


@dataclass(frozen=True)
class FittedChoice:
    """What the inner loop chose for one left-out site."""

    site: str
    scaling: str
    ridge: float
    log_loss: float
    cutoff: float


class SiteFits:
    """Models of one label rule with one or two sites left out; each pair is fitted once.

    Leaving out site a and, inside, site b gives the same fit as b and, inside, a: 136 pairs of 17 sites.
    """

    def __init__(self, table: VoteTable, rule: LabelRule, other: VoteTable | None = None) -> None:
        """``other`` is a table with the same metrics that takes no part in training (:meth:`transfer`)."""
        self.table, self.rule = table, rule
        self.names = [str(s) for s in np.unique(table.sites)]
        self.sites, self.values = table.sites, table.values
        if other is not None:
            if other.metric_names != table.metric_names:
                raise QcNodeError("The two tables of votes do not have the same metrics.")
            # The prefix keeps a site of one name in both tables apart.
            self.sites = np.concatenate([table.sites, np.char.add("other ", other.sites)])
            self.values = np.concatenate([table.values, other.values])
        self._fitted = cache(self._fit)

    def _fit(self, left_out: frozenset[str]) -> tuple[FloatArray, dict[tuple[str, float], FloatArray]]:
        """Training labels without those sites, and P(grade > k) of every scan for every setting."""
        inside = ~np.isin(self.table.sites, sorted(left_out))
        labels = np.zeros((inside.size, GRADES))
        labels[inside] = self.rule(self.table.votes[inside])
        training = np.concatenate([inside, np.zeros(self.sites.size - inside.size, bool)])
        said = {}
        for scaling in SCALINGS:
            x = scaled(self.values, self.sites, training, scaling)
            model = None
            for ridge in sorted(RIDGES, reverse=True):
                model = fit_ordinal(x[training], labels[inside], ridge, model)
                said[scaling, ridge] = model.above(x)
        return labels, said

    def predict(self, site: str | None, scalings: Sequence[str] = SCALINGS) -> tuple[Said, FittedChoice]:
        """Leave out `site` (None: no site) and say something about every scan, the other table's too.

        ``scalings`` are those between which the inner loop chooses.
        """
        outer = frozenset([] if site is None else [site])
        labels = self._fitted(outer)[0]
        rows = np.arange(labels.shape[0])
        inner_sites = [s for s in self.names if s not in outer]
        best: tuple[float, tuple[str, float], FloatArray] | None = None
        for setting in [s for s in self._fitted(outer)[1] if s[0] in scalings]:
            inner = np.full((rows.size, GRADES - 1), np.nan)
            for s in inner_sites:
                mine = self.table.sites == s
                inner[mine] = self._fitted(outer | {s})[1][setting][rows[mine]]
            loss = soft_log_loss(inner, labels)
            if best is None or loss < best[0]:
                best = loss, setting, inner
        assert best is not None
        loss, setting, inner = best
        known = labels.sum(1) > 0
        cutoff = balanced_cutoff(inner[known, EXCLUDE - 1], labels[known, EXCLUDE])
        expected = inner[known].sum(1)
        steps = np.quantile(expected, np.cumsum(labels[known].mean(0))[:-1].clip(0, 1))
        above = self._fitted(outer)[1][setting]
        worst = above[:, EXCLUDE - 1]
        grade = (above.sum(1)[:, None] > steps).sum(1).astype(np.int64)
        choice = FittedChoice(site or "none", *setting, loss, cutoff)
        return Said(worst, worst > 0.5, worst > cutoff, grade), choice

    def leave_one_out(self, scalings: Sequence[str] = SCALINGS) -> tuple[Said, list[FittedChoice]]:
        """Every scan of the table as said by the model that never saw its site."""
        n = self.table.sites.size
        out = Said(np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, np.int64))
        choices = []
        for site in self.names:
            mine = np.flatnonzero(self.table.sites == site)
            said, choice = self.predict(site, scalings)
            for name in ("score", "likely", "balanced", "grade"):
                getattr(out, name)[mine] = getattr(said, name)[mine]
            choices.append(choice)
        return out, choices

    def transfer(self) -> tuple[Said, FittedChoice]:
        """Every scan of the other table as said by a model of all sites of the first."""
        said, choice = self.predict(None)
        n = self.table.sites.size
        return Said(said.score[n:], said.likely[n:], said.balanced[n:], said.grade[n:]), choice


def soft_log_loss(above: FloatArray, labels: FloatArray) -> float:
    """Mean over labelled scans of -sum(label * log P(grade)); `above` is ``(n, GRADES - 1)`` P(grade > k)."""
    known = labels.sum(1) > 0
    edges = np.column_stack([np.ones(known.sum()), above[known], np.zeros(known.sum())])
    p = np.clip(edges[:, :-1] - edges[:, 1:], 1e-6, 1.0)
    return float(-(labels[known] * np.log(p)).sum(1).mean())


def balanced_cutoff(score: FloatArray, positive: FloatArray) -> float:
    """The cut-off whose "above" has the best balanced accuracy; `positive` is ``(n,)`` in [0, 1].

    It lies midway between two scores, so that it does not sit on the one scan that decided it.
    """
    order = np.argsort(score, kind="stable")
    s, y = score[order], positive[order]
    if y.sum() in (0.0, float(y.size)):
        return 0.5
    sensitivity = 1 - np.cumsum(y) / y.sum()
    specificity = np.cumsum(1 - y) / (1 - y).sum()
    # Cut after position i only where the next score differs, else the two sides are not apart.
    balanced = np.where(s[1:] > s[:-1], (sensitivity + specificity)[:-1], -1.0)
    at = int(balanced.argmax())
    return float((s[at] + s[at + 1]) / 2)
