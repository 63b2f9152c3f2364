"""Received instances, versions of them, those that open no series, and bytes that could not be understood.

:meth:`Instances.add` is the receiver's group commit and stays hand-written SQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from qc_node.domain import Correction
from qc_node.ledger import corrections
from qc_node.ledger.database import Database
from qc_node.ledger.removals import digests_of, digests_of_objects, forget_emptied, mark_emptied, uid_digest
from qc_node.ledger.rows import InstanceRow, ObjectRow, PathRow, QuarantineRow, VersionRow

CountThere = Callable[[Sequence[str]], int]
"""How many of these files are there, by their spool names."""

LATE_RUN = """
    run = CASE WHEN series.state = 'receiving' THEN series.run ELSE series.run + 1 END,
    state = 'receiving', closed_by = NULL, closed_at = NULL, attempts = 0, sentence = NULL,
    pacs_count = NULL, pacs_count_since = NULL
"""

INSERT = (
    "INSERT INTO instances (sop_instance_uid, version, series_id, sop_class_uid, transfer_syntax_uid, calling_ae,"
    " path, bytes, received_at, digest) VALUES (?,?,?,?,?,?,?,?,?,?)"
)

_OBJECTS = (
    "SELECT instance_id, sop_instance_uid, sop_class_uid, study_uid, series_uid, calling_ae, path, bytes,"
    " received_at, handled FROM objects JOIN instances USING (instance_id)"
)


@dataclass(frozen=True, slots=True)
class Received:
    """One instance whose bytes are already durable in the spool.

    ``opens_series`` is False for objects that never open a series for judging (SR, key objects,
    presentation states, ...).  ``expected`` is the number of instances that the header says the series
    has, with the tags that say so in ``expected_rule``; None where it says nothing.  A ``version`` above 1 was
    sent again: after the file of the version before had gone, or, as its ``correction`` says, with other content,
    of which ``digest`` is kept then.  ``station`` is the scanner by its header, empty where that does not say.
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
    version: int = 1
    digest: str | None = None
    correction: Correction | None = None
    station: str = ""


@dataclass(frozen=True, slots=True)
class _Before:
    """The version that a new one takes the place of."""

    series_id: int | None
    study_uid: str | None
    series_uid: str | None
    handled: int


class Instances:
    """What arrived.  A SOP Instance UID names its current version: the one that is not superseded."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def known(self, sop_instance_uid: str) -> bool:
        """Whether any version of this instance is already in the ledger."""
        return _known(self._db.conn, sop_instance_uid)

    def newest(self, sop_instance_uid: str) -> VersionRow | None:
        """Number and spool name of the newest version of an instance; its file may be gone."""
        sql = "SELECT version, path FROM instances WHERE sop_instance_uid = ? ORDER BY version DESC LIMIT 1"
        return self._db.row(sql, (sop_instance_uid,), of=VersionRow)

    def add(self, items: Sequence[Received], there: CountThere = len) -> list[bool]:
        """Write rows for `items` in one transaction; for each, whether it was new.

        A new image of a closed series re-opens it under the next run number.  ``due_at`` of the series
        becomes 0, which means: let completion decide anew.  An image whose Series Instance UID is known
        under another study opens a series of its own.

        An image that comes back, because its file was gone, re-opens its series unless the report is out: the
        same images make no new report by themselves.  Its series counts the images that are `there`, and counts
        as without images (``images_removed_at``) until the last one is back.  One that comes with other content
        always re-opens its series, and the one that it leaves (:mod:`qc_node.ledger.corrections`).

        The rows are not flushed to the disk: recovery makes them again from the files, which are.  Those of other
        content are: the file of the version before goes when this returns, and nobody could compare with it.
        """
        with self._db.transaction(flush=any(r.correction is not None for r in items)) as conn:
            new = _not_known(conn, items)
            removed = _Removed(conn)
            found = {r.sop_instance_uid: _supersede(conn, r) or removed.before(r) for r in new}
            before = {uid: old for uid, old in found.items() if old is not None}
            images = [r for r in new if r.opens_series]
            back = {r.sop_instance_uid: number for r in images if (number := _own(before, r)) is not None}
            coming = [r for r in images if r.sop_instance_uid not in back]
            strangers = [r for r in new if not r.opens_series and r.sop_instance_uid not in before]
            for group in _by([*coming, *strangers], lambda r: (r.study_uid, "")):
                _touch_study(conn, group)
            numbers = {_names(group[0]): _touch_series(conn, group) for group in _by(coming, _names)}
            rows = [_columns(r, back.get(r.sop_instance_uid) or numbers[_names(r)]) for r in images]
            conn.executemany(INSERT, rows)
            for r in new:
                if not r.opens_series:
                    _add_object(conn, r, before.get(r.sop_instance_uid))
            for group in _by([r for r in images if r.sop_instance_uid in back], _names):
                _refill(conn, group, back[group[0].sop_instance_uid], there)
            left: dict[int, list[Received]] = {}
            for r in [r for r in new if r.sop_instance_uid not in back]:
                if (old := before.get(r.sop_instance_uid)) is not None and old.series_id is not None:
                    left.setdefault(old.series_id, []).append(r)
            for series_id, group in left.items():
                _leave(conn, group, series_id, there)
        written = {(r.sop_instance_uid, r.path) for r in new}
        return [_take(written, (r.sop_instance_uid, r.path)) for r in items]

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

    # -- what opens no series ------------------------------------------------------------------------
    def unhandled_objects(self, limit: int = 100) -> list[ObjectRow]:
        """Objects that open no series (key objects, SRs) and that nobody has looked at yet."""
        return self._db.rows(f"{_OBJECTS} WHERE handled = 0 ORDER BY instance_id LIMIT ?", (limit,), of=ObjectRow)

    def interrupted_objects(self) -> list[ObjectRow]:
        """Objects that somebody began to read and did not finish; ``handled`` is minus how often.

        Goes through all objects: for the start.
        """
        return self._db.rows(f"{_OBJECTS} WHERE handled < 0 ORDER BY instance_id", of=ObjectRow)

    def note_attempt(self, sop_instance_uid: str) -> None:
        """An object is going to be read, and that may end the process: it waits no more, and is interrupted."""
        self._set_handled(sop_instance_uid, "handled - 1")

    def put_back(self, sop_instance_uid: str) -> None:
        """Show an object to :meth:`unhandled_objects` again: what was read in it could not be noted."""
        self._set_handled(sop_instance_uid, "0")

    def mark_handled(self, sop_instance_uid: str) -> None:
        """Never show this object to :meth:`unhandled_objects` again."""
        self._set_handled(sop_instance_uid, "1")

    def _set_handled(self, sop_instance_uid: str, to: str) -> None:
        with self._db.transaction() as conn:
            conn.execute(
                f"UPDATE objects SET handled = {to} WHERE instance_id IN"
                " (SELECT instance_id FROM instances WHERE sop_instance_uid = ? AND superseded_at IS NULL)",
                (sop_instance_uid,),
            )

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


def _known(conn: sqlite3.Connection, sop_instance_uid: str) -> bool:
    sql = "SELECT 1 FROM instances WHERE sop_instance_uid = ?"
    return conn.execute(sql, (sop_instance_uid,)).fetchone() is not None


def _not_known(conn: sqlite3.Connection, items: Sequence[Received]) -> list[Received]:
    """Of each instance, or version of one, that the ledger lacks the first one of the batch, in order."""
    first: dict[str, Received] = {}
    for r in items:
        first.setdefault(r.sop_instance_uid, r)
    sql = "SELECT 1 FROM instances WHERE sop_instance_uid = ? AND version >= ?"
    return [r for uid, r in first.items() if conn.execute(sql, (uid, r.version)).fetchone() is None]


def _supersede(conn: sqlite3.Connection, r: Received) -> _Before | None:
    """Make room for a version whose predecessor's file is gone; what that one was."""
    if r.version == 1:
        return None
    row = conn.execute(
        "SELECT instance_id, series_id, study_uid, series_uid, handled FROM instances"
        " LEFT JOIN (SELECT series_id, study_uid, series_uid FROM series) USING (series_id)"
        " LEFT JOIN (SELECT instance_id, handled FROM objects) USING (instance_id)"
        " WHERE sop_instance_uid = ? AND superseded_at IS NULL",
        (r.sop_instance_uid,),
    ).fetchone()
    if row is None:
        return None
    number = row["instance_id"]
    conn.execute("UPDATE instances SET superseded_at = ? WHERE instance_id = ?", (r.received_at, number))
    conn.execute("UPDATE objects SET handled = 2 WHERE instance_id = ?", (number,))
    return _Before(row["series_id"], row["study_uid"], row["series_uid"], row["handled"] or 0)


class _Removed:
    """What rows were before retention condensed them, asked once for each series and study of a batch."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._images: dict[tuple[str, str], tuple[int, set[bytes]]] = {}
        self._objects: dict[str, set[bytes]] = {}

    def before(self, r: Received) -> _Before | None:
        """What `r` was when it came for the first time; None where it never did."""
        if not r.opens_series:
            known = self._of_study(r.study_uid)
            return _Before(None, None, None, 1) if uid_digest(r.sop_instance_uid) in known else None
        number, images = self._of_series(_names(r))
        return _Before(number, *_names(r), 0) if images and uid_digest(r.sop_instance_uid) in images else None

    def _of_series(self, names: tuple[str, str]) -> tuple[int, set[bytes]]:
        if names not in self._images:
            row = self._conn.execute(
                "SELECT series_id FROM series WHERE study_uid = ? AND series_uid = ?"
                " AND series_id IN (SELECT series_id FROM emptied)",
                names,
            ).fetchone()
            self._images[names] = (0, set()) if row is None else (row[0], digests_of(self._conn, row[0]))
        return self._images[names]

    def _of_study(self, study_uid: str) -> set[bytes]:
        if study_uid not in self._objects:
            self._objects[study_uid] = digests_of_objects(self._conn, study_uid)
        return self._objects[study_uid]


def _own(before: Mapping[str, _Before], r: Received) -> int | None:
    """The number of the series that an image comes back to; None where it comes for the first time."""
    old = before.get(r.sop_instance_uid)
    same = old is not None and (old.study_uid, old.series_uid) == (r.study_uid, r.series_uid)
    return old.series_id if old is not None and same else None


def _refill(conn: sqlite3.Connection, group: Sequence[Received], series_id: int, there: CountThere) -> None:
    """Images came back to their series: count what is there, and let it be judged.

    Not where the report is out, unless they say something else than it.
    """
    at = group[-1].received_at
    _recount(conn, series_id, there, at)
    corrected = {r.correction for r in group if r.correction is not None}
    sql = f"UPDATE series SET due_at = 0, {LATE_RUN} WHERE series_id = ? AND (? OR state != 'reported')"
    reopened = conn.execute(sql, (series_id, bool(corrected)))
    corrections.note(conn, series_id, corrected, at)
    conn.execute("UPDATE series SET last_received = max(last_received, ?) WHERE series_id = ?", (at, series_id))
    if reopened.rowcount:
        _touch_study(conn, group)
    else:
        corrections.came_back(conn, series_id, at)


def _leave(conn: sqlite3.Connection, group: Sequence[Received], series_id: int, there: CountThere) -> None:
    """Images of a series came again as part of another one."""
    at = group[-1].received_at
    _recount(conn, series_id, there, at)
    if any(r.correction is not None for r in group):
        corrections.lost_images(conn, series_id, LATE_RUN, at)


def _recount(conn: sqlite3.Connection, series_id: int, there: CountThere, at: float) -> None:
    """Let a series count the images that are there; it lacks some until all that it had are back."""
    sql = "SELECT sop_instance_uid, path FROM instances WHERE series_id = ? AND superseded_at IS NULL"
    rows = conn.execute(sql, (series_id,)).fetchall()
    present = there([str(row["path"]) for row in rows])
    had = digests_of(conn, series_id).union(uid_digest(row["sop_instance_uid"]) for row in rows)
    lacking = present < len(had)
    conn.execute(
        "UPDATE series SET instances = ?, images_removed_at = CASE WHEN ? THEN coalesce(images_removed_at, ?) END"
        " WHERE series_id = ?",
        (present, lacking, at, series_id),
    )
    if lacking:
        mark_emptied(conn, series_id)
    else:
        forget_emptied(conn, series_id)


def _names(r: Received) -> tuple[str, str]:
    """What tells a series from all others."""
    return r.study_uid, r.series_uid


def _take(left: set[tuple[str, str]], key: tuple[str, str]) -> bool:
    """Whether `key` was left; it is not any more."""
    found = key in left
    left.discard(key)
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
        "INSERT INTO series (series_uid, study_uid, modality, calling_ae, station, first_received,"
        " last_received, instances, expected, expected_rule, due_at)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,0) ON CONFLICT (series_uid, study_uid) DO UPDATE SET"
        " station = coalesce(series.station, excluded.station),"
        " instances = series.instances + excluded.instances, last_received = excluded.last_received,"
        " expected = coalesce(excluded.expected, series.expected),"
        " expected_rule = coalesce(excluded.expected_rule, series.expected_rule),"
        f" due_at = 0, {LATE_RUN}",
        (
            first.series_uid,
            first.study_uid,
            first.modality,
            first.calling_ae,
            first.station or first.calling_ae,
            first.received_at,
            last.received_at,
            len(group),
            next((r.expected for r in reversed(group) if r.expected is not None), None),
            next((r.expected_rule for r in reversed(group) if r.expected_rule is not None), None),
        ),
    )
    sql = "SELECT series_id FROM series WHERE series_uid = ? AND study_uid = ?"
    number = int(conn.execute(sql, (first.series_uid, first.study_uid)).fetchone()[0])
    conn.execute("UPDATE emptied SET open = 1 WHERE series_id = ? AND open != 1", (number,))
    return number


def _columns(r: Received, series_id: int | None) -> tuple[object, ...]:
    """The values of :data:`INSERT`."""
    return (
        r.sop_instance_uid,
        r.version,
        series_id,
        r.sop_class_uid,
        r.transfer_syntax_uid,
        r.calling_ae,
        r.path,
        r.bytes,
        r.received_at,
        r.digest,
    )


def _add_object(conn: sqlite3.Connection, r: Received, before: _Before | None) -> None:
    """What was looked at once is not looked at again when it comes back, unless it says something else."""
    number = conn.execute(INSERT, _columns(r, None)).lastrowid
    handled = 0 if before is None or r.correction else min(max(before.handled, 0), 1)
    conn.execute(
        "INSERT INTO objects (instance_id, study_uid, series_uid, handled) VALUES (?,?,?,?)",
        (number, r.study_uid, r.series_uid, handled),
    )
