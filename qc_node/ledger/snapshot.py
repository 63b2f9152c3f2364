"""A copy of the ledger as it is at one moment, made while others write, and what a restore of it needs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from qc_node.ledger.database import schema_of
from qc_node.ledger.integrity import damaged, explained, is_damage, quick_check
from qc_node.ledger.migrations import MIGRATIONS

STEP_PAGES = 4096
"""Pages, of 4 KB as a rule, between two calls of the progress."""
CHECK_S = 3600.0
"""A copy is looked through whole; more time than any ledger takes."""

NEEDED_IMAGES = """
SELECT path FROM instances JOIN series USING (series_id)
WHERE superseded_at IS NULL AND (images_removed_at IS NULL OR images_removed_at <= last_received)
AND (state NOT IN ('reported', 'skipped') OR EXISTS (
    SELECT 1 FROM reports JOIN deliveries USING (sop_instance_uid)
    WHERE reports.series_id = series.series_id AND deliveries.state = 'pending'))
UNION
SELECT path FROM instances JOIN objects USING (instance_id) WHERE superseded_at IS NULL AND handled <= 0
ORDER BY path
"""
"""Images that are still to be judged, failed, or have a report that is not delivered, and objects in which nobody
has looked for votes: what the node still owes somebody."""
REPORTS = "SELECT DISTINCT path FROM reports ORDER BY path"
TRAINING = (
    "SELECT training_path FROM verdicts WHERE training_path IS NOT NULL"
    " UNION SELECT path FROM kept_inputs ORDER BY training_path"
)
THUMBNAILS = "SELECT DISTINCT value FROM verdicts, json_each(verdicts.thumbnails) ORDER BY value"

Progress = Callable[[int, int], None]
"""Told how many of how many pages are copied."""


def take(path: Path, to: Path, progress: Progress) -> None:
    """Copy the ledger `path` to the new file `to`, as it is when this begins, and prove that the copy is sound.

    A running node goes on writing; what it writes meanwhile is not in the copy.  The copy is one file without a
    log, readable by this user only, and is on the disk when this returns.

    Raises
    ------
    LedgerDamagedError
        The ledger is damaged: no copy of it is worth keeping.
    LedgerError
        It cannot be read, or the copy cannot be written; the sentence names the file.
    """
    try:
        os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", 30.0, uri=True)) as source:
            source.isolation_level = None
            source.execute("BEGIN")  # all steps see what this read sees: a writer does not make it begin anew
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            with closing(sqlite3.connect(to, isolation_level=None)) as copy:
                source.backup(copy, pages=STEP_PAGES, progress=lambda _, left, all: progress(all - left, all))
                copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise explained(path if is_damage(error) else to, error) from error
    found = quick_check(to, CHECK_S)
    if found.problems:
        raise damaged(path, found.problems[0])


class Snapshot:
    """Reads such a copy.

    Parameters
    ----------
    path
        What :func:`take` made; nobody may write into it.
    """

    def __init__(self, path: Path) -> None:
        self._conn = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        self.schema = schema_of(path)

    @property
    def is_current(self) -> bool:
        """Whether its tables are those of this program; another one's cannot be asked which files matter."""
        return self.schema == len(MIGRATIONS)

    def needed_images(self) -> Iterator[str]:
        """Spool names of the images that a restored node still has work with, in order."""
        return self._names(NEEDED_IMAGES)

    def reports(self) -> Iterator[str]:
        """Spool names of everything that the node wrote, in order of their names."""
        return self._names(REPORTS)

    def thumbnails(self) -> Iterator[str]:
        """Spool names of the pictures of judged series, in order of their names."""
        return self._names(THUMBNAILS)

    def training(self) -> Iterator[str]:
        """Spool names of network inputs of judged series and of pictures of others, in order of their names."""
        return self._names(TRAINING)

    def count(self, table: str) -> int:
        """How many rows `table` has."""
        return int(self._conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._conn.close()

    def _names(self, sql: str) -> Iterator[str]:
        return (str(name) for (name,) in self._conn.execute(sql))
