"""Casting a vote: exactly once, by a known reader, on what was shown when the key went down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from qc_node.ledger import NewVote
from qc_node.web.access.readers import Reader
from qc_node.web.settings import WebDeps
from qc_node.web.statistics import figures
from qc_node.web.statistics.figures import VoteFact

MAX_AGE_S = 45 * 86_400.0
"""A vote that waited longer in a browser has an unbelievable clock."""
GRACE_S = 2.0
"""How much later than the undo time a key press may be by the browser's clock."""


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
    PROTOCOL = "protocol"
    OTHER = "other"


class Refused(Exception):
    """A vote that cannot be taken; ``status`` is the HTTP status, the text one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def effective(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of votes that stand (:func:`qc_node.web.statistics.figures.standing` says which)."""
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


def standing(deps: WebDeps, case: Mapping[str, Any], reader_id: str) -> dict[str, Any] | None:
    """The vote of a reader on a case that stands now."""
    rows = deps.ledger.votes.of_subject(case["study_uid"], case["accession_number"], reader_id)
    if case["series_uid"]:
        rows = [row for row in rows if row["series_uid"] == case["series_uid"]]
    found = effective(rows)
    return dict(max(found, key=lambda row: (row["voted_at"], row["id"]))) if found else None


def public(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a page may know of a vote."""
    names = ("id", "key", "vote", "voted_at", "received_at", "source", "replaces")
    out = {name: row[name] for name in names}
    return out | {"reasons": list(row["reasons"]), "verdict_visible": bool(row["verdict_visible"])}


def cast(
    deps: WebDeps,
    reader: Reader,
    case: Mapping[str, Any],
    *,
    key: str,
    vote: Choice,
    modality: str,
    series_uid: str | None,
    source: str,
    reasons: Sequence[VoteReason] = (),
    age_ms: float = 0.0,
    ms_to_vote: int | None = None,
    presentation: str | None = None,
    withdraws: str | None = None,
) -> tuple[dict[str, Any], bool]:
    """Write one vote; returns its row and whether it is new (the same key again changes nothing).

    Parameters
    ----------
    key
        Chosen by the sender, once per key press.
    age_ms
        How long ago the key went down, by the sender's clock alone, so that a reading-room PC whose
        clock is wrong still gives the right time.
    withdraws
        Key of the vote that is taken back; only with :attr:`Choice.WITHDRAWN`.

    Raises
    ------
    Refused
        409: the presentation was of another study or reader, the key was used for something else, the
        time to undo has passed, there is nothing to take back.  422: unbelievable times.
    """
    now = deps.clock()
    if not 0 <= age_ms / 1000 <= MAX_AGE_S:
        raise Refused(422, "age_ms is not between 0 and 45 days.")
    voted_at = now - age_ms / 1000
    table = deps.ledger.votes
    before = table.by_key(reader.reader_id, key)
    if before is not None:
        if before["vote"] != vote or (before["study_uid"], before["accession_number"]) != _subject(case, before):
            raise Refused(409, "This idempotency key was used for another vote.")
        return before, False
    if presentation is not None:
        shown = deps.ledger.cases.presentation(presentation)
        if shown is None or shown["handle"] != case["handle"] or shown["reader_id"] != reader.reader_id:
            raise Refused(409, "This study was not the one shown to this reader.")
    replaces = None
    if vote is Choice.WITHDRAWN:
        target = table.by_key(reader.reader_id, withdraws or "")
        if target is None or target["vote"] == Choice.WITHDRAWN:
            raise Refused(409, "There is no such vote to take back.")
        if voted_at - target["voted_at"] > deps.web.undo_s + GRACE_S:
            raise Refused(409, f"A vote can be taken back for {deps.web.undo_s:g} seconds; vote anew instead.")
        replaces, series_uid = target["id"], target["series_uid"]
        case = {**case, "study_uid": target["study_uid"], "accession_number": target["accession_number"]}
        source, modality = target["source"], target["modality"]
    elif (previous := standing(deps, case, reader.reader_id)) is not None:
        replaces = previous["id"]
    study_uid = case["study_uid"]
    seen = study_uid is not None and deps.ledger.readers.has_seen_verdict(reader.reader_id, study_uid, voted_at)
    row, new = table.add(
        [
            NewVote(
                key=key,
                reader_id=reader.reader_id,
                site=reader.site,
                modality=modality,
                vote=vote,
                voted_at=voted_at,
                received_at=now,
                source=source,
                study_uid=study_uid,
                series_uid=series_uid,
                accession_number=case["accession_number"],
                reasons=tuple(reasons),
                ms_to_vote=ms_to_vote,
                verdict_visible=seen,
                presentation=presentation,
                replaces=replaces,
            )
        ]
    )[0]
    if new and vote is not Choice.WITHDRAWN:
        deps.on_vote(vote, reader.site, modality)
        if study_uid is not None:
            deps.ledger.prompts.answer(study_uid, reader.reader_id, now)
    return row, new


def _subject(case: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """What a repeated request is about, as the first one wrote it."""
    if case["study_uid"]:
        return case["study_uid"], row["accession_number"]
    return row["study_uid"], case["accession_number"]
