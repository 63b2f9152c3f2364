"""Where peers call from that are configured by name.

A slow name server must not hold up an association, and one that fails must not lock known peers out: a name is
looked up in the background, its last good answer stays, and a peer waits only whose address is not in that answer.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

FRESH_S = 60.0
"""So old an answer may be without being asked for anew: addresses that a hospital gives out last hours."""
RETRY_S = 5.0
"""A name is looked up no more often, however many peers call."""


def resolve(host: str) -> frozenset[str]:
    """All addresses of `host`, of which the network is asked.

    Raises
    ------
    OSError
        It cannot be resolved.
    """
    return frozenset(str(info[4][0]) for info in socket.getaddrinfo(host, None))


class _Name:
    """What is known of one host."""

    def __init__(self) -> None:
        self.known: frozenset[str] | None = None
        self.asked_at: float | None = None
        self.answered = threading.Event()
        """Clear while an answer is waited for."""

    def age_s(self, now: float) -> float:
        """Seconds since it was last asked for."""
        return float("inf") if self.asked_at is None else now - self.asked_at


class PeerAddresses:
    """Tells whether an address is that of a host.

    Parameters
    ----------
    wait_s
        How long a peer may wait whose address is not among those that are known.
    look_up, monotonic
        The name service, which may take its time, and the clock.
    """

    def __init__(
        self,
        wait_s: float,
        look_up: Callable[[str], frozenset[str]] = resolve,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wait_s = wait_s
        self._look_up = look_up
        self._now = monotonic
        self._lock = threading.Lock()
        self._names: dict[str, _Name] = {}

    def is_at(self, host: str, address: str) -> bool | None:
        """Whether `address` is one of `host`'s; None when `host` could not be resolved, now or before."""
        if address == host:
            return True
        name = self._names.setdefault(host, _Name())
        if name.known is not None and address in name.known:
            self._ask(host, name, FRESH_S)
            return True
        self._ask(host, name, RETRY_S)
        name.answered.wait(self._wait_s)
        return None if name.known is None else address in name.known

    def _ask(self, host: str, name: _Name, older_than_s: float) -> None:
        """Look a name up in the background, unless that is going on or was done a moment ago."""
        with self._lock:
            is_asked = name.asked_at is not None and not name.answered.is_set()
            if is_asked or name.age_s(self._now()) < older_than_s:
                return
            name.asked_at = self._now()
            name.answered.clear()
        try:
            threading.Thread(target=self._answer, args=(host, name), name="name", daemon=True).start()
        except RuntimeError:  # no more threads: another peer asks again
            name.answered.set()

    def _answer(self, host: str, name: _Name) -> None:
        try:
            name.known = self._look_up(host) or name.known
        except (OSError, UnicodeError):
            pass  # the last good answer stays
        finally:
            name.answered.set()
