"""Votes: append-only (triggers of the schema refuse UPDATE and DELETE), exactly once per key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qc_node.ledger.database import Database

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewVote:
    """One vote as it is written.

    ``vote`` is ``good``, ``acceptable``, ``poor`` or ``withdrawn`` (which takes back the row that
    ``replaces`` names); ``source`` is ``panel``, ``fhircast``, ``key_object``, ``api`` or ``import``;
    times are seconds since the epoch.
    """

    key: str
    reader_id: str
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


class Votes:
    """What readers said, every time they said it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, votes: Sequence[NewVote]) -> list[tuple[Row, bool]]:
        """Write votes in one transaction; for each its row and whether it is new.

        A key that this reader used before changes nothing and returns the row it made then.
        """
        out = []
        with self._db.transaction() as conn:
            for v in votes:
                cursor = conn.execute(
                    "INSERT INTO votes (key, reader_id, study_uid, series_uid, accession_number, site, modality,"
                    " vote, reasons, voted_at, received_at, ms_to_vote, source, verdict_visible, presentation,"
                    " replaces, sop_instance_uid) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
                    " ON CONFLICT (reader_id, key) DO NOTHING",
                    (
                        v.key,
                        v.reader_id,
                        v.study_uid,
                        v.series_uid,
                        v.accession_number,
                        v.site,
                        v.modality,
                        v.vote,
                        json.dumps(list(v.reasons)),
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
                new = cursor.rowcount == 1
                sql = "SELECT * FROM votes WHERE reader_id = ? AND key = ?"
                out.append((decoded(dict(conn.execute(sql, (v.reader_id, v.key)).fetchone())), new))
        return out

    def by_key(self, reader_id: str, key: str) -> Row | None:
        """The vote that a reader cast under this key."""
        row = self._db.row("SELECT * FROM votes WHERE reader_id = ? AND key = ?", (reader_id, key))
        return None if row is None else decoded(row)

    def of_subject(
        self, study_uid: str | None, accession_number: str | None, reader_id: str | None = None
    ) -> list[Row]:
        """All rows about one study, oldest first; of one reader where asked."""
        where, params = ("study_uid = ?", study_uid) if study_uid else ("accession_number = ?", accession_number)
        sql = f"SELECT * FROM votes WHERE {where}"
        args: list[Any] = [params]
        if reader_id is not None:
            sql, args = sql + " AND reader_id = ?", [*args, reader_id]
        return [decoded(row) for row in self._db.rows(sql + " ORDER BY id", args)]

    def facts(self) -> list[tuple[Any, ...]]:
        """The narrow columns of every row, in order of receipt, for statistics.

        ``(id, reader_id, subject, series_uid, site, modality, vote, reasons, voted_at, ms_to_vote, source,
        verdict_visible, replaces)``; the subject is the study UID, or ``#`` and the accession number.
        """
        cursor = self._db.conn.cursor()
        cursor.row_factory = None
        return cursor.execute(
            "SELECT id, reader_id, coalesce(study_uid, '#' || accession_number), coalesce(series_uid, ''), site,"
            " modality, vote, reasons, voted_at, ms_to_vote, source, verdict_visible, replaces FROM votes"
            " ORDER BY id"
        ).fetchall()

    def all(self) -> list[Row]:
        """Every row in order of receipt, reasons still as JSON text (100,000 rows must stay quick)."""
        return self._db.rows("SELECT * FROM votes ORDER BY id")

    def after(self, vote_id: int, limit: int = 500) -> list[Row]:
        """Rows written after one, in order of receipt."""
        rows = self._db.rows("SELECT * FROM votes WHERE id > ? ORDER BY id LIMIT ?", (vote_id, limit))
        return [decoded(row) for row in rows]

    def received_since(self, at: float) -> list[Row]:
        """Rows received since then (and those written between them), in order of receipt."""
        rows = self._db.rows(
            "SELECT * FROM votes WHERE id >= (SELECT coalesce(min(id), 0) FROM votes WHERE received_at >= ?)"
            " ORDER BY id",
            (at,),
        )
        return [decoded(row) for row in rows]

    def count(self) -> int:
        """Number of rows."""
        return int(self._db.value("SELECT count(*) FROM votes"))

    def newest_id(self) -> int:
        """The id of the newest row, 0 when there is none: changes with every vote."""
        return int(self._db.value("SELECT coalesce(max(id), 0) FROM votes"))

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
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT OR IGNORE INTO marks (sop_instance_uid, study_uid, series_uid, vote, reasons,"
                " why_no_vote, received_at) VALUES (?,?,?,?,?,?,?)",
                (sop_instance_uid, study_uid, series_uid, vote, json.dumps(list(reasons)), why_no_vote, at),
            )

    def marks_of(self, study_uid: str) -> list[Row]:
        """Marks without author on one study."""
        sql = "SELECT * FROM marks WHERE study_uid = ? ORDER BY id"
        return [decoded(row) for row in self._db.rows(sql, (study_uid,))]


def decoded(row: Row) -> Row:
    """A vote or mark row with its reasons as a list."""
    return {**row, "reasons": json.loads(row["reasons"])}
