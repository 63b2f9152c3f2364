"""Labels: corrections and confirmations of single answers, for later training."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qc_node.ledger.database import Database
from qc_node.ledger.rows import LabelRow


class Labels:
    """One row per answer of a person; the newest of each reader on each question counts."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self, series_id: int, run: int, question: str, found: str | None, label: str, reader_id: str, at: float
    ) -> int:
        """Write one label; a later one of the same reader on the same question counts instead."""
        row = {
            "series_id": series_id,
            "run": run,
            "question": question,
            "found": found,
            "label": label,
            "reader_id": reader_id,
            "at": at,
        }
        return self._db.insert("labels", row)

    def of(self, series_id: int) -> list[LabelRow]:
        """The newest label of each reader for each question of one series."""
        return self._db.rows(
            "SELECT * FROM labels WHERE id IN (SELECT max(id) FROM labels WHERE series_id = ?"
            " GROUP BY question, reader_id) ORDER BY id",
            (series_id,),
            of=LabelRow,
        )

    def of_many(self, series: Sequence[int]) -> list[LabelRow]:
        """The newest label of each reader for each question of these series."""
        return self._db.rows(
            "SELECT * FROM labels WHERE id IN (SELECT max(id) FROM labels"
            " WHERE series_id IN (SELECT value FROM json_each(?))"
            " GROUP BY series_id, question, reader_id) ORDER BY id",
            (json.dumps(list(series)),),
            of=LabelRow,
        )

    def all(self) -> list[LabelRow]:
        """The newest label of each reader for each question of every series."""
        return self._db.rows(
            "SELECT * FROM labels WHERE id IN (SELECT max(id) FROM labels"
            " GROUP BY series_id, question, reader_id) ORDER BY id",
            of=LabelRow,
        )
