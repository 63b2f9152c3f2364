"""A door on loopback, and the list of what it tells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qc_node.ledger import Ledger
from qc_node.receiver.receiver import ReceivedEvent, Receiver
from qc_node.spool import Spool
from tests.part_settings import receiver_settings

DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "accept_unknown": True,
    "processes": 0,
    "low_watermark_bytes": 0,
}


class Door:
    """A running reception with its data folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.events: list[ReceivedEvent] = []
        self.spool = Spool(folder)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.receiver = Receiver(
            receiver_settings(**(DEFAULTS | settings)), folder, self.events.append, logging.getLogger("door")
        )

    def start(self) -> Door:
        self.receiver.start()
        return self

    @property
    def port(self) -> int:
        return self.receiver.port

    def stored(self) -> list[dict[str, Any]]:
        """All instance rows in order of arrival."""
        return self.ledger.db.rows("SELECT * FROM instances ORDER BY rowid")

    def path(self, row: dict[str, Any]) -> Path:
        return self.spool.path(row["path"])

    def half_written(self) -> list[Path]:
        return list((self.folder / "tmp").iterdir())

    def files(self) -> list[Path]:
        return [p for p in (self.folder / "images").rglob("*") if p.is_file()]


@pytest.fixture
def open_door(tmp_path: Path) -> Iterator[Callable[..., Door]]:
    """A function that opens a door; arguments as :class:`ReceiverSettings`, ``start=False`` to open it later."""
    doors: list[Door] = []

    def start(folder: Path | None = None, start: bool = True, **settings: Any) -> Door:
        door = Door(folder or tmp_path / f"door-{len(doors)}", **settings)
        doors.append(door)
        return door.start() if start else door

    yield start
    for door in doors:
        door.receiver.stop(2.0)
        door.ledger.close()
