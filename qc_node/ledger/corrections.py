"""What follows for a series when images come again under their UIDs with other content.

The series is judged again; what was going to be sent about another patient is not; what was sent stays at the
PACS, where only people can remove it, so it is written down for them.  Functions of the transaction that takes
the images in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from qc_node.domain import Correction

CORRECTED, MOVED, LEFT_BEHIND = "corrected", "moved", "left_behind"
"""Words of events: what was corrected; images that belong elsewhere now; a report that somebody must remove."""
RELINKED, CAME_BACK, LOOKED_AT = "relinked", "came back", "back"
"""An operator corrected identifiers; images of a reported series came back, and it was looked whom they name."""

GONE_ELSEWHERE = "All images of this series were sent again as part of another study or series."
NOT_SENT = "Not sent: its images were sent again for another patient, study or series."


def note(conn: sqlite3.Connection, series_id: int, corrections: Collection[Correction], at: float) -> None:
    """Leave a line for each kind of correction of the present run; reports on another patient are held back."""
    for kind in sorted(corrections):
        _event_once(conn, series_id, at, CORRECTED, kind.value)
    if Correction.PATIENT in corrections:
        leave_behind(conn, series_id, at)


def lost_images(conn: sqlite3.Connection, series_id: int, reopened: str, at: float) -> None:
    """Images of a series belong to another one now: judge what is left, or end it.

    Parameters
    ----------
    reopened
        The assignments that open a series for another run.
    """
    left = conn.execute("SELECT instances FROM series WHERE series_id = ?", (series_id,)).fetchone()[0]
    if left:
        conn.execute(f"UPDATE series SET due_at = 0, {reopened} WHERE series_id = ?", (series_id,))
    else:
        conn.execute(
            "UPDATE series SET state = 'skipped', sentence = ?, run = run + 1, due_at = NULL, closed_at = ?"
            " WHERE series_id = ?",
            (GONE_ELSEWHERE, at, series_id),
        )
    _event_once(conn, series_id, at, MOVED, None)
    leave_behind(conn, series_id, at)


def leave_behind(conn: sqlite3.Connection, series_id: int, at: float) -> None:
    """Nothing about the series is sent any more as it was; each object that was sent is noted for people."""
    conn.execute(
        "UPDATE deliveries SET state = 'dropped', last_error = ? WHERE state = 'pending'"
        " AND sop_instance_uid IN (SELECT sop_instance_uid FROM reports WHERE series_id = ?)",
        (NOT_SENT, series_id),
    )
    sent = conn.execute(
        "SELECT DISTINCT sop_instance_uid FROM reports CROSS JOIN deliveries USING (sop_instance_uid)"
        " WHERE series_id = ? AND deliveries.state IN ('sent', 'committed') ORDER BY run, reports.created_at",
        (series_id,),
    ).fetchall()
    known = "SELECT 1 FROM events WHERE series_id = ? AND event = ? AND detail = ?"
    for (uid,) in sent:
        if conn.execute(known, (series_id, LEFT_BEHIND, uid)).fetchone() is None:
            _event_once(conn, series_id, at, LEFT_BEHIND, uid)


def relinked(conn: sqlite3.Connection, series_id: int, at: float) -> None:
    """An operator corrected identifiers of a series."""
    _event_once(conn, series_id, at, RELINKED, None)


def came_back(conn: sqlite3.Connection, series_id: int, at: float) -> None:
    """Images of a reported series are back after their files had gone: the outbox looks whom they name now."""
    _event_once(conn, series_id, at, CAME_BACK, None)


def _event_once(conn: sqlite3.Connection, series_id: int, at: float, event: str, detail: str | None) -> None:
    """One line for each run, however many images say it."""
    conn.execute(
        "INSERT INTO events (series_id, run, at, event, detail) SELECT series_id, run, ?1, ?2, ?3 FROM series"
        " WHERE series_id = ?4 AND NOT EXISTS (SELECT 1 FROM events WHERE events.series_id = ?4"
        " AND events.run = series.run AND event = ?2 AND detail IS ?3)",
        (at, event, detail, series_id),
    )
