"""Looking for damage of the ledger: shortly at the start, whole in the background, once a day."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from qc_node.ledger import Ledger, LedgerDamagedError
from qc_node.ledger.integrity import damaged
from qc_node.spool import Spool, has_reports

log = logging.getLogger("qc_node")

AT_START_S = 0.5
"""A start waits no longer for the check; 400 MB in the page cache take 0.25 s."""
SETTLED_S = 60.0
"""The first whole check begins so long after the start, which needs the disk for itself."""
EVERY_S = 24 * 3600.0
WHOLE_S = 3600.0
"""More than any ledger takes; a disk that hangs must not hold the loop for ever."""


def open_sound(path: Path, spool: Spool) -> Ledger:
    """Open the ledger and find what half a second can find, before anything is taken in.

    Raises
    ------
    LedgerDamagedError
        The ledger is damaged, or an empty file beside reports that it must have known.
    QcNodeError
        It cannot be opened.
    """
    if has_reports(spool.root) and not path.is_dir():
        if not path.exists():
            log.error("there is no ledger %s beside the reports: a new one begins, without votes", path)
        elif path.stat().st_size == 0:
            raise damaged(path, "it is empty, although there are reports beside it")
    ledger = Ledger(path)
    ledger.look_for_damage(AT_START_S)
    if ledger.damage is not None:
        raise LedgerDamagedError(ledger.damage)
    return ledger


class LedgerWatch:
    """Walks through the whole ledger in the background.

    Parameters
    ----------
    ledger
        What is found stays in its ``damage``, where the health check sees it.
    clock
        Monotonic seconds.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._due = clock() + SETTLED_S

    def step(self) -> None:
        """Look once a day, and once after the start."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + EVERY_S
        self._ledger.look_for_damage(WHOLE_S)
        if self._ledger.damage is not None:
            log.error("%s", self._ledger.damage)
