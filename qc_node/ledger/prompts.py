"""Prompts: requests for a vote; one that is not answered stays on record as such."""

from __future__ import annotations

from qc_node.ledger.database import Database
from qc_node.ledger.rows import PromptRow


class Prompts:
    """One row per study and reader that was asked."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self, prompt_id: str, study_uid: str, series_id: int | None, reader_id: str, reason: str, at: float
    ) -> bool:
        """Ask a reader for a vote on a study; False when this reader was asked before."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "INSERT OR IGNORE INTO prompts (id, study_uid, series_id, reader_id, reason, created_at)"
                " VALUES (?,?,?,?,?,?)",
                (prompt_id, study_uid, series_id, reader_id, reason, at),
            )
            return cursor.rowcount == 1

    def open_for(self, reader_id: str, limit: int = 20) -> list[PromptRow]:
        """What this reader has been asked and not answered yet, oldest first."""
        sql = "SELECT * FROM prompts WHERE reader_id = ? AND closed_at IS NULL ORDER BY created_at LIMIT ?"
        return self._db.rows(sql, (reader_id, limit), of=PromptRow)

    def answer(self, study_uid: str, reader_id: str, at: float) -> None:
        """A vote on the study answers the prompt."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE prompts SET closed_at = ?, outcome = 'answered'"
                " WHERE study_uid = ? AND reader_id = ? AND closed_at IS NULL",
                (at, study_uid, reader_id),
            )

    def expire(self, created_before: float, at: float) -> int:
        """Close prompts nobody answered; returns how many."""
        with self._db.transaction() as conn:
            return conn.execute(
                "UPDATE prompts SET closed_at = ?, outcome = 'not answered'"
                " WHERE created_at < ? AND closed_at IS NULL",
                (at, created_before),
            ).rowcount

    def all(self) -> list[PromptRow]:
        """Every prompt in order of asking."""
        return self._db.rows("SELECT * FROM prompts ORDER BY created_at", of=PromptRow)
