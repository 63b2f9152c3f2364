"""The SQLite file: connections, transactions, typed rows.

WAL with ``synchronous=FULL``: a committed row survives ``kill -9`` and a power cut (of received images a power cut
may take rows: they are made again from the files).  Every thread has its own
connection; writers take the lock at the start of a transaction (``BEGIN IMMEDIATE``), so that two of
them wait for each other instead of failing half-way.

What is sqlite-utils' and what is ours: sqlite-utils makes the tables and indexes (:mod:`qc_node.ledger.schema`),
writes the votes during the upgrade and does the inserts that happen a few times a minute at most (it looks the
table up for each).  Everything on the way of an image or of a vote, every update and every query with a join is
SQL, written beside the table that it is about.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, overload

import sqlite_utils

from qc_node.domain import QcNodeError
from qc_node.ledger.integrity import LedgerDamagedError, LedgerError, damaged, explained, refuse_foreign
from qc_node.ledger.migrations import bring_up_to_date
from qc_node.ledger.rows import AnyRow

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for another one."""

PROBE_CHARACTERS = 8192
"""A row of so many needs pages of its own, so that a file that cannot grow shows."""

MODE = 0o640
"""Of a new ledger: it holds accession numbers, and hashes of PINs."""

R = TypeVar("R")


class Database:
    """One SQLite file, opened once per thread.

    Raises
    ------
    QcNodeError
        The file cannot be opened, or was written by a newer qc-node.
    LedgerDamagedError
        It is no ledger, or damaged.  Every method raises this, and :class:`LedgerError`, in place of SQLite's own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: str | None = None
        """What shows that the file is damaged; stays until a restart."""
        self._local = threading.local()
        if path.is_dir():
            raise damaged(path, "it is a folder")
        try:
            _make_private(path)
            bring_up_to_date(path)
        except (sqlite3.Error, OSError) as error:
            told = explained(path, error) if isinstance(error, sqlite3.Error) else error
            if isinstance(told, LedgerDamagedError):
                raise told from error
            raise QcNodeError(f"The ledger {path} cannot be opened: {error}.") from error

    @property
    def utils(self) -> sqlite_utils.Database:
        """This thread's connection, as sqlite-utils sees it."""
        db: sqlite_utils.Database | None = getattr(self._local, "db", None)
        if db is None:
            conn = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            conn.row_factory = sqlite3.Row
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute("PRAGMA synchronous=FULL")
            conn.execute("PRAGMA foreign_keys=ON")
            conn.execute("PRAGMA wal_autocheckpoint=2000")
            conn.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
            db = sqlite_utils.Database(conn)
            self._local.db = db
        return db

    @property
    def conn(self) -> sqlite3.Connection:
        """This thread's connection."""
        conn: sqlite3.Connection = self.utils.conn
        return conn

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Inside, an error of SQLite that the file is the reason of becomes one sentence that names it."""
        try:
            yield
        except sqlite3.Error as error:
            self._explain(error)

    def _explain(self, error: sqlite3.Error) -> NoReturn:
        told = explained(self.path, error)
        if isinstance(told, LedgerDamagedError):
            self.note_damage(str(told))
        raise told from (None if told is error else error)

    def note_damage(self, sentence: str) -> None:
        """Remember what first showed that the file is damaged."""
        self.damage = self.damage or sentence

    @contextmanager
    def transaction(self, *, flush: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing; nested use joins the outer transaction.

        Without `flush` it survives a kill of the process, and a power cut only once a later transaction was
        flushed: for rows that can be made again.
        """
        with self.explaining():
            conn = self.conn
            if conn.in_transaction:
                yield conn
                return
            if not flush:
                conn.execute("PRAGMA synchronous=NORMAL")
            try:
                conn.execute("BEGIN IMMEDIATE")
                try:
                    yield conn
                except BaseException:
                    _roll_back(conn)
                    raise
                conn.execute("COMMIT")
            finally:
                if not flush:
                    conn.execute("PRAGMA synchronous=FULL")

    def insert(self, table: str, row: AnyRow, *, ignore: bool = False) -> int:
        """Write one row by sqlite-utils; its rowid.  With `ignore` a row that is there already stays as it is."""
        with self.transaction() as conn:
            self.utils.table(table).insert(dict(row), ignore=ignore)
            return int(conn.execute("SELECT last_insert_rowid()").fetchone()[0])

    @overload
    def rows(self, sql: str, params: Sequence[Any] = (), *, of: type[R]) -> list[R]: ...
    @overload
    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[AnyRow]: ...
    def rows(self, sql: str, params: Sequence[Any] = (), *, of: Any = None) -> Any:
        """All rows of a query, of the type `of` (one of :mod:`qc_node.ledger.rows`)."""
        try:  # not by :meth:`explaining`, which costs as much as a short query
            return [dict(row) for row in self.conn.execute(sql, params)]
        except sqlite3.Error as error:
            self._explain(error)

    def tuples(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query as they come: for long lists of narrow rows."""
        with self.explaining():
            cursor = self.conn.cursor()
            cursor.row_factory = None
            return cursor.execute(sql, params).fetchall()

    @overload
    def row(self, sql: str, params: Sequence[Any] = (), *, of: type[R]) -> R | None: ...
    @overload
    def row(self, sql: str, params: Sequence[Any] = ()) -> AnyRow | None: ...
    def row(self, sql: str, params: Sequence[Any] = (), *, of: Any = None) -> Any:
        """The first row of a query, of the type `of`, or None."""
        try:
            row = self.conn.execute(sql, params).fetchone()
        except sqlite3.Error as error:
            self._explain(error)
        return None if row is None else dict(row)

    def value(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        try:
            row = self.conn.execute(sql, params).fetchone()
        except sqlite3.Error as error:
            self._explain(error)
        return None if row is None else row[0]

    def close(self) -> None:
        """Close this thread's connection."""
        db = getattr(self._local, "db", None)
        if db is not None:
            db.conn.close()
            self._local.db = None


def prove_writable(path: Path, timeout_s: float) -> None:
    """Write a row of two pages and remove it again, in one transaction that reaches the disk.

    What the receiver needs: the lock, room for the row, the write-ahead log, its sync.  Nobody sees the row, and a
    kill in between takes it along.  The table of quarantine is the same in every schema.

    Raises
    ------
    QcNodeError
        The lock is not free within `timeout_s`, or the row cannot be written; the sentence names the file.
    """
    row = ("-" * PROBE_CHARACTERS, "", "", 0.0)
    try:
        with closing(sqlite3.connect(_uri(path, "rw"), timeout_s, isolation_level=None, uri=True)) as conn:
            conn.execute("PRAGMA synchronous=FULL")
            conn.execute("BEGIN IMMEDIATE")
            sql = "INSERT INTO quarantine (path, reason, calling_ae, received_at) VALUES (?,?,?,?)"
            number = conn.execute(sql, row).lastrowid
            conn.execute("DELETE FROM quarantine WHERE id = ?", (number,))
            conn.execute("COMMIT")
    except sqlite3.Error as error:
        told = explained(path, error)
        if isinstance(told, LedgerDamagedError):
            raise told from error
        raise LedgerError(f"The ledger {path} cannot be written: {error}.") from error


def _make_private(path: Path) -> None:
    """Make the file before SQLite does, which would let everybody read it; its log takes over the rights."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, MODE))


def _roll_back(conn: sqlite3.Connection) -> None:
    if conn.in_transaction:  # a full disk has rolled back already
        conn.execute("ROLLBACK")


def _uri(path: Path, mode: str) -> str:
    return f"{path.resolve().as_uri()}?mode={mode}"


def schema_of(path: Path) -> int:
    """The schema version of a ledger, read without changing anything.

    Raises
    ------
    LedgerDamagedError
        The file is no ledger.
    QcNodeError
        It cannot be read.
    """
    if path.is_dir():
        raise damaged(path, "it is a folder")
    try:
        with closing(sqlite3.connect(_uri(path, "ro"), 2.0, uri=True)) as conn:
            refuse_foreign(conn, path)
            return int(cast("int", conn.execute("PRAGMA user_version").fetchone()[0]))
    except LedgerDamagedError:
        raise
    except sqlite3.Error as error:
        told = explained(path, error)
        if isinstance(told, LedgerDamagedError):
            raise told from error
        raise LedgerError(f"The ledger {path} cannot be read: {error}.") from error
