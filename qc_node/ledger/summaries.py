"""Studies whose QC summary is due, so that a kill forgets none.

A row comes in the transaction in which a study closes, or in which a series of a closed study is reported once
more; it goes in the transaction that posts the pictures.  What came in between gives it another time, and the
pictures that were drawn of before are not posted.
"""

from __future__ import annotations

import sqlite3

from qc_node.ledger.database import Database
from qc_node.ledger.rows import ReportRow, SummaryDueRow
from qc_node.ledger.series import UNFINISHED


def note_due(conn: sqlite3.Connection, study_uid: str, at: float) -> None:
    """The pictures of a study are to be drawn, if it is closed."""
    conn.execute(
        "INSERT INTO summaries_due (study_uid, at) SELECT study_uid, ? FROM studies"
        " WHERE study_uid = ? AND state = 'closed' ON CONFLICT (study_uid) DO UPDATE SET at = excluded.at",
        (at, study_uid),
    )


def take_due(conn: sqlite3.Connection, due: SummaryDueRow) -> bool:
    """The pictures of a study are posted; False when something has happened to it meanwhile."""
    sql = "DELETE FROM summaries_due WHERE study_uid = ? AND at = ?"
    return conn.execute(sql, (due["study_uid"], due["at"])).rowcount == 1


class Summaries:
    """One row per study that is due, and the pictures that were written."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def due(self, limit: int = 20) -> list[SummaryDueRow]:
        """Closed studies of which nothing arrives, waits or is judged any more, longest due first."""
        return self._db.rows(
            # CROSS: from what is due, however few studies there are
            "SELECT summaries_due.* FROM summaries_due CROSS JOIN studies USING (study_uid) WHERE state = 'closed'"
            " AND NOT EXISTS (SELECT 1 FROM series WHERE series.study_uid = summaries_due.study_uid"
            f" AND series.state IN {UNFINISHED}) ORDER BY at, study_uid LIMIT ?",
            (limit,),
            of=SummaryDueRow,
        )

    def take(self, due: SummaryDueRow) -> bool:
        """Draw no picture of a study after all; False when something has happened to it meanwhile."""
        with self._db.transaction() as conn:
            return take_due(conn, due)

    def of_study(self, study_uid: str) -> list[ReportRow]:
        """Every picture that was written of a study, in order."""
        sql = "SELECT * FROM reports WHERE study_uid = ? AND kind = 'summary' ORDER BY created_at, rowid"
        return self._db.rows(sql, (study_uid,), of=ReportRow)
