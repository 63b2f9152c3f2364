"""The durable outbox: what the node wrote reaches every destination, and stays until it has.

The queue is in the ledger, the bytes are in the spool, and nothing that matters is in memory.  An object counts
as sent when the destination has it (:attr:`TransportStatus.STORED`); a kill between that answer and the row sends
the same bytes under the same UID once more, which changes nothing at the destination.

Order is kept where it means something: an object waits for the earlier ones of its series and for its predecessor
(:data:`qc_node.ledger.deliveries.FIRST_IN_LINE`), and for nothing else.  What a failure does:

====================================  =============================================================
unavailable                           the destination is away: everything waits together (capped
                                      exponential, with jitter), for as long as it takes
busy, broken                          this object waits, on its own, and the others pass it; after
                                      :attr:`RetryPolicy.give_up_s` of that it is ``failed``
busy, broken, for many in a row       the destination is unwell: everything waits as if it were away
refused                               as busy, but ``failed`` after :attr:`RetryPolicy.max_refusals`
the file cannot be read now           this object waits, on its own, as often as it takes
the file is gone, or no DICOM object  ``failed`` at once
====================================  =============================================================
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import assert_never

from qc_node.dicom.part10 import StoredObject, UnusableFileError, open_object
from qc_node.domain import InstanceRef, QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.rows import AskedDelivery, ReportDelivery
from qc_node.outbox.commitment import CommitmentPolicy, LedgerQuestion
from qc_node.outbox.transport.interface import (
    CommittingTransport,
    Transport,
    TransportOutcome,
    TransportStatus,
)
from qc_node.periodic import Periodic
from qc_node.spool import Spool

log = logging.getLogger("qc_node.outbox")

LOOK_S = 60.0
"""How often the outbox looks which commitments are owed, in seconds."""

BYTES_REMOVED = (
    "The bytes of this object were removed after [retention] keep_reports_days (or keep_summaries_days); qc-node"
    " judge-again makes a new one where the images are here."
)

OnDelivery = Callable[[ReportDelivery, str, str], None]
"""Called with a delivery's row, its destination and ``sent``, ``retry``, ``failed`` or ``uncommitted``."""

OnCommitted = Callable[[str], None]
"""Called with a destination for each object that it has promised to keep."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again: ``first_s`` doubled with each attempt, at most ``cap_s``, less up to half as jitter.

    ``give_up_s`` is for how long an object is tried that the destination, being there, does not take;
    ``unwell_after`` how many different ones it must turn down in a row to count as unwell itself.
    """

    first_s: float = 1.0
    cap_s: float = 60.0
    max_refusals: int = 3
    give_up_s: float = math.inf
    unwell_after: int = 10

    def delay(self, attempts: int, jitter: float) -> float:
        """Seconds to wait after `attempts` failures; `jitter` in [0, 1]."""
        return min(self.cap_s, self.first_s * 2.0 ** min(attempts, 30)) * (1 - jitter / 2)


@dataclass(frozen=True, slots=True)
class Destination:
    """A place that every object must reach.

    With ``storage_commitment`` it is asked to promise that it keeps them, where its transport knows how, and
    asked again as ``commitment`` says.
    """

    transport: Transport
    storage_commitment: bool
    batch: int = 50
    commitment: CommitmentPolicy = field(default_factory=CommitmentPolicy)


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
        self.loops = [
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
        for loop in self.loops:
            loop.start()

    def wake(self) -> None:
        """There is something new in the ledger; callable from anywhere."""
        for loop in self.loops:
            loop.wake()

    def stop(self, timeout_s: float = 35.0) -> None:
        """Finish the object in hand and end; what is left stays in the queue."""
        for queue in self._queues:
            queue.stop()
        for loop in self.loops:
            loop.stop(timeout_s)


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
        self._turned_down: set[int] = set()
        self._pauses = 0
        self._paused_until = 0.0
        self._away_since: float | None = None
        self._look_at = 0.0
        self._ask_new_at = 0.0
        self._not_asked = 0

    def stop(self) -> None:
        """Take no further object."""
        self._stopping.set()

    def step(self, now: float) -> float | None:
        """Send what is due; returns when the next step is due, None when nothing waits."""
        if self._stopping.is_set():
            return None
        if now < self._paused_until <= now + self._retry.cap_s:  # later than that: the clock was ahead
            return self._paused_until
        few = 2 if self._turned_down else self._destination.batch  # after a failure the rest is opened in vain
        rows = self._ledger.deliveries.next_pending(self.name, now, few, now + self._retry.cap_s)
        objects = self._open(rows)
        if objects:
            self._ledger.prove_writable()  # what cannot be noted as sent would be sent again and again
            self._send(objects)
            return self._next_step()
        if rows:
            return now
        if not now < self._look_at <= now + self._destination.commitment.again_s:
            self._see_to_commitments(now)
        return self._next_step()

    def _next_step(self) -> float | None:
        due = self._ledger.deliveries.next_attempt_at(self.name, self._wall() + self._retry.cap_s)
        return None if due is None else max(due, self._paused_until)

    def _open(self, rows: Sequence[ReportDelivery]) -> list[tuple[ReportDelivery, StoredObject]]:
        """Those that can be sent, up to one that cannot be read now: what must follow it may be right behind."""
        objects: list[tuple[ReportDelivery, StoredObject]] = []
        for row in rows:
            if not row["path"]:
                self._fail(row, BYTES_REMOVED)
                continue
            try:
                objects.append((row, open_object(self._spool.path(row["path"]))))
            except UnusableFileError as error:
                self._fail(row, str(error))
            except QcNodeError as error:
                self._wait_alone(row, str(error), row["attempts"])
                break
        return objects

    def _send(self, objects: Sequence[tuple[ReportDelivery, StoredObject]]) -> None:
        """Hand objects over until one fails or we are stopped; each has its row before the next goes.

        At a failure the ledger is asked anew what may go: what must follow the failed one may not.
        """
        tried = 0
        with closing(self._outcomes(objects)) as outcomes:  # gives its connection back at the end
            # asked first for the outcome: after the last one a transport may have something left to do
            for outcome, (row, _) in zip(outcomes, objects, strict=False):
                tried += 1
                self._note(row, outcome)
                if outcome.status is not TransportStatus.STORED or self._stopping.is_set():
                    break
        if not tried:
            self._note(objects[0][0], TransportOutcome(TransportStatus.BROKEN, f"{self.name} gave no answer."))

    def _outcomes(
        self, objects: Sequence[tuple[ReportDelivery, StoredObject]]
    ) -> Generator[TransportOutcome, None, None]:
        try:
            yield from self._handed_over(objects)
        except Exception as error:  # an object that a library trips over is one object's trouble
            log.exception("peer %s: an object could not be handed over", self.name)
            sentence = f"The object could not be handed over to {self.name} ({type(error).__name__})."
            yield TransportOutcome(TransportStatus.BROKEN, sentence)

    def _handed_over(self, objects: Sequence[tuple[ReportDelivery, StoredObject]]) -> Iterator[TransportOutcome]:
        transport, stored = self._destination.transport, [obj for _, obj in objects]
        rows = [row for row, _ in objects]
        asks = self._destination.storage_commitment and not any(self._asked_enough(row) for row in rows)
        if asks and isinstance(transport, CommittingTransport):
            return transport.store_and_ask(stored, self._question(rows))
        return transport.store(stored)

    def _asked_enough(self, row: ReportDelivery) -> bool:
        """Whether an object that the destination has lost before is sent once more without a question."""
        if row["sent_at"] is None:
            return False
        return len(self._ledger.deliveries.commitments_of(row["id"])) >= self._destination.commitment.attempts

    # -- outcomes ------------------------------------------------------------------------------------
    def _note(self, row: ReportDelivery, outcome: TransportOutcome) -> None:
        if outcome.status is not TransportStatus.UNAVAILABLE:
            self._back()
        match outcome.status:
            case TransportStatus.STORED:
                self._sent(row, outcome.sentence or None)
            case TransportStatus.UNAVAILABLE:
                self._away(row, outcome)
            case TransportStatus.REFUSED:
                self._well()
                self._refused(row, outcome)
            case TransportStatus.BUSY | TransportStatus.BROKEN:
                self._not_taken(row, outcome)
            case _:
                assert_never(outcome.status)

    def _away(self, row: ReportDelivery, outcome: TransportOutcome) -> None:
        """The destination is not there: everything waits, in the order it has."""
        if self._away_since is None:
            self._away_since = self._wall()
        self._pause()
        self._try_later(row, outcome.sentence, row["next_attempt_at"], self._paused_until)

    def _back(self) -> None:
        """The destination is there; while it was not, nothing was turned down."""
        if self._away_since is not None:
            self._ledger.deliveries.was_away(self.name, self._away_since, self._wall())
            self._away_since = None

    def _sent(self, row: ReportDelivery, warning: str | None) -> None:
        self._ledger.deliveries.sent(row["id"], self._wall(), warning)
        self._refusals.pop(row["id"], None)
        self._well()
        if warning:
            log.warning("peer %s: %s", self.name, warning)
        self._on_delivery(row, self.name, "sent")

    def _refused(self, row: ReportDelivery, outcome: TransportOutcome) -> None:
        """The destination says that it will not have this object; it is asked a few times."""
        times = self._refusals[row["id"]] = self._refusals.get(row["id"], 0) + 1
        if times >= self._retry.max_refusals:
            self._fail(row, outcome.sentence)
            return
        at = self._wall() + self._retry.delay(times, self._jitter())
        self._try_later(row, outcome.sentence, at, at)

    def _not_taken(self, row: ReportDelivery, outcome: TransportOutcome) -> None:
        """The destination is there and did not take this object: nobody knows which of them is at fault."""
        now = self._wall()
        found = self._ledger.deliveries.turned_down(row["id"], now)
        if now - found["since"] >= self._retry.give_up_s:
            hours = (now - found["since"]) / 3600
            self._fail(row, f"{outcome.sentence} Given up after {hours:.0f} h and {found['times']} attempts.")
            return
        self._wait_alone(row, outcome.sentence, found["times"] - 1)

    def _wait_alone(self, row: ReportDelivery, sentence: str, times: int) -> None:
        """The others pass it; after too many in a row, something is wrong with all of them."""
        at = self._wall() + self._retry.delay(times, self._jitter())
        self._try_later(row, sentence, at, at)
        self._turned_down.add(row["id"])
        if len(self._turned_down) >= self._retry.unwell_after:
            log.warning(
                "none of %d objects could be sent to peer %s; all wait.", len(self._turned_down), self.name
            )
            self._pause()

    def _try_later(self, row: ReportDelivery, sentence: str, due: float, at: float) -> None:
        """`due` is kept as it was while the destination is away, so that order is too; `at` is when it goes on."""
        self._ledger.deliveries.retry(row["id"], due, sentence)
        log.warning("%s The next attempt follows in %.0f s.", sentence, at - self._wall())
        self._on_delivery(row, self.name, "retry")

    def _pause(self) -> None:
        """Everything waits: the destination is away, or unwell."""
        self._paused_until = self._wall() + self._retry.delay(self._pauses, self._jitter())
        self._pauses += 1
        self._turned_down.clear()

    def _well(self) -> None:
        """The destination is there and answers for an object."""
        self._pauses = 0
        self._paused_until = 0.0
        self._turned_down.clear()

    def _fail(self, row: ReportDelivery, sentence: str) -> None:
        self._ledger.deliveries.failed(row["id"], sentence)
        self._refusals.pop(row["id"], None)
        log.error("An object will not be sent to %s: %s", self.name, sentence)
        self._on_delivery(row, self.name, "failed")

    # -- storage commitment --------------------------------------------------------------------------
    def _question(self, rows: Sequence[ReportDelivery]) -> LedgerQuestion:
        return LedgerQuestion(self._ledger, rows, self._wall, self._on_committed)

    def _see_to_commitments(self, now: float) -> None:
        """Ask again for what is owed and due, send again what was lost, leave what was asked for long enough."""
        self._look_at = now + LOOK_S
        transport, policy = self._destination.transport, self._destination.commitment
        if not (self._destination.storage_commitment and isinstance(transport, CommittingTransport)):
            return
        due: list[ReportDelivery] = []
        for row in self._ledger.deliveries.asked_in_vain(self.name):
            if policy.is_over(row, now):
                self._leave(row, now)
            elif policy.is_due(row, now) and row["outcome"] == "failed":
                self._ledger.deliveries.send_again(row["id"], now)
            elif policy.is_due(row, now):
                due.append(row)
        batch = self._destination.batch
        if not now < self._ask_new_at <= now + policy.again_s:
            due += self._ledger.deliveries.never_asked(self.name, now - policy.give_up_s, batch)
        if due:
            self._ask(transport, due[:batch], now, more=len(due) > batch)

    def _ask(
        self, transport: CommittingTransport, rows: Sequence[ReportDelivery], now: float, *, more: bool
    ) -> None:
        references = [InstanceRef(row["sop_class_uid"], row["sop_instance_uid"]) for row in rows]
        if transport.ask(references, self._question(rows)):
            self._not_asked = 0
            self._look_at = now if more else self._look_at
            return
        # away, or without commitment, or refused: whichever it is, it is not asked every minute
        self._look_at = self._ask_new_at = now + min(
            LOOK_S * 2.0**self._not_asked, self._destination.commitment.again_s
        )
        self._not_asked = min(self._not_asked + 1, 30)

    def _leave(self, row: AskedDelivery, now: float) -> None:
        hours = (now - row["first_asked"]) / 3600
        note = (
            f"{self.name} has not promised to keep it: asked {row['asked']} times in {hours:.1f} h, not any more."
        )
        if row["outcome"] is not None and row["last_error"]:
            note = f"{row['last_error']} {note}"
        self._ledger.deliveries.commitment_given_up(row["id"], now, note)
        log.warning("storage commitment: %s", note)
        self._on_delivery(row, self.name, "uncommitted")
