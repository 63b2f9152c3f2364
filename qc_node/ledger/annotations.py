"""What the counter keeps beside votes: alarms of the board, corrections, prompts, expert gradings."""

from __future__ import annotations

from typing import Any

from qc_node.ledger.database import Database

Row = dict[str, Any]


class Alarms:
    """What the technologist board shows."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def newest_per_scanner(self, since: float) -> list[Row]:
        """The newest series of each calling AE title that sent anything after `since`."""
        return self._db.rows(
            "SELECT series.* FROM series JOIN (SELECT calling_ae, max(last_received) AS newest FROM series"
            " WHERE last_received >= ? GROUP BY calling_ae) AS n"
            " ON series.calling_ae = n.calling_ae AND series.last_received = n.newest"
            " GROUP BY series.calling_ae ORDER BY series.calling_ae",
            (since,),
        )

    def newest_of(self, calling_ae: str) -> Row | None:
        """The newest series of one scanner."""
        sql = "SELECT * FROM series WHERE calling_ae = ? ORDER BY last_received DESC LIMIT 1"
        return self._db.row(sql, (calling_ae,))

    def raise_alarm(self, series_uid: str, run: int, calling_ae: str, at: float) -> bool:
        """Ask for attention; False when this run of the series did so before.  Older runs are closed."""
        with self._db.transaction() as conn:
            self.supersede(series_uid, run, at)
            cursor = conn.execute(
                "INSERT OR IGNORE INTO alarms (series_uid, run, calling_ae, raised_at) VALUES (?,?,?,?)",
                (series_uid, run, calling_ae, at),
            )
            return cursor.rowcount == 1

    def supersede(self, series_uid: str, run: int, at: float) -> None:
        """Close alarms of earlier runs of a series: it has been judged anew."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE alarms SET closed_at = ?, closed_by = 'judged again'"
                " WHERE series_uid = ? AND run < ? AND closed_at IS NULL",
                (at, series_uid, run),
            )

    def alarms(self) -> list[Row]:
        """Open alarms, oldest first."""
        return self._db.rows("SELECT * FROM alarms WHERE closed_at IS NULL ORDER BY id")

    def acknowledge(self, alarm_id: int, by: str, at: float) -> Row | None:
        """Close an alarm; its row, or None when there is no such open alarm."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE alarms SET closed_at = ?, closed_by = ? WHERE id = ? AND closed_at IS NULL",
                (at, by, alarm_id),
            )
            if cursor.rowcount != 1:
                return None
            return self._db.row("SELECT * FROM alarms WHERE id = ?", (alarm_id,))


class Labels:
    """Corrections and confirmations of single answers: labels for later training."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self, series_uid: str, run: int, question: str, found: str | None, label: str, reader_id: str, at: float
    ) -> int:
        """Write one label; a later one of the same reader on the same question counts instead."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "INSERT INTO labels (series_uid, run, question, found, label, reader_id, at)"
                " VALUES (?,?,?,?,?,?,?)",
                (series_uid, run, question, found, label, reader_id, at),
            )
            return int(cursor.lastrowid or 0)

    def of(self, series_uid: str) -> list[Row]:
        """The newest label of each reader for each question of one series."""
        return self._db.rows(
            "SELECT * FROM labels WHERE id IN (SELECT max(id) FROM labels WHERE series_uid = ?"
            " GROUP BY question, reader_id) ORDER BY id",
            (series_uid,),
        )

    def all(self) -> list[Row]:
        """The newest label of each reader for each question of every series."""
        return self._db.rows(
            "SELECT * FROM labels WHERE id IN (SELECT max(id) FROM labels"
            " GROUP BY series_uid, question, reader_id) ORDER BY id"
        )


class Prompts:
    """Requests for a vote; one that is not answered stays on record as such."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self, prompt_id: str, study_uid: str, series_uid: str | None, reader_id: str, reason: str, at: float
    ) -> bool:
        """Ask a reader for a vote on a study; False when this reader was asked before."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "INSERT OR IGNORE INTO prompts (id, study_uid, series_uid, reader_id, reason, created_at)"
                " VALUES (?,?,?,?,?,?)",
                (prompt_id, study_uid, series_uid, reader_id, reason, at),
            )
            return cursor.rowcount == 1

    def open_for(self, reader_id: str, limit: int = 20) -> list[Row]:
        """What this reader has been asked and not answered yet, oldest first."""
        sql = "SELECT * FROM prompts WHERE reader_id = ? AND closed_at IS NULL ORDER BY created_at LIMIT ?"
        return self._db.rows(sql, (reader_id, limit))

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

    def all(self) -> list[Row]:
        """Every prompt in order of asking."""
        return self._db.rows("SELECT * FROM prompts ORDER BY created_at")


class Gradings:
    """Expert gradings by the written protocol, append-only; the newest of each rater counts."""

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
    ) -> bool:
        """Write one grading; False when this rater used the key before."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "INSERT OR IGNORE INTO gradings (key, series_uid, reader_id, kind, straight_reject, gadolinium,"
                " motion, contrast, noise, at, ms, source) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    key,
                    series_uid,
                    reader_id,
                    kind,
                    straight_reject,
                    gadolinium,
                    motion,
                    contrast,
                    noise,
                    at,
                    ms,
                    source,
                ),
            )
            return cursor.rowcount == 1

    def current(self) -> list[Row]:
        """The newest rating of each rater and the newest consensus decision of each series."""
        return self._db.rows(
            "SELECT * FROM gradings WHERE id IN ("
            " SELECT max(id) FROM gradings WHERE kind = 'rating' GROUP BY series_uid, reader_id"
            " UNION SELECT max(id) FROM gradings WHERE kind = 'consensus' GROUP BY series_uid) ORDER BY id"
        )

    def of(self, series_uid: str, reader_id: str) -> Row | None:
        """The newest rating of one rater on one series."""
        return self._db.row(
            "SELECT * FROM gradings WHERE series_uid = ? AND reader_id = ? AND kind = 'rating'"
            " ORDER BY id DESC LIMIT 1",
            (series_uid, reader_id),
        )

    def gradable(self) -> list[Row]:
        """Series judged in the brain reading room whose pictures are still there, oldest first."""
        return self._db.rows(
            "SELECT verdicts.id, verdicts.series_uid, verdicts.run, verdicts.thumbnails, verdicts.judged_at"
            " FROM verdicts JOIN series USING (series_uid, run)"
            " WHERE verdicts.stage = 'brain_mri' AND thumbnails != '[]' ORDER BY verdicts.id"
        )
