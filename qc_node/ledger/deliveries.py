"""Objects that the node wrote, and the durable outbox that carries them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qc_node.ledger.database import Database

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """An object of the node's own, already durable in the spool; ``kind`` is ``sr``, ``kos`` or ``vote``."""

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    run: int
    kind: str
    path: str
    predecessor: str | None = None


class Deliveries:
    """Reports and the places they must reach; the order of ``id`` is the order of sending."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def post(
        self,
        objects: Sequence[WrittenObject],
        destinations: Sequence[str],
        at: float,
        *,
        reported: tuple[str, int] | None = None,
    ) -> None:
        """Write report and outbox rows in one transaction; what is already there stays as it is.

        ``reported`` is the ``(series_uid, run)`` whose state becomes ``reported`` with it.
        """
        with self._db.transaction() as conn:
            for o in objects:
                conn.execute(
                    "INSERT OR IGNORE INTO reports (sop_instance_uid, sop_class_uid, series_uid, study_uid, run,"
                    " kind, path, predecessor, created_at) VALUES (?,?,?,?,?,?,?,?,?)",
                    (
                        o.sop_instance_uid,
                        o.sop_class_uid,
                        o.series_uid,
                        o.study_uid,
                        o.run,
                        o.kind,
                        o.path,
                        o.predecessor,
                        at,
                    ),
                )
                for destination in destinations:
                    conn.execute(
                        "INSERT OR IGNORE INTO deliveries (sop_instance_uid, destination, next_attempt_at,"
                        " created_at) VALUES (?,?,?,?)",
                        (o.sop_instance_uid, destination, at, at),
                    )
            if reported is not None:
                conn.execute(
                    "UPDATE series SET state = 'reported' WHERE series_uid = ? AND run = ? AND state = 'judged'",
                    reported,
                )

    def last_report(self, series_uid: str, kind: str = "sr", before_run: int | None = None) -> Row | None:
        """The newest report of a series (of a run before `before_run`)."""
        sql = "SELECT * FROM reports WHERE series_uid = ? AND kind = ? AND run < ? ORDER BY run DESC LIMIT 1"
        return self._db.row(sql, (series_uid, kind, before_run if before_run is not None else 1 << 62))

    def reports_of(self, series_uid: str) -> list[Row]:
        """All objects written for a series."""
        sql = "SELECT * FROM reports WHERE series_uid = ? ORDER BY created_at"
        return self._db.rows(sql, (series_uid,))

    def is_ours(self, sop_instance_uid: str) -> bool:
        """Whether the node wrote this object itself."""
        sql = "SELECT 1 FROM reports WHERE sop_instance_uid = ?"
        return self._db.value(sql, (sop_instance_uid,)) is not None

    # -- the outbox ----------------------------------------------------------------------------------
    def next_pending(self, destination: str, now: float, limit: int = 50) -> list[Row]:
        """What goes next to `destination`: the head of the line and what follows it, in order.

        Empty while the head is waiting for its next attempt, because order is kept.
        """
        rows = self._db.rows(
            "SELECT deliveries.*, reports.path, reports.sop_class_uid, reports.series_uid, reports.study_uid,"
            " reports.run, reports.kind FROM deliveries JOIN reports USING (sop_instance_uid)"
            " WHERE destination = ? AND deliveries.state = 'pending' ORDER BY deliveries.id LIMIT ?",
            (destination, limit),
        )
        if rows and rows[0]["next_attempt_at"] > now:
            return []
        return rows

    def next_attempt_at(self, destination: str) -> float | None:
        """When the head of the line for `destination` is due."""
        value = self._db.value(
            "SELECT next_attempt_at FROM deliveries WHERE destination = ? AND state = 'pending'"
            " ORDER BY id LIMIT 1",
            (destination,),
        )
        return None if value is None else float(value)

    def sent(self, delivery_id: int, at: float, note: str | None = None) -> None:
        """The destination answered 0x0000, or stored it with a warning that `note` tells."""
        self._set("state = 'sent', sent_at = ?, attempts = attempts + 1, last_error = ?", (at, note), delivery_id)

    def retry(self, delivery_id: int, next_attempt_at: float, error: str) -> None:
        """The attempt failed; try again later."""
        self._set(
            "attempts = attempts + 1, next_attempt_at = ?, last_error = ?", (next_attempt_at, error), delivery_id
        )

    def failed(self, delivery_id: int, error: str) -> None:
        """The destination refuses this object for good; an operator must look."""
        self._set("state = 'failed', attempts = attempts + 1, last_error = ?", (error,), delivery_id)

    def again(self, delivery_id: int, at: float, error: str | None = None) -> None:
        """Put a delivery back into the line (the commitment failed, or an operator asked)."""
        self._set("state = 'pending', next_attempt_at = ?, last_error = ?", (at, error), delivery_id)

    def commitment_asked(self, delivery_id: int, transaction_uid: str, at: float) -> None:
        """A storage commitment request for this delivery is on its way."""
        self._set("transaction_uid = ?, commitment_asked_at = ?", (transaction_uid, at), delivery_id)

    def committed(self, sop_instance_uid: str, transaction_uid: str, at: float) -> bool:
        """The destination promised to keep the object; False when nobody asked, or it had promised before."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE deliveries SET state = 'committed', committed_at = ?"
                " WHERE sop_instance_uid = ? AND transaction_uid = ? AND state = 'sent'",
                (at, sop_instance_uid, transaction_uid),
            )
            return cursor.rowcount > 0

    def awaiting_commitment(self, destination: str, asked_before: float, limit: int = 50) -> list[Row]:
        """Sent objects for which a commitment was never asked, or asked before `asked_before` in vain."""
        return self._db.rows(
            "SELECT deliveries.*, reports.sop_class_uid FROM deliveries JOIN reports USING (sop_instance_uid)"
            " WHERE destination = ? AND deliveries.state = 'sent'"
            " AND (commitment_asked_at IS NULL OR commitment_asked_at < ?) ORDER BY deliveries.id LIMIT ?",
            (destination, asked_before, limit),
        )

    def of_transaction(self, transaction_uid: str) -> list[Row]:
        """The deliveries that one commitment request named."""
        sql = "SELECT * FROM deliveries WHERE transaction_uid = ?"
        return self._db.rows(sql, (transaction_uid,))

    def of_series(self, series_uid: str) -> list[Row]:
        """All deliveries of a series' objects."""
        return self._db.rows(
            "SELECT deliveries.*, reports.kind, reports.run FROM deliveries"
            " JOIN reports USING (sop_instance_uid) WHERE reports.series_uid = ? ORDER BY deliveries.id",
            (series_uid,),
        )

    def oldest_pending(self) -> float | None:
        """When the oldest object still waiting was written."""
        value = self._db.value("SELECT min(created_at) FROM deliveries WHERE state = 'pending'")
        return None if value is None else float(value)

    def unfinished(self) -> list[Row]:
        """Everything that waits or has failed, in the order of sending."""
        return self._db.rows(
            "SELECT deliveries.*, reports.series_uid, reports.kind FROM deliveries"
            " JOIN reports USING (sop_instance_uid) WHERE state IN ('pending', 'failed') ORDER BY deliveries.id"
        )

    def counts(self) -> dict[str, int]:
        """How many deliveries stand in each state."""
        rows = self._db.rows("SELECT state, count(*) AS n FROM deliveries GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    def _set(self, assignments: str, values: tuple[Any, ...], delivery_id: int) -> None:
        with self._db.transaction() as conn:
            conn.execute(f"UPDATE deliveries SET {assignments} WHERE id = ?", (*values, delivery_id))
