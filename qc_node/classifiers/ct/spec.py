"""What the rest of the program knows of the CT classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qc_node.classifiers.interface import Classifier, ClassifierSpec, Seen
from qc_node.domain import (
    REGIONS_OF,
    Accepts,
    BodyPart,
    Content,
    Question,
    Reason,
    Region,
    Stage,
    Verdict,
)
from qc_node.domain.wording import (
    LOOK,
    NOTHING,
    UNSURE,
    VERY_LIKELY,
    Card,
    Tone,
    answer_words,
    firm,
    sentence,
    sureness,
)

COMPARE = "Compare the images with the order before the patient leaves."
EMPTY = "Open the series. If it is empty there too, repeat it before the patient leaves."


def headline(verdict: Verdict) -> str:
    """E.g. ``chest, contrast-enhanced; field of view cut``."""
    part, enhanced = verdict.finding(Question.BODY_PART), verdict.finding(Question.CONTRAST_ENHANCED)
    name = "body part undetermined" if part is None or part.key is None else part.key.replace("_", "-")
    plain = enhanced is not None and enhanced.value is False
    contrast = "no contrast" if plain else answer_words(verdict, Question.CONTRAST_ENHANCED)
    cut = "; field of view cut" if verdict.coverage and verdict.coverage.truncated else ""
    return f"{name}, {contrast}{cut}"


def card(verdict: Verdict, warnings: Sequence[str]) -> Card:
    """What is shown, every mismatch with header and order, how sure that is, and what to do."""
    asked = (Question.BODY_PART, Question.CONTRAST_ENHANCED)
    said = ", ".join(answer_words(verdict, question) for question in asked)
    found = [verdict.finding(question) for question in asked]
    open_ones = [f for f in found if f is None or f.value is None]
    why = dict.fromkeys(f.abstained for f in open_ones if f is not None and f.abstained)
    detail = " ".join((*warnings, *why))
    # what the classifier itself remarked is no contradiction between people and images
    mismatch = any(w not in verdict.warnings for w in warnings)
    if open_ones and not mismatch:
        blank = any(f is not None and f.reason is Reason.BLANK for f in open_ones)
        partly = len(open_ones) < len(asked)
        sure = _sureness(verdict) if partly else UNSURE
        return Card(said, Tone.OPEN, detail, sure=sure, action=EMPTY if blank else LOOK)
    tone = Tone.USABLE if warnings else Tone.GOOD
    action = COMPARE if mismatch else "Look at the images." if warnings else NOTHING
    return Card(said, tone, detail, sure=_sureness(verdict), action=action)


def _sureness(verdict: Verdict) -> str:
    """How sure each answer is: "Chest: very likely (96 %), contrast: likely (85 %)"; one of two that are alike."""
    part, enhanced = verdict.finding(Question.BODY_PART), verdict.finding(Question.CONTRAST_ENHANCED)
    named = {
        name: sureness(f)[:1].lower() + sureness(f)[1:]
        for name, f in (("body part", part), ("contrast", enhanced))
        if f is not None and f.value is not None and sureness(f)
    }
    return sentence(", ".join(f"{name} {how}" for name, how in named.items())).rstrip(".")


def seen(verdict: Verdict) -> Seen:
    """The regions of the body part and of the coverage; limbs beside a trunk are no claim about the trunk.

    An answer that is not likely contradicts nobody, and "another body part" needs to be very likely.
    """
    part, enhanced = verdict.finding(Question.BODY_PART), verdict.finding(Question.CONTRAST_ENHANCED)
    value = BodyPart(str(part.value)) if part is not None and part.value is not None else None
    regions: frozenset[str] | None = None
    if part is not None and value is not None:
        covered = verdict.coverage.regions if verdict.coverage else ()
        regions = REGIONS_OF[value] | {r for r in covered if r is not Region.LIMB}
        if not (firm(part) if regions else firm(part, VERY_LIKELY)):
            regions = value = None
    yes = enhanced.value if enhanced is not None and firm(enhanced) else None
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
