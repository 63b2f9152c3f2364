"""Sign-ins that failed: a metric counts each, and the log says from where, once a minute at most."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal

from qc_node.http_server import network_of

log = logging.getLogger("qc_node.web")

Way = Literal["pin", "link", "single sign-on", "too many"]
"""How somebody tried to sign in; ``too many`` is one that was not looked at any more."""

LOG_EVERY_S = 60.0
MOST_ADDRESSES = 1000
"""So many are remembered; the oldest goes for the next."""

SAID: dict[Way, str] = {
    "pin": "login and PIN do not match",
    "link": "the personal link is not valid",
    "single sign-on": "the provider's answer was refused",
    "too many": "too many attempts",
}


class FailedSignIns:
    """What the operator is told of them.  Never what was typed: people type a PIN into the field of the login.

    Parameters
    ----------
    count
        Counts one, by its way.
    """

    def __init__(self, clock: Callable[[], float], count: Callable[[str], None]) -> None:
        self._clock = clock
        self._count = count
        self._lock = threading.Lock()
        self._silent: dict[str, tuple[float, int]] = {}

    def note(self, way: Way, address: str, why: str = "") -> None:
        """One failed; the first from an address is logged, then one line a minute says how many came since."""
        self._count(way)
        now, client = self._clock(), network_of(address)
        with self._lock:
            until, unsaid = self._silent.pop(client, (now, 0))
            says = not now < until <= now + LOG_EVERY_S
            self._silent[client] = (now + LOG_EVERY_S, 0) if says else (until, unsaid + 1)
            if len(self._silent) > MOST_ADDRESSES:
                self._silent.pop(next(iter(self._silent)))
        if says:
            before = f"; {unsaid} more since the last line" if unsaid else ""
            log.warning("a sign-in from %s failed: %s%s", address, why or SAID[way], before)
