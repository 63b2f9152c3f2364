"""Received instances, versions of them, those that open no series, and bytes that could not be understood.

:meth:`Instances.add` is the receiver's group commit and stays hand-written SQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from qc_node.ledger.database import Database
from qc_node.ledger.rows import InstanceRow, ObjectRow, PathRow, QuarantineRow, RemovableRow

LATE_RUN = """
    run = CASE WHEN series.state = 'receiving' THEN series.run ELSE series.run + 1 END,
    state = 'receiving', closed_by = NULL, closed_at = NULL, attempts = 0, sentence = NULL,
    pacs_count = NULL, pacs_count_since = NULL
"""

INSERT = (
    "INSERT INTO instances (sop_instance_uid, series_id, sop_class_uid, transfer_syntax_uid, calling_ae, path,"
    " bytes, received_at) VALUES (?,?,?,?,?,?,?,?)"
)


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
    """What arrived.  A SOP Instance UID names its current version: the one that is not superseded."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def known(self, sop_instance_uid: str) -> bool:
        """Whether any version of this instance is already in the ledger."""
        return _known(self._db.conn, sop_instance_uid)

    def add(self, items: Sequence[Received]) -> list[bool]:
        """Write rows for `items` in one transaction; for each, whether it was new.

        A new image of a closed series re-opens it under the next run number.  ``due_at`` of the series
        becomes 0, which means: let completion decide anew.  An image whose Series Instance UID is known
        under another study opens a series of its own.
        """
        with self._db.transaction() as conn:
            new = _not_known(conn, items)
            for group in _by(new, lambda r: (r.study_uid, "")):
                _touch_study(conn, group)
            images = [r for r in new if r.opens_series]
            numbers = {
                (group[0].study_uid, group[0].series_uid): _touch_series(conn, group)
                for group in _by(images, lambda r: (r.study_uid, r.series_uid))
            }
            conn.executemany(INSERT, [_columns(r, numbers[r.study_uid, r.series_uid]) for r in images])
            for r in new:
                if not r.opens_series:
                    _add_object(conn, r)
        left = {r.sop_instance_uid for r in new}
        return [_take(left, r.sop_instance_uid) for r in items]

    def of_series(self, series_id: int) -> list[InstanceRow]:
        """The current version of every image of a series, in order of arrival."""
        return self._db.rows(
            "SELECT * FROM instances WHERE series_id = ? AND superseded_at IS NULL ORDER BY instance_id",
            (series_id,),
            of=InstanceRow,
        )

    def paths_of_series(self, series_id: int) -> list[str]:
        """Spool names of the current images of a series, in order of arrival."""
        sql = "SELECT path FROM instances WHERE series_id = ? AND superseded_at IS NULL ORDER BY instance_id"
        return [row["path"] for row in self._db.rows(sql, (series_id,), of=PathRow)]

    def versions(self, sop_instance_uid: str) -> list[InstanceRow]:
        """Every version of one instance, oldest first."""
        sql = "SELECT * FROM instances WHERE sop_instance_uid = ? ORDER BY version"
        return self._db.rows(sql, (sop_instance_uid,), of=InstanceRow)

    def path_of(self, sop_instance_uid: str) -> str | None:
        """Spool name of the current version of one instance, or None when it is not in the ledger."""
        sql = "SELECT path FROM instances WHERE sop_instance_uid = ? AND superseded_at IS NULL"
        value = self._db.value(sql, (sop_instance_uid,))
        return None if value is None else str(value)

    def paths(self) -> set[str]:
        """Spool names of everything the ledger knows (to find files that lost their row to a crash)."""
        return {row["path"] for row in self._db.rows("SELECT path FROM instances", of=PathRow)}

    # -- what opens no series ------------------------------------------------------------------------
    def unhandled_objects(self, limit: int = 100) -> list[ObjectRow]:
        """Objects that open no series (key objects, SRs) and that nobody has looked at yet."""
        return self._db.rows(
            "SELECT instance_id, sop_instance_uid, sop_class_uid, study_uid, series_uid, calling_ae, path,"
            " received_at, handled FROM objects JOIN instances USING (instance_id)"
            " WHERE handled = 0 ORDER BY instance_id LIMIT ?",
            (limit,),
            of=ObjectRow,
        )

    def mark_handled(self, sop_instance_uid: str) -> None:
        """Never show this object to :meth:`unhandled_objects` again."""
        self._mark(sop_instance_uid, 1)

    def objects_to_remove(self, older_than: float, limit: int = 100) -> list[RemovableRow]:
        """Objects that open no series, have been looked at and are past their time."""
        return self._db.rows(
            "SELECT instance_id, sop_instance_uid, path FROM objects JOIN instances USING (instance_id)"
            " WHERE handled = 1 AND received_at < ? LIMIT ?",
            (older_than, limit),
            of=RemovableRow,
        )

    def mark_removed(self, sop_instance_uid: str) -> None:
        """Note that the file of an object is gone; its row stays."""
        self._mark(sop_instance_uid, 2)

    # -- quarantine ----------------------------------------------------------------------------------
    def quarantine(self, path: str, reason: str, calling_ae: str, at: float) -> None:
        """Note that `path` holds bytes that could not be understood."""
        row = {"path": path, "reason": reason, "calling_ae": calling_ae, "received_at": at}
        self._db.insert("quarantine", row)

    def quarantined(self) -> list[QuarantineRow]:
        """Everything in quarantine, oldest first."""
        return self._db.rows("SELECT * FROM quarantine ORDER BY id", of=QuarantineRow)

    def quarantine_count(self) -> int:
        """How many things are in quarantine."""
        return int(self._db.value("SELECT count(*) FROM quarantine"))

    def _mark(self, sop_instance_uid: str, handled: int) -> None:
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE objects SET handled = ? WHERE instance_id IN"
                " (SELECT instance_id FROM instances WHERE sop_instance_uid = ? AND superseded_at IS NULL)",
                (handled, sop_instance_uid),
            )


def _known(conn: sqlite3.Connection, sop_instance_uid: str) -> bool:
    sql = "SELECT 1 FROM instances WHERE sop_instance_uid = ?"
    return conn.execute(sql, (sop_instance_uid,)).fetchone() is not None


def _not_known(conn: sqlite3.Connection, items: Sequence[Received]) -> list[Received]:
    """Of each instance that the ledger lacks the first one of the batch, in order."""
    first: dict[str, Received] = {}
    for r in items:
        first.setdefault(r.sop_instance_uid, r)
    return [r for uid, r in first.items() if not _known(conn, uid)]


def _take(left: set[str], uid: str) -> bool:
    """Whether `uid` was left; it is not any more."""
    found = uid in left
    left.discard(uid)
    return found


def _by(items: Iterable[Received], key: Callable[[Received], tuple[str, str]]) -> Iterable[Sequence[Received]]:
    """Groups of a batch, each in order of arrival: one statement for each costs less than one per image."""
    groups: dict[tuple[str, str], list[Received]] = {}
    for r in items:
        groups.setdefault(key(r), []).append(r)
    return groups.values()


def _touch_study(conn: sqlite3.Connection, group: Sequence[Received]) -> None:
    conn.execute(
        "INSERT INTO studies (study_uid, first_received, last_received, due_at) VALUES (?,?,?,0)"
        " ON CONFLICT (study_uid) DO UPDATE SET last_received = excluded.last_received,"
        " state = 'open', due_at = 0, closed_by = NULL, closed_at = NULL",
        (group[0].study_uid, group[0].received_at, group[-1].received_at),
    )


def _touch_series(conn: sqlite3.Connection, group: Sequence[Received]) -> int:
    """Count images in their series, which opens or re-opens; returns the series' number."""
    first, last = group[0], group[-1]
    conn.execute(
        "INSERT INTO series (series_uid, study_uid, modality, calling_ae, first_received,"
        " last_received, instances, expected, expected_rule, due_at)"
        " VALUES (?,?,?,?,?,?,?,?,?,0) ON CONFLICT (series_uid, study_uid) DO UPDATE SET"
        " instances = series.instances + excluded.instances, last_received = excluded.last_received,"
        " expected = coalesce(excluded.expected, series.expected),"
        " expected_rule = coalesce(excluded.expected_rule, series.expected_rule),"
        f" due_at = 0, {LATE_RUN}",
        (
            first.series_uid,
            first.study_uid,
            first.modality,
            first.calling_ae,
            first.received_at,
            last.received_at,
            len(group),
            next((r.expected for r in reversed(group) if r.expected is not None), None),
            next((r.expected_rule for r in reversed(group) if r.expected_rule is not None), None),
        ),
    )
    sql = "SELECT series_id FROM series WHERE series_uid = ? AND study_uid = ?"
    return int(conn.execute(sql, (first.series_uid, first.study_uid)).fetchone()[0])


def _columns(r: Received, series_id: int | None) -> tuple[object, ...]:
    """The values of :data:`INSERT`."""
    return (
        r.sop_instance_uid,
        series_id,
        r.sop_class_uid,
        r.transfer_syntax_uid,
        r.calling_ae,
        r.path,
        r.bytes,
        r.received_at,
    )


def _add_object(conn: sqlite3.Connection, r: Received) -> None:
    number = conn.execute(INSERT, _columns(r, None)).lastrowid
    conn.execute(
        "INSERT INTO objects (instance_id, study_uid, series_uid) VALUES (?,?,?)",
        (number, r.study_uid, r.series_uid),
    )
