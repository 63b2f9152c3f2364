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
FAILING_S = 300.0
"""A loop whose steps have all failed for so long does not mend itself."""
LONGEST_S = 3600.0
"""No step takes so long without a sign of life: the longest hands fifty objects to a peer that is slow."""

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
    steady
        Seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        idle_s: float = 1.0,
        after: Callable[[], None] | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._steady = steady
        self._started = False
        self._beat_at: float | None = None
        self._failing_since: float | None = None
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
        self._started = True

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

    def beat(self) -> None:
        """A long step says that it goes on."""
        self._beat_at = self._steady()

    def fault(self) -> str | None:
        """What is wrong with the loop, as the rest of a sentence; None where it works, or is not wanted to."""
        now, beat_at, failing_since = self._steady(), self._beat_at, self._failing_since
        if not self._started or self._stopping.is_set():
            return None
        if not self.alive():
            return "has ended"
        if failing_since is not None and now - failing_since > FAILING_S:
            return f"has failed for {(now - failing_since) / 60:.0f} min"
        if beat_at is not None and now - beat_at > LONGEST_S:
            return f"has been at one step for {(now - beat_at) / 60:.0f} min"
        return None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.beat()
            try:
                due = self._step()
            except Exception as error:
                self._say(error)
                self._failing_since = self._steady() if self._failing_since is None else self._failing_since
                self._beat_at = None
                self._stopping.wait(self._rest_s())
            else:
                self._said, self._errors = "", 0
                self._failing_since = self._beat_at = None
                self._wake.wait(self._idle_s if due is None else min(max(due - time.time(), 0.0), self._idle_s))
            self._wake.clear()  # before it is asked whether to stop, which wakes too
        if self._after is not None:
            self._after()

    def _say(self, error: Exception) -> None:
        if not isinstance(error, QcNodeError):
            log.error("the loop %s goes on after an error", self.name, exc_info=error)
        elif str(error) != self._said:  # once, however often the step meets it
            log.error("the loop %s goes on: %s", self.name, error)
        self._said = str(error)

    def _rest_s(self) -> float:
        """How long to rest after an error; the next one in a row makes it longer."""
        rest_s = self._idle_s * 2.0 ** min(self._errors, 30)
        self._errors += 1
        return min(rest_s, max(self._idle_s, LONGEST_PAUSE_S))
