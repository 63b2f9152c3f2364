"""Contexts: what a viewer had open for a reader, and until when; no vote counts that was pressed after that."""

from __future__ import annotations

from qc_node.ledger.database import Database
from qc_node.ledger.rows import ContextRow


class Contexts:
    """One row per time that a viewer opened something; what it was stands in the presentations made of it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def open(self, context_id: str, reader_id: str, at: float) -> None:
        """Write that something is on a reader's screen now."""
        self._db.insert("contexts", {"context_id": context_id, "reader_id": reader_id, "opened_at": at})

    def get(self, context_id: str) -> ContextRow | None:
        """One context, closed or not."""
        return self._db.row("SELECT * FROM contexts WHERE context_id = ?", (context_id,), of=ContextRow)

    def close(self, context_id: str, at: float, by: str) -> bool:
        """Write that it is on the screen no more; False when that was written before."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE contexts SET closed_at = ?, closed_by = ? WHERE context_id = ? AND closed_at IS NULL",
                (at, by, context_id),
            )
            return cursor.rowcount == 1

    def close_all(self, at: float, by: str) -> int:
        """Close what a killed node left open; returns how many there were."""
        with self._db.transaction() as conn:
            sql = "UPDATE contexts SET closed_at = ?, closed_by = ? WHERE closed_at IS NULL"
            return conn.execute(sql, (at, by)).rowcount
