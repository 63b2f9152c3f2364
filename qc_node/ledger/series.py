"""Series on their walk: receiving → queued → judging → judged | skipped | failed → reported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qc_node.ledger.database import Database

Row = dict[str, Any]


class SeriesTable:
    """One row per series; ``run`` counts how often it was closed, and belongs to every change of state."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, series_uid: str) -> Row | None:
        """The row of one series."""
        return self._db.row("SELECT * FROM series WHERE series_uid = ?", (series_uid,))

    def of_study(self, study_uid: str) -> list[Row]:
        """All series of a study in order of arrival."""
        return self._db.rows("SELECT * FROM series WHERE study_uid = ? ORDER BY first_received", (study_uid,))

    def recent(self, limit: int = 100) -> list[Row]:
        """The series that moved last, newest first."""
        return self._db.rows("SELECT * FROM series ORDER BY last_received DESC LIMIT ?", (limit,))

    def counts(self) -> dict[str, int]:
        """How many series stand in each state."""
        rows = self._db.rows("SELECT state, count(*) AS n FROM series GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    def waiting_since(self) -> dict[str, float]:
        """Since when the oldest series of each unfinished state waits there.

        ``receiving``: since its last image; ``judged``: since its report was due.
        """
        rows = self._db.rows(
            "SELECT state, min(CASE state WHEN 'receiving' THEN last_received WHEN 'queued' THEN closed_at"
            " WHEN 'judging' THEN claimed_at ELSE report_after END) AS since"
            " FROM series LEFT JOIN verdicts USING (series_uid, run)"
            " WHERE state IN ('receiving', 'queued', 'judging', 'judged') GROUP BY state"
        )
        return {row["state"]: row["since"] for row in rows if row["since"] is not None}

    def note_claims(self, series_uid: str, claims: Mapping[str, Any]) -> None:
        """Keep what the header of a series claims, judged or not."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE series SET claims = ? WHERE series_uid = ?", (json.dumps(claims), series_uid))

    def claims_of_study(self, study_uid: str) -> list[Row]:
        """The claims of every series of a study that was looked at."""
        rows = self._db.rows("SELECT claims FROM series WHERE study_uid = ? AND claims != '{}'", (study_uid,))
        return [json.loads(row["claims"]) for row in rows]

    def event(self, series_uid: str, run: int, at: float, event: str, detail: str | None = None) -> None:
        """Leave a line in the history of a series."""
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO events (series_uid, run, at, event, detail) VALUES (?,?,?,?,?)",
                (series_uid, run, at, event, detail),
            )

    def events(self, series_uid: str) -> list[Row]:
        """The history of a series."""
        return self._db.rows("SELECT * FROM events WHERE series_uid = ? ORDER BY id", (series_uid,))

    # -- completion ----------------------------------------------------------------------------------
    def due(self, now: float) -> list[Row]:
        """Open series whose timer has run out."""
        sql = "SELECT * FROM series WHERE state = 'receiving' AND due_at <= ? ORDER BY due_at"
        return self._db.rows(sql, (now,))

    def next_due(self) -> float | None:
        """When the earliest timer of an open series runs out."""
        value = self._db.value("SELECT min(due_at) FROM series WHERE state = 'receiving'")
        return None if value is None else float(value)

    def set_due(self, series_uid: str, last_received: float, due_at: float) -> None:
        """Persist a timer, unless another instance came in meanwhile."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE series SET due_at = ? WHERE series_uid = ? AND last_received = ? AND state = 'receiving'",
                (due_at, series_uid, last_received),
            )

    def set_pacs_count(self, series_uid: str, count: int | None, at: float) -> None:
        """Note what the PACS said; ``pacs_count_since`` moves only when the count changes."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE series SET pacs_asked_at = ?,"
                " pacs_count_since = CASE WHEN pacs_count IS ? THEN pacs_count_since ELSE ? END,"
                " pacs_count = ? WHERE series_uid = ?",
                (at, count, at, count, series_uid),
            )

    def close(self, series_uid: str, last_received: float, rule: str, at: float) -> bool:
        """Close an open series by `rule`; False when an instance came in meanwhile."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE series SET state = 'queued', closed_by = ?, closed_at = ?, due_at = NULL, attempts = 0"
                " WHERE series_uid = ? AND state = 'receiving' AND last_received = ?",
                (rule, at, series_uid, last_received),
            )
            if cursor.rowcount != 1:
                return False
            run = conn.execute("SELECT run FROM series WHERE series_uid = ?", (series_uid,)).fetchone()[0]
            self.event(series_uid, run, at, "closed", rule)
            return True

    # -- the classifier stage ------------------------------------------------------------------------
    def claim(self, now: float, limit: int = 1) -> list[Row]:
        """Take the oldest queued series for judging."""
        with self._db.transaction() as conn:
            sql = "SELECT * FROM series WHERE state = 'queued' ORDER BY closed_at LIMIT ?"
            rows = [dict(row) for row in conn.execute(sql, (limit,))]
            for row in rows:
                conn.execute(
                    "UPDATE series SET state = 'judging', claimed_at = ?, attempts = attempts + 1"
                    " WHERE series_uid = ?",
                    (now, row["series_uid"]),
                )
                row["attempts"] += 1
        return rows

    def requeue_claimed(self, max_attempts: int, at: float) -> int:
        """Give back what a dead worker was judging; after `max_attempts` a series has failed.

        Returns how many went back into the queue.
        """
        with self._db.transaction() as conn:
            tired = self._db.rows(
                "SELECT series_uid, run, attempts FROM series WHERE state = 'judging' AND attempts >= ?",
                (max_attempts,),
            )
            for row in tired:
                sentence = f"The classifier stopped {row['attempts']} times while judging this series."
                self.finish(row["series_uid"], row["run"], "failed", at, sentence=sentence)
            return conn.execute("UPDATE series SET state = 'queued' WHERE state = 'judging'").rowcount

    def finish(
        self,
        series_uid: str,
        run: int,
        state: str,
        at: float,
        *,
        stage: str | None = None,
        sentence: str | None = None,
    ) -> bool:
        """End the judging of one run as ``judged``, ``skipped`` or ``failed``.

        False when a late instance re-opened the series meanwhile: then this run is history.
        """
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE series SET state = ?, stage = ?, sentence = ?"
                " WHERE series_uid = ? AND run = ? AND state IN ('judging', 'queued')",
                (state, stage, sentence, series_uid, run),
            )
            self.event(series_uid, run, at, state, sentence)
            return cursor.rowcount == 1

    def fail_report(self, series_uid: str, run: int, at: float, sentence: str) -> None:
        """End a judged run whose report could not be written."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE series SET state = 'failed', sentence = ? WHERE series_uid = ? AND run = ?"
                " AND state = 'judged'",
                (sentence, series_uid, run),
            )
            self.event(series_uid, run, at, "failed", sentence)

    def judge_again(self, series_uid: str, at: float) -> bool:
        """Queue a finished series once more under the next run (new model, new rules)."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE series SET state = 'queued', run = run + 1, attempts = 0, closed_at = ?"
                " WHERE series_uid = ? AND state IN ('judged', 'skipped', 'failed', 'reported')"
                " AND images_removed_at IS NULL",
                (at, series_uid),
            )
            return cursor.rowcount == 1

    # -- retention -----------------------------------------------------------------------------------
    def images_to_remove(self, older_than: float, limit: int = 100) -> list[Row]:
        """Finished series whose images may go: nothing of theirs waits for delivery any more."""
        return self._db.rows(
            "SELECT * FROM series WHERE images_removed_at IS NULL AND last_received < ?"
            " AND state IN ('reported', 'skipped', 'failed') AND NOT EXISTS ("
            "  SELECT 1 FROM reports JOIN deliveries USING (sop_instance_uid)"
            "  WHERE reports.series_uid = series.series_uid AND deliveries.state = 'pending')"
            " ORDER BY last_received LIMIT ?",
            (older_than, limit),
        )

    def mark_images_removed(self, series_uid: str, last_received: float, at: float) -> bool:
        """Note that the images are gone; False when new ones came in meanwhile."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE series SET images_removed_at = ? WHERE series_uid = ? AND last_received = ?",
                (at, series_uid, last_received),
            )
            return cursor.rowcount == 1
