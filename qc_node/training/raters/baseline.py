"""Quality votes from image-quality metrics alone, judged on scanners that took no part: a baseline.

The command at the end measures how far a table of MRIQC image-quality metrics predicts what people voted on
the same scans.  That is the floor for anything that looks at pixels, and it stands next to what the raters
make of each other, which is the ceiling that can be asked for.

The model is an ordinal logistic regression with one weight per metric for all thresholds (proportional odds,
McCullagh 1980; fitted threshold by threshold as in Cao et al. 2020), ridge-penalised, on soft labels.

Nothing of a left-out site decides anything about it: ridge, scaling and cut-offs come from an inner
leave-one-site-out over the other sites, and Dawid-Skene labels are made again without the left-out votes.
The one thing taken from a left-out site is, where the inner loop prefers ``each site``, the median and spread
of its *metrics*, which a site has before anybody has voted.

Grades are those of :mod:`qc_node.training.raters.consensus`: 0 accept, 1 doubtful, 2 exclude.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from scipy import special

from qc_node.domain import QcNodeError
from qc_node.training import scores
from qc_node.training.loop import save_json
from qc_node.training.raters import consensus as raters

GRADES = 3
EXCLUDE = 2
LEVELS = {"1": 0, "0": 1, "-1": 2, "n/a": raters.MISSING, "": raters.MISSING}
"""The vote column of mriqc-learn's tables to our grades."""

FACTORS = ("site", "scanner", "field", "sex", "age", "has_ghost")
"""Columns that describe the scan or the person and are never given to the model."""

PROTOCOL = ("size_", "spacing_")
"""Matrix and voxel size tell a protocol, not a quality: left out, which leaves the 62 metrics of the facts."""

RIDGES = (3.0, 10.0, 30.0, 100.0, 300.0)
SCALINGS = ("training sites", "each site")
SEED = 20261121
RESAMPLES = 500

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
LabelRule = Callable[[raters.Votes], FloatArray]
"""``(n, n_raters)`` votes to ``(n, GRADES)`` soft labels; rows of zeros where there is no label."""


# --- The table ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VoteTable:
    """Scans with metrics and votes.

    Attributes
    ----------
    sites
        ``(n,)`` where each scan was made.
    votes
        ``(n, n_raters)`` grades, :data:`raters.MISSING` where a rater did not vote.
    values
        ``(n, n_metrics)`` in the units of MRIQC (millimetres, ratios, grey values).
    factors
        Level of each of :data:`FACTORS` that the table has, per scan; None where unknown.
    """

    rater_names: tuple[str, ...]
    metric_names: tuple[str, ...]
    sites: npt.NDArray[np.str_]
    votes: raters.Votes
    values: FloatArray
    factors: Mapping[str, list[str | None]]


def read_table(path: Path) -> VoteTable:
    """Read a tab-separated table of mriqc-learn: ``subject_id``, ``site``, ``rater_*``, metrics."""
    if not path.is_file():
        raise QcNodeError(f"{path}: there is no such table of votes.")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    names = list(rows[0]) if rows else []
    voters = [n for n in names if n.startswith("rater_")]
    if "site" not in names or not voters:
        raise QcNodeError(f"{path}: a column 'site', one or more columns 'rater_*' and a row are needed.")
    told = {"subject_id", *voters, *FACTORS}
    metrics = [n for n in names if n not in told and not n.startswith(PROTOCOL)]
    try:
        values = np.array([[float(row[m]) for m in metrics] for row in rows])
        votes = np.array([[LEVELS[row[v].removesuffix(".0")] for v in voters] for row in rows], dtype=np.int64)
    except (KeyError, ValueError) as error:
        raise QcNodeError(f"{path}: {error} is neither a metric nor a vote (1, 0, -1 or n/a).") from None
    if not np.isfinite(values).all():
        missing = [m for m, good in zip(metrics, np.isfinite(values).all(0), strict=True) if not good]
        raise QcNodeError(f"{path}: values are missing in {', '.join(missing)}.")
    factors = {f: [row[f] if row[f] not in ("", "n/a") else None for row in rows] for f in FACTORS if f in names}
    if "age" in factors:
        factors["age"] = thirds(factors["age"])
    sites = np.array([row["site"] for row in rows])
    return VoteTable(tuple(n.replace("_", " ") for n in voters), tuple(metrics), sites, votes, values, factors)


def thirds(ages: Sequence[str | None]) -> list[str | None]:
    """Ages in years to three groups of about one size, named by their limits."""
    known = np.array([float(a) for a in ages if a is not None])
    if not known.size:
        return [None] * len(ages)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    named = (f"up to {low:g}", f"{low:g}-{high:g}", f"over {high:g}")
    return [None if a is None else named[int(float(a) > low) + int(float(a) > high)] for a in ages]


# --- The model ---------------------------------------------------------------------------------------------


def scaled(values: FloatArray, sites: npt.ArrayLike, training: Mask, scaling: str) -> FloatArray:
    """Metrics by median and interquartile range, with long tails drawn in (inverse hyperbolic sine).

    Parameters
    ----------
    training
        ``(n,)`` rows from which ``training sites`` takes median and spread; ``each site`` takes a site's own.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {SCALINGS}, not {scaling!r}")
    where = np.asarray(sites)
    groups = (
        [(training, np.ones(where.size, bool))]
        if scaling == "training sites"
        else [(where == site, where == site) for site in np.unique(where)]
    )
    out = np.zeros_like(values)
    for source, target in groups:
        low, middle, high = np.quantile(values[source], [0.25, 0.5, 0.75], axis=0)
        # Half of the scans may agree to six digits (voxel size); a tenth of the SD keeps the rest in view.
        spread = np.maximum((high - low) / 1.349, values[source].std(0) / 10)
        # A metric that is one number here (matrix size, voxel size of a protocol) says nothing: zero.
        told = spread > 1e-9 * (1 + np.abs(middle))
        out[target] = np.where(told, np.arcsinh((values[target] - middle) / np.where(told, spread, 1.0)), 0.0)
    return out


@dataclass(frozen=True)
class Ordinal:
    """P(grade > k) = sigmoid(x . weights + offsets[k]), k = 0 .. n_classes - 2."""

    weights: FloatArray
    offsets: FloatArray

    def above(self, x: FloatArray) -> FloatArray:
        """``(n, n_metrics)`` scaled metrics to ``(n, n_classes - 1)`` P(grade > k), falling with k."""
        return np.asarray(special.expit((x @ self.weights)[:, None] + self.offsets), dtype=np.float64)


def fit_ordinal(x: FloatArray, labels: FloatArray, ridge: float, start: Ordinal | None = None) -> Ordinal:
    """Newton's method on the penalised log loss, which is convex.

    Parameters
    ----------
    x, labels
        ``(n, d)`` scaled metrics and ``(n, n_classes)`` soft labels; rows of zeros do not count.
    ridge
        Half of it times the squared length of the weights is added to the sum of losses over scans.
    start
        Where to begin; the fit of a neighbouring ridge saves half of the time.
    """
    known = labels.sum(1) > 0
    x, truth = x[known], 1.0 - np.cumsum(labels[known], axis=1)[:, :-1]
    d, k = x.shape[1], truth.shape[1]
    # The offsets are as good as free; the trace of a penalty keeps them finite where a grade never occurs.
    penalty = np.concatenate([np.full(d, ridge), np.full(k, 1e-3)])

    def loss_of(theta: FloatArray) -> float:
        z = (x @ theta[:d])[:, None] + theta[d:]
        return float((np.logaddexp(0, z) - truth * z).sum() + 0.5 * (penalty * theta**2).sum())

    theta = np.zeros(d + k) if start is None else np.concatenate([start.weights, start.offsets])
    loss = loss_of(theta)
    for _ in range(100):
        p = special.expit((x @ theta[:d])[:, None] + theta[d:])
        wrong, curved = p - truth, p * (1 - p)
        gradient = np.concatenate([x.T @ wrong.sum(1), wrong.sum(0)]) + penalty * theta
        hessian = np.diag(penalty)
        hessian[:d, :d] += (x * curved.sum(1)[:, None]).T @ x
        hessian[:d, d:] += x.T @ curved
        hessian[d:, :d] += curved.T @ x
        hessian[d:, d:] += np.diag(curved.sum(0))
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while (new := loss_of(theta - length * step)) > loss and length > 1e-6:
            length /= 2
        theta, gain, loss = theta - length * step, loss - new, new
        if gain < 1e-7 * (1 + abs(loss)):
            break
    return Ordinal(theta[:d], theta[d:])


# --- What to learn from ------------------------------------------------------------------------------------


def one_hot(grades: npt.ArrayLike) -> FloatArray:
    """``(n,)`` grades to ``(n, GRADES)``; :data:`raters.MISSING` becomes a row of zeros."""
    return np.asarray(np.asarray(grades)[:, None] == np.arange(GRADES), dtype=np.float64)


def label_rules(table: VoteTable) -> dict[str, LabelRule]:
    """The ways to make training labels of the votes: each rater, and three rules that join them."""

    def of(column: int) -> LabelRule:
        return lambda votes: one_hot(votes[:, column])

    rules = {name: of(column) for column, name in enumerate(table.rater_names)}
    if len(table.rater_names) > 1:
        rules["highest grade"] = lambda votes: one_hot(raters.consensus_grade(votes))
        rules["mean vote"] = mean_vote
        rules["Dawid-Skene"] = lambda votes: raters.dawid_skene(votes, GRADES, tolerance=1e-3).labels
    return rules


def mean_vote(votes: raters.Votes) -> FloatArray:
    """Share of each grade among those who voted."""
    counts = np.asarray(votes[:, :, None] == np.arange(GRADES), dtype=np.float64).sum(1)
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1.0), dtype=np.float64)


# --- Leaving sites out -------------------------------------------------------------------------------------


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
    grade: raters.Votes


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


# --- Scores ------------------------------------------------------------------------------------------------


def person_says(votes: npt.NDArray[np.int64]) -> Said:
    """A rater in the place of the model."""
    excluded = votes == EXCLUDE
    return Said(votes.astype(np.float64), excluded, excluded, votes)


def auc_within(truth: Mask, score: FloatArray, sites: npt.ArrayLike) -> float:
    """AUC over pairs of scans of one site only: what is left when knowing the site does not help.

    Sites differ in how much is excluded there, so the common AUC rewards telling sites apart.
    """
    where = np.asarray(sites)
    won = pairs = 0.0
    for site in np.unique(where):
        mine = where == site
        count = float(truth[mine].sum() * (~truth[mine]).sum())
        if count:
            won += count * scores.auc(truth[mine], score[mine])
            pairs += count
    return won / pairs if pairs else float("nan")


def judged(
    said: Said, truth: raters.Votes, groups: npt.ArrayLike, sites: npt.NDArray[np.str_], seed: int = SEED
) -> dict[str, Any]:
    """Scores of a predictor against one rater's votes, on the scans on which both speak.

    Parameters
    ----------
    truth
        ``(n,)`` grades, :data:`raters.MISSING` left out.
    groups
        ``(n,)`` what the bootstrap draws: sites, or people where there are too few sites.

    Returns
    -------
    ``auc``, ``balanced_accuracy``, ``accuracy`` for exclude against the rest and ``quadratic_kappa`` for the
    three grades, each ``[value, low, high]`` (95 %); ``auc_within_site`` (:func:`auc_within`);
    ``accuracy_by_site`` mean and SD over sites; and ``always_accept``, the accuracy of excluding nothing.
    """
    both = (truth != raters.MISSING) & (said.grade != raters.MISSING)
    y, where = truth[both], np.asarray(groups)[both]
    bad = y == EXCLUDE

    def with_interval(metric: Callable[..., float], *arrays: npt.NDArray[Any]) -> list[float]:
        rng = np.random.default_rng(seed)
        return [metric(*arrays), *scores.bootstrap_ci(metric, where, arrays, rng, RESAMPLES)]

    right = said.likely[both] == bad
    by_site = [float(right[sites[both] == s].mean()) for s in np.unique(sites[both])]
    return {
        "n": int(y.size),
        "excluded": float(bad.mean()),
        "auc": with_interval(scores.auc, bad, said.score[both]),
        "auc_within_site": auc_within(bad, said.score[both], sites[both]),
        "balanced_accuracy": with_interval(scores.balanced_accuracy_of_both, bad, said.balanced[both]),
        "accuracy": with_interval(scores.accuracy, bad, said.likely[both]),
        "accuracy_by_site": list(scores.mean_sd(by_site)),
        "always_accept": float(1 - bad.mean()),
        "quadratic_kappa": with_interval(
            lambda a, b: scores.weighted_kappa(a, b, GRADES, "quadratic"), y, said.grade[both]
        ),
    }


def compare(said: Mapping[str, Said], table: VoteTable, by: str) -> list[dict[str, Any]]:
    """Every rater, and the joint Dawid-Skene label, against every predictor and every other rater.

    ``by`` is what the bootstrap draws, ``site`` or ``person``.
    """
    groups = table.sites if by == "site" else np.arange(table.sites.size)
    people = {name: table.votes[:, i] for i, name in enumerate(table.rater_names)}
    truths = dict(people)
    if len(people) > 1:
        truths["consensus"] = raters.dawid_skene(table.votes, GRADES).labels.argmax(1)
    rows = []
    for name, truth in truths.items():
        others = {f"person: {n}": person_says(v) for n, v in people.items() if n != name}
        models = {f"model of: {n}": s for n, s in said.items()}
        for who, answer in {**others, **models}.items():
            rows.append({"against": name, "predictor": who, **judged(answer, truth, groups, table.sites)})
    return rows


def evaluate(folder: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """All of it for the two tables in `folder` (``abide.tsv``, ``ds030.tsv``)."""
    joint = "Dawid-Skene"
    abide, ds030 = read_table(folder / "abide.tsv"), read_table(folder / "ds030.tsv")
    here: dict[str, Said] = {}
    there: dict[str, Said] = {}
    own_scale: list[dict[str, Any]] = []
    choices: dict[str, list[dict[str, Any]]] = {}
    consensus = raters.dawid_skene(abide.votes, GRADES).labels.argmax(1)
    truths = {**dict(zip(abide.rater_names, abide.votes.T, strict=True)), joint: consensus}
    for name, rule in label_rules(abide).items():
        log(f"leave one site out: labels of {name}")
        fits = SiteFits(abide, rule, ds030)
        here[name], inner = fits.leave_one_out()
        there[name], last = fits.transfer()
        choices[name] = [vars(c) for c in [*inner, last]]
        if name in truths:
            said, _ = fits.leave_one_out(SCALINGS[1:])
            row = judged(said, truths[name], abide.sites, abide.sites)
            own_scale.append({"against": name, "predictor": f"model of: {name}", **row})
    ghosts = np.array([level == "1" for level in ds030.factors["has_ghost"]])
    ghostless = replace(ds030, votes=np.where(ghosts[:, None], raters.MISSING, ds030.votes))
    return {
        "rung": "real scans, real votes (R2); metrics of MRIQC, no pixels",
        "scans": {"abide": len(abide.sites), "ds030": len(ds030.sites)},
        "agreement": raters.agreement(abide.votes, abide.rater_names, GRADES),
        "abide_leave_one_site_out": compare(here, abide, "site"),
        "abide_each_site_by_its_own_scale": own_scale,
        "abide_to_ds030": compare(there, ds030, "person"),
        "abide_to_ds030_without_ghosts": compare(there, ghostless, "person"),
        "choices": choices,
        "mann_whitney": {
            "abide": shifts(here[joint], consensus, abide),
            "ds030": shifts(there[joint], ds030.votes[:, 0], ds030),
        },
        "factors_not_in_the_tables": {
            "abide": [f for f in FACTORS if f not in abide.factors],
            "ds030": [f for f in FACTORS if f not in ds030.factors],
        },
    }


def shifts(said: Said, truth: raters.Votes, table: VoteTable) -> list[dict[str, Any]]:
    """Is the model right more often at one level of a factor than at another?  Mann-Whitney, Bonferroni."""
    known = truth != raters.MISSING
    right = (said.likely == (truth == EXCLUDE))[known]
    factors = {f: [v for v, k in zip(levels, known, strict=True) if k] for f, levels in table.factors.items()}
    return scores.mann_whitney_bonferroni(right, factors)


TABLES = {
    "abide_leave_one_site_out": "ABIDE, each site as said by models of the others (95 % interval by site)",
    "abide_each_site_by_its_own_scale": "The same with every site's metrics scaled by that site alone",
    "abide_to_ds030": "ABIDE to DS030 (95 % interval by person: two sites are too few to draw from)",
    "abide_to_ds030_without_ghosts": "ABIDE to DS030 without the scans marked as ghosted",
}
COLUMNS = (
    "against",
    "said by",
    "n",
    "bad %",
    "AUC",
    "in site",
    "BA %",
    "accuracy %",
    "by site",
    "none %",
    "kappa",
)
LEGEND = """\
bad %: share that the one judged against excludes.  in site: AUC over pairs of scans of one site.  BA: at the
cut-off of the training sites.  accuracy: exclude at even odds; by site: its mean and SD over sites; none %:
accuracy of excluding nothing.  kappa: quadratic, three grades.
"""


def as_text(report: Mapping[str, Any]) -> str:
    """The report as tables of fixed width."""
    lines = [f"Rung: {report['rung']}.", "", LEGEND.rstrip()]
    for key, title in TABLES.items():
        cells = [COLUMNS, *(_cells(row) for row in report[key])]
        widths = [max(len(c[i]) for c in cells) for i in range(len(COLUMNS))]
        lines += ["", title]
        lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    for name, rows in report["mann_whitney"].items():
        found = [r for r in rows if r["p_corrected"] < 0.05]
        absent = ", ".join(report["factors_not_in_the_tables"][name])
        lines += [
            "",
            f"{name}: is the model of the joint labels right more often at one level than at another?",
            f"{len(rows)} comparisons, {len(found)} with p < 0.05 after Bonferroni.  Not in the table: {absent}.",
        ]
        for r in sorted(found, key=lambda r: float(r["p_corrected"])):
            (a, b), (m, n), (x, y) = r["levels"], r["n"], r["means"]
            lines.append(
                f"  {r['factor']}: {a} {100 * x:.0f} % of {m}, {b} {100 * y:.0f} % of {n}, "
                f"corrected p {r['p_corrected']:.2g}"
            )
    return "\n".join(lines) + "\n"


def _cells(r: Mapping[str, Any]) -> tuple[str, ...]:
    mean, sd = r["accuracy_by_site"]
    return (
        r["against"],
        r["predictor"],
        str(r["n"]),
        f"{100 * r['excluded']:.1f}",
        _span(r["auc"], 1, 3),
        f"{r['auc_within_site']:.3f}",
        _span(r["balanced_accuracy"]),
        _span(r["accuracy"]),
        f"{100 * mean:.0f} +- {100 * sd:.0f}",
        f"{100 * r['always_accept']:.1f}",
        _span(r["quadratic_kappa"], 1, 2),
    )


def _span(value: Sequence[float], factor: float = 100, digits: int = 1) -> str:
    middle, low, high = (f"{factor * v:.{digits}f}" for v in value)
    return f"{middle} {low}-{high}"


def _finite(value: Any) -> Any:
    """`value` with None for what could not be computed, which JSON has no number for."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@click.command("raters")
@click.option(
    "--shared",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the shared data, with votes/ in it.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for raters.json and raters.txt."
)
def command(shared: Path, out: Path) -> None:
    """Measure what image-quality metrics alone make of real votes, next to what the raters make of each other.

    Leave-one-site-out on ABIDE, then ABIDE to DS030. A few minutes on one core.
    """
    report = evaluate(shared / "votes", click.echo)
    out.mkdir(parents=True, exist_ok=True)
    save_json(out / "raters.json", _finite(report))
    text = as_text(report)
    (out / "raters.txt").write_text(text, encoding="utf-8")
    click.echo(text)
