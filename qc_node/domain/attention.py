"""What calls for somebody's attention, and why.  Decided here and nowhere else; pure.

The board, the QC summary's ``attention-only`` and the notifications ask the functions of this module.  What is
undetermined, and what is skipped as expected, calls nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qc_node.domain.measure import Better, ImageFinding, Measure, Unusual
from qc_node.domain.measure_words import unusual_sentence
from qc_node.domain.mismatch import is_mismatch
from qc_node.domain.verdict import Verdict, needs_attention


class AttentionKind(StrEnum):
    """Why somebody is called; each kind is answered for itself."""

    VERDICT = "verdict"
    """The verdict says that the images are poor, or not what they should be."""
    ORDER = "order"
    """Order, rule or header promise something else than was seen."""
    MISSING = "missing"
    """A closed study lacks something that was ordered."""
    FAILED = "failed"
    """A series could not be judged, for a reason of its own."""
    VOTE = "vote"
    """A reader voted poor."""
    UNUSUAL = "unusual"
    """A measure is far worse than its scanner usually makes it, or a fault of the image is certain."""

    @property
    def of_a_run(self) -> bool:
        """Whether it is about one judging of the series, and ends when the series is judged again."""
        return self in (AttentionKind.VERDICT, AttentionKind.ORDER, AttentionKind.FAILED, AttentionKind.UNUSUAL)


class AlarmAnswer(StrEnum):
    """What was done about a call."""

    REPEATED = "repeated"
    PATIENT_MOVED = "patient_moved"
    NOTED = "noted"

    @property
    def acted(self) -> bool:
        """Whether the call led to something: the series was repeated, or the cause was found."""
        return self is not AlarmAnswer.NOTED


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason to call somebody; the sentence may quote the header."""

    kind: AttentionKind
    sentence: str


FORGETTING = "This series is being forgotten."
"""Sentence of a series that fails because it is being removed: that calls nobody."""


def of_series(verdicts: Sequence[Verdict], warnings: Iterable[str], said: str = "") -> tuple[Cause, ...]:
    """Why a judged series calls.

    Parameters
    ----------
    verdicts
        Of one run, of every classifier.
    warnings
        What does not fit header, rule or order, as it was judged (not shortened).
    said
        The verdicts in words.
    """
    wrong = mismatches(warnings)
    found = []
    if any(map(needs_attention, verdicts)):
        found.append(Cause(AttentionKind.VERDICT, said))
    if wrong:
        found.append(Cause(AttentionKind.ORDER, " ".join(wrong)))
    return tuple(found)


def mismatches(warnings: Iterable[str]) -> tuple[str, ...]:
    """Those warnings that call."""
    return tuple(warning for warning in warnings if is_mismatch(warning))


def of_failure(state: str, sentence: str | None) -> tuple[Cause, ...]:
    """Why a series that ended in `state` with `sentence` calls, judged or not; a skipped one never does."""
    if state != "failed" or sentence == FORGETTING:
        return ()
    return (Cause(AttentionKind.FAILED, sentence or "The series could not be judged."),)


CALL_Z = 8.0
"""From how many spreads on a measure of one series calls somebody.  Fewer are a line on the board."""


def of_measures(
    unusual: Iterable[Unusual], findings: Iterable[ImageFinding], measures: Mapping[str, Measure]
) -> tuple[Cause, ...]:
    """Why what was measured of a series calls.

    A drift is about the scanner, and a parameter that was changed may have been changed on purpose: both inform,
    on the board and by a notice, and call nobody to a patient.

    Parameters
    ----------
    findings
        What is certain of the image by itself.
    measures
        Every measure by name; one that is not among them calls nobody.
    """
    said = [finding.sentence for finding in findings]
    for one in unusual:
        measure = measures.get(one.measure)
        if measure is not None and far_worse(one, measure):
            said.append(unusual_sentence(one, measure.title))
    return (Cause(AttentionKind.UNUSUAL, " ".join(said)),) if said else ()


def far_worse(unusual: Unusual, measure: Measure) -> bool:
    """Whether one series is very far from normal, in the direction in which the measure gets worse."""
    side = {Better.LOWER: unusual.z, Better.HIGHER: -unusual.z, Better.NEITHER: 0.0}[measure.better]
    return unusual.kind == "outlier" and side >= CALL_Z


def of_study(missing: Sequence[str]) -> tuple[Cause, ...]:
    """Why a closed study calls that lacks something."""
    return (Cause(AttentionKind.MISSING, " ".join(missing)),) if missing else ()


NO_CALLERS = frozenset({"technologist"})
"""Roles whose votes stay among technologists."""


def of_vote(vote: str, role: str, reasons: Sequence[str]) -> tuple[Cause, ...]:
    """Why a vote calls: *poor*, by somebody who reads.  Nobody's name is in it."""
    if vote != "poor" or role in NO_CALLERS:
        return ()
    return (Cause(AttentionKind.VOTE, vote_sentence(reasons)),)


def vote_sentence(reasons: Sequence[str]) -> str:
    """A *poor* in words.

    Examples
    --------
    >>> vote_sentence(["motion", "noise"])
    'Voted poor: motion, noise.'
    """
    return f"Voted poor: {', '.join(reasons)}." if reasons else "Voted poor."


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told to other systems.  No patient data: the sentence quotes no header.

    Attributes
    ----------
    event
        One of :data:`EVENTS`.
    scanner
        What people call it; empty where it is about no scanner.
    at
        Seconds since the epoch.
    webhook
        The JSON that ``[webhook]`` gets, without ``at``; None where it is not told.
    """

    event: str
    scanner: str
    sentence: str
    at: float
    webhook: Mapping[str, Any] | None = None


EVENT_OF: Mapping[AttentionKind, str] = {
    AttentionKind.VERDICT: "attention",
    AttentionKind.ORDER: "attention",
    AttentionKind.MISSING: "missing",
    AttentionKind.FAILED: "failed",
    AttentionKind.VOTE: "poor_vote",
    AttentionKind.UNUSUAL: "unusual",
}
EVENTS = ("attention", "missing", "failed", "poor_vote", "unusual", "scanner", "delivery")
"""What can be told.

``scanner``: a measure of a scanner has begun to drift, or the scanner has new software; ``delivery``: the PACS
does not take a report, and the node has given it up.
"""


# -- how many calls ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one scanner on one day.

    Attributes
    ----------
    raised
        By the program: every kind but votes.
    answered
        Of these, how often each answer was given; ``"seen"`` where somebody only acknowledged.
    votes
        Calls that readers made by voting poor.
    votes_answered
        As `answered`, of those.
    """

    scanner: str
    day: str
    raised: int
    answered: Mapping[str, int]
    votes: int
    votes_answered: Mapping[str, int]

    @property
    def acted(self) -> int:
        """Of those raised by the program, how many led to something."""
        return sum(n for answer, n in self.answered.items() if answer in ACTED)

    @property
    def share(self) -> float | None:
        """`acted` of `raised`, 0 to 1; None where there was none."""
        return self.acted / self.raised if self.raised else None

    def as_dict(self, budget: int) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "scanner": self.scanner,
            "day": self.day,
            "raised": self.raised,
            "acted": self.acted,
            "share": self.share,
            "answered": dict(self.answered),
            "votes": self.votes,
            "votes_answered": dict(self.votes_answered),
            "budget": budget,
            "over_budget": self.raised > budget,
        }


SEEN = "seen"
"""How :class:`Calls` counts a call that was acknowledged without an answer."""
ACTED = frozenset(answer.value for answer in AlarmAnswer if answer.acted)


@dataclass(frozen=True, slots=True)
class Called:
    """One call as it is counted; `answer` is one of :class:`AlarmAnswer`, :data:`SEEN` or None."""

    scanner: str
    day: str
    kind: str
    answer: str | None


def count_calls(called: Iterable[Called]) -> list[Calls]:
    """Calls by scanner and day, by name within the newest day first."""
    groups: dict[tuple[str, str], list[Called]] = {}
    for one in called:
        groups.setdefault((one.day, one.scanner), []).append(one)
    out = []
    for (day, scanner), group in groups.items():
        machine = [one for one in group if one.kind != AttentionKind.VOTE]
        people = [one for one in group if one.kind == AttentionKind.VOTE]
        out.append(Calls(scanner, day, len(machine), _answers(machine), len(people), _answers(people)))
    out.sort(key=lambda calls: calls.scanner)
    out.sort(key=lambda calls: calls.day, reverse=True)
    return out


def _answers(group: Iterable[Called]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in group:
        if one.answer is not None:
            found[one.answer] = found.get(one.answer, 0) + 1
    return found
