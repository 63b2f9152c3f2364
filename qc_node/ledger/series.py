"""Series on their walk: receiving → queued → judging → judged | skipped | failed → reported."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from qc_node.domain import Correction
from qc_node.ledger import corrections
from qc_node.ledger.database import Database
from qc_node.ledger.packing import plain
from qc_node.ledger.rows import (
    ClaimsRow,
    EventRow,
    FailedSeries,
    ScannerRow,
    SeriesRow,
    StateCount,
    StateSince,
    TiredRow,
)

UNFINISHED = "('receiving', 'queued', 'judging', 'judged')"


class SeriesTable:
    """One row per series of a study; ``run`` counts how often it was closed, and belongs to every change of state.

    Inside the program a series is its ``series_id``.  UIDs come from outside (web addresses, commands, key
    objects): :meth:`get` and :meth:`find` look them up.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def by_id(self, series_id: int) -> SeriesRow | None:
        """The row of one series."""
        return self._db.row("SELECT * FROM series WHERE series_id = ?", (series_id,), of=SeriesRow)

    def get(self, series_uid: str) -> SeriesRow | None:
        """The series with this UID; of several (one UID in several studies) the one that received last."""
        return self._db.row(
            "SELECT * FROM series WHERE series_uid = ? ORDER BY last_received DESC, series_id DESC LIMIT 1",
            (series_uid,),
            of=SeriesRow,
        )

    def find(self, study_uid: str, series_uid: str) -> SeriesRow | None:
        """The series with this UID in this study."""
        return self._db.row(
            "SELECT * FROM series WHERE series_uid = ? AND study_uid = ?", (series_uid, study_uid), of=SeriesRow
        )

    def of_study(self, study_uid: str) -> list[SeriesRow]:
        """All series of a study in order of arrival."""
        sql = "SELECT * FROM series WHERE study_uid = ? ORDER BY first_received"
        return self._db.rows(sql, (study_uid,), of=SeriesRow)

    def recent(self, limit: int = 100) -> list[SeriesRow]:
        """The series that moved last, newest first."""
        return self._db.rows("SELECT * FROM series ORDER BY last_received DESC LIMIT ?", (limit,), of=SeriesRow)

    def scanners_since(self, since: float) -> list[ScannerRow]:
        """Every scanner that sent anything after `since`: its station, and who called."""
        return self._db.rows(
            # the + keeps SQLite from going through all series in the order of their scanners
            "SELECT station, calling_ae FROM series WHERE last_received >= ? GROUP BY +station, +calling_ae",
            (since,),
            of=ScannerRow,
        )

    def newest_of(self, station: str | None, calling_ae: str, limit: int) -> list[SeriesRow]:
        """The newest series of one scanner, newest first."""
        return self._db.rows(
            "SELECT * FROM series WHERE station IS ? AND calling_ae = ? ORDER BY last_received DESC LIMIT ?",
            (station, calling_ae, limit),
            of=SeriesRow,
        )

    def without_station(self, since: float, limit: int) -> list[SeriesRow]:
        """Series of before 0.3 whose scanner nobody looked for: what came after `since` or calls, newest first."""
        return self._db.rows(
            "SELECT * FROM series WHERE station IS NULL AND (last_received >= ?"
            " OR series_id IN (SELECT series_id FROM alarms WHERE closed_at IS NULL))"
            " ORDER BY last_received DESC LIMIT ?",
            (since, limit),
            of=SeriesRow,
        )

    def set_station(self, series_id: int, station: str) -> None:
        """Note which scanner made a series, also for what calls about it."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE series SET station = ? WHERE series_id = ?", (station, series_id))
            sql = "UPDATE alarms SET station = ? WHERE series_id = ? AND closed_at IS NULL"
            conn.execute(sql, (station, series_id))

    def counts(self) -> dict[str, int]:
        """How many series stand in each state."""
        rows = self._db.rows("SELECT state, count(*) AS n FROM series GROUP BY state", of=StateCount)
        return {row["state"]: row["n"] for row in rows}

    def unfinished_counts(self) -> dict[str, int]:
        """How many series stand in each state before the last; those that are done are not gone through."""
        sql = f"SELECT state, count(*) AS n FROM series WHERE state IN {UNFINISHED} GROUP BY state"
        return {row["state"]: row["n"] for row in self._db.rows(sql, of=StateCount)}

    def failed(self, limit: int = 100) -> list[FailedSeries]:
        """The series that could not be judged, newest first."""
        return self._db.rows(
            "SELECT series_id, modality, coalesce(station, calling_ae) AS station, accession_number, sentence,"
            " series.closed_at, images_removed_at FROM series JOIN studies USING (study_uid)"
            " WHERE series.state = 'failed' ORDER BY series.series_id DESC LIMIT ?",
            (limit,),
            of=FailedSeries,
        )

    def waiting_since(self) -> dict[str, float]:
        """Since when the oldest series of each unfinished state waits there.

        ``receiving``: since its last image; ``judged``: since its report was due.
        """
        rows = self._db.rows(
            "SELECT state, min(CASE state WHEN 'receiving' THEN last_received WHEN 'queued' THEN closed_at"
            " WHEN 'judging' THEN claimed_at ELSE report_after END) AS since"
            " FROM series LEFT JOIN verdicts ON verdicts.series_id = series.series_id"
            " AND verdicts.run = series.run AND verdicts.routed = 1"
            f" WHERE state IN {UNFINISHED} GROUP BY state",
            of=StateSince,
        )
        return {row["state"]: row["since"] for row in rows if row["since"] is not None}

    def note_claims(self, series_id: int, claims: Mapping[str, Any]) -> None:
        """Keep what the header of a series claims, judged or not."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE series SET claims = ? WHERE series_id = ?", (json.dumps(claims), series_id))

    def claims_of_study(self, study_uid: str) -> list[dict[str, Any]]:
        """The claims of every series of a study that was looked at."""
        sql = "SELECT claims FROM series WHERE study_uid = ? AND claims != '{}'"
        rows = self._db.rows(sql, (study_uid,), of=ClaimsRow)
        return [json.loads(plain(row["claims"])) for row in rows]

    def claims_of(self, series_id: int) -> dict[str, Any]:
        """The claims of one series; empty where it was not looked at or is gone."""
        row = self._db.row("SELECT claims FROM series WHERE series_id = ?", (series_id,), of=ClaimsRow)
        return {} if row is None else dict(json.loads(plain(row["claims"])))

    def event(self, series_id: int, run: int, at: float, event: str, detail: str | None = None) -> None:
        """Leave a line in the history of a series; of one that was forgotten there is none."""
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO events (series_id, run, at, event, detail) SELECT series_id, ?, ?, ?, ? FROM series"
                " WHERE series_id = ?",
                (run, at, event, detail, series_id),
            )

    def events(self, series_id: int) -> list[EventRow]:
        """The history of a series."""
        return self._db.rows("SELECT * FROM events WHERE series_id = ? ORDER BY id", (series_id,), of=EventRow)

    def events_of_many(self, series: Sequence[int]) -> list[EventRow]:
        """The history of each of these series, in order."""
        sql = "SELECT * FROM events WHERE series_id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return self._db.rows(sql, (json.dumps(list(series)),), of=EventRow)

    def corrected(self, series_id: int, kind: Correction, at: float) -> None:
        """Note that the images of the present run say something else than those of before."""
        with self._db.transaction() as conn:
            corrections.note(conn, series_id, {kind}, at)

    def relinked(self, series_id: int, at: float) -> None:
        """Note that an operator corrected identifiers."""
        with self._db.transaction() as conn:
            corrections.relinked(conn, series_id, at)

    def first_study(self, series_uid: str) -> str | None:
        """The study in which this Series Instance UID came first."""
        sql = "SELECT study_uid FROM series WHERE series_uid = ? ORDER BY series_id LIMIT 1"
        value = self._db.value(sql, (series_uid,))
        return None if value is None else str(value)

    def leave_reports_behind(self, series_id: int, at: float) -> None:
        """What was written about a series so far is about somebody else: do not send it, note what was sent."""
        with self._db.transaction() as conn:
            corrections.leave_behind(conn, series_id, at)

    def came_back(self) -> list[SeriesRow]:
        """Reported series whose images are all back after their files had gone; nobody looked whom they name."""
        return self._db.rows(
            "SELECT series.* FROM events JOIN series USING (series_id) WHERE event = 'came back'"
            " AND events.run = series.run AND state = 'reported' AND images_removed_at IS NULL",
            of=SeriesRow,
        )

    def looked_at(self, series_id: int) -> None:
        """Never show a series to :meth:`came_back` again, unless images come back once more."""
        with self._db.transaction() as conn:
            sql = "UPDATE events SET event = ? WHERE series_id = ? AND event = 'came back'"
            conn.execute(sql, (corrections.LOOKED_AT, series_id))

    # -- completion ----------------------------------------------------------------------------------
    def due(self, now: float, longest_s: float = math.inf) -> list[SeriesRow]:
        """Open series whose timer has run out, and those that a wall clock which was set would hold.

        These got an image in the future, or their timer lies further ahead than the `longest_s` that any waits.
        """
        return self._db.rows(
            "SELECT * FROM series WHERE state = 'receiving' AND (due_at <= ? OR due_at > ? OR last_received > ?)"
            " ORDER BY due_at",
            (now, now + longest_s, now),
            of=SeriesRow,
        )

    def next_due(self) -> float | None:
        """When the earliest timer of an open series runs out."""
        value = self._db.value("SELECT min(due_at) FROM series WHERE state = 'receiving'")
        return None if value is None else float(value)

    def set_due(self, series_id: int, last_received: float, due_at: float) -> None:
        """Persist a timer, unless another instance came in meanwhile."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE series SET due_at = ? WHERE series_id = ? AND last_received = ? AND state = 'receiving'",
                (due_at, series_id, last_received),
            )

    def set_pacs_count(self, series_id: int, count: int | None, at: float) -> None:
        """Note what the PACS said when it was asked at `at`, and let completion decide anew.

        ``pacs_count_since`` moves when the count changes, or was said before the last image came.
        """
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE series SET pacs_asked_at = ?,"
                " pacs_count_since = CASE WHEN pacs_count IS ? AND pacs_count_since >= last_received"
                " THEN pacs_count_since ELSE ? END,"
                " pacs_count = ?, due_at = min(due_at, ?) WHERE series_id = ?",
                (at, count, at, count, at, series_id),
            )

    def close(self, series_id: int, last_received: float, rule: str, at: float) -> bool:
        """Close an open series by `rule`; False when an instance came in meanwhile."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE series SET state = 'queued', closed_by = ?, closed_at = ?, due_at = NULL, attempts = 0,"
                " claimed_at = NULL WHERE series_id = ? AND state = 'receiving' AND last_received = ?",
                (rule, at, series_id, last_received),
            )
            if cursor.rowcount != 1:
                return False
            run = conn.execute("SELECT run FROM series WHERE series_id = ?", (series_id,)).fetchone()[0]
            self.event(series_id, run, at, "closed", rule)
            return True

    # -- the classifier stage ------------------------------------------------------------------------
    def claim(self, now: float, limit: int = 1) -> list[SeriesRow]:
        """Take the oldest queued series for judging.

        A queued series that was claimed before was in the hand of a worker that died, perhaps of it: such a one is
        taken alone, those that did least harm first, and nothing else until all have passed.
        """
        with self._db.transaction() as conn:
            doubtful = "SELECT * FROM series WHERE state = 'queued' AND claimed_at IS NOT NULL"
            rows = self._db.rows(f"{doubtful} ORDER BY attempts, closed_at LIMIT 1", of=SeriesRow)
            if not rows:
                sql = "SELECT * FROM series WHERE state = 'queued' ORDER BY closed_at LIMIT ?"
                rows = self._db.rows(sql, (limit,), of=SeriesRow)
            for row in rows:
                conn.execute(
                    "UPDATE series SET state = 'judging', claimed_at = ?, attempts = attempts + 1"
                    " WHERE series_id = ?",
                    (now, row["series_id"]),
                )
                row["attempts"] += 1
        return rows

    def give_back(self, series_id: int, run: int, *, is_attempt: bool) -> None:
        """Put one claimed series back into the queue; it is the next to be taken, alone."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE series SET state = 'queued', attempts = max(attempts - ?, 0)"
                " WHERE series_id = ? AND run = ? AND state = 'judging'",
                (0 if is_attempt else 1, series_id, run),
            )

    def requeue_claimed(self, max_attempts: int, at: float, *, died: bool = True) -> int:
        """Give back what a worker was judging; after `max_attempts` a series has failed.

        It was an attempt only where the worker died by itself (`died`) with this one series in hand: of several
        nobody knows which it was, and a node that was stopped or killed says nothing about any.

        Returns how many went back into the queue.
        """
        with self._db.transaction() as conn:
            if not died or self._db.value("SELECT count(*) FROM series WHERE state = 'judging'") != 1:
                conn.execute("UPDATE series SET attempts = max(attempts - 1, 0) WHERE state = 'judging'")
            tired = self._db.rows(
                "SELECT series_id, run, attempts FROM series WHERE state = 'judging' AND attempts >= ?",
                (max_attempts,),
                of=TiredRow,
            )
            for row in tired:
                sentence = f"The classifier stopped {row['attempts']} times while judging this series."
                self.finish(row["series_id"], row["run"], "failed", at, sentence=sentence)
            return conn.execute("UPDATE series SET state = 'queued' WHERE state = 'judging'").rowcount

    def finish(
        self,
        series_id: int,
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
                " WHERE series_id = ? AND run = ? AND state IN ('judging', 'queued')",
                (state, stage, sentence, series_id, run),
            )
            self.event(series_id, run, at, state, sentence)
            return cursor.rowcount == 1

    def fail_report(self, series_id: int, run: int, at: float, sentence: str) -> None:
        """End a judged run whose report could not be written."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE series SET state = 'failed', sentence = ? WHERE series_id = ? AND run = ?"
                " AND state = 'judged'",
                (sentence, series_id, run),
            )
            self.event(series_id, run, at, "failed", sentence)

    def judge_again(self, series_id: int, at: float) -> bool:
        """Queue a finished series once more under the next run (new model, new rules)."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE series SET state = 'queued', run = run + 1, attempts = 0, closed_at = ?, claimed_at = NULL"
                " WHERE series_id = ? AND state IN ('judged', 'skipped', 'failed', 'reported')"
                " AND images_removed_at IS NULL",
                (at, series_id),
            )
            return cursor.rowcount == 1
