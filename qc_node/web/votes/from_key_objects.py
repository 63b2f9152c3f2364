"""Votes from the PACS itself: key objects that a known reader stored to the node."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pydicom
from pydicom.dataset import Dataset

from qc_node.domain import VoteChannel
from qc_node.engine.pseudonyms import read_pseudonym
from qc_node.ledger import LedgerDamagedError, LedgerError, NewVote
from qc_node.ledger.rows import ObjectRow
from qc_node.report.key_objects import KEY_OBJECT_SELECTION, KeyObject, read_key_object
from qc_node.web.access import readers
from qc_node.web.settings import WebDeps
from qc_node.web.votes.casting import Choice, VoteReason

log = logging.getLogger(__name__)

TITLES = {"113001": Choice.POOR, "113010": Choice.POOR, "113013": Choice.GOOD}
"""CID 7010: Rejected for Quality Reasons, Quality Issue, Best In Set."""

REASONS = {
    "111207": VoteReason.ARTEFACT,
    "111208": VoteReason.ARTEFACT,
    "111209": VoteReason.POSITIONING,
    "111210": VoteReason.MOTION,
    "111211": VoteReason.EXPOSURE,
    "111212": VoteReason.EXPOSURE,
    "111213": VoteReason.OTHER,
    "111214": VoteReason.ARTEFACT,
    "111215": VoteReason.ARTEFACT,
    "113026": VoteReason.EXPOSURE,
}
"""CID 7011 in the words of the panel."""

SKEW_S = 300.0
"""A key object dated further in the future has an unbelievable clock."""


class Intake(StrEnum):
    """What became of an object."""

    VOTE = "vote"
    MARK = "mark"
    OURS = "ours"
    NOT_ABOUT_QUALITY = "not about quality"
    UNREADABLE = "unreadable"
    GONE = "gone"


LARGEST = 4 << 20
"""Bytes of a key object that is read: one that names 14,000 images, and some seconds where it means harm."""

ATTEMPTS = 2
"""So often an object is read: who brings the node down twice stays unread."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What a key object about quality says."""

    said: KeyObject
    vote: str
    written_at: float


def take_in(deps: WebDeps, limit: int = 100) -> list[Intake]:
    """Look at objects that nobody has looked at yet; each is handled exactly once."""
    return [_take(deps, row) for row in deps.ledger.instances.unhandled_objects(limit)]


def take_up_interrupted(deps: WebDeps) -> list[Intake]:
    """Look again at objects in whose reading an earlier run of the node ended."""
    return [_take(deps, row) for row in deps.ledger.instances.interrupted_objects()]


def _take(deps: WebDeps, row: ObjectRow) -> Intake:
    """Read an object, which may take its time, and only then note all that follows from it."""
    uid = row["sop_instance_uid"]
    if deps.ledger.deliveries.is_ours(uid):
        deps.ledger.instances.mark_handled(uid)
        return Intake.OURS
    deps.ledger.instances.note_attempt(uid)
    try:
        patient = read_pseudonym(deps.spool, row["path"])
        found = _read(deps, row)
        with deps.ledger.db.transaction():
            return _note(deps, row, patient, found)
    except (LedgerError, LedgerDamagedError):
        with suppress(LedgerError):
            deps.ledger.instances.put_back(uid)
        raise
    except Exception as error:
        # What follows from it cannot be noted, whatever a peer wrote into it: it must not stop the next ones.
        log.error("A key object from %s cannot be noted: %s.", row["calling_ae"], type(error).__name__)
        deps.ledger.instances.mark_handled(uid)
        return Intake.UNREADABLE


def _read(deps: WebDeps, row: ObjectRow) -> _Read | Intake:
    if row["sop_class_uid"] != KEY_OBJECT_SELECTION:
        return Intake.NOT_ABOUT_QUALITY
    if row["bytes"] > LARGEST or row["handled"] <= -ATTEMPTS:
        log.warning("A key object from %s is too large, or ended the node: it is not read.", row["calling_ae"])
        return Intake.UNREADABLE
    try:
        ds = pydicom.dcmread(deps.spool.path(row["path"]), stop_before_pixels=True)
        said = read_key_object(ds)
        vote = TITLES.get(said.title.value) if said.title.scheme == "DCM" else None
        return Intake.NOT_ABOUT_QUALITY if vote is None else _Read(said, vote, when(ds, said, row["received_at"]))
    except Exception as error:
        # Whatever a peer wrote into an object, and however pydicom stumbles over it, must not stop the next ones.
        log.warning("A key object from %s cannot be read: %s.", row["calling_ae"], type(error).__name__)
        return Intake.UNREADABLE


def _note(deps: WebDeps, row: ObjectRow, patient: str | None, found: _Read | Intake) -> Intake:
    """Write what an object says, unless it was forgotten or superseded while it was read."""
    if deps.ledger.instances.path_of(row["sop_instance_uid"]) != row["path"]:
        return Intake.GONE
    deps.ledger.instances.mark_handled(row["sop_instance_uid"])
    if patient is not None:
        deps.ledger.patients.note(row["study_uid"], patient)
    return found if isinstance(found, Intake) else _note_vote(deps, row, found)


def _note_vote(deps: WebDeps, row: ObjectRow, found: _Read) -> Intake:
    said, vote, written_at = found.said, found.vote, found.written_at
    reasons = tuple(dict.fromkeys(REASONS.get(code.value, VoteReason.OTHER) for code in said.modifiers))
    series = said.series[0].series_instance_uid if len(said.series) == 1 else None
    study = said.study_instance_uid or row["study_uid"]
    reader, why = author(deps, said)
    if reader is None:
        deps.ledger.votes.mark(
            row["sop_instance_uid"], study, series, vote, list(reasons), why, row["received_at"]
        )
        return Intake.MARK
    known = deps.ledger.series.find(study, series) if series else None
    modality = known["modality"] if known else _modality(deps, study)
    _, new = deps.ledger.votes.add(
        [
            NewVote(
                key=f"kos-{hashlib.sha256(row['sop_instance_uid'].encode()).hexdigest()[:32]}",
                reader_id=reader.reader_id,
                role=reader.role,
                site=reader.site,
                modality=modality,
                vote=vote,
                voted_at=written_at,
                received_at=row["received_at"],
                source=VoteChannel.KEY_OBJECT,
                study_uid=study,
                series_uid=series,
                reasons=reasons,
                sop_instance_uid=row["sop_instance_uid"],
                verdict_visible=deps.ledger.readers.has_seen_verdict(reader.reader_id, study, written_at),
            )
        ]
    )[0]
    if new:
        deps.on_vote(vote, reader.site, modality)
        deps.ledger.prompts.answer(study, reader.reader_id, deps.clock())
    return Intake.VOTE


def author(deps: WebDeps, said: KeyObject) -> tuple[readers.Reader | None, str]:
    """The reader who wrote a key object, or None and a sentence why it is nobody's vote."""
    if said.observer_type == "device":
        return None, "A device made it."
    if said.observer_type != "person":
        return None, "It names no observer."
    if said.observer_login:
        row = deps.ledger.readers.by_login(said.observer_login)
        if row is not None and row["disabled_at"] is None:
            return readers.reader_from_row(row), ""
    reader = readers.by_person_name(deps.ledger, said.observer_name or "")
    return reader, "" if reader else "Its observer is no known reader."


def when(ds: Dataset, said: KeyObject, received_at: float) -> float:
    """When a key object was written; the time of receipt where its own time is missing or in the future.

    Local times are of the zone in Timezone Offset From UTC (0008,0201), else of this machine.
    """
    if said.written_at is None:
        return received_at
    local = datetime.strptime(said.written_at, "%Y%m%d%H%M%S")
    offset = str(ds.get("TimezoneOffsetFromUTC", "") or "")
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        at = local.replace(tzinfo=timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
    else:
        at = local.astimezone(UTC)
    return received_at if at.timestamp() > received_at + SKEW_S else at.timestamp()


def _modality(deps: WebDeps, study: str) -> str:
    rows = deps.ledger.series.of_study(study)
    return str(max(rows, key=lambda row: row["instances"])["modality"]) if rows else "OT"
