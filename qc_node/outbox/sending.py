"""The durable outbox: what the node wrote reaches every destination, in order, and stays until it has.

The line is in the ledger, the bytes are in the spool, and nothing that matters is in memory.  An object counts
as sent when the destination has answered 0x0000 (or a warning with which it is stored); a kill between that answer
and the row sends the same bytes under the same UID once more, which changes nothing at the destination.

What a failure does:

===============================================  ==================================================
no connection, association refused, silence,     the head of the line waits (capped exponential, with
abort, status A7xx                               jitter) and everything behind it; for as long as it takes
any other failure status, or a SOP class that    the same, but after :attr:`RetryPolicy.max_refusals`
is not taken                                     the object is ``failed`` and the line goes on
the file is gone from the spool                  ``failed`` at once
===============================================  ==================================================
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qc_node.dicom.association import EXPLICIT_LE, IMPLICIT_LE, Call, Context, Peer, PeerError, Trouble, call
from qc_node.dicom.file_meta import StoredObject, open_object
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReportDelivery
from qc_node.outbox import commitment
from qc_node.periodic import Periodic
from qc_node.spool import Spool

log = logging.getLogger("qc_node.outbox")

OnDelivery = Callable[[ReportDelivery, str, str], None]
"""Called with a delivery's row, its destination and ``sent``, ``retry``, ``failed`` or ``committed``."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again: ``first_s`` doubled with each attempt, at most ``cap_s``, less up to half as jitter."""

    first_s: float = 1.0
    cap_s: float = 60.0
    max_refusals: int = 3

    def delay(self, attempts: int, jitter: float) -> float:
        """Seconds to wait after `attempts` failures; `jitter` in [0, 1]."""
        return min(self.cap_s, self.first_s * 2.0 ** min(attempts, 30)) * (1 - jitter / 2)


@dataclass(frozen=True, slots=True)
class Destination:
    """A place that every object must reach.

    ``commitment_wait_s`` is how long the association stays open for the answer to a commitment request,
    ``commitment_again_s`` after how long without an answer the question is put again.
    """

    peer: Peer
    storage_commitment: bool = False
    batch: int = 50
    commitment_wait_s: float = 0.5
    commitment_again_s: float = 3600.0


class Outbox:
    """All lines: one per destination, each with a thread of its own, so that one never waits for another.

    Parameters
    ----------
    ledger, spool
        Where the line and the bytes are.
    destinations
        Names must differ.
    on_delivery
        Metrics and live board; must not raise.
    wall, jitter
        Seconds since the epoch; a number in [0, 1].
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        destinations: Sequence[Destination],
        *,
        on_delivery: OnDelivery = lambda delivery, destination, outcome: None,
        retry: RetryPolicy | None = None,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        retry = retry or RetryPolicy()
        self._lines = [Line(ledger, spool, d, on_delivery, retry, wall, jitter) for d in destinations]
        self._wall = wall
        self._loops = [
            Periodic(f"outbox-{line.name}", self._stepper(line), after=ledger.close) for line in self._lines
        ]

    def _stepper(self, line: Line) -> Callable[[], float | None]:
        return lambda: line.step(self._wall())

    def step(self, now: float) -> float | None:
        """One step of every line, in this thread; when the next one is due, if any."""
        due = [at for line in self._lines if (at := line.step(now)) is not None]
        return min(due, default=None)

    def start(self) -> None:
        """Start a thread for each destination."""
        for loop in self._loops:
            loop.start()

    def wake(self) -> None:
        """There is something new in the ledger; callable from anywhere."""
        for loop in self._loops:
            loop.wake()

    def stop(self, timeout_s: float = 35.0) -> None:
        """Finish the object in hand and end; what is left stays in the line."""
        for line in self._lines:
            line.stop()
        for loop in self._loops:
            loop.stop(timeout_s)

    def alive(self) -> bool:
        """Whether every thread runs."""
        return all(loop.alive() for loop in self._loops)


class Line:
    """The line to one destination."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        destination: Destination,
        on_delivery: OnDelivery,
        retry: RetryPolicy,
        wall: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.name = destination.peer.name
        self._ledger = ledger
        self._spool = spool
        self._destination = destination
        self._on_delivery = on_delivery
        self._retry = retry
        self._wall = wall
        self._jitter = jitter
        self._stopping = threading.Event()
        self._refusals: dict[int, int] = {}
        self._ask_again_at = 0.0

    def stop(self) -> None:
        """Take no further object."""
        self._stopping.set()

    def step(self, now: float) -> float | None:
        """Send what is due over one association; returns when the next step is due, None when nothing waits."""
        if self._stopping.is_set():
            return None
        rows = self._ledger.deliveries.next_pending(self.name, now, self._destination.batch)
        objects = self._open(rows)
        if objects:
            self._send(objects)
            return self._ledger.deliveries.next_attempt_at(self.name)
        if rows:
            return now
        if self._destination.storage_commitment and now >= self._ask_again_at:
            self._ask_again(now)
        return self._ledger.deliveries.next_attempt_at(self.name)

    def _open(self, rows: Sequence[ReportDelivery]) -> list[tuple[ReportDelivery, StoredObject]]:
        objects = []
        for row in rows:
            try:
                objects.append((row, open_object(self._spool.path(row["path"]))))
            except QcNodeError as error:
                self._fail(row, str(error))
        return objects

    def _send(self, objects: Sequence[tuple[ReportDelivery, StoredObject]]) -> None:
        head = objects[0][0]
        taker = self._taker()
        handlers = taker.handlers() if self._destination.storage_commitment else []
        sent = []
        try:
            with call(self._destination.peer, self._contexts(objects), handlers) as line:
                for row, obj in objects:
                    head = row
                    status = line.store(obj)
                    self._sent(row, status)
                    sent.append(row)
                    if self._stopping.is_set():
                        break
                self._ask(line, sent, taker)
        except PeerError as error:
            if len(sent) < len(objects):
                self._try_later(head, error)
            else:
                log.warning("storage commitment: %s", error)

    def _contexts(self, objects: Sequence[tuple[ReportDelivery, StoredObject]]) -> list[Context]:
        contexts: list[Context] = []
        for _, obj in objects:
            contexts.append((obj.sop_class_uid, obj.transfer_syntax_uid))
            if obj.transfer_syntax_uid == EXPLICIT_LE:
                contexts.append((obj.sop_class_uid, IMPLICIT_LE))
        if self._destination.storage_commitment:
            contexts += commitment.CONTEXTS
        return list(dict.fromkeys(contexts))

    # -- outcomes ------------------------------------------------------------------------------------
    def _sent(self, row: ReportDelivery, status: int) -> None:
        note = None if status == 0 else f"Stored with the warning 0x{status:04X}."
        self._ledger.deliveries.sent(row["id"], self._wall(), note)
        self._refusals.pop(row["id"], None)
        if note:
            log.warning("peer %s: %s", self.name, note)
        self._on_delivery(row, self.name, "sent")

    def _try_later(self, row: ReportDelivery, error: PeerError) -> None:
        attempts = int(row["attempts"])
        if error.concerns_the_object:
            attempts = self._refusals[row["id"]] = self._refusals.get(row["id"], 0) + 1
            if attempts >= self._retry.max_refusals:
                self._fail(row, str(error))
                return
        at = self._wall() + self._retry.delay(attempts, self._jitter())
        self._ledger.deliveries.retry(row["id"], at, str(error))
        log.warning("%s The next attempt follows in %.0f s.", error, at - self._wall())
        self._on_delivery(row, self.name, "retry")

    def _fail(self, row: ReportDelivery, sentence: str) -> None:
        self._ledger.deliveries.failed(row["id"], sentence)
        self._refusals.pop(row["id"], None)
        log.error("An object will not be sent to %s: %s", self.name, sentence)
        self._on_delivery(row, self.name, "failed")

    # -- storage commitment --------------------------------------------------------------------------
    def _taker(self) -> commitment.ResultTaker:
        return commitment.ResultTaker(
            self._ledger, self._wall, lambda delivery: self._on_delivery(delivery, self.name, "committed")
        )

    def _ask(self, line: Call, sent: Sequence[ReportDelivery], taker: commitment.ResultTaker) -> bool:
        """Ask for what was sent, where the peer offers that; whether it took the question."""
        if not self._destination.storage_commitment or not sent or not commitment.offered(line):
            return False
        transaction = f"2.25.{uuid.uuid4().int}"
        taken = commitment.ask(line, self._ledger, sent, transaction, self._wall())
        if taken:
            taker.arrived.wait(self._destination.commitment_wait_s)
        return taken

    def _ask_again(self, now: float) -> None:
        """Put the question again for what was sent long ago and never committed; at most once in that time."""
        again_s, batch = self._destination.commitment_again_s, self._destination.batch
        self._ask_again_at = now + again_s
        rows = self._ledger.deliveries.awaiting_commitment(self.name, now - again_s, batch)
        if not rows:
            return
        taker = self._taker()
        try:
            with call(self._destination.peer, commitment.CONTEXTS, taker.handlers()) as line:
                if self._ask(line, rows, taker) and len(rows) == batch:
                    self._ask_again_at = now
        except PeerError as error:
            if error.trouble is not Trouble.UNSUPPORTED:
                log.warning("storage commitment: %s", error)
