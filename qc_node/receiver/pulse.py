"""How long a receiving process has given no sign of life."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_LOOK_S = 1.0
"""Twice the time between two looks (:data:`qc_node.process.WATCH_S`); what lasts longer is a pause of our own."""


class Pulse:
    """Counts the silence of one child, in time in which this process itself ran and listened.

    That a machine is overloaded, a container paused or a ledger locked is no fault of the child's.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._looked_at = monotonic()
        self._ran_s = 0.0
        self._heard_at = 0.0
        self._is_heard_now = False

    def look(self) -> float:
        """Let the time go on; called twice a second.  Returns :attr:`silent_s`."""
        now = self._now()
        if not self._is_heard_now:
            self._ran_s += min(now - self._looked_at, LONGEST_LOOK_S)
        self._looked_at = now
        return self.silent_s

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return self._ran_s - self._heard_at

    def beat(self) -> None:
        """The child gave a sign of life, or is a new one."""
        self._heard_at = self._ran_s

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """While a message of the child is being handled its next one is not read, and no silence counts."""
        self._is_heard_now = True
        try:
            yield
        finally:
            self._is_heard_now = False
