"""A receiver on loopback, and the list of what it tells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from qc_node.ledger import Ledger
from qc_node.receiver.service import Event, ReceivedEvent, Receiver
from qc_node.spool import Spool
from tests.part_settings import receiver_settings

DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "accept_unknown": True,
    "processes": 0,
    "low_watermark_bytes": 0,
}


class RunningReceiver:
    """A receiver with its data folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.spool = Spool(folder)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.service = Receiver(
            receiver_settings(**(DEFAULTS | settings)), folder, self.events.append, logging.getLogger("receiver")
        )

    def start(self) -> RunningReceiver:
        self.service.start()
        return self

    @property
    def port(self) -> int:
        return self.service.port

    def received(self) -> list[ReceivedEvent]:
        """What it told, all of it of objects that came."""
        found = []
        for event in self.events:
            assert isinstance(event, ReceivedEvent)
            found.append(event)
        return found

    def stored(self) -> list[Mapping[str, Any]]:
        """All instance rows in order of arrival."""
        return self.ledger.db.rows("SELECT * FROM instances ORDER BY rowid")

    def path(self, row: Mapping[str, Any]) -> Path:
        return self.spool.path(row["path"])

    def half_written(self) -> list[Path]:
        return list((self.folder / "tmp").iterdir())

    def files(self) -> list[Path]:
        return [p for p in (self.folder / "images").rglob("*") if p.is_file()]


StartReceiver = Callable[..., RunningReceiver]
"""Takes what :class:`ReceiverSettings` takes, and ``start=False`` for a receiver that is started later."""


@pytest.fixture
def start_receiver(tmp_path: Path) -> Iterator[StartReceiver]:
    """A function that starts a receiver, which ends with the test."""
    receivers: list[RunningReceiver] = []

    def start(folder: Path | None = None, start: bool = True, **settings: Any) -> RunningReceiver:
        receiver = RunningReceiver(folder or tmp_path / f"receiver-{len(receivers)}", **settings)
        receivers.append(receiver)
        return receiver.start() if start else receiver

    yield start
    for receiver in receivers:
        receiver.service.stop(2.0)
        receiver.ledger.close()
