"""Ledgers of real rows, and what happens to files on bad disks."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from qc_node.ledger import Ledger, Received

PAGE = 4096


def filled(path: Path, series: int = 60, images: int = 30) -> Path:
    """A ledger with so many rows that its tables and indexes take many pages; nothing is left in its log."""
    with closing(Ledger(path)) as ledger:
        for s in range(series):
            ledger.instances.add([received(s, i) for i in range(images)])
            ledger.series.event(s + 1, 1, 5.0, "closed", "x" * 200)
        ledger.db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def received(series: int, image: int) -> Received:
    """A row as the receiver writes it, under names as long as real ones."""
    uid = f"1.2.826.0.1.3680043.8.498.{series:020}"
    return Received(
        f"{uid}.{image:010}",
        "1.2.840.10008.5.1.4.1.1.4",
        uid,
        f"{uid}.9",
        "1.2.840.10008.1.2.1",
        "MR",
        "MR1",
        f"images/{series:032}/{image:032}.dcm",
        1000,
        10.0 * series + image,
    )


def pages_of(path: Path, name: str) -> list[int]:
    """Numbers, from 1, of the pages of a table or an index; the file is not changed."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        root = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    data = path.read_bytes()
    found, ahead = [], [int(root)]
    while ahead:
        number = ahead.pop()
        found.append(number)
        ahead += _children(data[(number - 1) * PAGE : number * PAGE])
    return found


def _children(page: bytes) -> list[int]:
    """Pages below an interior page of a b-tree (sqlite.org/fileformat2.html, section 1.6)."""
    if page[0] not in (2, 5):
        return []
    cells = int.from_bytes(page[3:5], "big")
    places = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n], "big") for n in range(cells)]
    return [int.from_bytes(page[8:12], "big"), *(int.from_bytes(page[p : p + 4], "big") for p in places)]


def overwrite(path: Path, page: int) -> None:
    """What a bad sector or a misdirected write leaves: a page of something else."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)


def _overwritten(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        for page in pages_of(path, name):
            overwrite(path, page)

    return damage


def _one_leaf(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        overwrite(path, pages_of(path, name)[-1])

    return damage


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)


def _wrong_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"This is no database at all.")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE moz_cookies (id INTEGER PRIMARY KEY, value TEXT)")
        conn.execute("PRAGMA user_version = 4")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "the table of series": _overwritten("series"),
    "the table of instances": _overwritten("instances"),
    "one leaf of the table of events": _one_leaf("events"),
    "one leaf of the index of UIDs": _one_leaf("idx_instances_sop_instance_uid_version"),
    "the schema": lambda path: overwrite(path, 1),
    "half of the file": _truncated,
    "the header": _wrong_header,
    "a folder in its place": _folder,
    "a file of another program": _foreign,
}
"""What is damaged, and how."""
