"""One receiving process: started by :class:`qc_node.receiver.service.Receiver`, never by hand.

``python -m qc_node.receiver.receiving_process LISTENER OUT CONTROL SETTINGS`` with three inherited file
descriptors and a JSON object.  It writes one JSON object per line to OUT and obeys CONTROL:
``stop SECONDS``, or the end of file, which means that the parent is gone.  Everything it has answered is durable,
so it may end at any time.
"""

from __future__ import annotations

import json
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
from typing import Any

from qc_node.ledger import Ledger
from qc_node.receiver.events import Event, event_to_json
from qc_node.receiver.server import ReceiverSettings, Server
from qc_node.receiver.store import Store
from qc_node.spool import Spool

GATHER_S = 0.02
"""Events of so long travel together: waking the parent for each would cost more than receiving the object."""


class _ToParent(logging.Handler):
    """Sends events and log records up, a line each."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._turn = threading.Lock()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        threading.Thread(target=self._carry, name="events", daemon=True).start()

    def say(self, message: dict[str, Any]) -> None:
        """Write one line; the parent that is gone is no error here."""
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._turn:
                while line:
                    line = line[os.write(self._fd, line) :]
        except OSError:
            return

    def event(self, event: Event) -> None:
        """Pass an event on, soon."""
        self._events.put(event)

    def flush_events(self) -> None:
        """Send what has gathered."""
        events = []
        while not self._events.empty():
            events.append(event_to_json(self._events.get()))
        if events:
            self.say({"events": events})

    def _carry(self) -> None:
        while True:
            first = self._events.get()
            time.sleep(GATHER_S)
            self._events.put(first)
            self.flush_events()

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a log record on."""
        self.say({"log": [record.levelno, self.format(record)], "status": getattr(record, "status", None)})


def main(arguments: list[str]) -> int:
    """Serve until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent says when
    listener = socket.socket(fileno=int(arguments[0]))
    parent = _ToParent(int(arguments[1]))
    told = json.loads(arguments[3])
    settings = ReceiverSettings(**told["settings"])
    log = logging.getLogger("qc_node.receiver")
    log.setLevel(told["log_level"])
    log.propagate = False
    log.addHandler(parent)
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")  # pydicom quotes values
    ledger = Ledger(Path(told["ledger"]))
    store = Store(Spool(Path(told["data_dir"])), ledger, settings.low_watermark_bytes, time.time)
    server = Server(listener, settings, store, parent.event, log, told["limit"])
    server.start()
    parent.say({"ready": True})
    words = os.read(int(arguments[2]), 64).split()
    if not words:
        os._exit(0)  # the parent died: free the port at once
    server.stop(float(words[1]))
    time.sleep(2 * GATHER_S)
    parent.flush_events()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
