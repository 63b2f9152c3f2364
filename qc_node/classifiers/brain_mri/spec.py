"""What the rest of the program knows of the brain MRI classifier."""

from __future__ import annotations

import math
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
from qc_node.domain.wording import (
    LEVEL_TONES,
    LOOK,
    LOOK_FIRST,
    NOTHING,
    REASONS,
    UNSURE,
    Card,
    Tone,
    advice_on,
    answer_words,
    likelihood,
    sentence,
    sureness,
)

HEADLINES = {Tier.GOOD: "Good quality", Tier.USABLE: "Usable quality", Tier.POOR: "Poor quality"}
ACTIONS = {
    Tier.GOOD: NOTHING,
    Tier.USABLE: "Repeat only if fine detail matters.",
    Tier.POOR: LOOK_FIRST,
}
"""What to do at each tier.  Grades come from networks, so that no tier alone asks for a repeat."""


def headline(verdict: Verdict) -> str:
    """E.g. ``tier 2 (usable): motion 1, contrast 0, noise 0; no gadolinium``."""
    reject = verdict.finding(Question.STRAIGHT_REJECT)
    if reject is not None and reject.value:
        likely = "" if reject.measured else "probably a "
        return f"{likely}straight reject" + (f": {REASONS[reject.reason]}" if reject.reason else "")
    if reject is not None and reject.value is None:
        return f"undetermined: {reject.abstained}"
    tier = verdict.finding(Question.TIER)
    known = tier is not None and tier.value is not None
    head = f"tier {tier.value} ({tier.words})" if tier is not None and known else Question.TIER.unknown
    parts = [f"{head}: {', '.join(f'{q.value} {_grade(verdict, q)}' for q in GRADED)}"]
    parts.append(answer_words(verdict, Question.GADOLINIUM))
    return "; ".join(parts)


def _grade(verdict: Verdict, question: Question) -> str:
    finding = verdict.finding(question)
    return "?" if finding is None or finding.key is None else finding.key


def card(verdict: Verdict, warnings: Sequence[str]) -> Card:
    """Whether the image can be used, then what is wrong with it, how sure that is, and what to do."""
    reject = verdict.finding(Question.STRAIGHT_REJECT)
    if reject is None or reject.value is None:
        why = (reject.abstained if reject else None) or ""
        return Card("No verdict", Tone.OPEN, why, sure=UNSURE, action="Look at the images.")
    if reject.value:
        why = REASONS[reject.reason] if reject.reason else "no reason given"
        said = "Not a usable brain T1w" if reject.measured else "Probably not a usable brain T1w"
        return Card(said, Tone.POOR, sentence(why), sure=sureness(reject), action=advice_on(reject))
    tier = verdict.finding(Question.TIER)
    if tier is None or tier.value is None:
        why = (tier.abstained if tier else None) or ""
        return Card("Quality undetermined", Tone.OPEN, why, sure=UNSURE, action=LOOK)
    seen = [f.words for q in GRADED if (f := verdict.finding(q)) is not None and f.value]
    gadolinium = verdict.finding(Question.GADOLINIUM)
    if gadolinium is not None and gadolinium.value:
        seen.append("gadolinium given")
    level = Tier(int(tier.value))
    # as sure as the weaker of the two: that it is a proper head, and that its quality is this
    known = [p for p in (reject.probability, tier_probability(verdict, level)) if p is not None]
    probability = min(known, default=None)
    return Card(
        HEADLINES[level],
        LEVEL_TONES[level - 1],
        sentence(", ".join(seen)),
        sure="" if probability is None else likelihood(probability),
        action=ACTIONS[level],
    )


def tier_probability(verdict: Verdict, tier: Tier) -> float | None:
    """Probability of a tier in [0, 1], from those of the grades as if these were independent.

    An estimate for words only: real artefacts come together.  None where a grade has no probabilities; a grade
    that nobody would stand for still has them.
    """
    shares = [f.probabilities for q in GRADED if (f := verdict.finding(q)) is not None]
    if len(shares) < len(GRADED) or not all(set(q) >= {"0", "1", "2"} for q in map(dict, shares)):
        return None
    good = math.prod(p["0"] for p in shares)
    bearable = math.prod(p["0"] + p["1"] for p in shares)
    found = {Tier.GOOD: good, Tier.USABLE: bearable - good, Tier.POOR: 1 - bearable}[tier]
    return min(1.0, max(0.0, found))


def seen(verdict: Verdict) -> Seen:
    """A brain where the image was not rejected; gadolinium where an answer was given.

    "Another body part" only where that was measured: a network that is likely right calls people to look at the
    images, and does not say that they imaged something else.  An undetermined verdict claims nothing.
    """
    reject, gadolinium = verdict.finding(Question.STRAIGHT_REJECT), verdict.finding(Question.GADOLINIUM)
    regions: frozenset[str] | None = None
    part: BodyPart | None = None
    if reject is not None and reject.value is False:
        regions, part = REGIONS_OF[BodyPart.BRAIN], BodyPart.BRAIN
    elif reject is not None and reject.measured and reject.value is True and reject.reason is Reason.NOT_BRAIN:
        regions, part = frozenset(), BodyPart.OTHER
    yes = gadolinium.value if gadolinium is not None and part is BodyPart.BRAIN else None
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
