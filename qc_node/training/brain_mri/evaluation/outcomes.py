"""Right, wrong or undetermined: what a verdict was worth on an image of which the truth is known.

Answers are those that the node gives (:func:`.judge.said`), abstentions and certain checks included, not those of
a threshold at one half.  An image that was wrongly rejected is wrong for the straight reject and *undetermined*
for the questions behind it, to which it has no answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.classifiers.brain_mri import grading
from qc_node.training import risk

RIGHT, WRONG, UNDETERMINED = "right", "wrong", "undetermined"
STATES = (RIGHT, WRONG, UNDETERMINED)

BASE = ("straight_reject", "gadolinium", *(q.value for q in domain.GRADED))
"""Questions that are answered one by one; the tiers follow from the grades."""
QUESTIONS = (*BASE, "tier_3_vs_2_1", "tier_2_vs_1")

Said = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of an image; None where it is not known or not defined (grey zone left out).

    ``reject`` is why it is a straight reject, "ok" for a proper image.
    """

    reject: str
    gadolinium: int | None = None
    grades: tuple[int | None, ...] = (None, None, None)

    @property
    def tier(self) -> int | None:
        """1 to 3; 3 is certain as soon as one grade is severe."""
        known = [g for g in self.grades if g is not None]
        if 2 in known:
            return 3
        return max(known) + 1 if len(known) == len(domain.GRADED) else None


def truth_of(row: Mapping[str, Any]) -> Truth:
    """From measured damage: the keys ``reject``, ``gadolinium``, ``motion``, ``contrast``, ``noise``."""
    grades = tuple(
        None if row[q.value] is None else grading.grade_of(q, float(row[q.value])) for q in domain.GRADED
    )
    return Truth(row["reject"], row["gadolinium"], grades)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer: how it turned out, and how sure it was (probability of the answer; 1 for a certain check)."""

    state: str
    confidence: float


def outcomes(said: Said, truth: Truth) -> dict[str, Outcome]:
    """One entry per question that has a truth for this image."""
    proper = truth.reject == "ok"
    found = {"straight_reject": _outcome(said, "straight_reject", not proper)}
    if not proper:
        return found
    if truth.gadolinium is not None:
        found["gadolinium"] = _outcome(said, "gadolinium", bool(truth.gadolinium))
    for question, grade in zip(domain.GRADED, truth.grades, strict=True):
        if grade is not None:
            found[question.value] = _outcome(said, question.value, grade)
    tier = truth.tier
    if tier is not None:
        found["tier_3_vs_2_1"] = _tier(said, tier == 3, 3)
    if tier in (1, 2):
        found["tier_2_vs_1"] = _tier(said, tier == 2, 2)
    return found


def _outcome(said: Said, question: str, wanted: bool | int) -> Outcome:
    answer = said.get(question)
    if answer is None or answer["value"] is None:
        return Outcome(UNDETERMINED, 0.0)
    return Outcome(RIGHT if answer["value"] == wanted else WRONG, max(answer["p"].values(), default=1.0))


def _tier(said: Said, wanted: bool, least: int) -> Outcome:
    """Is the tier `least` or worse?  As sure as the least sure grade, or as the severe one that decides."""
    answer = said.get("tier")
    if answer is None or answer["value"] is None:
        return Outcome(UNDETERMINED, 0.0)
    tier = int(answer["value"])
    sure = {q.value: max(said[q.value]["p"].values(), default=0.0) for q in domain.GRADED if q.value in said}
    deciding = [s for q, s in sure.items() if said[q]["value"] == tier - 1]
    confidence = max(deciding, default=0.0) if tier > 1 else min(sure.values(), default=0.0)
    return Outcome(RIGHT if (tier >= least) == wanted else WRONG, confidence)


@dataclass(frozen=True)
class Column:
    """One question over many images: ``(n,)`` image numbers, people, states and confidences."""

    rows: npt.NDArray[np.int64]
    people: npt.NDArray[np.str_]
    states: npt.NDArray[np.str_]
    confidence: npt.NDArray[np.float64]

    def counts(self, use: npt.NDArray[np.bool_] | None = None) -> dict[str, int]:
        """``asked``, ``right``, ``wrong``, ``undetermined``."""
        states = self.states if use is None else self.states[use]
        return {"asked": len(states), **{s: int((states == s).sum()) for s in STATES}}

    def summary(self, rng: np.random.Generator, n: int = 300) -> dict[str, Any]:
        """Risk and coverage with intervals by person."""
        return risk.summary(self.confidence, self.states == RIGHT, self.people, rng, self.answered, n=n)

    def curve(self) -> risk.RiskCoverage:
        """The risk-coverage curve."""
        return risk.curve(self.confidence, self.states == RIGHT, self.answered)

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which were answered."""
        return np.asarray(self.states != UNDETERMINED)


def columns(images: Iterable[tuple[str, Said, Truth]]) -> dict[str, Column]:
    """Per question, over ``(person, said, truth)`` of many images; every question is there, maybe empty."""
    found: dict[str, list[tuple[int, str, Outcome]]] = {q: [] for q in QUESTIONS}
    for number, (person, said, truth) in enumerate(images):
        for question, outcome in outcomes(said, truth).items():
            found[question].append((number, person, outcome))
    return {q: _column(rows) for q, rows in found.items()}


def _column(rows: Sequence[tuple[int, str, Outcome]]) -> Column:
    return Column(
        np.array([r[0] for r in rows], dtype=np.int64),
        np.array([r[1] for r in rows], dtype=np.str_),
        np.array([r[2].state for r in rows], dtype=np.str_),
        np.array([r[2].confidence for r in rows], dtype=np.float64),
    )
