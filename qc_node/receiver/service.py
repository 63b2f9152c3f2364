"""The receiver as the rest of the program knows it: start, stop, and events.

The listening socket is shared by several processes, each with a thread per association; who is free accepts.
They are started by ``exec``, so they inherit nothing but the socket and two pipes, and end with their parent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import qc_node
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.receiver.events import CommittedEvent, Event, ReceivedEvent, event_from_json
from qc_node.receiver.server import ReceiverSettings, Server
from qc_node.receiver.store import Store
from qc_node.spool import Spool

__all__ = ["CommittedEvent", "Event", "ReceivedEvent", "Receiver", "ReceiverSettings"]

BIND_PATIENCE_S = 3.0
"""A process killed a moment ago may hold the port for so long."""
START_PATIENCE_S = 30.0
RESTART_PAUSE_S = 0.5


def listen(host: str, port: int, patience_s: float = BIND_PATIENCE_S) -> socket.socket:
    """A listening socket.

    Raises
    ------
    QcNodeError
        The address cannot be used.
    """
    end = time.monotonic() + patience_s
    while True:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(128)
            return sock
        except OSError as error:
            sock.close()
            if time.monotonic() > end or "in use" not in str(error):
                reason = error.strerror or str(error)
                raise QcNodeError(f"The DICOM port {host}:{port} cannot be opened: {reason}.") from error
            time.sleep(0.1)


class _Child:
    """One receiving process and the thread that listens to it."""

    def __init__(self, receiver: Receiver, listener: socket.socket, told: str) -> None:
        self._receiver = receiver
        self._listener = listener
        self._told = told
        self.ready = threading.Event()
        self.stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control = -1
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._tend, name="receiver-process", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process now running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _launch(self) -> int:
        """Start the process; returns the descriptor to listen to."""
        out_read, out_write = os.pipe()
        control_read, control_write = os.pipe()
        fds = (self._listener.fileno(), out_write, control_read)
        root = str(Path(qc_node.__file__).resolve().parent.parent)
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "qc_node.receiver.receiving_process", *map(str, fds), self._told],
                pass_fds=fds,
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        except OSError:
            os.close(out_read)
            os.close(control_write)
            raise
        finally:
            os.close(out_write)
            os.close(control_read)
        self._control = control_write
        return out_read

    def _tend(self) -> None:
        while True:
            with self._lock:
                if self.stopping:
                    return
                try:
                    out = self._launch()
                except OSError as error:
                    self._receiver.log.error("a receiving process could not be started: %s", error)
                    out = -1
            if out >= 0:
                with open(out, "rb") as lines:  # noqa: PTH123
                    for line in lines:
                        self._hear(line)
                assert self._process is not None
                code = self._process.wait()
                self.ready.clear()
                with self._lock:
                    os.close(self._control)
                    self._control = -1
                if not self.stopping:
                    self._receiver.log.error("a receiving process ended with code %s and is started again", code)
            time.sleep(0 if self.stopping else RESTART_PAUSE_S)

    def _hear(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # the process was killed in the middle of a line
        if "events" in message:
            for event in message["events"]:
                self._receiver.tell(event_from_json(event))
        elif "log" in message:
            level, text = message["log"]
            self._receiver.log.log(level, "%s", text, extra={"status": message["status"]})
        elif "ready" in message:
            self.ready.set()

    def stop(self, grace_s: float) -> None:
        """Ask the process to end."""
        with self._lock:
            self.stopping = True
            if self._control >= 0:
                with contextlib.suppress(OSError):
                    os.write(self._control, f"stop {grace_s}".encode())

    def end(self, within_s: float) -> None:
        """Wait for it to end; kill it when it does not."""
        process = self._process
        if process is not None:
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                process.kill()
        self.thread.join(5)


class Receiver:
    """The DICOM receiver of a node.

    Parameters
    ----------
    settings
        See :class:`ReceiverSettings`.
    data_dir
        The spool's root.
    on_event
        Called in this process for every event, from several threads.
    log
        Where rejections, refusals and restarts go; no patient data.
    ledger_path
        The ledger's file; by default ``ledger.sqlite`` in the data folder.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        data_dir: Path,
        on_event: Callable[[Event], None],
        log: logging.Logger,
        ledger_path: Path | None = None,
    ) -> None:
        self.settings = settings
        self.log = log
        self._data_dir = data_dir
        self._ledger_path = ledger_path or data_dir / "ledger.sqlite"
        self._on_event = on_event
        self._listener: socket.socket | None = None
        self._children: list[_Child] = []
        self._server: Server | None = None
        self._store: Store | None = None
        self.port = settings.port

    def start(self) -> None:
        """Open the port and serve it.

        Raises
        ------
        QcNodeError
            Port, data folder or ledger cannot be used.
        """
        spool, ledger = Spool(self._data_dir), Ledger(self._ledger_path)
        self._listener = listener = listen(self.settings.host, self.settings.port)
        self.port = int(listener.getsockname()[1])
        if self.settings.processes < 1:
            self._store = Store(spool, ledger, self.settings.low_watermark_bytes, time.time)
            self._server = Server(
                listener, self.settings, self._store, self.tell, self.log, self.settings.max_associations
            )
            self._server.start()
            return
        ledger.close()
        count = self.settings.processes
        told = json.dumps(
            {
                "settings": {**vars(self.settings), "peers": dict(self.settings.peers)},
                "data_dir": str(self._data_dir.resolve()),
                "ledger": str(self._ledger_path.resolve()),
                "limit": -(-self.settings.max_associations // count),
                "log_level": self.log.getEffectiveLevel(),
            }
        )
        self._children = [_Child(self, listener, told) for _ in range(count)]
        for child in self._children:
            child.thread.start()
        end = time.monotonic() + START_PATIENCE_S
        for child in self._children:
            if not child.ready.wait(max(0.0, end - time.monotonic())):
                self.stop(0.0)
                raise QcNodeError("The receiving processes did not start; see the log.")

    def stop(self, grace_s: float) -> None:
        """Accept nobody any more, let the objects in flight end (at most `grace_s` seconds), close."""
        if self._listener is not None and self._server is None:
            self._listener.close()
        for child in self._children:
            child.stop(grace_s)
        for child in self._children:
            child.end(grace_s + 5.0)
        self._children = []
        if self._server is not None:
            self._server.stop(grace_s)
            self._server = None
        if self._store is not None:
            self._store.close()
            self._store = None

    def alive(self) -> bool:
        """Whether connections are accepted."""
        if self._server is not None:
            return self._server.alive()
        return any(child.ready.is_set() for child in self._children)

    def pids(self) -> list[int]:
        """The receiving processes now running."""
        return [pid for child in self._children if (pid := child.pid) is not None]

    def tell(self, event: Event) -> None:
        """Pass an event on; what a listener does wrong is no concern of the peer's."""
        try:
            self._on_event(event)
        except Exception:
            self.log.exception("a listener to the receiver failed")
