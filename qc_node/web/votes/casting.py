"""Casting a vote: exactly once, by a known reader, on what was shown when the key went down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from qc_node.domain import VoteChannel
from qc_node.ledger import NewAct, NewVote
from qc_node.ledger.rows import CaseRow, LoggedVote, PresentationRow, VoteRow
from qc_node.ledger.votes import ActKind
from qc_node.web.access.readers import Reader
from qc_node.web.settings import WebDeps
from qc_node.web.statistics import figures
from qc_node.web.statistics.figures import VoteFact

MAX_AGE_S = 45 * 86_400.0
"""A vote that waited longer in a browser has an unbelievable clock."""
GRACE_S = 2.0
"""How much later than the undo time a key press may be by the browser's clock."""
ELSEWHERE = frozenset(channel for channel in VoteChannel if channel.elsewhere)
"""Sources of votes that nobody pressed a button for here."""


class Choice(StrEnum):
    """The three buttons (122741 / 111237 / 122742, DCM), and taking one back."""

    GOOD = "good"
    ACCEPTABLE = "acceptable"
    POOR = "poor"
    WITHDRAWN = "withdrawn"


class VoteReason(StrEnum):
    """The optional reason row."""

    MOTION = "motion"
    NOISE = "noise"
    CONTRAST = "contrast"
    ARTEFACT = "artefact"
    COVERAGE = "coverage"
    POSITIONING = "positioning"
    EXPOSURE = "exposure"
    PROTOCOL = "protocol"
    OTHER = "other"


class Refused(Exception):
    """A vote that cannot be taken; ``status`` is the HTTP status, the text one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


Line = TypeVar("Line", LoggedVote, VoteRow)


def effective(rows: Iterable[Line]) -> list[Line]:
    """The lines of votes that stand (:func:`qc_node.web.statistics.figures.standing` says which)."""
    rows = list(rows)
    facts = (
        VoteFact(
            row["id"],
            row["reader_id"],
            row["study_uid"] or f"#{row['accession_number']}",
            row["series_uid"] or "",
            row["site"],
            row["modality"],
            row["vote"],
            "[]",
            row["voted_at"],
            None,
            row["source"],
            0,
            row["replaces"],
        )
        for row in rows
    )
    ids = {fact.id for fact in figures.standing(facts)}
    return [row for row in rows if row["id"] in ids]


def standing(deps: WebDeps, case: CaseRow, reader_id: str) -> VoteRow | None:
    """The vote of a reader on a case that stands now."""
    rows = deps.ledger.votes.of_subject(case["study_uid"], case["accession_number"], reader_id)
    if case["series_uid"]:
        rows = [row for row in rows if row["series_uid"] == case["series_uid"]]
    found = effective(rows)
    return max(found, key=lambda row: (row["voted_at"], row["id"])) if found else None


@dataclass(frozen=True)
class KeyPress:
    """One key press as it reached the node; ``voted_at`` and ``now`` in seconds since the epoch."""

    reader: Reader
    case: CaseRow
    key: str
    vote: Choice
    modality: str
    series_uid: str | None
    source: str
    reasons: tuple[str, ...]
    ms_to_vote: int | None
    presentation: str | None
    voted_at: float
    now: float


def cast(
    deps: WebDeps,
    reader: Reader,
    case: CaseRow,
    *,
    key: str,
    vote: Choice,
    modality: str,
    series_uid: str | None,
    source: VoteChannel,
    reasons: Sequence[VoteReason] = (),
    age_ms: float = 0.0,
    ms_to_vote: int | None = None,
    presentation: str | None = None,
    ms_since_asked: float | None = None,
    withdraws: str | None = None,
) -> tuple[VoteRow, bool]:
    """Write one key press; returns what it made and whether that is new (the same key again changes nothing).

    A level is a vote, and another level replaces it.  The same level again is no new vote: its reasons are added
    to the vote that stands, whose time and blindness stay as they are.

    Parameters
    ----------
    key
        Chosen by the sender, once per key press.
    age_ms
        How long ago the key went down, by the sender's clock alone, so that a reading-room PC whose
        clock is wrong still gives the right time.
    ms_since_asked
        How long after the page had asked for the presentation the key went down.  With it the press can be told
        from the moment at which the viewer closed the study, however slow the network was meanwhile.
    withdraws
        Key of the vote, or of the reasons, that are taken back; only with :attr:`Choice.WITHDRAWN`.

    Raises
    ------
    Refused
        409: the presentation was of another study or reader, the viewer had closed the study before the key went
        down, the key was used for something else, the time to undo has passed, there is nothing to take back.
        422: unbelievable times.
    """
    now = deps.clock()
    if not 0 <= age_ms / 1000 <= MAX_AGE_S:
        raise Refused(422, "age_ms is not between 0 and 45 days.")
    before = deps.ledger.votes.by_key(reader.reader_id, key)
    if before is not None:
        if before["vote"] != vote or (before["study_uid"], before["accession_number"]) != _subject(case, before):
            raise Refused(409, "This idempotency key was used for another vote.")
        return before, False
    if presentation is not None:
        shown = deps.ledger.cases.presentation(presentation)
        if shown is None or shown["handle"] != case["handle"] or shown["reader_id"] != reader.reader_id:
            raise Refused(409, "This study was not the one shown to this reader.")
        if vote is not Choice.WITHDRAWN:
            _refuse_when_closed(deps, shown, now - age_ms / 1000, ms_since_asked)
    said = KeyPress(
        reader,
        case,
        key,
        vote,
        modality,
        series_uid,
        source,
        tuple(reasons),
        ms_to_vote,
        presentation,
        now - age_ms / 1000,
        now,
    )
    if vote is Choice.WITHDRAWN:
        return _withdraw(deps, said, withdraws or "")
    previous = standing(deps, case, reader.reader_id)
    if previous is not None and _says_the_same(previous, said):
        return _add_reasons(deps, said, previous)
    return _vote(deps, said, previous)


def _refuse_when_closed(deps: WebDeps, shown: PresentationRow, at: float, ms_since_asked: float | None) -> None:
    """Refuse a vote on a study that the viewer had closed, or lost the connection with, before the key went down.

    Both times are the latest at which that can have been: a request may have been long on its way, and the page
    began to count before the node noted the presentation.
    """
    context = deps.ledger.contexts.get(shown["context_id"]) if shown["context_id"] is not None else None
    if context is None or context["closed_at"] is None:
        return
    if ms_since_asked is not None:
        at = min(at, shown["at"] + ms_since_asked / 1000)
    if at >= context["closed_at"]:
        raise Refused(409, "Your viewer had closed this study before the key went down.")


def _says_the_same(previous: VoteRow, said: KeyPress) -> bool:
    """Whether a key press only adds reasons to the vote that stands.

    Not so for one that is older and came late, and for a vote that was not pressed here.
    """
    return (
        previous["vote"] == said.vote
        and previous["series_uid"] == said.series_uid
        and previous["source"] not in ELSEWHERE
        and previous["voted_at"] <= said.voted_at
    )


def _vote(deps: WebDeps, said: KeyPress, previous: VoteRow | None) -> tuple[VoteRow, bool]:
    reader, study_uid = said.reader, said.case["study_uid"]
    row, new = deps.ledger.votes.add(
        [
            NewVote(
                key=said.key,
                reader_id=reader.reader_id,
                role=reader.role,
                site=reader.site,
                modality=said.modality,
                vote=said.vote,
                voted_at=said.voted_at,
                received_at=said.now,
                source=said.source,
                study_uid=study_uid,
                series_uid=said.series_uid,
                accession_number=said.case["accession_number"],
                reasons=said.reasons,
                ms_to_vote=said.ms_to_vote,
                verdict_visible=seen_by(deps, reader, study_uid, said.voted_at),
                presentation=said.presentation,
                replaces=None if previous is None else previous["id"],
            )
        ]
    )[0]
    if new:
        deps.on_vote(said.vote, reader.site, said.modality)
        if study_uid is not None:
            deps.ledger.prompts.answer(study_uid, reader.reader_id, said.now)
    return row, new


def _add_reasons(deps: WebDeps, said: KeyPress, vote: VoteRow) -> tuple[VoteRow, bool]:
    act = _act(deps, said, vote, "reasons", said.source)
    return deps.ledger.votes.act(replace(act, value=said.reasons))


def _withdraw(deps: WebDeps, said: KeyPress, key: str) -> tuple[VoteRow, bool]:
    votes = deps.ledger.votes
    target, act = votes.by_key(said.reader.reader_id, key), votes.act_by_key(said.reader.reader_id, key)
    if target is None or target["vote"] == Choice.WITHDRAWN:
        raise Refused(409, "There is no such vote to take back.")
    if said.voted_at - (target["voted_at"] if act is None else act["at"]) > deps.web.undo_s + GRACE_S:
        raise Refused(409, f"A vote can be undone for {deps.web.undo_s:g} seconds; withdraw it, or vote anew.")
    taken_back = _act(deps, said, target, "withdrawal", target["source"])
    return votes.act(replace(taken_back, undoes=None if act is None else act["id"]))


def _act(deps: WebDeps, said: KeyPress, vote: VoteRow, kind: ActKind, source: str) -> NewAct:
    return NewAct(
        key=said.key,
        vote_id=vote["id"],
        kind=kind,
        reader_id=said.reader.reader_id,
        role=said.reader.role,
        at=said.voted_at,
        received_at=said.now,
        source=source,
        verdict_visible=seen_by(deps, said.reader, vote["study_uid"], said.voted_at),
        presentation=said.presentation,
    )


def seen_by(deps: WebDeps, reader: Reader, study_uid: str | None, at: float) -> bool:
    """Whether the machine's opinion on a study had been shown to a reader by then."""
    return study_uid is not None and deps.ledger.readers.has_seen_verdict(reader.reader_id, study_uid, at)


def _subject(case: CaseRow, row: VoteRow) -> tuple[str | None, str | None]:
    """What a repeated request is about, as the first one wrote it."""
    if case["study_uid"]:
        return case["study_uid"], row["accession_number"]
    return row["study_uid"], case["accession_number"]
