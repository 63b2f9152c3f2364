"""Votes and what readers did with them, append-only (triggers of the schema refuse UPDATE and DELETE).

A vote has a time, a time to vote and whether the machine's verdict was visible; none of these ever changes.  What
comes later is an act, a row of its own: other reasons, a comment, a confidence, an agreement with the verdict, a
withdrawal.  Votes and acts draw their numbers from one sequence, so that the log of both is in order of receipt.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from qc_node.ledger.database import Database
from qc_node.ledger.rows import ActRow, LoggedVote, MarkRow, StoredMark, VoteRow

ActKind = Literal["reasons", "comment", "confidence", "agreement", "withdrawal"]
STANDING: Final = (
    "SELECT * FROM vote_acts WHERE kind != 'withdrawal' AND NOT EXISTS"
    " (SELECT 1 FROM vote_acts AS later WHERE later.undoes = vote_acts.id)"
)
WITHDRAWN: Final = "withdrawn"
"""What the log calls a withdrawal where a vote has its level."""


@dataclass(frozen=True, slots=True)
class NewVote:
    """One vote as it is written.

    ``vote`` is ``good``, ``acceptable`` or ``poor``; ``source`` is ``panel``, ``fhircast``, ``key_object``,
    ``api``, ``import`` or what later channels call themselves; ``role`` is that of the reader at the time; times
    are seconds since the epoch.
    """

    key: str
    reader_id: str
    role: str
    site: str
    modality: str
    vote: str
    voted_at: float
    received_at: float
    source: str
    study_uid: str | None = None
    series_uid: str | None = None
    accession_number: str | None = None
    reasons: tuple[str, ...] = ()
    ms_to_vote: int | None = None
    verdict_visible: bool = False
    presentation: str | None = None
    replaces: int | None = None
    sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class NewAct:
    """What a reader does with a standing vote.

    ``value`` is a tuple of reasons, a comment, a confidence in [0, 1], an agreement (``{"agrees": bool, "reports":
    [SOP Instance UID of each report that it is about]}``), or None for a withdrawal; ``undoes`` is the act that a
    withdrawal takes back, None for the vote itself.
    """

    key: str | None
    vote_id: int
    kind: ActKind
    reader_id: str
    role: str
    at: float
    received_at: float
    source: str
    value: tuple[str, ...] | str | float | dict[str, Any] | None = None
    undoes: int | None = None
    verdict_visible: bool = False
    presentation: str | None = None


class Votes:
    """What readers said, every time they said it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # -- writing -------------------------------------------------------------------------------------
    def add(self, votes: Sequence[NewVote]) -> list[tuple[VoteRow, bool]]:
        """Write votes in one transaction; for each its row and whether it is new.

        A key that this reader used before changes nothing and returns the row it made then.
        """
        out = []
        with self._db.transaction() as conn:
            for v in votes:
                before = self.by_key(v.reader_id, v.key)
                if before is None:
                    self._write(conn, v)
                row = before or self.by_key(v.reader_id, v.key)
                assert row is not None
                out.append((row, before is None))
        return out

    def _write(self, conn: sqlite3.Connection, v: NewVote) -> None:
        number = self.newest_id() + 1
        conn.execute(
            "INSERT INTO votes (id, key, reader_id, role, study_uid, series_uid, accession_number, site, modality,"
            " vote, voted_at, received_at, ms_to_vote, source, verdict_visible, presentation, replaces,"
            " sop_instance_uid) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                number,
                v.key,
                v.reader_id,
                v.role,
                v.study_uid,
                v.series_uid,
                v.accession_number,
                v.site,
                v.modality,
                v.vote,
                v.voted_at,
                v.received_at,
                v.ms_to_vote,
                v.source,
                v.verdict_visible,
                v.presentation,
                v.replaces,
                v.sop_instance_uid,
            ),
        )
        if v.reasons:
            self._write_act(
                conn,
                NewAct(
                    key=None,
                    vote_id=number,
                    kind="reasons",
                    reader_id=v.reader_id,
                    role=v.role,
                    at=v.voted_at,
                    received_at=v.received_at,
                    source=v.source,
                    value=v.reasons,
                    verdict_visible=v.verdict_visible,
                    presentation=v.presentation,
                ),
            )

    def act(self, act: NewAct) -> tuple[VoteRow, bool]:
        """Write one act; the row that :meth:`by_key` gives for it, and whether it is new."""
        assert act.key is not None
        with self._db.transaction() as conn:
            before = self.by_key(act.reader_id, act.key)
            if before is None:
                self._write_act(conn, act)
            row = before or self.by_key(act.reader_id, act.key)
            assert row is not None
            return row, before is None

    def _write_act(self, conn: sqlite3.Connection, act: NewAct) -> None:
        conn.execute(
            "INSERT INTO vote_acts (id, vote_id, kind, value, undoes, key, reader_id, role, at, received_at,"
            " source, verdict_visible, presentation) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                self.newest_id() + 1,
                act.vote_id,
                act.kind,
                None if act.value is None else json.dumps(act.value),
                act.undoes,
                act.key,
                act.reader_id,
                act.role,
                act.at,
                act.received_at,
                act.source,
                act.verdict_visible,
                act.presentation,
            ),
        )

    # -- reading -------------------------------------------------------------------------------------
    def get(self, vote_id: int) -> VoteRow | None:
        """One line of the log."""
        row = self._db.row("SELECT * FROM vote_log WHERE id = ?", (vote_id,), of=LoggedVote)
        return None if row is None else _decoded(row)

    def by_key(self, reader_id: str, key: str) -> VoteRow | None:
        """What a reader cast or did under this key, as a line of the log.

        For other reasons it is the vote that they belong to, under the key of the act; for a withdrawal a line
        whose vote is ``withdrawn`` and that ``replaces`` the vote.
        """
        sql = "SELECT id FROM votes WHERE reader_id = ? AND key = ?"
        number = self._db.value(sql, (reader_id, key))
        if number is not None:
            return self.get(number)
        act = self.act_by_key(reader_id, key)
        vote = None if act is None else self.get(act["vote_id"])
        return None if act is None or vote is None else _as_logged(act, vote)

    def act_by_key(self, reader_id: str, key: str) -> ActRow | None:
        """The act that a reader did under this key."""
        sql = "SELECT * FROM vote_acts WHERE reader_id = ? AND key = ?"
        return self._db.row(sql, (reader_id, key), of=ActRow)

    def acts_of(self, vote_id: int) -> list[ActRow]:
        """Everything that was done with one vote, in order."""
        return self._db.rows("SELECT * FROM vote_acts WHERE vote_id = ? ORDER BY id", (vote_id,), of=ActRow)

    def standing_acts(self, vote_id: int) -> list[ActRow]:
        """What was added to one vote and not taken back, in the order in which it was said."""
        return self._db.rows(f"{STANDING} AND vote_id = ? ORDER BY at, id", (vote_id,), of=ActRow)

    def every_standing_act(self) -> list[ActRow]:
        """:meth:`standing_acts` of every vote."""
        return self._db.rows(f"{STANDING} ORDER BY at, id", of=ActRow)

    def reasons_of(self, vote_id: int) -> ActRow | None:
        """The act that gave the reasons that stand."""
        return self._db.row(
            "SELECT * FROM vote_acts WHERE vote_id = ? AND kind = 'reasons' AND NOT EXISTS"
            " (SELECT 1 FROM vote_acts AS later WHERE later.undoes = vote_acts.id)"
            " ORDER BY at DESC, id DESC LIMIT 1",
            (vote_id,),
            of=ActRow,
        )

    def of_subject(
        self, study_uid: str | None, accession_number: str | None, reader_id: str | None = None
    ) -> list[VoteRow]:
        """All lines about one study, oldest first; of one reader where asked."""
        where, subject = ("study_uid = ?", study_uid) if study_uid else ("accession_number = ?", accession_number)
        sql = f"SELECT * FROM vote_log WHERE {where}"
        params = [subject]
        if reader_id is not None:
            sql, params = sql + " AND reader_id = ?", [*params, reader_id]
        return [_decoded(row) for row in self._db.rows(sql + " ORDER BY id", params, of=LoggedVote)]

    def all(self) -> list[LoggedVote]:
        """The whole log in order of receipt, reasons still as JSON text (100,000 lines must stay quick)."""
        return self._db.rows("SELECT * FROM vote_log ORDER BY id", of=LoggedVote)

    def after(self, vote_id: int, limit: int = 500) -> list[VoteRow]:
        """Lines written after one, in order of receipt."""
        sql = "SELECT * FROM vote_log WHERE id > ? ORDER BY id LIMIT ?"
        return [_decoded(row) for row in self._db.rows(sql, (vote_id, limit), of=LoggedVote)]

    def received_since(self, at: float) -> list[VoteRow]:
        """Lines received since then (and those written between them), and votes that were added to since then."""
        rows = self._db.rows(
            "SELECT * FROM vote_log WHERE id >= (SELECT coalesce(min(id), 0) FROM vote_log WHERE received_at >= ?)"
            " OR id IN (SELECT vote_id FROM vote_acts WHERE received_at >= ?) ORDER BY id",
            (at, at),
            of=LoggedVote,
        )
        return [_decoded(row) for row in rows]

    def count(self) -> int:
        """Number of lines in the log."""
        return int(self._db.value("SELECT count(*) FROM vote_log"))

    def newest_id(self) -> int:
        """The number of the newest vote or act, 0 when there is none: changes with every one."""
        return int(
            self._db.value(
                "SELECT max((SELECT coalesce(max(id), 0) FROM votes),"
                " (SELECT coalesce(max(id), 0) FROM vote_acts))"
            )
        )

    # -- marks without author ------------------------------------------------------------------------
    def mark(
        self,
        sop_instance_uid: str,
        study_uid: str,
        series_uid: str | None,
        vote: str,
        reasons: Sequence[str],
        why_no_vote: str,
        at: float,
    ) -> None:
        """Keep what a key object says whose author is no known reader; shown, never exported."""
        row = {
            "sop_instance_uid": sop_instance_uid,
            "study_uid": study_uid,
            "series_uid": series_uid,
            "vote": vote,
            "reasons": json.dumps(list(reasons)),
            "why_no_vote": why_no_vote,
            "received_at": at,
        }
        with self._db.transaction():
            if self._db.value("SELECT 1 FROM marks WHERE sop_instance_uid = ?", (sop_instance_uid,)) is None:
                self._db.insert("marks", row)

    def marks_of(self, study_uid: str) -> list[MarkRow]:
        """Marks without author on one study."""
        rows = self._db.rows("SELECT * FROM marks WHERE study_uid = ? ORDER BY id", (study_uid,), of=StoredMark)
        return [{**row, "reasons": json.loads(row["reasons"])} for row in rows]


def _decoded(row: LoggedVote) -> VoteRow:
    """A line of the log with its reasons as a list."""
    return {**row, "reasons": json.loads(row["reasons"])}


def _as_logged(act: ActRow, vote: VoteRow) -> VoteRow:
    """An act as a line of the log (see :meth:`Votes.by_key`)."""
    if act["kind"] != "withdrawal":
        return {**vote, "key": act["key"] or vote["key"]}
    return {
        **vote,
        "id": act["id"],
        "key": act["key"] or "",
        "vote": WITHDRAWN,
        "reasons": [],
        "voted_at": act["at"],
        "received_at": act["received_at"],
        "ms_to_vote": None,
        "source": act["source"],
        "role": act["role"],
        "verdict_visible": act["verdict_visible"],
        "presentation": act["presentation"],
        "replaces": vote["id"],
        "sop_instance_uid": None,
    }
