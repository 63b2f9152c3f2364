"""A planned stop: take nothing new, finish what is there, say when that is done.

The command and the node speak by rows of the audit (:mod:`qc_node.ledger.audit`): it is on record when
somebody asked.  ``drain`` asks, ``drained`` is the answer, ``drain ended`` takes it back: by the command, or
by the node when it is started, because a node that was started is wanted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger

log = logging.getLogger("qc_node.drain")

ASKED, DONE, ENDED = "drain", "drained", "drain ended"
NODE = "node"
LOOK_S = 0.2
"""How often the command looks for an answer."""

WAITING = {
    "receiving": "{} series not complete",
    "queued": "{} series not judged",
    "judging": "{} series being judged",
    "judged": "{} series without their report",
    "outbox": "{} objects that their destination has not taken",
}
"""What a node may have to finish, in the order of the walk."""


class Drainable(Protocol):
    """What lets associations in."""

    def drain(self, on: bool = True) -> None:
        """Let no new association in and end the open ones; or let all in again."""
        ...

    def associations(self) -> int | None:
        """How many are open; None when that is not known yet."""
        ...


class Drain:
    """The node's side.

    Parameters
    ----------
    wall
        Seconds since the epoch.
    on_change
        Called when the node begins or ceases to be drained.
    """

    def __init__(
        self, ledger: Ledger, receiver: Drainable, wall: Callable[[], float], on_change: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._receiver = receiver
        self._wall = wall
        self._on_change = on_change
        self._seen = 0
        self._asked = 0
        self._done = False

    @property
    def is_on(self) -> bool:
        """Whether nothing new is taken."""
        return self._asked > 0

    def begin(self) -> None:
        """At the start of the node: what was asked of an earlier one is over."""
        last = self._ledger.audit.last((ASKED, DONE, ENDED))
        if last is not None and last["event"] != ENDED:
            self._ledger.audit.add(ENDED, NODE, self._wall(), {"why": "the node was started"})
        self._seen = self._ledger.audit.newest()

    def step(self) -> None:
        """Do what was asked since the last step; say when nothing is left."""
        for row in self._ledger.audit.after(self._seen):
            self._seen = row["id"]
            if row["event"] == ASKED:
                self._turn(row["id"])
            elif row["event"] == ENDED:
                self._turn(0)
        if self._asked and not self._done and self._receiver.associations() == 0 and not left(self._ledger):
            self._done = True
            self._ledger.audit.add(DONE, NODE, self._wall(), {"request": self._asked})
            log.warning("drained: nothing is left to do, and nothing is taken until the next start")

    def _turn(self, asked: int) -> None:
        changed = bool(asked) != self.is_on
        self._asked, self._done = asked, False
        if changed:
            log.warning(
                "no association is let in: the node is being drained" if asked else "images are taken again"
            )
            self._receiver.drain(self.is_on)
            self._on_change()


def left(ledger: Ledger) -> dict[str, int]:
    """What there is to finish: a number for each key of :data:`WAITING` that is not nought."""
    counts = {**ledger.series.counts(), "outbox": ledger.deliveries.counts().get("pending", 0)}
    return {name: counts[name] for name in WAITING if counts.get(name)}


def in_words(waiting: dict[str, int]) -> str:
    """What is left, for people.

    Examples
    --------
    >>> in_words({"queued": 2, "outbox": 3})
    '2 series not judged, 3 objects that their destination has not taken'
    """
    return (
        ", ".join(WAITING[name].format(count) for name, count in waiting.items()) or "associations that are open"
    )


def ask(ledger: Ledger, at: float) -> int:
    """Ask the running node to drain; returns the number of the request."""
    return ledger.audit.add(ASKED, "qc-node drain", at)


def cancel(ledger: Ledger, at: float) -> None:
    """Let the running node take images again."""
    ledger.audit.add(ENDED, "qc-node drain --cancel", at, {"why": "cancelled"})


def wait(
    ledger: Ledger,
    request: int,
    timeout_s: float,
    *,
    is_running: Callable[[], bool],
    tell: Callable[[str], None],
    steady: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the node has nothing left; `tell` hears what it still has, whenever that changes.

    Raises
    ------
    QcNodeError
        It has not finished after `timeout_s`, it has ended, or it takes images again.
    """
    end, said = steady() + timeout_s, ""
    while True:
        running = is_running()
        answers = {row["event"] for row in ledger.audit.after(request)}
        if ENDED in answers:
            raise QcNodeError(
                "The node takes images again: it was started anew, or somebody cancelled the draining."
            )
        if DONE in answers:
            return
        waiting = in_words(left(ledger))
        if not running:
            raise QcNodeError(f"The node ended before it was drained. Left: {waiting}; the next start goes on.")
        if steady() > end:
            raise QcNodeError(f"Not drained after {timeout_s:g} s. Left: {waiting}; the next start goes on.")
        if waiting != said:
            tell(f"Left: {waiting}.")
            said = waiting
        sleep(LOOK_S)
