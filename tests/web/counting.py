"""Counts what SQLite is asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock


@dataclass
class Statements:
    """Every statement that SQLite began to run, by any connection opened meanwhile."""

    said: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many so far."""
        return len(self.said)


@contextmanager
def counted_statements() -> Iterator[Statements]:
    """Connections that ledgers open inside are listened to; the statements themselves run as ever."""
    found, connect = Statements(), sqlite3.connect

    def listening(*args: Any, **more: Any) -> sqlite3.Connection:
        conn: sqlite3.Connection = connect(*args, **more)
        conn.set_trace_callback(found.said.append)
        return conn

    with mock.patch("qc_node.ledger.database.sqlite3.connect", listening):
        yield found
