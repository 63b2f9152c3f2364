"""Verdicts as JSON: the ``results`` of the contract, and the copy that the ledger keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from qc_node.domain.questions import AnswerKind, Question
from qc_node.domain.verdict import Coverage, Finding, ModelIdentity, Verdict
from qc_node.domain.vocabulary import Reason, Region, Stage


def results_json(verdict: Verdict, questions: Sequence[Question]) -> dict[str, Any]:
    """The ``results`` object of the contract for `verdict`.

    Parameters
    ----------
    questions
        What the classifier is asked, in order; null where the verdict does not define an answer.
    """
    results = {q.value: _finding_json(f) if (f := verdict.finding(q)) else None for q in questions}
    if verdict.coverage is not None:
        results["coverage"] = _coverage_json(verdict.coverage)
    return results


def _coverage_json(coverage: Coverage) -> dict[str, Any]:
    return {
        "regions": [r.value for r in coverage.regions],
        "top": coverage.top,
        "bottom": coverage.bottom,
        "truncated": coverage.truncated,
    }


def _finding_json(f: Finding) -> dict[str, Any]:
    rounded = {k: round(float(p), 4) for k, p in f.probabilities.items()}
    out: dict[str, Any]
    match f.question.kind:
        case AnswerKind.YES_NO:
            certain = None if f.value is None else float(f.value)  # a rule answered, not a network
            out = {"value": f.value, "probability": rounded.get("yes", certain)}
        case AnswerKind.GRADE:
            listed = [rounded[grade] for grade in f.question.answers] if rounded else None
            out = {"grade": f.value, "probabilities": listed}
        case AnswerKind.TIER:
            out = {"value": f.value}
        case AnswerKind.CHOICE:
            out = {"value": f.value, "probabilities": rounded}
        case _ as never:
            assert_never(never)
    if f.question.explains:
        out["reason"] = f.reason.value if f.reason else None
    out["abstained"] = f.abstained
    return out


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A JSON-ready copy of `verdict`; :func:`verdict_from_json` is its inverse."""
    return {
        "stage": verdict.stage.value,
        "model": {"name": verdict.model.name, "version": verdict.model.version, "sha256": verdict.model.sha256},
        "findings": [
            {
                "question": f.question.value,
                "value": f.value,
                "probabilities": {k: float(p) for k, p in f.probabilities.items()},
                "reason": f.reason.value if f.reason else None,
                "abstained": f.abstained,
            }
            for f in verdict.findings
        ],
        "coverage": None if verdict.coverage is None else _coverage_json(verdict.coverage),
        "warnings": list(verdict.warnings),
    }


def _question(name: str) -> Question:
    """The question of this name; one that no classifier asks any more is shown as it was spelt."""
    try:
        return Question.named(name)
    except KeyError:
        title = name.replace("_", " ").capitalize()
        return Question(name, AnswerKind.CHOICE, title, f"{title} undetermined", choices=("other",))


def verdict_from_json(data: Mapping[str, Any]) -> Verdict:
    """The verdict that :func:`verdict_to_json` wrote."""
    cov = data["coverage"]
    return Verdict(
        stage=Stage(data["stage"]),
        model=ModelIdentity(**data["model"]),
        findings=tuple(
            Finding(
                question=_question(f["question"]),
                value=f["value"],
                probabilities=f["probabilities"],
                reason=Reason(f["reason"]) if f["reason"] else None,
                abstained=f["abstained"],
            )
            for f in data["findings"]
        ),
        coverage=None
        if cov is None
        else Coverage(tuple(Region(r) for r in cov["regions"]), cov["top"], cov["bottom"], cov["truncated"]),
        warnings=tuple(data["warnings"]),
    )
