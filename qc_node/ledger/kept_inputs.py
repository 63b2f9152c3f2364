"""Pixels of series that no classifier took, kept because models may learn from them once people have voted.

A row says which file there is, and goes with it.  What a classifier takes is named by its verdict instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from qc_node.ledger.database import Database
from qc_node.ledger.rows import KeptInputRow

_VOTED = (
    "(EXISTS (SELECT 1 FROM votes WHERE votes.study_uid = series.study_uid"
    " AND (votes.series_uid IS NULL OR votes.series_uid = series.series_uid))"
    " OR EXISTS (SELECT 1 FROM studies JOIN votes USING (accession_number) WHERE votes.study_uid IS NULL"
    " AND studies.study_uid = series.study_uid)"
    " OR EXISTS (SELECT 1 FROM gradings WHERE gradings.series_uid = series.series_uid))"
)
"""Somebody said how good the images are."""


@dataclass(frozen=True, slots=True)
class NewKeptInput:
    """A file that is kept of one run of a series; ``sampled`` where it stays without a vote."""

    series_id: int
    run: int
    kind: str
    path: str
    bytes: int
    sampled: bool


class KeptInputs:
    """One row per run of a series at most."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, new: NewKeptInput, at: float) -> None:
        """Note a file, in place of what was noted of this run before."""
        row = {
            "series_id": new.series_id,
            "run": new.run,
            "kind": new.kind,
            "path": new.path,
            "bytes": new.bytes,
            "sampled": int(new.sampled),
            "kept_at": at,
        }
        with self._db.transaction() as conn:
            conn.execute("DELETE FROM kept_inputs WHERE series_id = ? AND run = ?", (new.series_id, new.run))
            self._db.insert("kept_inputs", row)

    def of_series(self, series_id: int) -> list[KeptInputRow]:
        """What is kept of a series."""
        sql = "SELECT * FROM kept_inputs WHERE series_id = ? ORDER BY run"
        return self._db.rows(sql, (series_id,), of=KeptInputRow)

    def total_bytes(self) -> int:
        """How much all files take that are there."""
        return int(self._db.value("SELECT coalesce(sum(bytes), 0) FROM kept_inputs"))

    def unwanted(self, limit: int = 100) -> list[KeptInputRow]:
        """Files of earlier runs; and of series without images, a vote or the luck of the sample."""
        return self._db.rows(
            "SELECT kept_inputs.* FROM kept_inputs CROSS JOIN series USING (series_id)"
            " WHERE kept_inputs.run < series.run OR sampled = 0 AND images_removed_at IS NOT NULL"
            f" AND NOT {_VOTED} ORDER BY kept_at LIMIT ?",
            (limit,),
            of=KeptInputRow,
        )

    def older_than(self, at: float, limit: int = 100) -> list[KeptInputRow]:
        """Files that were kept before then, the oldest first."""
        sql = "SELECT * FROM kept_inputs WHERE kept_at < ? ORDER BY kept_at LIMIT ?"
        return self._db.rows(sql, (at, limit), of=KeptInputRow)

    def first_to_go(self, limit: int = 100) -> list[KeptInputRow]:
        """Files where there are too many: those without a vote before all others, the oldest first."""
        return self._db.rows(
            "SELECT kept_inputs.* FROM kept_inputs CROSS JOIN series USING (series_id)"
            f" ORDER BY {_VOTED}, kept_at LIMIT ?",
            (limit,),
            of=KeptInputRow,
        )

    def removed(self, kept_id: int) -> None:
        """A file is gone, and its row goes too."""
        with self._db.transaction() as conn:
            conn.execute("DELETE FROM kept_inputs WHERE kept_id = ?", (kept_id,))
