"""The node's side of the classifiers: one worker process, watched, restarted, woken.

The queue itself is the ledger (state ``queued``), so it is bounded by the disk that the receiver already
watches, and it survives everything; in memory there is at most one batch.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from qc_node.engine.own_faults import MAX_ATTEMPTS
from qc_node.engine.worker import WorkerSettings
from qc_node.ledger import Ledger
from qc_node.process import ChildProcess
from qc_node.spool import digest

log = logging.getLogger("qc_node.engine")

STUCK_S = 180.0
"""A worker that judges one series for longer than this is killed and the series tried again."""
SILENT_S = 60.0
"""A worker at rest that says nothing for so long is killed: it waits half of this for the ledger at most."""
PAUSED_S = 10.0
"""The watchdog looks twice a second: when it did not for so long, the node itself stood still."""
TOGETHER_S = 0.3
"""Who kills worker and node together does not mean the series: the node waits so long for its own end."""
WAKE: dict[str, Any] = {}
"""What the worker is sent when there is something in the queue; it needs no content."""

Event = Mapping[str, Any]


class Pool:
    """Starts the worker and keeps it alive.

    Parameters
    ----------
    settings
        Handed to the worker.
    ledger
        To give back what a dead worker had claimed.
    on_event
        Called from a thread of the pool with each ``ready``, ``fault`` and ``finished`` of the worker, and with
        ``ended`` when it is not there any more.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        on_event: Callable[[Event], None],
        wall: Callable[[], float] = time.time,
        stuck_s: float = STUCK_S,
        silent_s: float = SILENT_S,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._on_event = on_event
        self._wall = wall
        self._stuck_s = stuck_s
        self._is_loaded = False
        self.fault = ""
        """Why the worker cannot begin: its own sentence (weights, GPU), or that it ended; empty once it works."""
        self.trouble = ""
        """What of the machine's keeps a worker from judging: no memory, no descriptors, no ledger, no GPU."""
        self._silent_s = silent_s
        self._steady = steady
        self._in_hand: set[tuple[int, int]] = set()
        self._heard_at = self._moved_at = self._looked_at = steady()
        self._owes: bool | None = None
        """Whether a worker is gone whose series are not in the queue yet; True: it died by itself."""
        self._worker = ChildProcess(
            "qc_node.engine.worker",
            asdict(settings),
            self._hear,
            name="classifier",
            log=log,
            on_end=self._ended,
            may_start=self._settle,
            is_stuck=self._stuck,
        )

    # -- life ----------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the worker; do not wait for its models to be loaded."""
        self._owes = False  # with its node, of whatever
        self._settle()
        self._worker.start()

    def wake(self) -> None:
        """Tell the worker that there is something in the queue."""
        self._worker.say(WAKE)

    def apply(self, settings: WorkerSettings) -> None:
        """Have rules, logging and the wait of a coverage reject changed; the rest holds for the next worker."""
        self._worker.change_settings(asdict(settings))
        self._worker.say({"settings": asdict(settings)})

    def stop(self, grace_s: float = 10.0) -> None:
        """Let the series in hand finish, for at most `grace_s`, then end the worker."""
        self._worker.ask_to_end()
        self._worker.end(grace_s)

    # -- what health asks ----------------------------------------------------------------------------
    @property
    def pid(self) -> int | None:
        """Process id of the living worker."""
        return self._worker.pid

    def alive(self) -> bool:
        """Whether a worker with loaded models is there."""
        return self._worker.alive()

    def loading(self) -> bool:
        """Whether a worker is there that has not loaded its models yet."""
        return self._worker.pid is not None and not self._worker.ready.is_set()

    def rest_s(self) -> float:
        """Since when the worker has neither taken nor ended a series, in seconds."""
        return self._steady() - self._moved_at

    # -- inside --------------------------------------------------------------------------------------
    def _hear(self, event: Event) -> None:
        kind = event.get("event")
        self._heard_at = self._steady()
        if kind == "fault":
            self.fault = event["sentence"]
            log.error("%s", self.fault)
        elif kind == "ready":
            self._is_loaded, self.fault = True, ""
            self._moved_at = self._heard_at
        elif kind == "beat":
            self.trouble = event["trouble"]
        elif kind in ("started", "measuring", "given_back", "finished"):
            self._moved(kind, (event["series_id"], event["run"]))
        if kind == "finished":
            self.trouble = ""
            log.info("series %s: %s", digest(event["series_uid"]), event["state"])
        if kind in ("ready", "fault", "finished"):
            self._on_event(event)

    def _moved(self, kind: str, run: tuple[int, int]) -> None:
        self._moved_at = self._heard_at
        if kind in ("started", "measuring"):  # of each for itself it may be stuck
            self._in_hand.add(run)
        else:
            self._in_hand.discard(run)

    def _ended(self, code: int | None) -> None:
        self._in_hand.clear()
        self._owes = True
        log.error("the classifier process ended (code %s)", code)
        if not self._is_loaded and not self.fault:
            self.fault = "The classifier process ended before its models were loaded; the log says why."
        self._is_loaded = False
        self._on_event({"event": "ended"})
        time.sleep(TOGETHER_S)
        self._settle()

    def _settle(self) -> bool:
        """Put into the queue what a worker that is gone had in hand; False where the ledger does not let us."""
        if self._owes is None:
            return True
        try:
            back = self._ledger.series.requeue_claimed(MAX_ATTEMPTS, self._wall(), died=self._owes)
        except sqlite3.Error as error:
            sentence = f"What the last classifier had in hand cannot go back into the queue yet: {error}"
            if self.fault != sentence:
                log.error("%s", sentence)
            self.fault = sentence
            return False
        self._owes = None
        if back:
            log.warning("%d series go back into the queue", back)
        return True

    def _stuck(self) -> bool:
        now = self._steady()
        if now - self._looked_at > PAUSED_S:
            self._heard_at = self._moved_at = now
        self._looked_at = now
        if self._in_hand:
            if now - self._moved_at <= self._stuck_s:
                return False
            log.error("the classifier was busy with one series for %.0f s and is stopped", self._stuck_s)
            return True
        if not self._is_loaded or now - self._heard_at <= self._silent_s:
            return False
        log.error("the classifier at rest has said nothing for %.0f s and is stopped", self._silent_s)
        return True
