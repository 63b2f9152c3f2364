"""Votes in and out: CSV and JSON lines, exact counts, original times, pseudonyms."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, TextIO

from qc_node.dicom.uids import is_uid
from qc_node.domain import QcNodeError, VoteChannel
from qc_node.ledger import Ledger, NewAct, NewVote
from qc_node.ledger.erasing import FORGOTTEN
from qc_node.ledger.rows import ActRow, LoggedVote
from qc_node.ledger.votes import WITHDRAWN
from qc_node.web.access import readers, security
from qc_node.web.access.readers import Role
from qc_node.web.votes.additions import (
    LONGEST_COMMENT,
    Additions,
    Confidence,
    Kind,
    VerdictAgreement,
    clean,
    standing_additions,
    value_of,
)
from qc_node.web.votes.casting import VoteReason, effective

COLUMNS = (
    "reader",
    "site",
    "modality",
    "study_instance_uid",
    "series_instance_uid",
    "accession_number",
    "vote",
    "reasons",
    "voted_at",
    "received_at",
    "presented_at",
    "ms_to_vote",
    "source",
    "verdict_visible",
    "key",
    "withdraws",
    "role",
    "reasons_at",
    "confidence",
    "confidence_at",
    "agreement",
    "agreement_at",
    "agreed_reports",
)
COMMENT = ("comment", "comment_at")
"""Free text: in an export only when it is asked for."""
SOFT = ("p_good", "p_acceptable", "p_poor")
WORDS = {
    "good": "good",
    "acceptable": "acceptable",
    "poor": "poor",
    "withdrawn": "withdrawn",
    "green": "good",
    "amber": "acceptable",
    "yellow": "acceptable",
    "red": "poor",
    "1": "good",
    "2": "acceptable",
    "3": "poor",
    "": "",
}
BATCH = 2000

ActValue = tuple[str, ...] | str | float | dict[str, Any] | None
"""What the ledger keeps of an addition (:class:`qc_node.ledger.NewAct`)."""

SoftLabels = Callable[[Sequence[tuple[str, str, int]]], Mapping[str, Sequence[float]]]
"""From ``(item, rater, level 0-2)`` to the probability of each level by item (``learning.raters``)."""


def share_of_votes(ratings: Sequence[tuple[str, str, int]]) -> dict[str, list[float]]:
    """The plainest soft label: the share of each level among an item's votes."""
    counts: dict[str, list[int]] = {}
    for item, _, level in ratings:
        counts.setdefault(item, [0, 0, 0])[level] += 1
    return {item: [n / sum(c) for n in c] for item, c in counts.items()}


# -- out ---------------------------------------------------------------------------------------------
def export_rows(
    ledger: Ledger,
    *,
    whole_log: bool = False,
    blind_only: bool = False,
    comments: bool = False,
    roles: Collection[str] = (),
    soft_labels: SoftLabels = share_of_votes,
) -> Iterator[dict[str, Any]]:
    """Votes as flat rows.

    By default the votes that stand, each with the soft label of its item, ready for training; with
    `whole_log` every row ever written, which :func:`import_rows` takes back.  Readers are pseudonyms.  Marks
    without a known author are never among them.  `roles` leaves out votes cast in any other role.  Technologists
    judge what they took themselves: they and the other readers have soft labels apart.
    """
    names = {reader.reader_id: reader.pseudonym for reader in readers.list_all(ledger)}
    log = ledger.votes.all()
    keys = {row["id"]: row["key"] for row in log}
    rows = log if whole_log else effective(log)
    rows = [row for row in rows if not (blind_only and row["verdict_visible"])]
    rows = [row for row in rows if not roles or row["role"] in roles]
    added: dict[int, list[ActRow]] = {}
    for act in ledger.votes.every_standing_act():
        added.setdefault(act["vote_id"], []).append(act)
    levels = {"good": 0, "acceptable": 1, "poor": 2}
    soft: dict[tuple[bool, str], Sequence[float]] = {}
    for took in () if whole_log else (False, True):
        ratings = [
            (item_of(r), names[r["reader_id"]], levels[r["vote"]])
            for r in rows
            if (r["role"] == Role.TECHNOLOGIST) is took
        ]
        soft |= {(took, item): label for item, label in soft_labels(ratings).items()}
    for row in rows:
        out: dict[str, Any] = {
            "reader": names[row["reader_id"]],
            "site": row["site"],
            "modality": row["modality"],
            "study_instance_uid": row["study_uid"],
            "series_instance_uid": row["series_uid"],
            "accession_number": row["accession_number"] if row["study_uid"] is None else None,
            "vote": row["vote"],
            "reasons": " ".join(json.loads(row["reasons"])),
            "voted_at": to_iso(row["voted_at"]),
            "received_at": to_iso(row["received_at"]),
            "presented_at": None,
            "ms_to_vote": row["ms_to_vote"],
            "source": row["source"],
            "verdict_visible": int(row["verdict_visible"]),
            "key": row["key"],
            "withdraws": keys[row["replaces"] or 0] if row["vote"] == WITHDRAWN else None,
            "role": row["role"],
            **_added(standing_additions(added.get(row["id"], ())), comments),
        }
        if not whole_log:
            label = soft[row["role"] == Role.TECHNOLOGIST, item_of(row)]
            out |= {name: round(float(p), 4) for name, p in zip(SOFT, label, strict=True)}
        yield out


def _added(said: Additions, comments: bool) -> dict[str, Any]:
    """The columns of what was added to a vote."""
    agreement = said.agreement
    out = {
        "reasons_at": _iso(said.reasons_at),
        "confidence": said.confidence,
        "confidence_at": _iso(said.confidence_at),
        "agreement": None if agreement is None else ("agree" if agreement.agrees else "disagree"),
        "agreement_at": _iso(said.agreement_at),
        "agreed_reports": " ".join(agreement.reports) if agreement else None,
    }
    return out | ({"comment": said.comment, "comment_at": _iso(said.comment_at)} if comments else {})


def _iso(at: float | None) -> str | None:
    return None if at is None else to_iso(at)


def item_of(row: LoggedVote) -> str:
    """What a vote is about, as one word."""
    return str(row["series_uid"] or row["study_uid"] or f"#{row['accession_number']}")


def write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], stream: TextIO) -> int:
    """Write rows as CSV; returns how many.  No cell can be run as a formula by a spreadsheet."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([harmless(row.get(name)) for name in columns])
        count += 1
    return count


def harmless(value: Any) -> Any:
    """A cell that a spreadsheet shows as text: a leading ``= + - @`` or tab gets an apostrophe."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as one CSV text."""
    stream = io.StringIO()
    write_csv(rows, columns, stream)
    return stream.getvalue()


def to_iso(at: float) -> str:
    """UTC with microseconds, as ISO 8601: nothing is lost on the way out and back."""
    return datetime.fromtimestamp(at, UTC).isoformat()


# -- in ----------------------------------------------------------------------------------------------
@dataclass
class Imported:
    """What an import did."""

    votes: int = 0
    presented: int = 0
    known_before: int = 0
    readers_added: list[str] = field(default_factory=list)


def read_rows(stream: TextIO, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """``(place, row)`` of a CSV or JSON lines file; which one is told by its first character.

    Raises
    ------
    QcNodeError
        A column is unknown, or a line cannot be read; the sentence names the file and the line.
    """
    first = stream.read(1)
    stream.seek(0)
    if first == "{":
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise QcNodeError(f"{name} line {number} is not a JSON object.") from error
                _check_columns(row, name)
                yield f"{name} line {number}", {k: _flat(v) for k, v in row.items() if v is not None}
        return
    reader = csv.DictReader(stream)
    _check_columns(dict.fromkeys(reader.fieldnames or []), name)
    for row in reader:
        yield f"{name} line {reader.line_num}", {k: (v or "").strip() for k, v in row.items() if k is not None}


def _flat(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(int(value) if value is True else value)


def _check_columns(row: Mapping[str, Any], name: str) -> None:
    for column in row:
        if column not in COLUMNS and column not in SOFT and column not in COMMENT:
            raise QcNodeError(f"{name} has an unknown column {column!r}.")


def import_rows(
    ledger: Ledger,
    rows: Iterable[tuple[str, Mapping[str, str]]],
    *,
    now: float,
    zone: tzinfo | None = None,
    add_readers: bool = False,
) -> Imported:
    """Bring votes in with their original times; all or nothing, and a second time changes nothing.

    A row without a vote says that a study was presented and not voted on, which the acceptance rate needs.
    Readers are named by login or pseudonym; with `add_readers` unknown ones are added without any way to
    sign in.  `zone` is that of times which name none.

    Raises
    ------
    QcNodeError
        A row cannot be understood; the sentence names its place.
    """
    done = Imported()
    known = {r.login.casefold(): r for r in readers.list_all(ledger)}
    known |= {r.pseudonym: r for r in readers.list_all(ledger)}
    with ledger.db.transaction():
        for place, row in rows:
            reader = known.get(row.get("reader", "").casefold())
            if reader is None:
                if not add_readers:
                    raise QcNodeError(f"{place} names an unknown reader {row.get('reader', '')!r}.")
                reader = _add_reader(ledger, row, now, place)
                known[reader.login.casefold()] = reader
                done.readers_added.append(reader.login)
            _import_row(ledger, place, row, reader, now, zone, done)
    return done


def _add_reader(ledger: Ledger, row: Mapping[str, str], now: float, place: str) -> readers.Reader:
    login = row.get("reader", "")
    try:
        reader, _ = readers.add(
            ledger,
            login,
            name=login,
            site=row.get("site") or "unknown",
            at=now,
            link=False,
            by="qc-node votes import",
        )
    except QcNodeError as error:
        raise QcNodeError(f"{place}: {error}") from error
    return reader


def _import_row(
    ledger: Ledger,
    place: str,
    row: Mapping[str, str],
    reader: readers.Reader,
    now: float,
    zone: tzinfo | None,
    done: Imported,
) -> None:
    study, series = row.get("study_instance_uid") or None, row.get("series_instance_uid") or None
    accession = row.get("accession_number") or None
    for uid in (study, series):
        if uid is not None and not (is_uid(uid) or uid.startswith(FORGOTTEN)):
            raise QcNodeError(f"{place} has a UID that is none.")
    if study is None and accession is None:
        raise QcNodeError(f"{place} names neither study_instance_uid nor accession_number.")
    vote = WORDS.get(row.get("vote", "").lower())
    if vote is None:
        raise QcNodeError(f"{place} has an unknown vote {row['vote']!r}.")
    site, modality = row.get("site") or reader.site, row.get("modality") or "OT"
    shown_at = parse_time(row.get("presented_at", ""), zone, place)
    voted_at = parse_time(row.get("voted_at", ""), zone, place)
    if shown_at is None and not vote:
        raise QcNodeError(f"{place} has neither a vote nor presented_at.")
    if shown_at is not None:
        subject = f"study:{study}" if study else f"accession:{accession}"
        handle = ledger.cases.open(
            security.new_handle(), subject, now, study_uid=study, accession_number=accession, modality=modality
        )
        number = digest("shown", reader.reader_id, subject, repr(shown_at))[:22]
        fresh = ledger.cases.present(number, handle, reader.reader_id, site, modality, shown_at, "import")
        done.presented += fresh
    if not vote:
        return
    if voted_at is None:
        raise QcNodeError(f"{place} has a vote without voted_at.")
    key = row.get("key") or digest(
        reader.reader_id, study or "", series or "", accession or "", vote, repr(voted_at)
    )
    received = parse_time(row.get("received_at", ""), zone, place) or now
    visible = row.get("verdict_visible", "") in ("1", "true", "True")
    if vote == WITHDRAWN:
        before = ledger.votes.by_key(reader.reader_id, row.get("withdraws", ""))
        if before is None:
            raise QcNodeError(f"{place} withdraws a vote that is not there.")
        taken_back = NewAct(
            key=key,
            vote_id=(before["replaces"] if before["vote"] == WITHDRAWN else None) or before["id"],
            kind="withdrawal",
            reader_id=reader.reader_id,
            role=reader.role,
            at=voted_at,
            received_at=received,
            source=VoteChannel.IMPORT,
            verdict_visible=visible,
        )
        _count(done, ledger.votes.act(taken_back)[1])
        return
    ms = row.get("ms_to_vote", "")
    if ms and not ms.isdigit():
        raise QcNodeError(f"{place} has a time to vote that is no number of milliseconds.")
    reasons = row.get("reasons", "").replace(";", " ").replace(",", " ").split()
    for reason in reasons:
        if reason not in list(VoteReason):
            raise QcNodeError(f"{place} has an unknown reason {reason!r}.")
    role = row.get("role") or reader.role
    if role not in list(Role):
        raise QcNodeError(f"{place} has an unknown role {role!r}.")
    acts = _acts_of(row, zone, place, reasons)
    new = NewVote(
        key=key,
        reader_id=reader.reader_id,
        role=role,
        site=site,
        modality=modality,
        vote=vote,
        voted_at=voted_at,
        received_at=received,
        source=VoteChannel.IMPORT,
        study_uid=study,
        series_uid=series,
        accession_number=accession,
        reasons=() if any(kind is Kind.REASONS for kind, *_ in acts) else tuple(reasons),
        ms_to_vote=int(ms) if ms else None,
        verdict_visible=visible,
    )
    written, fresh = ledger.votes.add([new])[0]
    _count(done, fresh)
    for kind, value, at in acts if fresh else ():
        ledger.votes.act(
            NewAct(
                key=digest(key, kind),
                vote_id=written["id"],
                kind=kind.value,
                reader_id=reader.reader_id,
                role=role,
                at=voted_at if at is None else at,
                received_at=received,
                source=VoteChannel.IMPORT,
                value=value,
                verdict_visible=visible or kind is Kind.AGREEMENT,
            )
        )


def _acts_of(
    row: Mapping[str, str], zone: tzinfo | None, place: str, reasons: Sequence[str]
) -> list[tuple[Kind, ActValue, float | None]]:
    """``(kind, value, time)`` of what a row says was added to its vote; reasons with a time of their own too."""
    at = {kind: parse_time(row.get(f"{kind}_at", ""), zone, place) for kind in Kind}
    out: list[tuple[Kind, ActValue, float | None]] = []
    if reasons and at[Kind.REASONS] is not None:
        out.append((Kind.REASONS, tuple(reasons), at[Kind.REASONS]))
    if comment := clean(row.get("comment", ""))[:LONGEST_COMMENT]:
        out.append((Kind.COMMENT, comment, at[Kind.COMMENT]))
    if word := row.get("confidence"):
        if word not in list(Confidence):
            raise QcNodeError(f"{place} has an unknown confidence {word!r}.")
        out.append((Kind.CONFIDENCE, value_of(Kind.CONFIDENCE, confidence=Confidence(word)), at[Kind.CONFIDENCE]))
    if word := row.get("agreement"):
        if word not in ("agree", "disagree"):
            raise QcNodeError(f"{place} has an unknown agreement {word!r}.")
        reports = tuple(uid for uid in row.get("agreed_reports", "").split() if is_uid(uid))
        said = VerdictAgreement(word == "agree", reports)
        out.append((Kind.AGREEMENT, value_of(Kind.AGREEMENT, agreement=said), at[Kind.AGREEMENT]))
    return out


def _count(done: Imported, fresh: bool) -> None:
    done.votes += fresh
    done.known_before += not fresh


def parse_time(text: str, zone: tzinfo | None, place: str) -> float | None:
    """Seconds since the epoch of an ISO 8601 time or a number; None for nothing.

    Raises
    ------
    QcNodeError
        It is neither, or it names no time zone and none was given.
    """
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise QcNodeError(f"{place} has a time that is not ISO 8601: {text!r}.") from error
    if at.tzinfo is None:
        if zone is None:
            raise QcNodeError(f"{place} has a time without time zone; name one with --timezone.")
        at = at.replace(tzinfo=zone)
    return at.timestamp()


def digest(*parts: str) -> str:
    """A key that follows from the content."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]
