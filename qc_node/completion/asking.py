"""The questions to the PACS: asked in a thread of their own, answered by a row in the ledger.

Closing never waits for them.  A PACS that is slow, silent or streams for ever delays its own answers and nothing
else: quiet time and cap act regardless.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from qc_node.ledger import Ledger

AskPacsFor = Callable[[str, str], int | None]
"""(study UID, series UID) to the number of instances that the PACS has; None when it does not say."""


class PacsQuestions:
    """A line of series that the PACS is asked about, one at a time.

    Parameters
    ----------
    ask
        Called with study and series UID in the thread of :meth:`step`; must come back in the end.
    rest_s
        A PACS that did not answer is left alone for so long.
    wake
        Called when there is something for :meth:`step` to do.
    answered
        Called when an answer stands in the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        ask: AskPacsFor,
        rest_s: float,
        *,
        wake: Callable[[], None] = lambda: None,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._ask = ask
        self._rest_s = rest_s
        self._wake = wake
        self._answered = answered
        self._lock = threading.Lock()
        self._waiting: dict[int, None] = {}
        self._in_hand: int | None = None
        self._silent_at: float | None = None

    def put(self, series_id: int) -> None:
        """Ask about this series when its turn comes; one in the line, or just asked about, is not put twice."""
        with self._lock:
            if series_id == self._in_hand:
                return
            self._waiting.setdefault(series_id)
        self._wake()

    def rests_until(self, now: float) -> float:
        """Until when the PACS is left alone; a time in the past when it is not."""
        silent = self._silent_at
        if silent is None or not silent <= now < silent + self._rest_s:  # a clock that was set back ends it too
            return 0.0
        return silent + self._rest_s

    def step(self, now: float) -> float | None:
        """Ask about the first series of the line; returns when to ask about the next, None when there is none."""
        if self.rests_until(now) <= now and self._take_next():
            try:
                self._question(now)
            finally:
                self._in_hand = None
        return max(now, self.rests_until(now)) if self._waiting else None

    def _question(self, now: float) -> None:
        row = self._ledger.series.by_id(self._in_hand) if self._in_hand is not None else None
        if row is None or row["state"] != "receiving":
            return
        count = self._ask(row["study_uid"], row["series_uid"])
        if count is None:
            self._silent_at = now
        self._ledger.series.set_pacs_count(row["series_id"], count, now)
        self._answered()

    def _take_next(self) -> bool:
        with self._lock:
            self._in_hand = next(iter(self._waiting), None)
            if self._in_hand is None:
                return False
            del self._waiting[self._in_hand]
            return True
