"""The durable outbox: what the node wrote reaches every destination, in order, and stays until it has.

The queue is in the ledger, the bytes are in the spool, and nothing that matters is in memory.  An object counts
as sent when the destination has it (:attr:`TransportStatus.STORED`); a kill between that answer and the row sends
the same bytes under the same UID once more, which changes nothing at the destination.

What a failure does:

====================================  =============================================================
unavailable, broken, busy             the head of the queue waits (capped exponential, with jitter)
                                      and everything behind it; for as long as it takes
refused                               the same, but after :attr:`RetryPolicy.max_refusals` the object
                                      is ``failed`` and the queue goes on
the file is gone from the spool       ``failed`` at once
====================================  =============================================================
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from qc_node.dicom.part10 import StoredObject, open_object
from qc_node.domain import InstanceRef, QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReportDelivery
from qc_node.outbox.commitment import LedgerQuestion
from qc_node.outbox.transport.interface import (
    CommittingTransport,
    Transport,
    TransportOutcome,
    TransportStatus,
)
from qc_node.periodic import Periodic
from qc_node.spool import Spool

log = logging.getLogger("qc_node.outbox")

OnDelivery = Callable[[ReportDelivery, str, str], None]
"""Called with a delivery's row, its destination and ``sent``, ``retry`` or ``failed``."""

OnCommitted = Callable[[str], None]
"""Called with a destination for each object that it has promised to keep."""


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

    With ``storage_commitment`` it is asked to promise that it keeps them, where its transport knows how;
    ``commitment_again_s`` is after how long without an answer the question is put again.
    """

    transport: Transport
    storage_commitment: bool
    batch: int = 50
    commitment_again_s: float = 3600.0


class Outbox:
    """All queues: one per destination, each with a thread of its own, so that one never waits for another.

    Parameters
    ----------
    ledger, spool
        Where the queue and the bytes are.
    destinations
        Names must differ.
    on_delivery, on_committed
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
        on_committed: OnCommitted = lambda destination: None,
        retry: RetryPolicy | None = None,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        retry = retry or RetryPolicy()
        self._queues = [
            DeliveryQueue(ledger, spool, d, on_delivery, on_committed, retry, wall, jitter) for d in destinations
        ]
        self._wall = wall
        self._loops = [
            Periodic(f"outbox-{queue.name}", self._stepper(queue), after=ledger.close) for queue in self._queues
        ]

    def _stepper(self, queue: DeliveryQueue) -> Callable[[], float | None]:
        return lambda: queue.step(self._wall())

    def step(self, now: float) -> float | None:
        """One step of every queue, in this thread; when the next one is due, if any."""
        due = [at for queue in self._queues if (at := queue.step(now)) is not None]
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
        """Finish the object in hand and end; what is left stays in the queue."""
        for queue in self._queues:
            queue.stop()
        for loop in self._loops:
            loop.stop(timeout_s)

    def alive(self) -> bool:
        """Whether every thread runs."""
        return all(loop.alive() for loop in self._loops)


class DeliveryQueue:
    """What waits for one destination."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        destination: Destination,
        on_delivery: OnDelivery,
        on_committed: OnCommitted,
        retry: RetryPolicy,
        wall: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.name = destination.transport.name
        self._ledger = ledger
        self._spool = spool
        self._destination = destination
        self._on_delivery = on_delivery
        self._on_committed = on_committed
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
        """Send what is due; returns when the next step is due, None when nothing waits."""
        if self._stopping.is_set():
            return None
        rows = self._ledger.deliveries.next_pending(self.name, now, self._destination.batch)
        objects = self._open(rows)
        if objects:
            self._send(objects)
            return self._ledger.deliveries.next_attempt_at(self.name)
        if rows:
            return now
        if now >= self._ask_again_at:
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
        """Hand objects over until one fails or we are stopped; each has its row before the next goes."""
        outcomes = self._outcomes(objects)
        tried = 0
        try:
            # asked first for the outcome: after the last one a transport may have something left to do
            for outcome, (row, _) in zip(outcomes, objects, strict=False):
                tried += 1
                self._note(row, outcome)
                if outcome.status is not TransportStatus.STORED or self._stopping.is_set():
                    break
        finally:
            if isinstance(outcomes, Generator):
                outcomes.close()  # gives its connection back now
        if not tried:
            self._note(objects[0][0], TransportOutcome(TransportStatus.BROKEN, f"{self.name} gave no answer."))

    def _outcomes(self, objects: Sequence[tuple[ReportDelivery, StoredObject]]) -> Iterator[TransportOutcome]:
        transport, stored = self._destination.transport, [obj for _, obj in objects]
        if self._destination.storage_commitment and isinstance(transport, CommittingTransport):
            return transport.store_and_ask(stored, self._question([row for row, _ in objects]))
        return transport.store(stored)

    # -- outcomes ------------------------------------------------------------------------------------
    def _note(self, row: ReportDelivery, outcome: TransportOutcome) -> None:
        if outcome.status is TransportStatus.STORED:
            self._sent(row, outcome.sentence or None)
        else:
            self._try_later(row, outcome)

    def _sent(self, row: ReportDelivery, warning: str | None) -> None:
        self._ledger.deliveries.sent(row["id"], self._wall(), warning)
        self._refusals.pop(row["id"], None)
        if warning:
            log.warning("peer %s: %s", self.name, warning)
        self._on_delivery(row, self.name, "sent")

    def _try_later(self, row: ReportDelivery, outcome: TransportOutcome) -> None:
        attempts = int(row["attempts"])
        if outcome.status is TransportStatus.REFUSED:
            attempts = self._refusals[row["id"]] = self._refusals.get(row["id"], 0) + 1
            if attempts >= self._retry.max_refusals:
                self._fail(row, outcome.sentence)
                return
        at = self._wall() + self._retry.delay(attempts, self._jitter())
        self._ledger.deliveries.retry(row["id"], at, outcome.sentence)
        log.warning("%s The next attempt follows in %.0f s.", outcome.sentence, at - self._wall())
        self._on_delivery(row, self.name, "retry")

    def _fail(self, row: ReportDelivery, sentence: str) -> None:
        self._ledger.deliveries.failed(row["id"], sentence)
        self._refusals.pop(row["id"], None)
        log.error("An object will not be sent to %s: %s", self.name, sentence)
        self._on_delivery(row, self.name, "failed")

    # -- storage commitment --------------------------------------------------------------------------
    def _question(self, rows: Sequence[ReportDelivery]) -> LedgerQuestion:
        return LedgerQuestion(self._ledger, rows, self._wall, self._on_committed)

    def _ask_again(self, now: float) -> None:
        """Put the question again for what was sent long ago and never committed; at most once in that time."""
        transport, again_s = self._destination.transport, self._destination.commitment_again_s
        self._ask_again_at = now + again_s
        if not (self._destination.storage_commitment and isinstance(transport, CommittingTransport)):
            return
        batch = self._destination.batch
        rows = self._ledger.deliveries.awaiting_commitment(self.name, now - again_s, batch)
        if not rows:
            return
        references = [InstanceRef(row["sop_class_uid"], row["sop_instance_uid"]) for row in rows]
        if transport.ask(references, self._question(rows)) and len(rows) == batch:
            self._ask_again_at = now
