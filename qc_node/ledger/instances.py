"""Received instances, and the bytes that could not be understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qc_node.ledger.database import Database

LATE_RUN = """
    run = CASE WHEN series.state = 'receiving' THEN series.run ELSE series.run + 1 END,
    state = 'receiving', closed_by = NULL, closed_at = NULL, attempts = 0, sentence = NULL,
    pacs_count = NULL, pacs_count_since = NULL
"""


@dataclass(frozen=True, slots=True)
class Received:
    """One instance whose bytes are already durable in the spool.

    ``opens_series`` is False for objects that never open a series for judging (SR, key objects,
    presentation states, ...).  ``expected`` is the number of instances that the header says the series
    has, with the tags that say so in ``expected_rule``; None where it says nothing.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    transfer_syntax_uid: str
    modality: str
    calling_ae: str
    path: str
    bytes: int
    received_at: float
    opens_series: bool = True
    expected: int | None = None
    expected_rule: str | None = None


class Instances:
    """What arrived."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def known(self, sop_instance_uid: str) -> bool:
        """Whether this instance is already in the ledger."""
        found = self._db.value("SELECT 1 FROM instances WHERE sop_instance_uid = ?", (sop_instance_uid,))
        return found is not None

    def add(self, items: Sequence[Received]) -> list[bool]:
        """Write rows for `items` in one transaction; for each, whether it was new.

        A new image of a closed series re-opens it under the next run number.  ``due_at`` of the series
        becomes 0, which means: let completion decide anew.
        """
        fresh = []
        with self._db.transaction() as conn:
            for r in items:
                cursor = conn.execute(
                    "INSERT OR IGNORE INTO instances (sop_instance_uid, sop_class_uid, series_uid, study_uid,"
                    " transfer_syntax_uid, calling_ae, path, bytes, received_at, opens_series)"
                    " VALUES (?,?,?,?,?,?,?,?,?,?)",
                    (
                        r.sop_instance_uid,
                        r.sop_class_uid,
                        r.series_uid,
                        r.study_uid,
                        r.transfer_syntax_uid,
                        r.calling_ae,
                        r.path,
                        r.bytes,
                        r.received_at,
                        r.opens_series,
                    ),
                )
                fresh.append(cursor.rowcount == 1)
                if not fresh[-1]:
                    continue
                conn.execute(
                    "INSERT INTO studies (study_uid, first_received, last_received, due_at) VALUES (?,?,?,0)"
                    " ON CONFLICT (study_uid) DO UPDATE SET last_received = excluded.last_received,"
                    " state = 'open', due_at = 0, closed_by = NULL, closed_at = NULL",
                    (r.study_uid, r.received_at, r.received_at),
                )
                if r.opens_series:
                    conn.execute(
                        "INSERT INTO series (series_uid, study_uid, modality, calling_ae, first_received,"
                        " last_received, instances, expected, expected_rule, due_at)"
                        " VALUES (?,?,?,?,?,?,1,?,?,0) ON CONFLICT (series_uid) DO UPDATE SET"
                        " instances = series.instances + 1, last_received = excluded.last_received,"
                        " expected = coalesce(excluded.expected, series.expected),"
                        " expected_rule = coalesce(excluded.expected_rule, series.expected_rule),"
                        f" due_at = 0, {LATE_RUN}",
                        (
                            r.series_uid,
                            r.study_uid,
                            r.modality,
                            r.calling_ae,
                            r.received_at,
                            r.received_at,
                            r.expected,
                            r.expected_rule,
                        ),
                    )
        return fresh

    def of_series(self, series_uid: str) -> list[dict[str, Any]]:
        """All instances of a series in order of arrival."""
        return self._db.rows("SELECT * FROM instances WHERE series_uid = ? ORDER BY rowid", (series_uid,))

    def paths_of_series(self, series_uid: str) -> list[str]:
        """Spool names of all instances of a series that open it (images), in order of arrival."""
        sql = "SELECT path FROM instances WHERE series_uid = ? AND opens_series = 1 ORDER BY rowid"
        return [row["path"] for row in self._db.rows(sql, (series_uid,))]

    def unhandled_objects(self, limit: int = 100) -> list[dict[str, Any]]:
        """Non-image objects (key objects, SRs) that the counter has not looked at yet."""
        sql = "SELECT * FROM instances WHERE opens_series = 0 AND handled = 0 ORDER BY rowid LIMIT ?"
        return self._db.rows(sql, (limit,))

    def mark_handled(self, sop_instance_uid: str) -> None:
        """Never show this object to :meth:`unhandled_objects` again."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE instances SET handled = 1 WHERE sop_instance_uid = ?", (sop_instance_uid,))

    def path_of(self, sop_instance_uid: str) -> str | None:
        """Spool name of one instance, or None when it is not in the ledger."""
        value = self._db.value("SELECT path FROM instances WHERE sop_instance_uid = ?", (sop_instance_uid,))
        return None if value is None else str(value)

    def objects_to_remove(self, older_than: float, limit: int = 100) -> list[dict[str, Any]]:
        """Objects that never open a series, looked at by the counter and past their time."""
        sql = (
            "SELECT sop_instance_uid, path FROM instances WHERE opens_series = 0 AND handled = 1"
            " AND received_at < ? LIMIT ?"
        )
        return self._db.rows(sql, (older_than, limit))

    def mark_removed(self, sop_instance_uid: str) -> None:
        """Note that the file of an object is gone; its row stays."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE instances SET handled = 2 WHERE sop_instance_uid = ?", (sop_instance_uid,))

    def paths(self) -> set[str]:
        """Spool names of everything the ledger knows (to find files that lost their row to a crash)."""
        return {row["path"] for row in self._db.rows("SELECT path FROM instances")}

    def quarantine(self, path: str, reason: str, calling_ae: str, at: float) -> None:
        """Note that `path` holds bytes that could not be understood."""
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO quarantine (path, reason, calling_ae, received_at) VALUES (?,?,?,?)",
                (path, reason, calling_ae, at),
            )

    def quarantined(self) -> list[dict[str, Any]]:
        """Everything in quarantine, oldest first."""
        return self._db.rows("SELECT * FROM quarantine ORDER BY id")

    def quarantine_count(self) -> int:
        """How many things are in quarantine."""
        return int(self._db.value("SELECT count(*) FROM quarantine"))
