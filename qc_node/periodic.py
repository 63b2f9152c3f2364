"""A thread that takes one step after the other: at once when woken, else when the step itself asked for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from qc_node.domain import QcNodeError

log = logging.getLogger("qc_node.periodic")

LONGEST_PAUSE_S = 30.0
"""At most so long a loop rests after errors in a row, in seconds, where its usual pause is not longer."""

Step = Callable[[], float | None]
"""Does what is due; returns the wall time of the next thing to do, or None."""


class Periodic:
    """Runs `step` until stopped.

    Parameters
    ----------
    name
        Of the thread, for logs.
    step
        Must be safe to run again after an exception, which is logged and never ends the loop.
    idle_s
        Longest pause between two steps.  After an exception it is waited for, woken or not, and after each one
        that follows twice as long, up to :data:`LONGEST_PAUSE_S`, until a step succeeds.
    after
        Called once in the thread when it ends, for example to close its ledger connection.
    """

    def __init__(
        self, name: str, step: Step, idle_s: float = 1.0, after: Callable[[], None] | None = None
    ) -> None:
        self._name = name
        self._step = step
        self._idle_s = idle_s
        self._after = after
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._said = ""
        self._errors = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Take the next step now; callable from anywhere."""
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the step in hand and end."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                due = self._step()
            except Exception as error:
                self._say(error)
                self._stopping.wait(self._rest_s())
            else:
                self._said, self._errors = "", 0
                self._wake.wait(self._idle_s if due is None else min(max(due - time.time(), 0.0), self._idle_s))
            self._wake.clear()  # before it is asked whether to stop, which wakes too
        if self._after is not None:
            self._after()

    def _say(self, error: Exception) -> None:
        if not isinstance(error, QcNodeError):
            log.error("the loop %s goes on after an error", self._name, exc_info=error)
        elif str(error) != self._said:  # once, however often the step meets it
            log.error("the loop %s goes on: %s", self._name, error)
        self._said = str(error)

    def _rest_s(self) -> float:
        """How long to rest after an error; the next one in a row makes it longer."""
        rest_s = self._idle_s * 2.0 ** min(self._errors, 30)
        self._errors += 1
        return min(rest_s, max(self._idle_s, LONGEST_PAUSE_S))
