"""The classifiers of this program: one line each.

Cheap to import: a specification loads its networks only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qc_node import domain
from qc_node.classifiers.brain_mri.spec import SPEC as BRAIN_MRI
from qc_node.classifiers.ct.spec import SPEC as CT
from qc_node.classifiers.interface import ClassifierSpec
from qc_node.domain import Accepts, Question, Stage, Verdict, needs_attention
from qc_node.domain.wording import SEVERITY, Card, Tone, plain_card, plain_headline

_SPECS: dict[Stage, ClassifierSpec] = {}


def register(spec: ClassifierSpec) -> None:
    """Make a classifier known to engine, report, pages and metrics.

    Raises
    ------
    ValueError
        Its stage, its model folder or one of its questions belongs to another classifier.
    """
    for other in _SPECS.values():
        if other.stage == spec.stage or other.model_folder == spec.model_folder:
            raise ValueError(f"{spec.stage} and {other.stage} share a stage or a model folder")
        shared = [q.value for q in spec.questions if q in other.questions]
        if shared:
            raise ValueError(f"{spec.stage} and {other.stage} both ask {', '.join(shared)}")
    _SPECS[spec.stage] = spec


def forget(stage: Stage) -> None:
    """Take a classifier out again (tests that register an invented one)."""
    del _SPECS[stage]


def specs() -> tuple[ClassifierSpec, ...]:
    """Every classifier, in order of registration."""
    return tuple(_SPECS.values())


def spec_of(stage: str) -> ClassifierSpec | None:
    """The classifier of a stage; None where it is not part of this program (any more)."""
    return _SPECS.get(Stage(stage))


def accepts() -> tuple[Accepts, ...]:
    """Which series are judged at all, for the routing."""
    return tuple(spec.accepts for spec in specs())


def questions() -> tuple[Question, ...]:
    """Every question that any classifier is asked."""
    return tuple(question for spec in specs() for question in spec.questions)


def questions_of(verdict: Verdict) -> tuple[Question, ...]:
    """What the classifier of `verdict` is asked; its own findings where the classifier is gone."""
    spec = spec_of(verdict.stage)
    return spec.questions if spec is not None else tuple(f.question for f in verdict.findings)


def results_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The ``results`` of the contract for a series; no two classifiers ask the same question."""
    found: dict[str, Any] = {}
    for verdict in verdicts:
        found |= domain.results_json(verdict, questions_of(verdict))
    return found


def headline(verdict: Verdict) -> str:
    """The verdict in a line, e.g. ``tier 2 (usable): motion 1, contrast 0, noise 0``."""
    spec = spec_of(verdict.stage)
    return plain_headline(verdict) if spec is None else spec.headline(verdict)


def card(verdict: Verdict, warnings: Sequence[str] = ()) -> Card:
    """What the pages say; `warnings` are mismatches with header and order."""
    spec = spec_of(verdict.stage)
    said = plain_card(verdict, warnings) if spec is None else spec.card(verdict, warnings)
    return replace(said, attention=needs_attention(verdict))


def shared_card(verdicts: Sequence[Verdict], warnings: Sequence[str] = ()) -> Card:
    """What the pages say of a series that several classifiers judged, the routed one first.

    Every headline is said; the worst tone and any call for attention win.
    """
    said = [card(verdict, warnings if n == 0 else ()) for n, verdict in enumerate(verdicts)]
    worst = max(said, key=lambda one: SEVERITY.index(one.tone))
    return Card(
        " · ".join(one.headline for one in said),
        worst.tone,
        " ".join(one.detail for one in said if one.detail),
        any(one.attention for one in said),
        " · ".join(dict.fromkeys(one.sure for one in said if one.sure)),
        worst.action,
    )


def in_words(verdicts: Sequence[Verdict], warnings: Sequence[str] = ()) -> str:
    """What terminals and JSON say of a judged series: headlines, how sure, warnings, why not, and what to do."""
    said = shared_card(verdicts, warnings)
    heads = "; ".join(map(headline, verdicts)).rstrip(".")
    why = said.detail
    for warning in warnings:
        why = why.replace(warning, "").strip()
    reasons = why if said.tone is Tone.OPEN and why.rstrip(".") not in heads else ""
    sure = f"{said.sure}." if said.sure else ""
    return " ".join(part for part in (f"{heads}.", sure, *warnings, reasons, said.action) if part)


for _spec in (BRAIN_MRI, CT):
    register(_spec)
