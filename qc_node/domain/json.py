"""Verdicts as JSON: the ``results`` of the contract, and the copy that the ledger keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qc_node.domain.verdict import Coverage, Finding, ModelIdentity, Verdict
from qc_node.domain.vocabulary import BINARY, GRADED, Question, Reason, Region, Stage


def results_json(verdict: Verdict) -> dict[str, Any]:
    """The ``results`` object of the contract for `verdict`."""
    if verdict.stage is Stage.BRAIN_MRI:
        order: tuple[Question, ...] = (Question.STRAIGHT_REJECT, Question.GADOLINIUM, *GRADED, Question.TIER)
    else:
        order = (Question.BODY_PART, Question.CONTRAST_ENHANCED)
    results = {q.value: _finding_json(f) if (f := verdict.finding(q)) else None for q in order}
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
    if f.question in BINARY:
        certain = None if f.value is None else float(f.value)  # a rule answered, not a network
        out: dict[str, Any] = {"value": f.value, "probability": rounded.get("yes", certain)}
        if f.question is Question.STRAIGHT_REJECT:
            out["reason"] = f.reason.value if f.reason else None
    elif f.question in GRADED:
        out = {"grade": f.value, "probabilities": [rounded[g] for g in ("0", "1", "2")] if rounded else None}
    elif f.question is Question.TIER:
        out = {"value": f.value}
    else:
        out = {"value": f.value, "probabilities": rounded}
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


def verdict_from_json(data: Mapping[str, Any]) -> Verdict:
    """The verdict that :func:`verdict_to_json` wrote."""
    cov = data["coverage"]
    return Verdict(
        stage=Stage(data["stage"]),
        model=ModelIdentity(**data["model"]),
        findings=tuple(
            Finding(
                question=Question(f["question"]),
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
