"""A ledger that is damaged: what is said when it shows, and looking for it before it does.

SQLite keeps no checksum of its pages.  A page that was overwritten shows when something reads it
(:class:`LedgerDamagedError`), or when ``PRAGMA quick_check`` walks through the whole file; content that was
altered inside an intact page shows to nobody.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from qc_node.domain import QcNodeError

CORRUPT, NOT_A_DATABASE = 11, 26
"""Primary result codes of SQLite (sqlite.org/rescode.html)."""
UNDECODABLE = "Could not decode to UTF-8"
"""How Python's own error begins when a text is none; it has no code."""
OURS = frozenset({"studies", "series", "instances"})
"""Tables that every ledger has had since 0.1.0."""
MOST_PROBLEMS = 5
"""A damaged file may have thousands of problems; the first ones say enough."""
WHAT_TO_DO = (
    "Stop the node and put a backup back with `qc-node restore DIR --replace-ledger`; without one, save the rows"
    " that can still be read (docs/operations.md, 'A damaged ledger')"
)


class LedgerError(QcNodeError, sqlite3.OperationalError):
    """SQLite cannot do its work with the ledger: locked, read-only, no room, no file."""


class LedgerDamagedError(QcNodeError, sqlite3.DatabaseError):
    """The ledger's file is not what SQLite, or qc-node, has written."""


def explained(path: Path, error: sqlite3.Error) -> sqlite3.Error:
    """`error` as one sentence that names the file, where the file is the reason; any other as it is."""
    if is_damage(error):
        return damaged(path, str(error))
    if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 1) & 0xFF != 1:
        return LedgerError(f"The ledger {path} cannot be used: {error}.")
    return error


def damaged(path: Path, reason: str) -> LedgerDamagedError:
    """What is said about a damaged ledger."""
    return LedgerDamagedError(f"The ledger {path} is damaged ({reason}). {WHAT_TO_DO}.")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether `error` says that the file itself is at fault."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (CORRUPT, NOT_A_DATABASE) or str(error).startswith(UNDECODABLE)


def refuse_foreign(conn: sqlite3.Connection, path: Path) -> None:
    """Make sure that an opened file is empty or a ledger, before anything is written into it.

    Raises
    ------
    LedgerDamagedError
        It holds the tables of another program.
    """
    tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if not tables and version == 0:
        return
    if not tables >= OURS:
        raise damaged(path, "it is a database of another program")


class Checked(NamedTuple):
    """What :func:`quick_check` found: whether it came to the end, and the first problems."""

    finished: bool
    problems: tuple[str, ...]
    seconds: float


def quick_check(path: Path, limit_s: float, clock: Callable[[], float] = time.monotonic) -> Checked:
    """Walk through every page of the ledger, for at most about `limit_s` seconds.

    Nothing is changed, and a running node is not held up: in the write-ahead log a reader blocks no writer.

    Raises
    ------
    LedgerDamagedError, LedgerError
        The file cannot be opened as a database at all.
    """
    began = clock()
    try:
        lines = _complaints(path, limit_s)
    except sqlite3.Error as error:
        if clock() - began < limit_s and not is_damage(error):
            raise explained(path, error) from error
        lines = [str(error)]
    seconds = clock() - began
    if "ok" in lines:
        return Checked(True, (), seconds)
    # a check that was interrupted has not seen all pages, and complains about those
    return Checked(True, tuple(lines), seconds) if seconds < limit_s else Checked(False, (), seconds)


def _complaints(path: Path, limit_s: float) -> list[str]:
    """What ``quick_check`` says, line by line; it is interrupted after `limit_s` seconds."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", 2.0, uri=True)) as conn:
        conn.text_factory = lambda text: text.decode(errors="replace")
        # a timer and not a progress handler: before SQLite 3.41 the check asks for none
        watch = threading.Timer(limit_s, conn.interrupt)
        watch.start()
        try:
            texts = [str(text) for (text,) in conn.execute(f"PRAGMA quick_check({MOST_PROBLEMS})")]
        finally:
            watch.cancel()
            watch.join()
    return [line for text in texts for line in text.splitlines() if not line.startswith("***")]
