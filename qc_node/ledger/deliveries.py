"""Objects that the node wrote, and the durable outbox that carries them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from qc_node.ledger.database import Database
from qc_node.ledger.rows import (
    AskedDelivery,
    CommitmentRow,
    DestinationRow,
    ReportDelivery,
    ReportRow,
    StateCount,
    SummaryDueRow,
    TroubledRow,
    TurnedDownRow,
)
from qc_node.ledger.summaries import note_due, take_due

WITH_REPORT = (
    "SELECT deliveries.*, reports.path, reports.sop_class_uid, reports.series_id, series.series_uid,"
    " reports.study_uid, reports.run, reports.kind FROM deliveries JOIN reports USING (sop_instance_uid)"
    " LEFT JOIN series USING (series_id)"
)
"""The columns of :class:`qc_node.ledger.rows.ReportDelivery`."""

FIRST_IN_LINE = (
    " AND NOT EXISTS (SELECT 1 FROM reports AS r CROSS JOIN deliveries AS d USING (sop_instance_uid)"
    "  WHERE r.series_id = reports.series_id AND d.destination = deliveries.destination"
    "  AND d.state = 'pending' AND d.id < deliveries.id)"
    " AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.sop_instance_uid = reports.predecessor"
    "  AND d.destination = deliveries.destination AND d.state = 'pending' AND d.id < deliveries.id)"
)
"""Nothing that must arrive before it waits: no earlier object of its series, and not its predecessor."""

IN_VAIN = "(outcome IS NULL OR outcome IN ('refused', 'failed'))"
"""Commitment requests that have brought no promise; those that are not repeated have the outcome ``given up``."""

NOBODY_WAITS = (
    "EXISTS (SELECT 1 FROM deliveries AS d WHERE d.sop_instance_uid = reports.sop_instance_uid)"
    " AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.sop_instance_uid = reports.sop_instance_uid"
    "  AND (d.state NOT IN ('sent', 'committed', 'dropped') OR (d.state = 'sent'"
    f"  AND EXISTS (SELECT 1 FROM commitments WHERE delivery_id = d.id AND {IN_VAIN}))))"
)
"""Every delivery of a report has arrived or was dropped, and no promise to keep it is owed."""


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """An object of the node's own, already durable in the spool.

    ``kind`` is ``sr``, ``kos``, ``vote`` or ``summary``; ``series_id`` is the series that it is about, None for a
    whole study.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_id: int | None
    study_uid: str
    run: int
    kind: str
    path: str
    predecessor: str | None = None
    destinations: tuple[str, ...] | None = None
    """Whom it is for, where that is not everybody."""


class Deliveries:
    """Reports and the places they must reach; the order of ``id`` is the order of writing.

    Objects of one series, and a report and its predecessor, reach a destination in that order; no other object
    waits for them.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def post(
        self,
        objects: Sequence[WrittenObject],
        destinations: Sequence[str],
        at: float,
        *,
        reported: tuple[int, int] | None = None,
        summarised: SummaryDueRow | None = None,
        measured: str | None = None,
    ) -> bool:
        """Write report and outbox rows in one transaction; what is already there stays as it is.

        ``reported`` is the ``(series_id, run)`` whose state becomes ``reported`` with it, ``summarised`` the study
        whose pictures these are, ``measured`` the study of a series that is not judged.  False, and nothing is
        written, when a series was forgotten meanwhile, or something has happened to the study: then the files of
        `objects` must go too.
        """
        with self._db.transaction() as conn:
            if summarised is not None and not take_due(conn, summarised):
                return False
            if not all(o.series_id is None or self._is_there(o.series_id) for o in objects):
                return False
            for o in objects:
                conn.execute(
                    "INSERT INTO reports (sop_instance_uid, sop_class_uid, series_id, study_uid, run,"
                    " kind, path, predecessor, created_at) VALUES (?,?,?,?,?,?,?,?,?)"
                    " ON CONFLICT (sop_instance_uid) DO UPDATE SET path = excluded.path WHERE path = ''",
                    (
                        o.sop_instance_uid,
                        o.sop_class_uid,
                        o.series_id,
                        o.study_uid,
                        o.run,
                        o.kind,
                        o.path,
                        o.predecessor,
                        at,
                    ),
                )
                for destination in destinations if o.destinations is None else o.destinations:
                    conn.execute(
                        "INSERT OR IGNORE INTO deliveries (sop_instance_uid, destination, next_attempt_at,"
                        " created_at) VALUES (?,?,?,?)",
                        (o.sop_instance_uid, destination, at, at),
                    )
            if measured is not None:
                note_due(conn, measured, at)
            if reported is not None:
                done = conn.execute(
                    "UPDATE series SET state = 'reported' WHERE series_id = ? AND run = ? AND state = 'judged'"
                    " RETURNING study_uid",
                    reported,
                ).fetchone()
                if done is not None:
                    note_due(conn, done[0], at)
            return True

    def _is_there(self, series_id: int) -> bool:
        return self._db.value("SELECT 1 FROM series WHERE series_id = ?", (series_id,)) is not None

    def last_report(
        self, series_id: int, kind: str = "sr", before_run: int | None = None, prefer: str = ""
    ) -> ReportRow | None:
        """The newest report of a series (of a run before `before_run`); of several that of SOP class `prefer`."""
        sql = (
            "SELECT * FROM reports WHERE series_id = ? AND kind = ? AND run < ?"
            " ORDER BY run DESC, sop_class_uid = ? DESC LIMIT 1"
        )
        last = before_run if before_run is not None else 1 << 62
        return self._db.row(sql, (series_id, kind, last, prefer), of=ReportRow)

    def reports_of(self, series_id: int) -> list[ReportRow]:
        """All objects written for a series."""
        sql = "SELECT * FROM reports WHERE series_id = ? ORDER BY created_at"
        return self._db.rows(sql, (series_id,), of=ReportRow)

    def is_ours(self, sop_instance_uid: str) -> bool:
        """Whether the node wrote this object itself."""
        sql = "SELECT 1 FROM reports WHERE sop_instance_uid = ?"
        return self._db.value(sql, (sop_instance_uid,)) is not None

    def reports_to_remove(self, older_than: float, limit: int = 100) -> list[ReportRow]:
        """Reports written before then whose bytes nobody waits for: all deliveries have arrived or were dropped.

        Not one whose storage commitment is still owed: the destination may say that it has lost the object.
        """
        return self._db.rows(
            f"SELECT * FROM reports WHERE created_at < ? AND path != '' AND {NOBODY_WAITS}"
            " ORDER BY created_at LIMIT ?",
            (older_than, limit),
            of=ReportRow,
        )

    def summaries_to_remove(self, older_than: float, limit: int = 100) -> list[ReportRow]:
        """The same of pictures alone: each takes some megabytes."""
        return self._db.rows(
            f"SELECT * FROM reports WHERE kind = 'summary' AND path != '' AND created_at < ? AND {NOBODY_WAITS}"
            " ORDER BY created_at LIMIT ?",
            (older_than, limit),
            of=ReportRow,
        )

    def mark_bytes_removed(self, sop_instance_uid: str) -> None:
        """Note that the bytes of a report are gone; its row stays, with an empty spool name."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE reports SET path = '' WHERE sop_instance_uid = ?", (sop_instance_uid,))

    def knows_file(self, path: str) -> bool:
        """Whether a row has this spool name."""
        return self._db.value("SELECT 1 FROM reports WHERE path = ?", (path,)) is not None

    # -- the outbox ----------------------------------------------------------------------------------
    def next_pending(
        self, destination: str, now: float, limit: int = 50, latest: float = math.inf
    ) -> list[ReportDelivery]:
        """What goes next to `destination`: what is due and waits for no other, least recently tried first.

        An object that is waiting for its next attempt holds up only what must come after it.  What a series has
        behind its first one is in the list too, and no earlier than that.  A time after `latest` was written while
        the clock was ahead, and counts as due.
        """
        first = self._db.rows(
            f"{WITH_REPORT} WHERE destination = ? AND deliveries.state = 'pending'"
            " AND (next_attempt_at <= ? OR next_attempt_at > ?)"
            f"{FIRST_IN_LINE} ORDER BY next_attempt_at, deliveries.id LIMIT ?",
            (destination, now, latest, limit),
            of=ReportDelivery,
        )
        places: list[tuple[float, int, ReportDelivery]] = []
        for head in first:
            line = [head, *self._right_behind(head, now, latest)]
            tried = accumulate((row["next_attempt_at"] for row in line), max)
            places += [(at, row["id"], row) for at, row in zip(tried, line, strict=True)]
        return [row for _, _, row in sorted(places, key=lambda place: place[:2])]

    def _right_behind(self, head: ReportDelivery, now: float, latest: float) -> list[ReportDelivery]:
        if head["series_id"] is None:
            return []
        rows = self._db.rows(
            # the + keeps SQLite from going through everything that waits instead of through the series
            f"{WITH_REPORT} WHERE reports.series_id = ? AND +destination = ? AND +deliveries.state = 'pending'"
            " AND +deliveries.id > ? ORDER BY deliveries.id",
            (head["series_id"], head["destination"], head["id"]),
            of=ReportDelivery,
        )

        def may_go(row: ReportDelivery) -> bool:
            return not now < row["next_attempt_at"] <= latest and not self._replaces_waiting(row)

        return list(takewhile(may_go, rows))

    def _replaces_waiting(self, row: ReportDelivery) -> bool:
        """Whether the predecessor of an object, a report on another series, has not arrived yet."""
        sql = (
            "SELECT 1 FROM reports AS new JOIN reports AS old ON old.sop_instance_uid = new.predecessor"
            " JOIN deliveries AS d ON d.sop_instance_uid = old.sop_instance_uid WHERE new.sop_instance_uid = ?"
            " AND old.series_id IS NOT new.series_id AND d.destination = ? AND d.state = 'pending' AND d.id < ?"
        )
        return self._db.value(sql, (row["sop_instance_uid"], row["destination"], row["id"])) is not None

    def next_attempt_at(self, destination: str, latest: float = math.inf) -> float | None:
        """When the next object for `destination` is due; 0 for one with a time after `latest`."""
        value = self._db.value(
            "SELECT min(iif(next_attempt_at > ?, 0, next_attempt_at)) FROM deliveries"
            f" JOIN reports USING (sop_instance_uid) WHERE destination = ? AND state = 'pending'{FIRST_IN_LINE}",
            (latest, destination),
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
        state = "iif(state = 'dropped', state, 'failed')"  # dropped while it was on its way
        self._set(f"state = {state}, attempts = attempts + 1, last_error = ?", (error,), delivery_id)

    def turned_down(self, delivery_id: int, at: float) -> TurnedDownRow:
        """The destination is there and did not take this object; since when that is so, this time included."""
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO turned_down (delivery_id, since, times) SELECT id, ?, 1 FROM deliveries WHERE id = ?"
                " ON CONFLICT (delivery_id) DO UPDATE SET since = min(since, excluded.since), times = times + 1",
                (at, delivery_id),
            )
        row = self._db.row("SELECT * FROM turned_down WHERE delivery_id = ?", (delivery_id,), of=TurnedDownRow)
        return row or {"delivery_id": delivery_id, "since": at, "times": 1}  # forgotten while it was on its way

    def was_away(self, destination: str, since: float, until: float) -> None:
        """The destination was not there in this time, which no object is to be blamed for."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE turned_down SET since = min(?, since + ?) WHERE delivery_id IN"
                " (SELECT id FROM deliveries WHERE destination = ? AND state = 'pending')",
                (until, max(0.0, until - since), destination),
            )

    def drop(self, delivery_id: int) -> bool:
        """Never send what waits or has failed, on an operator's word; the row and the file stay.

        False where there is no such delivery, or it has arrived or was dropped before.
        """
        with self._db.transaction() as conn:
            sql = "UPDATE deliveries SET state = 'dropped' WHERE id = ? AND state IN ('pending', 'failed')"
            return conn.execute(sql, (delivery_id,)).rowcount > 0

    def again(
        self, delivery_id: int, at: float, error: str | None = None, transaction_uid: str | None = None
    ) -> bool:
        """Put a delivery back into the line: an operator asked, or `transaction_uid` was answered with a failure.

        A failure that was heard before, after another transaction was committed, or after the outbox has ceased to
        ask, changes nothing: False.  The first one puts the object back at once; with later ones it stays *sent*
        until the outbox finds it due (:meth:`asked_in_vain`).
        """
        with self._db.transaction() as conn:
            if transaction_uid is not None:
                if not self._commitment_failed(delivery_id, transaction_uid, at):
                    return False
                if self._failures(delivery_id) > 1:
                    conn.execute("UPDATE deliveries SET last_error = ? WHERE id = ?", (error, delivery_id))
                    return True
            conn.execute("DELETE FROM turned_down WHERE delivery_id = ?", (delivery_id,))
            only = "" if transaction_uid is None else " AND state = 'sent'"
            conn.execute(
                f"UPDATE deliveries SET state = 'pending', next_attempt_at = ?, last_error = ? WHERE id = ?{only}",
                (at, error, delivery_id),
            )
            return True

    # -- storage commitment --------------------------------------------------------------------------
    def commitment_asked(self, delivery_id: int, transaction_uid: str, at: float) -> None:
        """A storage commitment request for this delivery is on its way; earlier ones stay open beside it."""
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO commitments (delivery_id, transaction_uid, asked_at) SELECT id, ?, ? FROM deliveries"
                " WHERE id = ?"
                " ON CONFLICT (transaction_uid, delivery_id) DO UPDATE SET asked_at = excluded.asked_at",
                (transaction_uid, at, delivery_id),
            )

    def committed(self, sop_instance_uid: str, transaction_uid: str, at: float) -> bool:
        """The destination promised to keep the object.

        False when nobody asked under this transaction, or it had promised before.
        """
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE deliveries SET state = 'committed', committed_at = ?"
                " WHERE sop_instance_uid = ? AND state = 'sent'"
                " AND id IN (SELECT delivery_id FROM commitments WHERE transaction_uid = ?)",
                (at, sop_instance_uid, transaction_uid),
            )
            if cursor.rowcount > 0:
                self._answer(
                    "transaction_uid = ?"
                    " AND delivery_id IN (SELECT id FROM deliveries WHERE sop_instance_uid = ?)",
                    (transaction_uid, sop_instance_uid),
                    "committed",
                    at,
                )
            return cursor.rowcount > 0

    def send_again(self, delivery_id: int, at: float) -> None:
        """The destination lost a sent object, and it is time to try once more."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE deliveries SET state = 'pending', next_attempt_at = ? WHERE id = ? AND state = 'sent'",
                (at, delivery_id),
            )

    def commitment_refused(self, transaction_uid: str, at: float, error: str) -> None:
        """The destination did not take this request; what it was about stays *sent*, with `error` as its note."""
        with self._db.transaction() as conn:
            self._answer("transaction_uid = ?", (transaction_uid,), "refused", at)
            conn.execute(
                "UPDATE deliveries SET last_error = ? WHERE state = 'sent'"
                " AND id IN (SELECT delivery_id FROM commitments WHERE transaction_uid = ?)",
                (error, transaction_uid),
            )

    def commitment_given_up(self, delivery_id: int, at: float, note: str) -> None:
        """Do not ask for this one any more; an answer that comes after all still counts."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE commitments SET outcome = 'given up', answered_at = coalesce(answered_at, ?)"
                f" WHERE delivery_id = ? AND {IN_VAIN}",
                (at, delivery_id),
            )
            conn.execute("UPDATE deliveries SET last_error = ? WHERE id = ?", (note, delivery_id))

    def _commitment_failed(self, delivery_id: int, transaction_uid: str, at: float) -> bool:
        """Note a failure; whether it is news and nothing better, or final, is known."""
        sql = "SELECT 1 FROM commitments WHERE delivery_id = ? AND outcome = ?"
        if self._db.value(sql, (delivery_id, "given up")) is not None or not self._answer(
            "delivery_id = ? AND transaction_uid = ?", (delivery_id, transaction_uid), "failed", at
        ):
            return False
        return self._db.value(sql, (delivery_id, "committed")) is None

    def _failures(self, delivery_id: int) -> int:
        sql = "SELECT count(*) FROM commitments WHERE delivery_id = ? AND outcome = 'failed'"
        return int(self._db.value(sql, (delivery_id,)))

    def _answer(self, where: str, params: tuple[Any, ...], outcome: str, at: float) -> bool:
        """Note the outcome of transactions; False when they had it already."""
        sql = f"UPDATE commitments SET answered_at = ?, outcome = ? WHERE {where} AND outcome IS NOT ?"
        with self._db.transaction() as conn:
            return conn.execute(sql, (at, outcome, *params, outcome)).rowcount > 0

    def never_asked(self, destination: str, sent_after: float, limit: int = 50) -> list[ReportDelivery]:
        """Objects sent after `sent_after` whose commitment was never asked for."""
        return self._db.rows(
            f"{WITH_REPORT} WHERE destination = ? AND deliveries.state = 'sent' AND sent_at > ?"
            " AND NOT EXISTS (SELECT 1 FROM commitments WHERE delivery_id = deliveries.id)"
            " ORDER BY deliveries.id LIMIT ?",
            (destination, sent_after, limit),
            of=ReportDelivery,
        )

    def asked_in_vain(self, destination: str) -> list[AskedDelivery]:
        """Sent objects whose commitment was asked for, so far in vain and not given up."""
        of = "FROM commitments WHERE delivery_id = line.id"
        return self._db.rows(
            f"SELECT line.*, (SELECT count(*) {of}) AS asked, (SELECT min(asked_at) {of}) AS first_asked,"
            f" (SELECT asked_at {of} ORDER BY id DESC LIMIT 1) AS last_asked,"
            f" (SELECT max(asked_at, coalesce(answered_at, 0)) {of} ORDER BY id DESC LIMIT 1) AS last_heard,"
            f" (SELECT outcome {of} ORDER BY id DESC LIMIT 1) AS outcome"
            f" FROM ({WITH_REPORT} WHERE destination = ? AND deliveries.state = 'sent'"
            f"  AND deliveries.id IN (SELECT delivery_id FROM commitments WHERE {IN_VAIN})) AS line"
            " ORDER BY line.id",
            (destination,),
            of=AskedDelivery,
        )

    def oldest_uncommitted(self) -> float | None:
        """When the commitment was first asked for that has been owed longest; given up ones are not owed."""
        value = self._db.value(
            f"SELECT min(asked_at) FROM commitments WHERE {IN_VAIN}"
            " AND (SELECT state FROM deliveries WHERE id = delivery_id) IN ('sent', 'pending')"
        )
        return None if value is None else float(value)

    def of_transaction(self, transaction_uid: str) -> list[ReportDelivery]:
        """The deliveries that one commitment request named."""
        return self._db.rows(
            f"{WITH_REPORT} WHERE deliveries.id IN (SELECT delivery_id FROM commitments WHERE transaction_uid = ?)"
            " ORDER BY deliveries.id",
            (transaction_uid,),
            of=ReportDelivery,
        )

    def commitments_of(self, delivery_id: int) -> list[CommitmentRow]:
        """Every commitment request for one delivery, oldest first."""
        sql = "SELECT * FROM commitments WHERE delivery_id = ? ORDER BY id"
        return self._db.rows(sql, (delivery_id,), of=CommitmentRow)

    # -- looking -------------------------------------------------------------------------------------
    def of_series(self, series_id: int) -> list[ReportDelivery]:
        """All deliveries of a series' objects."""
        return self._db.rows(
            f"{WITH_REPORT} WHERE reports.series_id = ? ORDER BY deliveries.id",
            (series_id,),
            of=ReportDelivery,
        )

    def oldest_pending(self) -> float | None:
        """When the oldest object still waiting was written."""
        value = self._db.value("SELECT min(created_at) FROM deliveries WHERE state = 'pending'")
        return None if value is None else float(value)

    def oldest_held_up(self) -> float | None:
        """When the oldest object was written that waits for its destination as a whole.

        Not one that the destination turned down while it took what was written later, and not what must follow it.
        """
        value = self._db.value(
            "SELECT min(deliveries.created_at) FROM deliveries JOIN reports USING (sop_instance_uid)"
            f" WHERE state = 'pending'{FIRST_IN_LINE} AND NOT EXISTS (SELECT 1 FROM turned_down"
            "  WHERE delivery_id = deliveries.id AND EXISTS (SELECT 1 FROM deliveries AS d"
            "   WHERE d.destination = deliveries.destination AND d.id > deliveries.id"
            "   AND d.state IN ('sent', 'committed')))"
        )
        return None if value is None else float(value)

    def unfinished(self) -> list[ReportDelivery]:
        """Everything that waits or has failed, in the order of sending."""
        return self._db.rows(
            f"{WITH_REPORT} WHERE deliveries.state IN ('pending', 'failed') ORDER BY deliveries.id",
            of=ReportDelivery,
        )

    def is_unfinished(self, delivery_id: int) -> bool:
        """Whether a delivery waits or has failed."""
        sql = "SELECT 1 FROM deliveries WHERE id = ? AND state IN ('pending', 'failed')"
        return self._db.value(sql, (delivery_id,)) is not None

    def by_destination(self) -> list[DestinationRow]:
        """What waits and what has failed, by destination; those for which everything has arrived are not there."""
        return self._db.rows(
            "SELECT d.destination, sum(d.state = 'pending') AS waiting, sum(d.state = 'failed') AS failed,"
            " min(iif(d.state = 'pending', d.created_at, NULL)) AS oldest,"
            " min(iif(d.state = 'pending' AND d.attempts > 0, coalesce(since, d.created_at), NULL))"
            " AS failing_since,"
            " sum(d.state = 'pending' AND d.attempts = 0 AND EXISTS (SELECT 1 FROM reports AS r"
            "  CROSS JOIN deliveries AS before USING (sop_instance_uid) WHERE r.series_id = reports.series_id"
            "  AND before.destination = d.destination AND before.state = 'pending' AND before.id < d.id)) AS held"
            " FROM deliveries AS d JOIN reports USING (sop_instance_uid)"
            " LEFT JOIN turned_down ON delivery_id = d.id"
            " WHERE d.state IN ('pending', 'failed') GROUP BY d.destination ORDER BY d.destination",
            of=DestinationRow,
        )

    def troubled(self, limit: int = 100) -> list[TroubledRow]:
        """What was refused for good, newest first, and then what was tried in vain, oldest first."""
        return self._db.rows(
            "SELECT deliveries.id, destination, deliveries.state, deliveries.attempts, next_attempt_at,"
            " deliveries.created_at, last_error, reports.kind, reports.series_id, accession_number,"
            " coalesce(station, calling_ae) AS station FROM deliveries JOIN reports USING (sop_instance_uid)"
            " LEFT JOIN series USING (series_id) LEFT JOIN studies ON studies.study_uid = reports.study_uid"
            " WHERE deliveries.state = 'failed' OR (deliveries.state = 'pending' AND deliveries.attempts > 0)"
            " ORDER BY deliveries.state, iif(deliveries.state = 'failed', -deliveries.id, deliveries.id) LIMIT ?",
            (limit,),
            of=TroubledRow,
        )

    def counts(self) -> dict[str, int]:
        """How many deliveries stand in each state."""
        rows = self._db.rows("SELECT state, count(*) AS n FROM deliveries GROUP BY state", of=StateCount)
        return {row["state"]: row["n"] for row in rows}

    def unfinished_counts(self) -> dict[str, int]:
        """How many deliveries are ``pending`` or ``failed``; what has arrived is not gone through."""
        sql = "SELECT state, count(*) AS n FROM deliveries WHERE state IN ('pending', 'failed') GROUP BY state"
        return {row["state"]: row["n"] for row in self._db.rows(sql, of=StateCount)}

    def _set(self, assignments: str, values: tuple[Any, ...], delivery_id: int) -> None:
        with self._db.transaction() as conn:
            conn.execute(f"UPDATE deliveries SET {assignments} WHERE id = ?", (*values, delivery_id))
