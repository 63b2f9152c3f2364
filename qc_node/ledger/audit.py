"""What an auditor may ask about, append-only; no row holds patient data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from qc_node.ledger.database import Database
from qc_node.ledger.rows import AuditRow

FORGOTTEN_EVENT = "forgotten"
"""A patient or a study was forgotten; the detail says how much there was and names nobody."""


class Audit:
    """One row per event, in order."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, event: str, actor: str, at: float, detail: Mapping[str, object] | None = None) -> int:
        """Write one event; `actor` is a reader's id, a command or a part of the program.  Returns its number."""
        row = {"at": at, "event": event, "actor": actor, "detail": json.dumps(dict(detail or {}))}
        return self._db.insert("audit", row)

    def newest(self) -> int:
        """The number of the newest event, 0 when there is none."""
        return int(self._db.value("SELECT coalesce(max(id), 0) FROM audit"))

    def of(self, event: str) -> list[AuditRow]:
        """Every event of one kind, in order."""
        return self._db.rows("SELECT * FROM audit WHERE event = ? ORDER BY id", (event,), of=AuditRow)

    def last(self, events: Sequence[str]) -> AuditRow | None:
        """The last one of some kinds of event."""
        sql = f"SELECT * FROM audit WHERE event IN ({','.join('?' * len(events))}) ORDER BY id DESC LIMIT 1"
        return self._db.row(sql, tuple(events), of=AuditRow)

    def after(self, number: int, limit: int = 500) -> list[AuditRow]:
        """Events written after one, in order."""
        sql = "SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT ?"
        return self._db.rows(sql, (number, limit), of=AuditRow)

    def newest_of(self, events: Sequence[str], limit: int = 20) -> list[AuditRow]:
        """The last events of some kinds, newest first."""
        sql = f"SELECT * FROM audit WHERE event IN ({','.join('?' * len(events))}) ORDER BY id DESC LIMIT ?"
        return self._db.rows(sql, (*events, limit), of=AuditRow)
