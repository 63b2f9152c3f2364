"""The node's side of the classifier stage: one worker process, watched, restarted, woken.

The queue itself is the ledger (state ``queued``), so it is bounded by the disk that reception already
watches, and it survives everything; in memory there is at most one batch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import IO, Any

from qc_node.domain import QcNodeError
from qc_node.engine.worker import WorkerSettings
from qc_node.ledger import Ledger
from qc_node.spool import digest

log = logging.getLogger("qc_node.engine")

MAX_ATTEMPTS = 3
"""How often a series may take the worker down with it before it counts as failed."""
STUCK_S = 180.0
"""A worker that judges one series for longer than this is killed and the series tried again."""
READY_S = 120.0
"""How long loading the models may take."""
RESTART_S = (0.5, 30.0)
"""First and longest pause before a dead worker is started again."""

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
        Called from a thread of the pool with each ``ready`` and ``finished`` of the worker.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        on_event: Callable[[Event], None],
        wall: Callable[[], float] = time.time,
        stuck_s: float = STUCK_S,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._on_event = on_event
        self._wall = wall
        self._stuck_s = stuck_s
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._ever_ready = False
        self._fault: str | None = None
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._supervise, name="classifier", daemon=True)

    # -- life ----------------------------------------------------------------------------------------
    def start(self, wait: bool = True) -> None:
        """Start the worker; with `wait`, return when its models are loaded.

        Raises
        ------
        QcNodeError
            The worker cannot work at all: its own sentence (missing weights, wrong hash, no such GPU).
        """
        self._ledger.series.requeue_claimed(MAX_ATTEMPTS, self._wall())
        self._thread.start()
        if not wait:
            return
        deadline = time.monotonic() + READY_S
        while not self._ready.wait(0.05):
            if self._fault is not None:
                raise QcNodeError(self._fault)
            if time.monotonic() > deadline:
                raise QcNodeError(f"The classifier was not ready after {READY_S:.0f} s.")

    def wake(self) -> None:
        """Tell the worker that there is something in the queue."""
        with self._lock:
            process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                process.stdin.write("\n")
                process.stdin.flush()

    def stop(self, grace_s: float = 10.0) -> None:
        """Let the series in hand finish, for at most `grace_s`, then end the worker."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join(5.0)

    # -- what health asks ----------------------------------------------------------------------------
    @property
    def pid(self) -> int | None:
        """Process id of the living worker."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def alive(self) -> bool:
        """Whether a worker with loaded models is there."""
        return self._ready.is_set() and self.pid is not None

    # -- inside --------------------------------------------------------------------------------------
    def _supervise(self) -> None:
        pause = RESTART_S[0]
        while not self._stopping.is_set():
            started = time.monotonic()
            self._run_once()
            if not self._ever_ready and self._fault is None:
                self._fault = "The classifier process ended before its models were loaded; the log says why."
            self._ready.clear()
            if self._stopping.is_set():
                break
            lost = self._ledger.series.requeue_claimed(MAX_ATTEMPTS, self._wall())
            log.error("the classifier process ended; %d series go back into the queue", lost)
            pause = RESTART_S[0] if time.monotonic() - started > 60 else min(pause * 2, RESTART_S[1])
            self._stopping.wait(pause)

    def _run_once(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "qc_node.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        with self._lock:
            self._process = process
        assert process.stdin is not None and process.stdout is not None
        watchdog = threading.Thread(target=self._watch, args=(process,), daemon=True, name="classifier-watch")
        try:
            process.stdin.write(json.dumps(asdict(self._settings)) + "\n")
            process.stdin.flush()
            watchdog.start()
            self._listen(process.stdout)
        except OSError as error:
            log.error("the classifier process could not be talked to: %s", error.strerror)
        finally:
            process.stdout.close()
            process.wait()
            self._busy_since = None
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                log.warning("the classifier said something unreadable")
                continue
            kind = event.get("event")
            if kind == "fault":
                self._fault = event["sentence"]
                log.error("%s", self._fault)
            elif kind == "started":
                self._busy_since = time.monotonic()
            elif kind == "finished":
                self._busy_since = None
                log.info("series %s: %s", digest(event["series_uid"]), event["state"])
            if kind == "ready":
                self._ever_ready = True
                self._ready.set()
            if kind in ("ready", "finished"):
                try:
                    self._on_event(event)
                except Exception:
                    log.exception("an event of the classifier could not be handled")

    def _watch(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            since = self._busy_since
            if since is not None and time.monotonic() - since > self._stuck_s:
                log.error("the classifier was busy with one series for %.0f s and is stopped", self._stuck_s)
                process.kill()
                return
            time.sleep(0.5)
