"""Notifications: what is to be told to whom, until somebody has taken it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qc_node.ledger.database import Database
from qc_node.ledger.rows import NotificationRow

_WAITS = "sent_at IS NULL AND given_up_at IS NULL"


class Notifications:
    """One row per event and target."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, event: str, target: str, body: Mapping[str, Any], at: float) -> None:
        """Have `target` told; `body` holds no patient data."""
        row = {
            "event": event,
            "target": target,
            "body": json.dumps(body, ensure_ascii=False),
            "created_at": at,
            "next_attempt_at": at,
        }
        self._db.insert("notifications", row)

    def due(self, now: float, limit: int, longest_s: float) -> list[NotificationRow]:
        """What may be told now, oldest first.

        Also what would wait longer than the `longest_s` that anything does: the wall clock was set.
        """
        return self._db.rows(
            f"SELECT * FROM notifications WHERE {_WAITS} AND (next_attempt_at <= ? OR next_attempt_at > ?)"
            " ORDER BY +id LIMIT ?",  # the + has SQLite look at what waits, not at every row
            (now, now + longest_s, limit),
            of=NotificationRow,
        )

    def next_attempt_at(self) -> float | None:
        """When the next one is due."""
        value = self._db.value(f"SELECT min(next_attempt_at) FROM notifications WHERE {_WAITS}")
        return None if value is None else float(value)

    def waiting(self) -> int:
        """How many nobody has taken yet."""
        return int(self._db.value(f"SELECT count(*) FROM notifications WHERE {_WAITS}"))

    def postpone(self, target: str, at: float) -> None:
        """Tell a target that is away nothing before then."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE notifications SET next_attempt_at = max(next_attempt_at, ?)"
                f" WHERE {_WAITS} AND target = ?",
                (at, target),
            )

    def give_up(self, target: str, before: float, error: str, at: float) -> int:
        """Tell a target nothing any more of what was made before then; returns of how much."""
        with self._db.transaction() as conn:
            sql = (
                "UPDATE notifications SET given_up_at = ?, last_error = ?"
                f" WHERE {_WAITS} AND target = ? AND created_at <= ?"
            )
            return conn.execute(sql, (at, error, target, before)).rowcount

    def remove(self, before: float) -> int:
        """Remove what was made before then and is done with; returns how many."""
        with self._db.transaction() as conn:
            sql = f"DELETE FROM notifications WHERE created_at < ? AND NOT ({_WAITS})"
            return conn.execute(sql, (before,)).rowcount

    def sent(self, notification_id: int, at: float) -> None:
        """Somebody took it."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE notifications SET sent_at = ? WHERE id = ?", (at, notification_id))

    def failed(self, notification_id: int, error: str, again_at: float | None, at: float) -> None:
        """Nobody took it; it is told again at `again_at`, or given up where that is None."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE notifications SET attempts = attempts + 1, last_error = ?,"
                " next_attempt_at = coalesce(?, next_attempt_at), given_up_at = ? WHERE id = ?",
                (error, again_at, None if again_at is not None else at, notification_id),
            )
