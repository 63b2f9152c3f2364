"""Signals as something that the main thread waits for.

A handler runs in the main thread between two steps of whatever that is doing, the wait for it included.  Setting a
:class:`threading.Event` there may wait for a lock that the interrupted wait itself holds, for ever.  So a handler
takes no lock: it notes the number and writes a byte that ends the wait.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable


class SignalInbox:
    """Signals that came and were not looked at yet.  Made and used by the main thread.

    Parameters
    ----------
    numbers
        From now on these are noted instead of what they did.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._came: list[int] = []
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        for number in numbers:
            signal.signal(number, self._note)

    def wait(self, seconds: float) -> frozenset[int]:
        """The signals that came since the last call; waits for one for at most `seconds`."""
        select.select([self._read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        count = len(self._came)
        came = frozenset(self._came[:count])
        del self._came[:count]
        return came

    def _note(self, number: int, frame: object) -> None:
        self._came.append(number)
        with contextlib.suppress(BlockingIOError):  # so many that nobody has looked: it will wake up anyway
            os.write(self._write, b"x")
