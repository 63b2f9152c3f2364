"""Verdicts in plain words, for terminals and pages; the report has its own codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qc_node.domain.questions import Question
from qc_node.domain.verdict import Verdict, needs_attention, vote_level
from qc_node.domain.vocabulary import Reason

REASONS: dict[Reason, str] = {
    Reason.MOTION: "motion",
    Reason.NOISE: "noise",
    Reason.POOR_CONTRAST: "poor grey/white contrast",
    Reason.COVERAGE: "part of the anatomy is missing",
    Reason.FIELD_OF_VIEW: "field of view cut off",
    Reason.SEGMENTED: "a segmentation, not an image",
    Reason.SKULL_STRIPPED: "skull removed",
    Reason.NOT_T1W: "not T1-weighted",
    Reason.NOT_BRAIN: "not a brain",
    Reason.PHANTOM: "a phantom",
    Reason.BLANK: "blank or unreadable",
    Reason.TOO_FEW_SLICES: "too few slices",
    Reason.THICK_SLICES: "slices too thick",
    Reason.ORIENTATION: "turned or mirrored",
    Reason.ARTIFACT: "image artefact",
    Reason.GEOMETRY: "slices do not form a regular volume",
}
"""Every reason in words for people."""


class Tone(StrEnum):
    """How a card looks: each tone has a shape of its own, colour only repeats it."""

    GOOD = "good"
    USABLE = "usable"
    POOR = "poor"
    OPEN = "open"
    """No answer yet, or none that the machine would stand for."""


SHAPES = {Tone.GOOD: "●", Tone.USABLE: "▲", Tone.POOR: "■", Tone.OPEN: "○"}
LEVEL_TONES = (Tone.GOOD, Tone.USABLE, Tone.POOR)
"""The tone of each level of the votes."""

SEVERITY = (Tone.GOOD, Tone.OPEN, Tone.USABLE, Tone.POOR)
"""Tones from the mildest; of several on one card the last one is shown."""


@dataclass(frozen=True)
class Card:
    """What a page says of one series: a headline, a tone, and a sentence or two of detail.

    ``attention`` is whether the card stays until somebody has acknowledged it.
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


def sentence(words: str) -> str:
    """`words` with a capital letter and a full stop; nothing stays nothing."""
    return f"{words[0].upper()}{words[1:]}." if words else ""


def answer_words(verdict: Verdict, question: Question) -> str:
    """The answer to `question` in words; one that is not defined is undetermined."""
    finding = verdict.finding(question)
    return question.unknown if finding is None else finding.words


def plain_headline(verdict: Verdict) -> str:
    """Every answer in words, for classifiers that have no sentence of their own."""
    return ", ".join(f.words for f in verdict.findings)


def plain_card(verdict: Verdict, warnings: Sequence[str] = ()) -> Card:
    """A card that says every answer, for classifiers that have none of their own."""
    level = vote_level(verdict)
    if needs_attention(verdict):
        tone = Tone.POOR
    elif any(f.value is None for f in verdict.findings):
        tone = Tone.OPEN
    elif level is not None:
        tone = LEVEL_TONES[level]
    else:
        tone = Tone.USABLE if warnings else Tone.GOOD
    said = plain_headline(verdict)
    return Card(said[:1].upper() + said[1:], tone, " ".join(warnings))
