"""Expert gradings by the written protocol, append-only; the newest of each rater counts.

A grading names its series by UID, because ``ratings.tsv`` brings in gradings of series that were never received
here; where it was, ``series_id`` says which one.
"""

from __future__ import annotations

from qc_node.ledger.database import Database
from qc_node.ledger.rows import GradableRow, GradingRow


class Gradings:
    """One row per grading."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self,
        *,
        key: str,
        series_uid: str,
        reader_id: str,
        kind: str,
        straight_reject: bool,
        gadolinium: bool | None,
        motion: int | None,
        contrast: int | None,
        noise: int | None,
        at: float,
        ms: int | None,
        source: str,
        series_id: int | None = None,
        verdict_visible: bool | None = None,
    ) -> bool:
        """Write one grading; False when this rater used the key before.

        ``verdict_visible``: whether the rater had seen the machine's opinion, None where nobody knows.
        """
        row = {
            "key": key,
            "series_uid": series_uid,
            "series_id": series_id,
            "reader_id": reader_id,
            "kind": kind,
            "straight_reject": straight_reject,
            "gadolinium": gadolinium,
            "motion": motion,
            "contrast": contrast,
            "noise": noise,
            "at": at,
            "ms": ms,
            "source": source,
            "verdict_visible": verdict_visible,
        }
        with self._db.transaction():
            if self._db.value("SELECT 1 FROM gradings WHERE reader_id = ? AND key = ?", (reader_id, key)):
                return False
            self._db.insert("gradings", row)
        return True

    def current(self) -> list[GradingRow]:
        """The newest rating of each rater and the newest consensus decision of each series."""
        return self._db.rows(
            "SELECT * FROM gradings WHERE id IN ("
            " SELECT max(id) FROM gradings WHERE kind = 'rating' GROUP BY series_uid, reader_id"
            " UNION SELECT max(id) FROM gradings WHERE kind = 'consensus' GROUP BY series_uid) ORDER BY id",
            of=GradingRow,
        )

    def of(self, series_uid: str, reader_id: str) -> GradingRow | None:
        """The newest rating of one rater on one series."""
        return self._db.row(
            "SELECT * FROM gradings WHERE series_uid = ? AND reader_id = ? AND kind = 'rating'"
            " ORDER BY id DESC LIMIT 1",
            (series_uid, reader_id),
            of=GradingRow,
        )

    def gradable(self) -> list[GradableRow]:
        """Series judged by the brain MRI classifier whose pictures are still there, oldest first."""
        return self._db.rows(
            "SELECT verdicts.id, verdicts.series_id, series.series_uid, verdicts.run, verdicts.thumbnails,"
            " verdicts.judged_at FROM verdicts JOIN series USING (series_id, run)"
            " WHERE verdicts.stage = 'brain_mri' AND thumbnails != '[]' ORDER BY verdicts.id",
            of=GradableRow,
        )
