"""What the rest of the program knows of the CT classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qc_node.classifiers.interface import Classifier, ClassifierSpec, Seen
from qc_node.domain import REGIONS_OF, Accepts, BodyPart, Content, Question, Region, Stage, Verdict
from qc_node.domain.wording import Card, Tone, answer_words


def headline(verdict: Verdict) -> str:
    """E.g. ``chest, contrast-enhanced; field of view cut``."""
    part, enhanced = verdict.finding(Question.BODY_PART), verdict.finding(Question.CONTRAST_ENHANCED)
    name = "body part undetermined" if part is None or part.key is None else part.key.replace("_", "-")
    plain = enhanced is not None and enhanced.value is False
    contrast = "no contrast" if plain else answer_words(verdict, Question.CONTRAST_ENHANCED)
    cut = "; field of view cut" if verdict.coverage and verdict.coverage.truncated else ""
    return f"{name}, {contrast}{cut}"


def card(verdict: Verdict, warnings: Sequence[str]) -> Card:
    """What is shown, and every mismatch with header and order."""
    asked = (Question.BODY_PART, Question.CONTRAST_ENHANCED)
    said = ", ".join(answer_words(verdict, question) for question in asked)
    if warnings:
        return Card(said, Tone.USABLE, " ".join(warnings))
    answered = all((f := verdict.finding(q)) is not None and f.value is not None for q in asked)
    return Card(said, Tone.GOOD if answered else Tone.OPEN)


def seen(verdict: Verdict) -> Seen:
    """The regions of the body part and of the coverage; limbs beside a trunk are no claim about the trunk."""
    part, enhanced = verdict.finding(Question.BODY_PART), verdict.finding(Question.CONTRAST_ENHANCED)
    value = BodyPart(str(part.value)) if part is not None and part.value is not None else None
    regions: frozenset[str] | None = None
    if value is not None:
        covered = verdict.coverage.regions if verdict.coverage else ()
        regions = REGIONS_OF[value] | {r for r in covered if r is not Region.LIMB}
    yes = enhanced.value if enhanced is not None else None
    return Seen(regions, value, None if yes is None else bool(yes), "contrast enhancement")


def load(folder: Path, device: str) -> Classifier:
    """The classifier from its verified model folder."""
    from qc_node.classifiers.ct.classifier import load as load_networks

    return load_networks(folder, device)


SPEC = ClassifierSpec(
    stage=Stage.CT,
    title="CT",
    model_folder="ct",
    accepts=Accepts(Stage.CT, "CT", Content.CT_VOLUME),
    questions=(Question.BODY_PART, Question.CONTRAST_ENHANCED),
    views=("axial", "coronal", "sagittal", "mip_coronal", "mip_sagittal"),
    network_input="the body in HU at 4 mm, (K, 96, 96) float16",
    covers=True,
    headline=headline,
    card=card,
    seen=seen,
    load=load,
)
