"""One receiving process: started by :class:`qc_node.receiver.service.Receiver`, never by hand.

It inherits the listening socket.  Its first message from the parent holds descriptor and settings.  Then come any
number of ``{"drain": BOOL}``, each answered with how many associations are open, of ``{"log_level": NUMBER}``, and
``{"stop": SECONDS}``; end of file instead means that the parent is gone.  Everything it has answered is durable:
it may end at any time.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import warnings
from pathlib import Path

from qc_node.ledger import Ledger
from qc_node.process import ParentProcess
from qc_node.receiver.events import Event, event_to_json
from qc_node.receiver.server import Server
from qc_node.receiver.settings import ReceiverSettings
from qc_node.receiver.store import Store
from qc_node.spool import Spool

GATHER_S = 0.02
"""Events of so long travel together: waking the parent for each would cost more than receiving the object."""


class _Events:
    """Sends what was received up, some at a time, and that connections are accepted."""

    def __init__(self, parent: ParentProcess) -> None:
        self._parent = parent
        self._waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        threading.Thread(target=self._carry, name="events", daemon=True).start()

    def put(self, event: Event) -> None:
        """Pass an event on, soon."""
        self._waiting.put(event)

    def beat(self) -> None:
        """Say, soon, that connections are accepted; whoever accepts them does not wait for the parent."""
        self._waiting.put(None)

    def flush(self) -> None:
        """Send what has gathered."""
        gathered = []
        while not self._waiting.empty():
            gathered.append(self._waiting.get())
        events = [event_to_json(event) for event in gathered if event is not None]
        if events:
            self._parent.say({"event": "events", "events": events})
        if None in gathered:
            self._parent.say({"event": "accepting"})

    def _carry(self) -> None:
        while True:
            first = self._waiting.get()
            time.sleep(GATHER_S)
            self._waiting.put(first)
            self.flush()


class _LogToParent(logging.Handler):
    """Sends log records up."""

    def __init__(self, parent: ParentProcess) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a log record on."""
        status = getattr(record, "status", None)
        self._parent.say({"event": "log", "level": record.levelno, "text": self.format(record), "status": status})


def _grace(parent: ParentProcess, server: Server, log: logging.Logger) -> float:
    """Do as the parent says until it says stop; how many seconds that may take."""
    while True:
        message = parent.hear()
        if message is None:
            os._exit(0)  # the parent died: free the port at once
        if "stop" in message:
            return float(message["stop"])
        if "log_level" in message:
            log.setLevel(message["log_level"])
            continue
        server.drain(message["drain"])
        parent.say({"event": "open", "associations": server.open_associations()})


def main() -> int:
    """Serve until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent says when
    parent = ParentProcess()
    told = parent.hear()
    if told is None:
        return 0
    listener = socket.socket(fileno=told["listener"])
    settings = ReceiverSettings(**told["settings"])
    log = logging.getLogger("qc_node.receiver")
    log.setLevel(told["log_level"])
    log.propagate = False
    log.addHandler(_LogToParent(parent))
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")  # pydicom quotes values
    events = _Events(parent)
    ledger = Ledger(Path(told["ledger"]))
    store = Store(
        Spool(Path(told["data_dir"])), ledger, settings.low_watermark_bytes, time.time, settings.on_changed
    )
    server = Server(listener, settings, store, events.put, log, told["limit"], events.beat)
    server.drain(told["draining"])
    server.start()
    parent.say({"event": "ready"})
    server.stop(_grace(parent, server, log))
    time.sleep(2 * GATHER_S)
    events.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
