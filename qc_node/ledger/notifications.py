"""Notifications: what is to be told to whom, until somebody has taken it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qc_node.ledger.database import Database
from qc_node.ledger.rows import NotificationRow


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

    def due(self, now: float, limit: int) -> list[NotificationRow]:
        """What may be told now, oldest first."""
        return self._db.rows(
            "SELECT * FROM notifications WHERE sent_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= ?"
            " ORDER BY next_attempt_at, id LIMIT ?",
            (now, limit),
            of=NotificationRow,
        )

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
