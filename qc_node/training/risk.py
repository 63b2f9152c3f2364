"""Risk-coverage curves: how often an answer is wrong, if only the surest are given.

Answers are sorted by confidence.  The *coverage* is the share of the images that were asked about for which an
answer is kept; the *risk* is the share of wrong ones among the kept (El-Yaniv & Wiener 2010; Geifman & El-Yaniv
2017).  The area under the curve (AURC) is the mean risk over all coverages; 0 is an answerer who is never wrong.

Answers that were withheld (*undetermined*) are counted apart: they are part of what was asked, so a curve with
withheld answers ends before a coverage of 1, and they are neither right nor wrong.

What a curve says holds for images like those it was drawn from.  It is no guarantee for another scanner: conformal
and risk-control bounds (Angelopoulos & Bates 2021) take new images as exchangeable with the old, which a new
scanner breaks.  So none is computed here; where a threshold is chosen, it is to be chosen on protocols left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

COVERAGES = (0.5, 0.7, 0.8, 0.9, 1.0)
"""Coverages at which tables give the risk."""


@dataclass(frozen=True)
class RiskCoverage:
    """A curve, surest answers first.

    Attributes
    ----------
    asked
        Images that an answer was wanted for.
    answered
        Images with an answer; the others are *undetermined*.
    wrong
        Wrong answers.
    coverage, risk, confidence
        ``(answered,)``: after the k surest answers, k over `asked`; the share of wrong ones among them; the
        confidence of the k-th.
    """

    asked: int
    answered: int
    wrong: int
    coverage: FloatArray
    risk: FloatArray
    confidence: FloatArray

    @property
    def area(self) -> float:
        """AURC: mean risk over the coverages that were reached, in [0, 1]; nan without an answer."""
        return float(self.risk.mean()) if self.risk.size else float("nan")

    @property
    def least_area(self) -> float:
        """The AURC if the same number of wrong answers were the least sure ones: what no ranking can undercut."""
        best = np.zeros(self.answered)
        if self.wrong:
            best[-self.wrong :] = 1.0
        return float(_risk(best).mean()) if self.answered else float("nan")

    def risk_at(self, coverage: float) -> float:
        """Risk of the fewest surest answers that reach `coverage` (0..1); nan where so many were not given."""
        k = int(np.searchsorted(self.coverage, coverage - 1e-9))
        return float(self.risk[k]) if k < self.answered else float("nan")

    def coverage_at(self, risk: float) -> float:
        """The most that can be answered with at most this `risk` (0..1); 0 where nothing can."""
        kept = np.flatnonzero(self.risk <= risk + 1e-12)
        return float(self.coverage[kept[-1]]) if kept.size else 0.0


def curve(confidence: npt.ArrayLike, right: npt.ArrayLike, answered: npt.ArrayLike | None = None) -> RiskCoverage:
    """The risk-coverage curve of some answers.

    Parameters
    ----------
    confidence
        ``(n,)``, larger is surer, any unit; ignored where nothing was answered.
    right
        ``(n,)`` bool.
    answered
        ``(n,)`` bool; everything when None.

    Raises
    ------
    ValueError
        Lengths differ, or the confidence of an answer is not a number.
    """
    sure, correct = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    given = np.ones(sure.shape, dtype=bool) if answered is None else np.asarray(answered, dtype=bool)
    if sure.ndim != 1 or not sure.shape == correct.shape == given.shape:
        raise ValueError(f"arrays of one length are needed, not {sure.shape}, {correct.shape}, {given.shape}")
    if np.isnan(sure[given]).any():
        raise ValueError("the confidence of an answer is not a number")
    order = np.argsort(-sure[given], kind="stable")
    ranked, errors = sure[given][order], (~correct[given][order]).astype(np.float64)
    # Equally sure answers have no order: each stands for the mean of its like.
    _, group = np.unique(-ranked, return_inverse=True)
    if group.size:
        errors = (np.bincount(group, errors) / np.bincount(group))[group]
    n = len(errors)
    return RiskCoverage(
        asked=len(sure),
        answered=n,
        wrong=int((~correct[given]).sum()),
        coverage=np.arange(1, n + 1) / max(len(sure), 1),
        risk=_risk(errors),
        confidence=ranked,
    )


def _risk(errors: FloatArray) -> FloatArray:
    return np.asarray(np.cumsum(errors) / np.arange(1, len(errors) + 1))


def summary(
    confidence: npt.ArrayLike,
    right: npt.ArrayLike,
    people: npt.ArrayLike,
    rng: np.random.Generator,
    answered: npt.ArrayLike | None = None,
    coverages: Sequence[float] = COVERAGES,
    n: int = 500,
) -> dict[str, Any]:
    """Counts, AURC and the risk at some coverages, with intervals over resampled people; JSON-ready.

    Parameters
    ----------
    people
        ``(n,)`` person behind each image: images of one person are not independent.
    n
        Bootstrap samples.

    Returns
    -------
    dict
        ``asked``, ``right``, ``wrong``, ``undetermined`` (counts), ``people``, ``aurc``, ``aurc_ci``,
        ``aurc_least`` (see :attr:`RiskCoverage.least_area`), and ``risk`` with a row per coverage: ``coverage``,
        ``risk``, ``ci``, ``confidence`` (of the least sure answer that is kept).  None where undefined: a
        coverage that was not reached, an interval with one person.
    """
    sure, correct = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    given = np.ones(sure.shape, dtype=bool) if answered is None else np.asarray(answered, dtype=bool)
    whole = curve(sure, correct, given)
    persons = np.unique(np.asarray(people), return_inverse=True)[1]
    groups = [np.flatnonzero(persons == p) for p in range(int(persons.max(initial=-1)) + 1)]
    drawn = []
    for _ in range(n if len(groups) > 1 else 0):
        use = np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))])
        again = curve(sure[use], correct[use], given[use])
        drawn.append([again.area, *(again.risk_at(share) for share in coverages)])
    intervals = [_interval(column) for column in zip(*drawn, strict=True)] or [[None, None]] * (1 + len(coverages))
    rows = []
    for share, ci in zip(coverages, intervals[1:], strict=True):
        risk = _known(whole.risk_at(share))
        place = int(np.searchsorted(whole.coverage, share - 1e-9))
        rows.append(
            {
                "coverage": share,
                "risk": risk,
                "ci": [None, None] if risk is None else ci,
                "confidence": None if risk is None else float(whole.confidence[place]),
            }
        )
    return {
        "asked": whole.asked,
        "right": whole.answered - whole.wrong,
        "wrong": whole.wrong,
        "undetermined": whole.asked - whole.answered,
        "people": len(groups),
        "aurc": _known(whole.area),
        "aurc_ci": intervals[0],
        "aurc_least": _known(whole.least_area),
        "risk": rows,
    }


def _interval(values: Sequence[float]) -> list[float | None]:
    """95 % of resamples in which the value is defined."""
    known = np.array([v for v in values if np.isfinite(v)])
    return [float(x) for x in np.quantile(known, (0.025, 0.975))] if known.size else [None, None]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def plot(curves: Mapping[str, RiskCoverage], path: Path, title: str) -> None:
    """One line per name: risk in per cent against coverage in per cent (needs matplotlib)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, c in curves.items():
        label = f"{name}: {c.wrong} wrong of {c.answered}, {c.asked - c.answered} undetermined"
        axes.plot(100 * c.coverage, 100 * c.risk, label=label)
    axes.set(xlabel="coverage, % of the images asked about", ylabel="risk, % wrong of those answered", title=title)
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)
