"""From the ledger of 0.1.0 to that of 0.2: a copy first, then every row in one transaction.

``kill -9`` at any point leaves either the old ledger or the new one; what was half-way is rolled back by SQLite
and begun anew at the next start.  A copy that was finished is recognised and not written a second time.
"""

from __future__ import annotations

import filecmp
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlite_utils

from qc_node.domain import QcNodeError
from qc_node.ledger import schema

log = logging.getLogger("qc_node.ledger")

REBUILT = (
    "series",
    "instances",
    "events",
    "verdicts",
    "reports",
    "deliveries",
    "votes",
    "alarms",
    "labels",
    "prompts",
    "gradings",
)
"""Tables of 0.1.0 whose shape changes; the others stay where they are."""

CHUNK = 100_000
"""Instances between two lines of progress."""
COPY_PAGES = 25_000
"""Pages (4 KiB) between two lines of progress of the copy."""

DROP_TRIGGERS = ("votes_keep", "votes_stay")
DROP_INDEXES = (
    "series_state",
    "series_study",
    "series_recent",
    "instances_series",
    "instances_objects",
    "events_series",
    "verdicts_recent",
    "reports_series",
    "deliveries_due",
    "deliveries_transaction",
    "votes_study",
    "votes_accession",
    "alarms_open",
    "labels_series",
    "prompts_open",
    "gradings_series",
)


class Upgrade:
    """The rows of one ledger on their way; every step but :meth:`compact` is inside the caller's transaction.

    Parameters
    ----------
    conn
        Inside ``BEGIN IMMEDIATE``, foreign keys not enforced.
    path
        The ledger's file; the copy is put beside it.
    quiet
        Say nothing: a new ledger is made, which takes the same steps without rows.
    """

    def __init__(self, conn: sqlite3.Connection, path: Path, quiet: bool = False) -> None:
        self._conn = conn
        self._level = logging.DEBUG if quiet else logging.INFO
        self._path = path
        self._db = sqlite_utils.Database(conn)

    def run(self) -> None:
        """All steps but the copy; raises :class:`QcNodeError` when a row would be lost."""
        for step in (
            self.set_aside,
            self.create_tables,
            self.move_series,
            self.move_instances,
            self.move_history,
            self.move_verdicts,
            self.move_reports,
            self.move_votes,
            self.move_annotations,
            self.rename_cases,
            self.create_indexes,
            self.check,
            self.drop_old,
            self.check_references,
        ):
            step()

    # -- the way back --------------------------------------------------------------------------------
    def copy(self) -> Path:
        """Write ``ledger-0.1.0.sqlite`` beside the ledger, complete and synced; returns its path.

        An earlier copy is never overwritten: one with the same content is the copy, one with another content
        (0.1.0 ran again meanwhile) keeps its name, and the new one gets a number.
        """
        part = self._path.with_name(f"{self._path.stem}-0.1.0.part")
        part.unlink(missing_ok=True)
        log.log(self._level, "the ledger %s is of qc-node 0.1.0; it is copied before it is upgraded", self._path)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT, 0o640))  # not for everybody, as SQLite would make it
        with closing(sqlite3.connect(self._path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target, pages=COPY_PAGES, progress=_tell_pages)
        for final in self._names_of_copies():
            if not final.exists():
                _sync(part)
                part.replace(final)
                _sync(final.parent)
                break
            if filecmp.cmp(part, final, shallow=False):
                part.unlink()
                break
        log.log(self._level, "the copy is %s", final)
        return final

    def _names_of_copies(self) -> Iterator[Path]:
        stem, suffix = self._path.stem, self._path.suffix
        yield self._path.with_name(f"{stem}-0.1.0{suffix}")
        number = 2
        while True:
            yield self._path.with_name(f"{stem}-0.1.0-{number}{suffix}")
            number += 1

    # -- the steps -----------------------------------------------------------------------------------
    def set_aside(self) -> None:
        """Give the tables of 0.1.0 another name, and theirs to the new ones."""
        for name in DROP_TRIGGERS:
            self._conn.execute(f"DROP TRIGGER {name}")
        for name in DROP_INDEXES:
            self._conn.execute(f"DROP INDEX {name}")
        for name in REBUILT:
            self._conn.execute(f"ALTER TABLE {name} RENAME TO old_{name}")

    def create_tables(self) -> None:
        """Make the tables of 0.2 and what maps UIDs to series numbers while rows move."""
        schema.create(self._db)
        self._conn.execute(
            "CREATE TEMP TABLE number_of (series_uid TEXT, study_uid TEXT, series_id INTEGER, own INTEGER,"
            " PRIMARY KEY (series_uid, study_uid)) WITHOUT ROWID"
        )

    def move_series(self) -> None:
        """Every series keeps its row; images that came under another study get a series of their own there."""
        same = [name for name in schema.SERIES if name not in ("series_id", "station")]
        self._conn.execute(
            f"INSERT INTO series (series_id, {', '.join(same)}) SELECT rowid, {', '.join(same)} FROM old_series"
            " ORDER BY rowid"
        )
        strangers = self._strangers()
        self._conn.execute(
            "INSERT INTO number_of SELECT series_uid, study_uid, series_id, study_uid = (SELECT study_uid FROM"
            " old_series WHERE old_series.series_uid = series.series_uid) FROM series"
        )
        log.log(
            self._level, "series: %d, of which %d were hidden in another study's", self._count("series"), strangers
        )

    def _strangers(self) -> int:
        """Open a series for images whose Series UID 0.1.0 knew under another study; returns how many."""
        found = self._conn.execute(
            "SELECT i.series_uid, i.study_uid, min(i.received_at), max(i.received_at), count(*), max(i.calling_ae)"
            " FROM old_instances AS i JOIN old_series AS s ON s.series_uid = i.series_uid"
            " WHERE i.opens_series = 1 AND i.study_uid != s.study_uid GROUP BY i.series_uid, i.study_uid"
        ).fetchall()
        for series_uid, study_uid, first, last, count, calling_ae in found:
            self._conn.execute(
                "INSERT INTO series (study_uid, series_uid, modality, calling_ae, first_received, last_received,"
                " instances, state, due_at, sentence, images_removed_at)"
                " SELECT ?, series_uid, modality, ?, ?, ?, ?,"
                " iif(images_removed_at IS NULL, 'receiving', 'skipped'), iif(images_removed_at IS NULL, 0, NULL),"
                " iif(images_removed_at IS NULL, NULL, ?), images_removed_at FROM old_series WHERE series_uid = ?",
                (study_uid, calling_ae, first, last, count, GONE_STRANGER, series_uid),
            )
            self._conn.execute(
                "UPDATE series SET instances = instances - ? WHERE series_uid = ? AND study_uid ="
                " (SELECT study_uid FROM old_series WHERE old_series.series_uid = series.series_uid)",
                (count, series_uid),
            )
        return len(found)

    def move_instances(self) -> None:
        """Move instances in chunks, each with a line of progress; what opens no series is an object."""
        total = self._count("old_instances")
        last = self._conn.execute("SELECT coalesce(max(rowid), 0) FROM old_instances").fetchone()[0]
        for start in range(0, last, CHUNK):
            self._conn.execute(
                "INSERT INTO instances (instance_id, sop_instance_uid, series_id, sop_class_uid,"
                " transfer_syntax_uid, calling_ae, path, bytes, received_at)"
                " SELECT i.rowid, sop_instance_uid, iif(opens_series, number_of.series_id, NULL), sop_class_uid,"
                " transfer_syntax_uid, calling_ae, path, bytes, received_at FROM old_instances AS i"
                " LEFT JOIN number_of ON number_of.series_uid = i.series_uid AND number_of.study_uid = i.study_uid"
                " WHERE i.rowid > ? AND i.rowid <= ? ORDER BY i.rowid",
                (start, start + CHUNK),
            )
            log.log(self._level, "instances: %d of %d", min(start + CHUNK, total), total)
        self._conn.execute(
            "INSERT INTO objects (instance_id, study_uid, series_uid, handled)"
            " SELECT rowid, study_uid, series_uid, handled FROM old_instances WHERE opens_series = 0"
        )

    def move_history(self) -> None:
        """Events of every series."""
        self._move("events", schema.EVENTS)

    def move_verdicts(self) -> None:
        """Verdicts; the one that 0.1.0 gave is the routed classifier's."""
        self._move("verdicts", {n: t for n, t in schema.VERDICTS.items() if n != "routed"})

    def move_reports(self) -> None:
        """Reports, deliveries, and of each delivery the commitment request that 0.1.0 remembered."""
        self._move("reports", schema.REPORTS)
        same = ", ".join(schema.DELIVERIES)
        self._conn.execute(f"INSERT INTO deliveries ({same}) SELECT {same} FROM old_deliveries ORDER BY id")
        self._conn.execute(
            "INSERT INTO commitments (delivery_id, transaction_uid, asked_at, answered_at, outcome)"
            " SELECT id, transaction_uid, coalesce(commitment_asked_at, created_at),"
            " iif(state = 'committed', committed_at, NULL), iif(state = 'committed', 'committed', NULL)"
            " FROM old_deliveries WHERE transaction_uid IS NOT NULL ORDER BY id"
        )

    def move_votes(self) -> None:
        """Votes under their numbers; reasons and withdrawals become rows of their own; see :meth:`_repaired`."""
        old = [dict(row) for row in self._db.query("SELECT * FROM old_votes ORDER BY id")]
        roles = {row["reader_id"]: row["role"] for row in self._db.query("SELECT reader_id, role FROM readers")}
        by_id = {row["id"]: row for row in old}
        votes = [row for row in old if row["vote"] != "withdrawn"]
        repaired = self._repaired(votes)
        self._insert_all(
            "votes",
            ({n: {**row, "role": roles[row["reader_id"]]}[n] for n in schema.VOTES} for row in votes),
        )
        self._insert_all("vote_acts", self._acts(old, by_id, roles))
        log.log(self._level, "votes: %d; withdrawals: %d", len(votes), len(old) - len(votes))
        log.log(
            self._level,
            "votes that an added reason had made non-blind, repaired from the vote they replaced: %d",
            repaired,
        )

    def _repaired(self, votes: list[dict[str, Any]]) -> int:
        """Give votes that only added reasons to a blind vote its time and blindness back; returns how many.

        0.1.0 wrote a new row for a reason that came after the verdict was shown, with the time of the reason and
        ``verdict_visible`` set.
        """
        by_id = {row["id"]: row for row in votes}
        count = 0
        for row in votes:
            before = by_id.get(row["replaces"])
            if before is not None and _only_reasons_changed(before, row):
                row |= {name: before[name] for name in ("voted_at", "ms_to_vote", "verdict_visible")}
                count += 1
        return count

    def _acts(
        self, old: list[dict[str, Any]], by_id: Mapping[int, dict[str, Any]], roles: Mapping[str, str]
    ) -> Iterator[dict[str, Any]]:
        """Withdrawals under their old numbers, then reasons under new ones."""
        number = max(by_id, default=0)
        for row in old:
            if row["vote"] != "withdrawn":
                continue
            target = by_id[row["replaces"]]
            while target["vote"] == "withdrawn":
                target = by_id[target["replaces"]]
            yield _act(row, target["id"], roles, "withdrawal", row["id"], None, row["key"])
        for row in old:
            if row["vote"] != "withdrawn" and row["reasons"] != "[]":
                number += 1
                yield _act(row, row["id"], roles, "reasons", number, row["reasons"], None)

    def move_annotations(self) -> None:
        """Alarms, labels, prompts and gradings."""
        self._move("alarms", schema.ALARMS)
        self._move("labels", schema.LABELS)
        self._move("prompts", schema.PROMPTS)
        same = [name for name in schema.GRADINGS if name not in ("series_id", "verdict_visible")]
        self._conn.execute(
            f"INSERT INTO gradings (series_id, {', '.join(same)}) SELECT number_of.series_id,"
            f" {', '.join('o.' + name for name in same)} FROM old_gradings AS o"
            " LEFT JOIN number_of ON number_of.series_uid = o.series_uid AND number_of.own ORDER BY o.id"
        )

    def rename_cases(self) -> None:
        """A case of a series is named by study and series; its handle stays."""
        self._conn.execute(
            "UPDATE cases SET subject = 'series:' || study_uid || '/' || series_uid"
            " WHERE series_uid IS NOT NULL AND study_uid IS NOT NULL AND subject = 'series:' || series_uid"
        )

    def create_indexes(self) -> None:
        """Indexes, triggers and views, which are quicker to make once the rows are there."""
        log.log(self._level, "indexes are made")
        schema.index(self._db)

    def check(self) -> None:
        """Every row of 0.1.0 has its place.

        Raises
        ------
        QcNodeError
            A table has lost rows.
        """
        found = {name: self._count(name) for name in REBUILT}
        found["series"] -= self._conn.execute("SELECT count(*) FROM number_of WHERE NOT own").fetchone()[0]
        found["votes"] = self._count("vote_log")
        for name, count in found.items():
            if count != self._count(f"old_{name}"):
                raise QcNodeError(
                    f"The ledger {self._path} is not upgraded and stays as it is: of"
                    f" {self._count(f'old_{name}')} rows of {name} only {count} can be carried over."
                )

    def drop_old(self) -> None:
        """The tables of 0.1.0 go; their pages are used again."""
        for name in REBUILT:
            self._conn.execute(f"DROP TABLE old_{name}")
        self._conn.execute("DROP TABLE number_of")

    def check_references(self) -> None:
        """No row names a row that is not there.

        Raises
        ------
        QcNodeError
            One does.
        """
        broken = self._conn.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise QcNodeError(
                f"The ledger {self._path} is not upgraded and stays as it is: a row of {broken[0]} names a row of"
                f" {broken[2]} that is not there."
            )

    def compact(self) -> None:
        """Give back what the old tables took, after the transaction; without room for it the file stays large."""
        try:
            self._conn.execute("VACUUM")
            self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            log.warning("the ledger %s keeps its size (%s); its free pages are used again", self._path, error)

    # -- inside --------------------------------------------------------------------------------------
    def _move(self, name: str, columns: schema.Columns) -> None:
        """Copy a table whose only change is that a series is named by its number."""
        same = [column for column in columns if column != "series_id"]
        join = "JOIN" if schema_requires_series(columns) else "LEFT JOIN"
        order = next(iter(columns)) if "id" in columns else "rowid"
        self._conn.execute(
            f"INSERT INTO {name} (series_id, {', '.join(same)}) SELECT number_of.series_id,"
            f" {', '.join('o.' + column for column in same)} FROM old_{name} AS o"
            f" {join} number_of ON number_of.series_uid = o.series_uid AND number_of.own ORDER BY o.{order}"
        )

    def _insert_all(self, table: str, rows: Iterator[dict[str, Any]]) -> None:
        self._db.table(table).insert_all(rows, batch_size=1000)

    def _count(self, table: str) -> int:
        return int(self._conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


GONE_STRANGER = "These images came under a Series Instance UID of another study, and retention has removed them."
"""Why a series is skipped that 0.1.0 had judged as part of another study's."""


def schema_requires_series(columns: schema.Columns) -> bool:
    """Whether a row of a table cannot be without its series."""
    return columns["series_id"] is int


def _only_reasons_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a vote said no more than other reasons for a vote that was cast blind."""
    return (
        before["reader_id"] == after["reader_id"]
        and before["vote"] == after["vote"]
        and set(json.loads(before["reasons"])) != set(json.loads(after["reasons"]))
        and not before["verdict_visible"]
        and bool(after["verdict_visible"])
    )


def _act(
    row: Mapping[str, Any],
    vote_id: int,
    roles: Mapping[str, str],
    kind: str,
    number: int,
    value: str | None,
    key: str | None,
) -> dict[str, Any]:
    """A row of ``vote_acts`` from a vote of 0.1.0."""
    return {
        "id": number,
        "vote_id": vote_id,
        "kind": kind,
        "value": value,
        "undoes": None,
        "key": key,
        "reader_id": row["reader_id"],
        "role": roles[row["reader_id"]],
        "at": row["voted_at"],
        "received_at": row["received_at"],
        "source": row["source"],
        "verdict_visible": row["verdict_visible"],
        "presentation": row["presentation"],
    }


def _tell_pages(status: int, remaining: int, total: int) -> None:
    log.info("copied: %d of %d MiB", (total - remaining) * 4 // 1024, total * 4 // 1024)


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
