"""What the rest of the program knows of the brain MRI classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qc_node.classifiers.interface import Classifier, ClassifierSpec, Seen
from qc_node.domain import (
    GRADED,
    REGIONS_OF,
    Accepts,
    BodyPart,
    Content,
    Question,
    Reason,
    Stage,
    Tier,
    Verdict,
)
from qc_node.domain.wording import LEVEL_TONES, REASONS, Card, Tone, answer_words, sentence

HEADLINES = {Tier.GOOD: "Good quality", Tier.USABLE: "Usable quality", Tier.POOR: "Poor quality"}


def headline(verdict: Verdict) -> str:
    """E.g. ``tier 2 (usable): motion 1, contrast 0, noise 0; no gadolinium``."""
    reject = verdict.finding(Question.STRAIGHT_REJECT)
    if reject is not None and reject.value:
        return "straight reject" + (f": {REASONS[reject.reason]}" if reject.reason else "")
    tier = verdict.finding(Question.TIER)
    known = tier is not None and tier.value is not None
    head = f"tier {tier.value} ({tier.words})" if tier is not None and known else Question.TIER.unknown
    parts = [f"{head}: {', '.join(f'{q.value} {_grade(verdict, q)}' for q in GRADED)}"]
    if reject is not None and reject.value is None:
        parts.append(Question.STRAIGHT_REJECT.unknown)
    parts.append(answer_words(verdict, Question.GADOLINIUM))
    return "; ".join(parts)


def _grade(verdict: Verdict, question: Question) -> str:
    finding = verdict.finding(question)
    return "?" if finding is None or finding.key is None else finding.key


def card(verdict: Verdict, warnings: Sequence[str]) -> Card:
    """Whether the image can be used, then what is wrong with it."""
    reject = verdict.finding(Question.STRAIGHT_REJECT)
    if reject is None or reject.value is None:
        return Card("No verdict", Tone.OPEN, (reject.abstained if reject else None) or "")
    if reject.value:
        why = REASONS[reject.reason] if reject.reason else "no reason given"
        return Card("Not a usable brain T1w", Tone.POOR, sentence(why))
    tier = verdict.finding(Question.TIER)
    if tier is None or tier.value is None:
        return Card("Quality undetermined", Tone.OPEN, (tier.abstained if tier else None) or "")
    seen = [f.words for q in GRADED if (f := verdict.finding(q)) is not None and f.value]
    gadolinium = verdict.finding(Question.GADOLINIUM)
    if gadolinium is not None and gadolinium.value:
        seen.append("gadolinium given")
    level = Tier(int(tier.value))
    return Card(HEADLINES[level], LEVEL_TONES[level - 1], sentence(", ".join(seen)))


def seen(verdict: Verdict) -> Seen:
    """A brain where the image was not rejected; gadolinium where an answer was given."""
    reject, gadolinium = verdict.finding(Question.STRAIGHT_REJECT), verdict.finding(Question.GADOLINIUM)
    regions: frozenset[str] | None = None
    part: BodyPart | None = None
    if reject is not None and reject.value is False:
        regions, part = REGIONS_OF[BodyPart.BRAIN], BodyPart.BRAIN
    elif reject is not None and reject.value is True and reject.reason is Reason.NOT_BRAIN:
        regions, part = frozenset(), BodyPart.OTHER
    yes = gadolinium.value if gadolinium is not None else None
    return Seen(regions, part, None if yes is None else bool(yes), "gadolinium")


def load(folder: Path, device: str) -> Classifier:
    """The classifier from its verified model folder."""
    from qc_node.classifiers.brain_mri.classifier import load as load_networks

    return load_networks(folder, device)


SPEC = ClassifierSpec(
    stage=Stage.BRAIN_MRI,
    title="brain MRI",
    model_folder="brain-mri",
    accepts=Accepts(Stage.BRAIN_MRI, "MR", Content.T1W_HEAD),
    questions=(Question.STRAIGHT_REJECT, Question.GADOLINIUM, *GRADED, Question.TIER),
    views=("axial", "coronal", "sagittal"),
    network_input="nine slices of the head in the frame of the average head, (9, H, W) float16 in [0, 1]",
    covers=False,
    headline=headline,
    card=card,
    seen=seen,
    load=load,
)
