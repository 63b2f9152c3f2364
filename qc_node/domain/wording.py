"""Verdicts in plain words, for terminals, pages and the comments of reports: what, how sure, and what to do.

Sure is only what was measured.  A network is at most "very likely", and what nobody would stand for is
undetermined: grey, never an alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qc_node.domain.questions import Question
from qc_node.domain.verdict import Finding, Verdict, needs_attention, vote_level
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
    Reason.EXPOSURE: "exposed too little or too much",
}
"""Every reason in words for people."""


# -- how sure ----------------------------------------------------------------------------------------
VERY_LIKELY = 0.95
LIKELY = 0.80
"""Probabilities of the given answer from which a page says "very likely" and "likely"."""

MEASURED = "Sure: measured in the image"
UNSURE = "Not sure enough for a verdict"


def likelihood(probability: float) -> str:
    """A probability of a network in words.

    Examples
    --------
    >>> likelihood(0.999), likelihood(0.87), likelihood(0.61)
    ('Very likely (over 99 %)', 'Likely (87 %)', 'More likely than not (61 %)')
    """
    steps = ((VERY_LIKELY, "Very likely"), (LIKELY, "Likely"), (0.5, "More likely than not"))
    word = next((word for least, word in steps if probability >= least), "Not sure")
    percent = "over 99" if probability > 0.99 else f"{100 * probability:.0f}"
    return f"{word} ({percent} %)"


def sureness(finding: Finding | None) -> str:
    """How sure an answer is; nothing where it follows from others, or has no probability of its own."""
    if finding is None or finding.value is None:
        return UNSURE
    if finding.measured:
        return MEASURED
    return "" if finding.probability is None else likelihood(finding.probability)


def firm(finding: Finding, least: float = LIKELY) -> bool:
    """Whether an answer may contradict what people wrote: measured, or at least this probable."""
    return finding.measured or (finding.probability is not None and finding.probability >= least)


# -- what to do --------------------------------------------------------------------------------------
NOTHING = "Nothing to do."
REPEAT = "Repeat the series before the patient leaves."
LOOK_FIRST = "Look at the images before you repeat the series."
LOOK = "No verdict: look at the images."

ADVICE: dict[Reason, str] = {
    Reason.MOTION: REPEAT,
    Reason.NOISE: REPEAT,
    Reason.POOR_CONTRAST: REPEAT,
    Reason.ARTIFACT: REPEAT,
    Reason.COVERAGE: "Repeat the series before the patient leaves, with the whole head in the image.",
    Reason.FIELD_OF_VIEW: "Repeat the series before the patient leaves, with a larger field of view.",
    Reason.SEGMENTED: "Send the original images: these were processed.",
    Reason.SKULL_STRIPPED: "Send the original images: these were processed.",
    Reason.NOT_T1W: "Check that a T1-weighted series was made before the patient leaves.",
    Reason.NOT_BRAIN: "Check that the right series was made and sent.",
    Reason.PHANTOM: "Check that the right series was sent.",
    Reason.BLANK: "Open the series. If it is empty there too, repeat it before the patient leaves.",
    Reason.TOO_FEW_SLICES: "Check that all images were sent and that a 3D series was made.",
    Reason.THICK_SLICES: "Check that a 3D series with thin slices was made before the patient leaves.",
    Reason.ORIENTATION: "Check the patient position that was entered at the scanner.",
    Reason.GEOMETRY: "Check that all images were sent.",
    Reason.EXPOSURE: LOOK_FIRST,
}
"""What to do when a series was rejected for a reason that was measured."""


def advice_on(finding: Finding) -> str:
    """What somebody should do about an answer: repeat only on what was measured, look first otherwise."""
    if finding.value is None:
        return LOOK
    if finding.key not in finding.question.attention:
        return ""
    return ADVICE.get(finding.reason, REPEAT) if finding.measured and finding.reason else LOOK_FIRST


# -- cards -------------------------------------------------------------------------------------------
class Tone(StrEnum):
    """How a card looks: each tone has a shape of its own, colour only repeats it."""

    GOOD = "good"
    USABLE = "usable"
    POOR = "poor"
    OPEN = "open"
    """No answer yet, or none that the machine would stand for: grey, and no alarm."""


SHAPES = {Tone.GOOD: "●", Tone.USABLE: "▲", Tone.POOR: "■", Tone.OPEN: "○"}
LEVEL_TONES = (Tone.GOOD, Tone.USABLE, Tone.POOR)
"""The tone of each level of the votes."""

SEVERITY = (Tone.GOOD, Tone.OPEN, Tone.USABLE, Tone.POOR)
"""Tones from the mildest; of several on one card the last one is shown."""


@dataclass(frozen=True)
class Card:
    """What a page says of one series: a headline, a tone, and a sentence or two of detail.

    ``attention`` is whether the verdict calls somebody (:mod:`qc_node.domain.attention` says what else does);
    ``sure`` says how sure the machine
    is, and ``action`` what to do, each empty where there is nothing to say.
    """

    headline: str
    tone: Tone
    detail: str = ""
    attention: bool = False
    sure: str = ""
    action: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "headline": self.headline,
            "tone": self.tone.value,
            "shape": SHAPES[self.tone],
            "detail": self.detail,
            "attention": self.attention,
            "sure": self.sure,
            "action": self.action,
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
    weakest = min(verdict.findings, key=_trust, default=None)
    advised = (advice_on(f) for f in sorted(verdict.findings, key=lambda f: f.key not in f.question.attention))
    return Card(
        said[:1].upper() + said[1:],
        tone,
        " ".join(warnings),
        sure=UNSURE if tone is Tone.OPEN else sureness(weakest),
        action=next((a for a in advised if a), NOTHING if tone is Tone.GOOD else ""),
    )


def _trust(finding: Finding) -> float:
    """For sorting by how sure an answer is."""
    if finding.value is None:
        return 0.0
    return 2.0 if finding.probability is None else finding.probability
