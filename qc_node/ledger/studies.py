"""Studies: open while series arrive, closed after a quiet time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from qc_node.ledger.database import Database
from qc_node.ledger.rows import StudyProtocolRow, StudyRow
from qc_node.ledger.summaries import note_due

_OF_CHARTS = "JOIN measured USING (series_id, run) JOIN charts USING (chart_id)"


class Studies:
    """One row per study."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, study_uid: str) -> StudyRow | None:
        """The row of one study."""
        return self._db.row("SELECT * FROM studies WHERE study_uid = ?", (study_uid,), of=StudyRow)

    def by_accession(self, accession_number: str) -> list[StudyRow]:
        """Studies with this accession number, newest first."""
        sql = "SELECT * FROM studies WHERE accession_number = ? ORDER BY last_received DESC"
        return self._db.rows(sql, (accession_number,), of=StudyRow)

    def newest_numbers(self, limit: int) -> list[str]:
        """Accession numbers of the studies that received last, newest first."""
        sql = (
            "SELECT accession_number FROM studies WHERE accession_number != '' ORDER BY last_received DESC LIMIT ?"
        )
        return [str(row[0]) for row in self._db.tuples(sql, (limit,))]

    def describe(self, study_uid: str, accession_number: str | None, description: str | None) -> None:
        """Note what the headers call the study (read when a series is looked at)."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE studies SET accession_number = coalesce(?, accession_number),"
                " description = coalesce(?, description) WHERE study_uid = ?",
                (accession_number, description, study_uid),
            )

    def note_missing(self, study_uid: str, sentences: Sequence[str]) -> None:
        """Keep what was expected of the study and did not come (empty: everything came)."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE studies SET missing = ? WHERE study_uid = ?", (json.dumps(list(sentences)), study_uid)
            )

    def missing(self, study_uid: str) -> tuple[str, ...]:
        """The sentences of :meth:`note_missing`."""
        value = self._db.value("SELECT missing FROM studies WHERE study_uid = ?", (study_uid,))
        return tuple(json.loads(value)) if value else ()

    def note_usual(self, study_uid: str, sentences: Sequence[str]) -> None:
        """Keep what the study has otherwise than studies of its kind usually have (empty: nothing)."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE studies SET notes = ? WHERE study_uid = ?", (json.dumps(list(sentences)), study_uid)
            )

    def usual(self, study_uid: str) -> tuple[str, ...]:
        """The sentences of :meth:`note_usual`."""
        value = self._db.value("SELECT notes FROM studies WHERE study_uid = ?", (study_uid,))
        return tuple(json.loads(value)) if value else ()

    def protocols(self, study_uid: str) -> list[StudyProtocolRow]:
        """Scanner and protocol of each measured series of a study."""
        return self._db.rows(
            f"SELECT study_uid, charts.station, protocol FROM series {_OF_CHARTS} WHERE study_uid = ?"
            " ORDER BY series_id",
            (study_uid,),
            of=StudyProtocolRow,
        )

    def protocols_alike(self, study_uid: str, limit: int) -> list[StudyProtocolRow]:
        """The same of the `limit` closed studies of the same description that were closed last, oldest first."""
        return self._db.rows(
            "SELECT study_uid, charts.station, charts.protocol FROM (SELECT study_uid, closed_at FROM studies"
            " WHERE state = 'closed' AND description = (SELECT description FROM studies WHERE study_uid = ?1)"
            " AND study_uid != ?1 ORDER BY closed_at DESC LIMIT ?2) AS alike JOIN series USING (study_uid)"
            f" {_OF_CHARTS} ORDER BY alike.closed_at, series_id",
            (study_uid, limit),
            of=StudyProtocolRow,
        )

    def due(self, now: float, longest_s: float = math.inf) -> list[StudyRow]:
        """Open studies whose timer has run out, and those that a wall clock which was set would hold.

        These got an image in the future, or their timer lies further ahead than the `longest_s` that any waits.
        """
        return self._db.rows(
            "SELECT * FROM studies WHERE state = 'open' AND (due_at <= ? OR due_at > ? OR last_received > ?)"
            " ORDER BY due_at",
            (now, now + longest_s, now),
            of=StudyRow,
        )

    def next_due(self) -> float | None:
        """When the earliest timer of an open study runs out."""
        value = self._db.value("SELECT min(due_at) FROM studies WHERE state = 'open'")
        return None if value is None else float(value)

    def set_due(self, study_uid: str, last_received: float, due_at: float) -> None:
        """Persist a timer, unless another instance came in meanwhile."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE studies SET due_at = ? WHERE study_uid = ? AND last_received = ? AND state = 'open'",
                (due_at, study_uid, last_received),
            )

    def close(self, study_uid: str, last_received: float, rule: str, at: float) -> bool:
        """Close an open study by `rule`, so that its summary is due; False when an instance came in meanwhile."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE studies SET state = 'closed', closed_by = ?, closed_at = ?, due_at = NULL"
                " WHERE study_uid = ? AND state = 'open' AND last_received = ?",
                (rule, at, study_uid, last_received),
            )
            if cursor.rowcount != 1:
                return False
            note_due(conn, study_uid, at)
            return True
