"""Sessions of readers: a cookie is worth nothing once its row here has ended."""

from __future__ import annotations

from qc_node.ledger.database import Database
from qc_node.ledger.rows import SessionRow


class Sessions:
    """One row per sign-in."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def start(self, session_id: str, reader_id: str, at: float, way: str = "link") -> None:
        """Write one sign-in by `way`; `session_id` is a digest of what the cookie holds."""
        row = {"session_id": session_id, "reader_id": reader_id, "way": way, "started_at": at}
        self._db.insert("sessions", row)

    def get(self, session_id: str) -> SessionRow | None:
        """One sign-in, ended or not."""
        return self._db.row("SELECT * FROM sessions WHERE session_id = ?", (session_id,), of=SessionRow)

    def end(self, session_id: str, at: float, by: str) -> bool:
        """End one sign-in; False when it had ended, or never was."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE sessions SET ended_at = ?, ended_by = ? WHERE session_id = ? AND ended_at IS NULL",
                (at, by, session_id),
            )
            return cursor.rowcount == 1

    def end_all(self, reader_id: str, at: float, by: str) -> int:
        """End every sign-in of a reader; returns how many were open."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE sessions SET ended_at = ?, ended_by = ? WHERE reader_id = ? AND ended_at IS NULL",
                (at, by, reader_id),
            )
            return cursor.rowcount

    def forget(self, ended_before: float, started_before: float, limit: int = 500) -> int:
        """Delete some that ended, or began, so long ago; returns how many (less than `limit`: these were all)."""
        sql = (
            "DELETE FROM sessions WHERE session_id IN ("
            "SELECT session_id FROM sessions WHERE ended_at < ? OR started_at < ? LIMIT ?)"
        )
        with self._db.transaction() as conn:
            return conn.execute(sql, (ended_before, started_before, limit)).rowcount
