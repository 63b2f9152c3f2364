"""Rows of images that retention has removed, condensed: six bytes for each SOP Instance UID.

A live image takes a row of some 440 bytes with its indexes.  Once its file is gone, all that is still asked is
whether an image that is sent again belonged to the series: a digest of its UID answers that.  What was judged,
when, and what was reported stays in the rows of the series, and every UID in the evidence of its report.

Invariant: a series has ``images_removed_at`` exactly while it has a row in ``emptied``; ``open`` is 1 there while
rows of images may be left or have come again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence

from qc_node.ledger.corrections import LEFT_BEHIND
from qc_node.ledger.database import Database
from qc_node.ledger.measured import PACKED
from qc_node.ledger.packing import FORMAT, FORMAT_OF_MEASURES, pack, plain
from qc_node.ledger.rows import PathRow, QuarantineRow, RemovableRow, SeriesRow

DIGEST_BYTES = 6
"""A new image passes for one that a series of a thousand had before once in 10^11 times."""
PART = 80
"""So many digests are in a row; eight such rows fill a page of 4 KiB."""

FINISHED = (
    "state IN ('reported', 'skipped', 'failed') AND NOT EXISTS ("
    " SELECT 1 FROM reports CROSS JOIN deliveries USING (sop_instance_uid)"
    " WHERE reports.series_id = series.series_id AND deliveries.state = 'pending')"
)
"""Nothing of a series waits to be judged, written or delivered."""


def uid_digest(sop_instance_uid: str) -> bytes:
    """What is kept of the UID of a removed instance."""
    name = sop_instance_uid.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(name, digest_size=DIGEST_BYTES).digest()


class Removals:
    """What retention asks of the ledger and tells it.

    It works in small transactions, each of which leaves the ledger true: the series is marked, then files go,
    then the rows of these files.  A kill in between leaves rows, and the next look goes on from there.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    # -- images --------------------------------------------------------------------------------------
    def due(self, older_than: float, after: tuple[float, int] = (0.0, 0), limit: int = 100) -> list[SeriesRow]:
        """Finished series whose images may go, oldest first, `after` a ``(last_received, series_id)``."""
        return self._db.rows(
            "SELECT * FROM series WHERE images_removed_at IS NULL AND last_received < ?"
            f" AND (last_received, series_id) > (?, ?) AND {FINISHED}"
            " ORDER BY last_received, series_id LIMIT ?",
            (older_than, *after, limit),
            of=SeriesRow,
        )

    def due_again(self, older_than: float, after: int = 0, limit: int = 100) -> list[SeriesRow]:
        """Finished series that were emptied and have rows again, or still: late images, a killed removal."""
        return self._db.rows(
            "SELECT series.* FROM emptied CROSS JOIN series USING (series_id) WHERE open >= 1"
            f" AND emptied.series_id > ? AND last_received < ? AND {FINISHED}"
            " ORDER BY emptied.series_id LIMIT ?",
            (after, older_than, limit),
            of=SeriesRow,
        )

    def begin(self, series_id: int, last_received: float, at: float) -> list[int] | None:
        """Mark a series as without images; numbers of the instances that are to go, None if one came.

        From now on it is not judged.  What comes later is not among the numbers and stays.
        """
        with self._db.transaction() as conn:
            marked = conn.execute(
                "UPDATE series SET images_removed_at = ? WHERE series_id = ? AND last_received = ?"
                f" AND {FINISHED}",
                (at, series_id, last_received),
            )
            if marked.rowcount != 1:
                return None
            mark_emptied(conn, series_id)
            sql = "SELECT instance_id FROM instances WHERE series_id = ? ORDER BY instance_id"
            return [row[0] for row in conn.execute(sql, (series_id,))]

    def paths(self, instances: Collection[int]) -> list[str]:
        """Spool names of instances by their numbers."""
        sql = "SELECT path FROM instances WHERE instance_id IN (SELECT value FROM json_each(?))"
        return [row["path"] for row in self._db.rows(sql, (json.dumps(list(instances)),), of=PathRow)]

    def condense(self, series_id: int, instances: Collection[int], at: float) -> None:
        """Delete the rows of images whose files are gone; digests of their UIDs stay."""
        numbers = json.dumps(list(instances))
        with self._db.transaction() as conn:
            sql = (
                "SELECT sop_instance_uid FROM instances WHERE superseded_at IS NULL"
                " AND instance_id IN (SELECT value FROM json_each(?))"
            )
            gone = [str(row[0]) for row in conn.execute(sql, (numbers,))]
            conn.execute("DELETE FROM instances WHERE instance_id IN (SELECT value FROM json_each(?))", (numbers,))
            if gone:
                mark_emptied(conn, series_id)
                _add_digests(conn, series_id, gone)
                sql = "UPDATE series SET images_removed_at = coalesce(images_removed_at, ?) WHERE series_id = ?"
                conn.execute(sql, (at, series_id))

    def end(self, series_id: int) -> None:
        """All that was to go is gone: pack what was judged, and look at the series again once it has rows.

        Its history goes: how its last run ended stands in its row.  What people must remove at the PACS
        stays.  So do commitment requests whose object the destination has promised to keep: no answer to
        them is news.
        """
        with self._db.transaction() as conn:
            _pack(conn, "verdicts", "id", ("verdict", "claims", "warnings", "timings", "thumbnails"), series_id)
            _pack(conn, "series", "series_id", ("claims",), series_id)
            _pack(conn, "measured", "measured_id", PACKED, series_id, FORMAT_OF_MEASURES)
            conn.execute("DELETE FROM events WHERE series_id = ? AND event != ?", (series_id, LEFT_BEHIND))
            conn.execute("UPDATE verdicts SET source_path = '' WHERE series_id = ?", (series_id,))
            conn.execute(
                "DELETE FROM commitments WHERE delivery_id IN (SELECT deliveries.id FROM reports"
                " CROSS JOIN deliveries USING (sop_instance_uid)"
                " WHERE reports.series_id = ? AND deliveries.state = 'committed')",
                (series_id,),
            )
            conn.execute(
                "UPDATE emptied SET open = EXISTS (SELECT 1 FROM instances WHERE series_id = ?1)"
                " WHERE series_id = ?1",
                (series_id,),
            )

    # -- what opens no series ------------------------------------------------------------------------
    def objects(self, older_than: float, limit: int = 100) -> list[RemovableRow]:
        """Objects that open no series, have been looked at and are past their time."""
        return self._db.rows(
            "SELECT instance_id, sop_instance_uid, path FROM objects CROSS JOIN instances USING (instance_id)"
            " WHERE handled >= 1 AND received_at < ? ORDER BY instance_id LIMIT ?",
            (older_than, limit),
            of=RemovableRow,
        )

    def forget_object(self, instance_id: int) -> None:
        """Delete the rows of an object whose file is gone; its study remembers that it was looked at."""
        with self._db.transaction() as conn:
            row = conn.execute(
                "SELECT study_uid, sop_instance_uid FROM objects JOIN instances USING (instance_id)"
                " WHERE instance_id = ?",
                (instance_id,),
            ).fetchone()
            if row is None:
                return
            conn.execute("DELETE FROM objects WHERE instance_id = ?", (instance_id,))
            conn.execute("DELETE FROM instances WHERE instance_id = ?", (instance_id,))
            known = digests_of_objects(conn, row["study_uid"]) | {uid_digest(row["sop_instance_uid"])}
            sql = "INSERT OR REPLACE INTO removed_objects (study_uid, digests) VALUES (?,?)"
            conn.execute(sql, (row["study_uid"], b"".join(sorted(known))))

    # -- quarantine ----------------------------------------------------------------------------------
    def refused(self, older_than: float, limit: int = 100) -> list[QuarantineRow]:
        """Quarantined things that are past their time."""
        sql = "SELECT * FROM quarantine WHERE received_at < ? ORDER BY received_at LIMIT ?"
        return self._db.rows(sql, (older_than, limit), of=QuarantineRow)

    def forget_refused(self, numbers: Sequence[int]) -> None:
        """Delete rows of the quarantine."""
        with self._db.transaction() as conn:
            conn.execute(
                "DELETE FROM quarantine WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),)
            )

    # -- what the ledger knows -----------------------------------------------------------------------
    def named(self, folder: str) -> Iterator[str]:
        """Spool names that rows give for files in one of the folders of the spool, one after the other.

        Of images those that may be there: versions that another one has replaced, and rows of series that 0.2 has
        emptied, are passed over; who finds such a file nevertheless (after a kill) finds its row by its UID.

        Raises
        ------
        KeyError
            No row names files of `folder`.
        """
        for row in self._db.conn.execute(NAMED[folder]):
            yield from json.loads(plain(row["path"])) if folder == "thumbnails" else (str(row["path"]),)


NAMED = {
    "images": (
        "SELECT path FROM series CROSS JOIN instances USING (series_id) WHERE images_removed_at IS NULL"
        " AND superseded_at IS NULL"
        " UNION ALL SELECT path FROM emptied CROSS JOIN instances USING (series_id) WHERE open = 1 AND open >= 1"
        " AND superseded_at IS NULL"
        " UNION ALL SELECT path FROM objects CROSS JOIN instances USING (instance_id) WHERE superseded_at IS NULL"
    ),
    "reports": "SELECT path FROM reports",
    "quarantine": "SELECT path FROM quarantine",
    "training": (
        "SELECT training_path AS path FROM verdicts WHERE training_path IS NOT NULL"
        " UNION ALL SELECT path FROM kept_inputs"
    ),
    "thumbnails": "SELECT thumbnails AS path FROM verdicts WHERE thumbnails != '[]'",
}
"""For each folder of the spool, the query of all names that it may hold."""


def mark_emptied(conn: sqlite3.Connection, series_id: int) -> None:
    """There may be rows of a series that has ``images_removed_at``: look at it when its time comes."""
    conn.execute(
        "INSERT INTO emptied (series_id, open) VALUES (?, 1) ON CONFLICT (series_id) DO UPDATE SET open = 1",
        (series_id,),
    )


def digests_of(conn: sqlite3.Connection, series_id: int) -> set[bytes]:
    """Digests of the images of a series whose rows are gone."""
    sql = "SELECT digests FROM removed_images WHERE series_id = ?"
    return set().union(*(_single(row["digests"]) for row in conn.execute(sql, (series_id,))))


def digests_of_objects(conn: sqlite3.Connection, study_uid: str) -> set[bytes]:
    """Digests of the objects of a study that opened no series and whose rows are gone."""
    row = conn.execute("SELECT digests FROM removed_objects WHERE study_uid = ?", (study_uid,)).fetchone()
    return set() if row is None else _single(row["digests"])


def forget_emptied(conn: sqlite3.Connection, series_id: int) -> None:
    """Every image of a series is back."""
    conn.execute("DELETE FROM removed_images WHERE series_id = ?", (series_id,))
    conn.execute("DELETE FROM emptied WHERE series_id = ?", (series_id,))


def _single(digests: bytes) -> set[bytes]:
    return {digests[n : n + DIGEST_BYTES] for n in range(0, len(digests), DIGEST_BYTES)}


def _add_digests(conn: sqlite3.Connection, series_id: int, uids: Iterable[str]) -> None:
    new = sorted({uid_digest(uid) for uid in uids} - digests_of(conn, series_id))
    parts = (new[n : n + PART] for n in range(0, len(new), PART))
    conn.executemany(
        "INSERT INTO removed_images (series_id, digests) VALUES (?,?)",
        [(series_id, b"".join(part)) for part in parts],
    )


def _pack(
    conn: sqlite3.Connection, table: str, key: str, columns: Sequence[str], series_id: int, form: bytes = FORMAT
) -> None:
    found = conn.execute(f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE series_id = ?", (series_id,))
    assignments = ", ".join(f"{column} = ?" for column in columns)
    for number, *texts in found.fetchall():
        packed = [pack(text, form) for text in texts]
        conn.execute(f"UPDATE {table} SET {assignments} WHERE {key} = ?", (*packed, number))
