"""What a node needs to take images: data folder, ledger, DICOM port.  It is there first, in a second or so.

A scanner that finds nobody tries again minutes later, and some never do; judging can wait.  So nothing is
imported here that the port does not need: no torch, no web server, not even pydicom, which the receiving process
imports for itself.  :mod:`qc_node.node` builds the rest while images come in already.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qc_node.classifiers import catalogue
from qc_node.config import Settings
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.database import schema_of
from qc_node.ledger.migrations import MIGRATIONS
from qc_node.networks import weights
from qc_node.operations import logs, service_manager
from qc_node.operations.ledger_watch import open_sound
from qc_node.receiver.service import Event, Receiver
from qc_node.receiver.settings import ReceiverSettings
from qc_node.spool import PRIVATE, Spool, lock_folder

log = logging.getLogger("qc_node")

MODELS_PATIENCE_S = 1.0
"""How long the port waits for the weights to be hashed; the shipped ones take some hundredths of it."""


class NodeIntake:
    """Data folder, ledger and receiver of one node.

    Parameters
    ----------
    settings
        Validated configuration.

    Raises
    ------
    QcNodeError
        The data folder cannot be used or belongs to a running node; the ledger cannot be used; weights are missing
        or altered; this version does not do what is configured.
    """

    def __init__(self, settings: Settings) -> None:
        refuse_unbuilt(settings)
        root = settings.node.data_dir
        self.spool = Spool(root)
        self._lock = lock_folder(root)
        try:
            look_at_models(settings.classify.models_dir)
            tightened = self.spool.tighten()
            if tightened:
                log.warning(
                    "%d files and folders of the data folder were open to other users; now closed", tightened
                )
            self.ledger = _ledger(root / "ledger.sqlite", self.spool)
        except BaseException:
            self._unlock()
            raise
        self.receiver = Receiver(receiver_settings(settings), root, self._tell, log)
        self.opened_at: float | None = None
        """When the port was opened, in seconds since the epoch: older files without a row are a crash's."""
        self._where = f"{settings.node.ae_title} takes images on {settings.node.host} port"
        self._listener: Callable[[Event], None] | None = None
        self._untold: list[Event] = []
        self._telling = threading.Lock()

    def open(self) -> None:
        """Take images from now on; a second time changes nothing.

        Raises
        ------
        QcNodeError
            The port is in use, or the receiving processes do not start.
        """
        if self.opened_at is not None:
            return
        self.spool.sweep()  # of nobody who lives: the lock is ours
        self.opened_at = time.time()
        self.receiver.start()
        log.info("%s %d", self._where, self.receiver.port)
        service_manager.tell("READY=1", "STATUS=Takes images; judging is being started.")

    def listen(self, on_event: Callable[[Event], None]) -> None:
        """Have the receiver's events from now on, those that came before first."""
        with self._telling:
            for event in self._untold:
                on_event(event)
            self._untold.clear()
            self._listener = on_event

    def _tell(self, event: Event) -> None:
        with self._telling:
            if self._listener is None:
                self._untold.append(event)
                return
        self._listener(event)

    def close(self, grace_s: float = 20.0) -> None:
        """Let the objects in flight end, at most `grace_s` seconds, and give the data folder back."""
        self.receiver.stop(grace_s)
        self.ledger.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextmanager
def opened(settings: Settings) -> Iterator[NodeIntake]:
    """The intake of a process that is a node and nothing else: umask, logs and signals are set for it."""
    os.umask(~PRIVATE & 0o777)
    logs.configure(settings.node.log_format, settings.node.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until the node listens to it
    intake = NodeIntake(settings)
    try:
        intake.open()
        yield intake
    finally:
        intake.close()


def receiver_settings(settings: Settings) -> ReceiverSettings:
    """What the receiver needs to know."""
    node = settings.node
    return ReceiverSettings(
        ae_title=node.ae_title,
        host=node.host,
        port=node.port,
        peers={p.ae_title: p.host for p in settings.peers("accept")},
        accept_unknown=node.accept_unknown_callers,
        low_watermark_bytes=settings.disk.low_watermark_bytes,
        processes=node.receive_processes,
        max_associations=node.max_associations,
        max_associations_per_peer=node.max_associations_per_peer or max(4, node.max_associations // 4),
        idle_s=node.idle_s,
        idle_s_by_ae={p.ae_title: p.idle_s for p in settings.peers("accept") if p.idle_s is not None},
        on_changed=node.on_changed,
    )


def refuse_unbuilt(settings: Settings) -> None:
    """Say no to what the contract has a key for but this version does not do."""
    for peer in settings.peer:
        if peer.tls:
            raise QcNodeError(f"[[peer]] {peer.name} asks for tls, which this version does not speak yet.")


def look_at_models(models_dir: Path, patience_s: float = MODELS_PATIENCE_S) -> None:
    """Say at once what is wrong with the weights, where that is known within `patience_s`.

    The classifier process looks again before it loads any.  On a disk that is slow or away, its word comes later
    and images are taken meanwhile.

    Raises
    ------
    QcNodeError
        Names the card or file that is missing or differs from its card.
    """
    faults: list[QcNodeError] = []

    def look() -> None:
        try:
            for spec in catalogue.specs():
                weights.verify(models_dir / spec.model_folder)
        except QcNodeError as error:
            faults.append(error)

    thread = threading.Thread(target=look, name="weights", daemon=True)
    thread.start()
    thread.join(patience_s)
    if faults:
        raise faults[0]


def _ledger(path: Path, spool: Spool) -> Ledger:
    """The ledger; an old one is brought up to date first, which takes minutes where it is large."""
    if path.is_file() and path.stat().st_size and 0 < schema_of(path) < len(MIGRATIONS):
        log.warning("the ledger %s is brought to schema %d; images are taken after that", path, len(MIGRATIONS))
        service_manager.tell("STATUS=The ledger is brought to a new schema; images are taken after that.")
    return open_sound(path, spool)
