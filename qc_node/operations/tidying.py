"""What is past its time, and what belongs to nothing: the loop that deletes both while images come in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from qc_node.ledger import Ledger
from qc_node.operations.orphans import Orphans
from qc_node.operations.retention import HOUR_S, Pace, remove_old
from qc_node.spool import Spool

FIRST_LOOK_S = 600.0
"""So long after the start files are looked for that belong to nothing: recovery is through by then."""
LOOK_EVERY_S = 6 * HOUR_S
"""A file is deleted at the second look that finds it."""


class Tidying:
    """One step removes all that is due; at times it also looks for orphans.

    Parameters
    ----------
    wait
        Waits for so many seconds; whether the node is to end.
    on_orphan
        See :class:`qc_node.operations.orphans.Orphans`.
    steady
        Seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        wait: Callable[[float], bool],
        on_orphan: Callable[[str], None],
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._wall = wall
        self._steady = steady
        self._pace = Pace(wait, steady)
        self._orphans = Orphans(ledger, spool, on_orphan, wall)
        self._next_look = steady() + FIRST_LOOK_S

    def step(self, keep_images_h: float, keep_training_days: float, most_kept_bytes: float = math.inf) -> None:
        """Remove what is older than that, to the last file, in small steps."""
        self._pace.begin()
        remove_old(
            self._ledger,
            self._spool,
            self._wall(),
            keep_images_h,
            keep_training_days,
            self._pace,
            most_kept_bytes=most_kept_bytes,
        )
        if self._steady() >= self._next_look:
            self._orphans.look(self._pace)
            self._next_look = self._steady() + LOOK_EVERY_S
