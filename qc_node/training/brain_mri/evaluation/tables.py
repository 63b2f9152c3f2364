"""The tables of the paper for any set of answers: arrays in, JSON-ready rows and text out.

Every table names its rung: R0 simulated on held-out label maps, R1 simulated on held-out real heads,
real = real images with what is known about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.classifiers.brain_mri import grading
from qc_node.training import scores

FloatArray = npt.NDArray[np.float64]

PRIORS = {
    "AP-HP data warehouse": {"straight_reject": 0.26, "tier_3": 0.40, "gadolinium": 0.60},
    "live service": {"straight_reject": 0.01, "tier_3": 0.005, "gadolinium": 0.30},
}
"""Shares of positives: Bottani et al. 2022 (Table S1), and the 0.2-0.6 % that technologists flag (MRI)."""

GOALS = {"straight_reject": 97.0, "gadolinium": 97.0, "tier_3_vs_2_1": 91.5, "tier_2_vs_1": 88.0}
"""Balanced accuracy, per cent: where the paper's raters stood."""

PAPER = {"straight_reject": 93.76, "gadolinium": 97.14, "tier_3_vs_2_1": 83.51, "tier_2_vs_1": 71.65}
"""Conv5_FC3 on real clinical images (Tables 3, 5, 6); not the same images, so no comparison of systems."""


@dataclass(frozen=True)
class Answers:
    """Truth and answers of a set of images.

    Attributes
    ----------
    people
        ``(n,)``.
    reject, gadolinium
        Truth: 0/1, gadolinium -1 where not defined.
    damage
        ``(n, 3)`` measured motion, contrast, noise; nan where not defined.
    p_reject, p_gadolinium
        Probability of yes.
    p_grades
        Per question ``(n, 3)``.
    """

    people: npt.NDArray[np.str_]
    reject: npt.NDArray[np.int64]
    gadolinium: npt.NDArray[np.int64]
    damage: FloatArray
    p_reject: FloatArray
    p_gadolinium: FloatArray
    p_grades: Mapping[str, FloatArray]

    def take(self, rows: npt.NDArray[Any]) -> Answers:
        """The answers of some rows."""
        return Answers(
            self.people[rows],
            self.reject[rows],
            self.gadolinium[rows],
            self.damage[rows],
            self.p_reject[rows],
            self.p_gadolinium[rows],
            {k: v[rows] for k, v in self.p_grades.items()},
        )


def true_grades(damage: FloatArray, with_zone: bool) -> npt.NDArray[np.int64]:
    """Grades ``(n, 3)`` from measured damage; -1 where undefined or, without the zone, inside it."""
    out = np.full(damage.shape, -1, dtype=np.int64)
    for column, question in enumerate(domain.GRADED):
        for row, value in enumerate(damage[:, column]):
            if np.isfinite(value):
                grade = grading.nearest_grade(question, value) if with_zone else grading.grade_of(question, value)
                out[row, column] = -1 if grade is None else grade
    return out


def binary_row(
    name: str,
    truth: npt.NDArray[Any],
    probability: FloatArray,
    people: npt.NDArray[Any],
    rng: np.random.Generator,
    predicted: npt.NDArray[Any] | None = None,
) -> dict[str, Any]:
    """One line of Tables 3, 5, 6 with its bootstrap interval by person and calibration."""
    said = (probability >= 0.5).astype(int) if predicted is None else predicted.astype(int)
    result = scores.binary_scores(truth, said, probability)
    low, high = scores.bootstrap_ci(scores.balanced_accuracy_of_both, people, [truth, said], rng)
    stacked = np.stack([1 - probability, probability], 1)
    return {
        "question": name,
        "people": len(set(people.tolist())),
        **result.as_dict(),
        "balanced_accuracy_ci": [low, high],
        "ece": scores.expected_calibration_error(stacked, truth),
        "goal": GOALS.get(name, float("nan")) / 100,
        "paper_on_clinical_images": PAPER.get(name, float("nan")) / 100,
    }


def tables(answers: Answers, rng: np.random.Generator, with_zone: bool) -> dict[str, Any]:
    """Straight reject, gadolinium, the two tier questions and the three grades of one rung."""
    rows = [binary_row("straight_reject", answers.reject, answers.p_reject, answers.people, rng)]
    proper = answers.take(np.flatnonzero(answers.reject == 0))
    known = proper.take(np.flatnonzero(proper.gadolinium >= 0))
    rows.append(binary_row("gadolinium", known.gadolinium, known.p_gadolinium, known.people, rng))
    grades = true_grades(proper.damage, with_zone)
    graded = np.flatnonzero((grades >= 0).all(1))
    some = proper.take(graded)
    tier = grades[graded].max(1) + 1
    said = np.stack([some.p_grades[q.value].argmax(1) for q in domain.GRADED], 1)
    said_tier = said.max(1) + 1
    good = np.stack([some.p_grades[q.value] for q in domain.GRADED], 1)
    p_severe = 1 - np.prod(1 - good[:, :, 2], axis=1)
    rows.append(binary_row("tier_3_vs_2_1", tier == 3, p_severe, some.people, rng, said_tier == 3))
    lower = np.flatnonzero(tier < 3)
    p_any = 1 - np.prod(good[:, :, 0], axis=1)
    rows.append(
        binary_row("tier_2_vs_1", tier[lower] == 2, p_any[lower], some.people[lower], rng, said_tier[lower] >= 2)
    )
    per_question = []
    for column, question in enumerate(domain.GRADED):
        use = np.flatnonzero(grades[:, column] >= 0)
        truth = grades[use, column]
        p = proper.p_grades[question.value][use]
        answer = p.argmax(1)
        low, high = scores.bootstrap_ci(
            lambda t, a: scores.weighted_kappa(t, a, 3), proper.people[use], [truth, answer], rng
        )
        per_question.append(
            {
                "question": question.value,
                "n": len(use),
                "balanced_accuracy": scores.balanced_accuracy(truth, answer),
                "kappa_quadratic": scores.weighted_kappa(truth, answer, 3, "quadratic"),
                "kappa_quadratic_ci": [low, high],
                "kappa_linear": scores.weighted_kappa(truth, answer, 3, "linear"),
                "ece": scores.expected_calibration_error(p, truth),
                "confusion": scores.confusion(truth, answer, 3).tolist(),
            }
        )
    by_gadolinium = {}
    for value, label in ((0, "without gadolinium"), (1, "with gadolinium")):
        part = np.flatnonzero(some.gadolinium == value)
        if part.size:
            row = binary_row(
                "tier_3_vs_2_1", tier[part] == 3, p_severe[part], some.people[part], rng, said_tier[part] == 3
            )
            by_gadolinium[label] = {k: row[k] for k in ("n", "balanced_accuracy", "sensitivity", "specificity")}
    return {"binary": rows, "grades": per_question, "tier_3_by_gadolinium": by_gadolinium, "ppv": _ppv(rows)}


def _ppv(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    out = []
    for place, priors in PRIORS.items():
        for row in rows:
            name = str(row["question"])
            prior = priors.get(name.replace("_vs_2_1", ""))
            if prior is not None:
                ppv = scores.ppv_at_prior(row["sensitivity"], row["specificity"], prior)
                out.append({"question": name, "where": place, "prior": prior, "ppv": ppv})
    return out


def as_text(rung: str, content: Mapping[str, Any]) -> str:
    """A rung's tables for people."""
    lines = [
        f"## {rung}",
        "",
        f"{'question':18s} {'n':>4s} {'BA':>6s} {'95 % CI':>13s} {'sens':>6s} {'spec':>6s} "
        f"{'F1':>6s} {'MCC':>6s} {'PPV':>6s} {'NPV':>6s} {'AUC':>6s} {'ECE':>5s} {'goal':>5s}",
    ]
    for r in content["binary"]:
        low, high = r["balanced_accuracy_ci"]
        lines.append(
            f"{r['question']:18s} {r['n']:4.0f} {_pc(r['balanced_accuracy'])} {_pc(low)}-{_pc(high)} "
            f"{_pc(r['sensitivity'])} {_pc(r['specificity'])} {_pc(r['f1'])} {_pc(r['mcc'])} {_pc(r['ppv'])} "
            f"{_pc(r['npv'])} {_pc(r['score_auc'])} {100 * r['ece']:5.1f} {100 * r['goal']:5.1f}"
        )
    lines += ["", f"{'grade':10s} {'n':>4s} {'BA':>6s} {'kappa2':>7s} {'95 % CI':>13s} {'kappa1':>7s} {'ECE':>5s}"]
    for r in content["grades"]:
        low, high = r["kappa_quadratic_ci"]
        lines.append(
            f"{r['question']:10s} {r['n']:4d} {_pc(r['balanced_accuracy'])} {r['kappa_quadratic']:7.3f} "
            f"{low:6.3f}-{high:6.3f} {r['kappa_linear']:7.3f} {100 * r['ece']:5.1f}  {r['confusion']}"
        )
    return "\n".join([*lines, ""])


def _pc(value: float) -> str:
    return f"{100 * value:6.1f}"
