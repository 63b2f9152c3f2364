"""The receiver as the rest of the program knows it: start, stop, and events.

The listening socket is shared by several processes, each with a thread per association; who is free accepts.
They inherit nothing but the socket and two pipes, and end with their parent.

What a receiving process needs is imported there and not here: the node opens its port before it imports the rest.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.process import ChildProcess, Message
from qc_node.receiver.events import CommittedEvent, Event, ReceivedEvent, event_from_json
from qc_node.receiver.pulse import Pulse
from qc_node.receiver.settings import ReceiverSettings
from qc_node.spool import Spool

if TYPE_CHECKING:
    from qc_node.receiver.server import Server
    from qc_node.receiver.store import Store

__all__ = ["CommittedEvent", "Event", "ReceivedEvent", "Receiver", "ReceiverSettings"]

BIND_PATIENCE_S = 3.0
"""A process killed a moment ago may hold the port for so long."""
START_PATIENCE_S = 30.0
RESTART_PAUSE_S = 0.5
"""Senders wait outside meanwhile, so this pause does not grow."""
END_PATIENCE_S = 5.0
"""How much longer than its grace a receiving process may take to end."""
SILENT_S = 20.0
"""After so long without a sign of life, which comes every two seconds, a receiving process is not alive ..."""
HANGS_S = 60.0
"""... and after so long it is killed and replaced.  A busy machine makes no process wait for so long, and senders
repeat what was not answered; sooner would end transfers that only pause."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""A receiving process computes nothing: no pool of threads for it."""


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
        self._children: list[ChildProcess] = []
        self._pulses: list[Pulse] = []
        self._is_stopping = False
        self._server: Server | None = None
        self._store: Store | None = None
        self._told: dict[str, Any] = {}
        self._open: dict[int, int] = {}
        self.port = settings.port

    def start(self) -> None:
        """Open the port and serve it.

        Raises
        ------
        QcNodeError
            Port, data folder or ledger cannot be used.
        """
        spool, ledger = Spool(self._data_dir), Ledger(self._ledger_path)
        self._is_stopping = False
        self._listener = listener = listen(self.settings.host, self.settings.port)
        self.port = int(listener.getsockname()[1])
        if self.settings.processes < 1:
            self._serve(listener, spool, ledger)
            return
        ledger.close()
        self._told = self._words(listener)
        self._pulses = [Pulse() for _ in range(self.settings.processes)]
        self._children = [self._child(number, listener) for number in range(self.settings.processes)]
        for child in self._children:
            child.start()
        end = time.monotonic() + START_PATIENCE_S
        for child in self._children:
            if not child.ready.wait(max(0.0, end - time.monotonic())):
                self.stop(0.0)
                raise QcNodeError("The receiving processes did not start; see the log.")

    def _serve(self, listener: socket.socket, spool: Spool, ledger: Ledger) -> None:
        """Serve the port in threads of this process."""
        from qc_node.receiver.server import Server
        from qc_node.receiver.store import Store

        settings = self.settings
        self._store = Store(spool, ledger, settings.low_watermark_bytes, time.time, settings.on_changed)
        self._server = Server(
            listener, self.settings, self._store, self.tell, self.log, self.settings.max_associations
        )
        self._server.start()

    def _words(self, listener: socket.socket) -> dict[str, Any]:
        """What each receiving process needs to know."""
        return {
            "listener": listener.fileno(),
            "settings": {
                **vars(self.settings),
                "peers": dict(self.settings.peers),
                "idle_s_by_ae": dict(self.settings.idle_s_by_ae),
            },
            "data_dir": str(self._data_dir.resolve()),
            "ledger": str(self._ledger_path.resolve()),
            "limit": -(-self.settings.max_associations // self.settings.processes),
            "log_level": self.log.getEffectiveLevel(),
            "draining": False,
        }

    def _child(self, number: int, listener: socket.socket) -> ChildProcess:
        return ChildProcess(
            "qc_node.receiver.receiving_process",
            self._told,
            lambda message: self._hear(number, message),
            name="receiving",
            log=self.log,
            on_end=lambda code: self._ended(number, code),
            is_stuck=lambda: self._hangs(number),
            pauses_s=(RESTART_PAUSE_S, RESTART_PAUSE_S),
            pass_fds=(listener.fileno(),),
            environment=ONE_THREAD,
        )

    def _ended(self, number: int, code: int | None) -> None:
        self._open.pop(number, None)
        self._pulses[number].beat()
        self.log.error("a receiving process ended with code %s and is started again", code)

    def _hangs(self, number: int) -> bool:
        """Whether a receiving process has to be killed: it was silent for too long, and nobody told it to end."""
        if self._pulses[number].look() < HANGS_S or self._is_stopping:
            return False
        self.log.error("a receiving process gave no sign of life for %.0f s and is killed", HANGS_S)
        return True

    def _hear(self, number: int, message: Message) -> None:
        with self._pulses[number].hearing():
            self._take(number, message)

    def _take(self, number: int, message: Message) -> None:
        if message["event"] in ("ready", "accepting"):
            self._pulses[number].beat()
        elif message["event"] == "events":
            for event in message["events"]:
                self.tell(event_from_json(event))
        elif message["event"] == "open":
            self._open[number] = message["associations"]
        elif message["event"] == "log":
            self.log.log(message["level"], "%s", message["text"], extra={"status": message["status"]})

    def drain(self, on: bool = True) -> None:
        """Let no new association in, and those that are open come to their end; or, with False, all in again."""
        self._open.clear()
        self._told["draining"] = on
        if self._server is not None:
            self._server.drain(on)
        for child in self._children:
            child.change_settings(self._told)
            child.say({"drain": on})

    def take_log_level(self) -> None:
        """Have the receiving processes, later ones too, say what :attr:`log` lets through now."""
        level = self.log.getEffectiveLevel()
        self._told["log_level"] = level
        for child in self._children:
            child.change_settings(self._told)
            child.say({"log_level": level})

    def associations(self) -> int | None:
        """How many were open a moment ago, after :meth:`drain`; None while a receiving process has not said."""
        if self._server is not None:
            return self._server.open_associations()
        said = list(self._open.values())
        for child in self._children:
            child.say({"drain": self._told["draining"]})  # asks anew
        return sum(said) if len(said) == len(self._children) else None

    def stop(self, grace_s: float) -> None:
        """Accept nobody any more, let the objects in flight end (at most `grace_s` seconds), close."""
        self._is_stopping = True
        for child in self._children:
            child.ask_to_end({"stop": grace_s})
        if self._listener is not None and self._server is None:
            self._listener.close()
        for child in self._children:
            child.end(grace_s + END_PATIENCE_S)
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
        return any(
            child.ready.is_set() and pulse.silent_s < SILENT_S
            for child, pulse in zip(self._children, self._pulses, strict=False)
        )

    def pids(self) -> list[int]:
        """The receiving processes now running."""
        return [pid for child in self._children if (pid := child.pid) is not None]

    def tell(self, event: Event) -> None:
        """Pass an event on; what a listener does wrong is no concern of the peer's."""
        try:
            self._on_event(event)
        except Exception:
            self.log.exception("an event of the receiver could not be handled")
