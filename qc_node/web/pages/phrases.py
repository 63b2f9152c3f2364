"""A verdict in words that a technologist and a radiologist use.  Pure; the verdict is never re-derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qc_node.domain import GRADED, Finding, Grade, Question, Stage, Tier, Verdict
from qc_node.domain.headline import REASONS


class Tone(StrEnum):
    """How a card looks: each tone has a shape of its own, colour only repeats it."""

    GOOD = "good"
    USABLE = "usable"
    POOR = "poor"
    OPEN = "open"
    """No answer yet, or none that the machine would stand for."""


SHAPES = {Tone.GOOD: "●", Tone.USABLE: "▲", Tone.POOR: "■", Tone.OPEN: "○"}

GRADES = {
    Question.MOTION: {Grade.MODERATE: "some motion", Grade.SEVERE: "severe motion"},
    Question.CONTRAST: {Grade.MODERATE: "medium contrast", Grade.SEVERE: "bad contrast"},
    Question.NOISE: {Grade.MODERATE: "some noise", Grade.SEVERE: "severe noise"},
}

PARTS = {
    "brain": "Brain",
    "neck": "Neck",
    "chest": "Chest",
    "abdomen": "Abdomen",
    "abdomen_pelvis": "Abdomen and pelvis",
    "other": "Another body part",
}

STATES = {
    "receiving": "Images are arriving",
    "queued": "Waiting to be judged",
    "judging": "Being judged",
    "skipped": "Not judged",
    "failed": "Could not be judged",
    "judged": "Judged",
    "reported": "Judged",
}


@dataclass(frozen=True)
class Words:
    """What a card says.

    ``attention`` is True for a straight reject and for tier 3: such a card stays until acknowledged.
    """

    headline: str
    tone: Tone
    detail: str = ""
    attention: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "headline": self.headline,
            "tone": self.tone.value,
            "shape": SHAPES[self.tone],
            "detail": self.detail,
            "attention": self.attention,
        }


def verdict_words(verdict: Verdict, warnings: Sequence[str] = ()) -> Words:
    """What the machine thinks of one series; `warnings` are mismatches with header and order."""
    return _brain_mri(verdict) if verdict.stage is Stage.BRAIN_MRI else _ct(verdict, warnings)


def state_words(state: str, sentence: str | None) -> Words:
    """What to say of a series without a verdict."""
    return Words(STATES.get(state, state), Tone.OPEN, sentence or "")


def _brain_mri(verdict: Verdict) -> Words:
    reject = verdict.finding(Question.STRAIGHT_REJECT)
    if reject is None or reject.value is None:
        return Words("No verdict", Tone.OPEN, (reject.abstained if reject else None) or "")
    if reject.value:
        why = REASONS[reject.reason] if reject.reason else "no reason given"
        return Words("Not a usable brain T1w", Tone.POOR, _sentence(why), attention=True)
    tier = verdict.finding(Question.TIER)
    seen = _defects(verdict)
    gadolinium = verdict.finding(Question.GADOLINIUM)
    if gadolinium is not None and gadolinium.value:
        seen.append("gadolinium given")
    if tier is None or tier.value is None:
        return Words("Quality undetermined", Tone.OPEN, (tier.abstained if tier else None) or "")
    headline, tone = {
        Tier.GOOD: ("Good quality", Tone.GOOD),
        Tier.USABLE: ("Usable quality", Tone.USABLE),
        Tier.POOR: ("Poor quality", Tone.POOR),
    }[Tier(int(tier.value))]
    return Words(headline, tone, _sentence(", ".join(seen)), attention=tier.value == Tier.POOR)


def _defects(verdict: Verdict) -> list[str]:
    findings = (verdict.finding(q) for q in GRADED)
    return [GRADES[f.question][Grade(int(f.value))] for f in findings if f is not None and f.value]


def _ct(verdict: Verdict, warnings: Sequence[str]) -> Words:
    part = verdict.finding(Question.BODY_PART)
    enhanced = verdict.finding(Question.CONTRAST_ENHANCED)
    name = PARTS[str(part.value)] if part is not None and part.value is not None else "Body part undetermined"
    if enhanced is None or enhanced.value is None:
        phase = "contrast undetermined"
    else:
        phase = "contrast-enhanced" if enhanced.value else "without contrast"
    detail = " ".join(warnings)
    if warnings:
        return Words(f"{name}, {phase}", Tone.USABLE, detail)
    tone = Tone.OPEN if "undetermined" in f"{name} {phase}" else Tone.GOOD
    return Words(f"{name}, {phase}", tone, detail)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def found(finding: Finding | None) -> str:
    """One answer as one word for a table."""
    if finding is None:
        return "—"
    if finding.value is None:
        return "undetermined"
    if isinstance(finding.value, bool):
        return "yes" if finding.value else "no"
    return PARTS.get(str(finding.value), str(finding.value))


def claimed(claims: Mapping[str, Any]) -> str:
    """What the header says of a series, in a line."""
    names = ("series_description", "protocol_name", "body_part_examined", "contrast_agent")
    said: Sequence[str] = [str(claims[n]) for n in names if claims.get(n)]
    return " · ".join(dict.fromkeys(said))
