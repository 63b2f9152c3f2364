"""A backup of a data folder while the node runs: the ledger of one moment, and the files that it needs.

Consistent without stopping anybody: the copy of the ledger comes first, then the files that its rows name.  A file
is on the disk before its row is written, never altered, and only ever removed: so each file that a row of the copy
names is still there, unless retention has removed it since, which is counted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from qc_node import __version__
from qc_node.domain import QcNodeError
from qc_node.ledger import LedgerError
from qc_node.ledger.snapshot import Snapshot, take
from qc_node.operations.backup_folder import (
    LIST,
    SHARED,
    BackupFolder,
    Entry,
    InOrder,
    Manifest,
    names_below,
    sha256_of,
)

LEDGER, SECRET = "ledger.sqlite", "web-secret"

Progress = Callable[[int, int], None]
"""Told how many files are done, and how many bytes were copied for them."""


class BackupWishes(NamedTuple):
    """What to take beside what a restore needs: all images on the disk; network inputs and thumbnails."""

    all_images: bool = False
    training: bool = False


class BackedUp(NamedTuple):
    """What was done.

    The manifest, files that were copied, files of an earlier backup that were kept, and the names of files that
    the disk does not give any more: the backup is whole without them, and somebody has to look.
    """

    manifest: Manifest
    copied: int
    kept: int
    unreadable: tuple[str, ...]


def back_up(data_dir: Path, folder: Path, wishes: BackupWishes, now: float, progress: Progress) -> BackedUp:
    """Bring the backup in `folder` up to date, or make one.

    Parameters
    ----------
    data_dir
        Of a node that may be running.
    now
        Seconds since the epoch.

    Raises
    ------
    QcNodeError
        There is no ledger, or it is damaged; the folder is not ours; the disk is full.  The backup that was there
        before is then still there, whole.
    """
    _refuse_nesting(data_dir, folder)
    target = BackupFolder(folder)
    try:
        with target.making():
            return _Making(data_dir, target, wishes, now, progress).run()
    except (OSError, LedgerError) as error:
        reason = "no room is left" if _is_full(error) else str(getattr(error, "strerror", "") or error)
        raise QcNodeError(
            f"The backup in {folder} could not be made ({reason.rstrip('.')}); {_left(target)}."
        ) from error


def _refuse_nesting(data_dir: Path, folder: Path) -> None:
    if not (data_dir / LEDGER).exists():
        raise QcNodeError(f"There is no ledger {data_dir / LEDGER}; has the node run with this configuration?")
    inner, outer = folder.resolve(), data_dir.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise QcNodeError(f"The backup {folder} and the data folder {data_dir} must not lie in each other.")


def _is_full(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error)


def _left(target: BackupFolder) -> str:
    before = target.manifest()
    return "it holds no backup" if before is None else f"it still holds the one of {before.when}"


def _can_be_read(path: Path) -> bool:
    try:
        sha256_of(path)
    except OSError:
        return False
    return True


class _Making:
    """One run."""

    def __init__(
        self, data_dir: Path, target: BackupFolder, wishes: BackupWishes, now: float, progress: Progress
    ) -> None:
        self._data = data_dir
        self._target = target
        self._wishes = wishes
        self._now = now
        self._progress = progress
        self._before = target.usable()
        self._stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._own = target.path / self._stamp
        self._copied = self._copied_bytes = self._kept = self._absent = self._bytes = 0
        self._counts = dict.fromkeys(SHARED, 0)
        self._unreadable: list[str] = []

    def run(self) -> BackedUp:
        """Ledger, files, manifest, in this order; then what only earlier backups had goes."""
        self._own.mkdir(0o700)
        try:
            own = [self._ledger(), *self._secret()]
            with closing(Snapshot(self._own / LEDGER)) as snapshot:
                listed = self._files(self._names(snapshot))
                manifest = self._manifest(own, listed, snapshot)
            self._target.write_manifest(manifest)
        except BaseException:
            shutil.rmtree(self._own, ignore_errors=True)
            raise
        self._target.prune(manifest)
        return BackedUp(manifest, self._copied, self._kept, tuple(self._unreadable))

    def _ledger(self) -> Entry:
        path = self._own / LEDGER
        take(self._data / LEDGER, path, lambda done, total: self._progress(0, done * 4096))
        self._bytes += path.stat().st_size
        return Entry(LEDGER, path.stat().st_size, sha256_of(path))

    def _secret(self) -> Iterator[Entry]:
        if (self._data / SECRET).is_file():
            kept = self._target.keep(self._data / SECRET, f"{self._stamp}/{SECRET}")
            yield Entry(SECRET, kept.bytes, kept.sha256)

    def _names(self, snapshot: Snapshot) -> Iterator[str]:
        if not snapshot.is_current:  # a ledger of before an upgrade: everything that is there
            return names_below(self._data, SHARED)
        images = names_below(self._data, ["images"]) if self._wishes.all_images else snapshot.needed_images()
        more = (snapshot.thumbnails(), snapshot.training()) if self._wishes.training else ()
        return chain(images, snapshot.reports(), *more)

    def _files(self, names: Iterator[str]) -> Entry:
        """Copy what is not there yet, and write the list of all."""
        known = InOrder(self._target.entries(self._before) if self._before else ())
        path, digest, entries = self._own / LIST, hashlib.sha256(), 0
        with path.open("xb") as file:
            path.chmod(0o600)
            for name in names:
                entry = self._kept_or_copied(name, known.find(name))
                if entry is None:
                    continue
                line = json.dumps(asdict(entry)).encode() + b"\n"
                file.write(line)
                digest.update(line)
                entries += 1
                self._note(entry)
            file.flush()
            os.fsync(file.fileno())
        return Entry(LIST, path.stat().st_size, digest.hexdigest())

    def _kept_or_copied(self, name: str, known: Entry | None) -> Entry | None:
        source = self._data / name
        try:
            if known is not None and self._is_there(source, known):
                self._kept += 1
                return known
            entry = self._target.keep(source, name)
        except FileNotFoundError:
            self._absent += 1
            return None
        except OSError:
            if _can_be_read(source):
                raise  # the fault is with the backup's own disk
            self._unreadable.append(name)
            return None
        self._copied += 1
        self._copied_bytes += entry.bytes
        return entry

    def _is_there(self, source: Path, known: Entry) -> bool:
        """Whether the file of the earlier backup is still the file of this name."""
        assert self._before is not None
        found = source.stat()
        if found.st_size != known.bytes or found.st_mtime >= self._before.created_at:
            return False
        try:
            return (self._target.path / known.name).stat().st_size == known.bytes
        except FileNotFoundError:
            return False

    def _note(self, entry: Entry) -> None:
        self._counts[entry.name.partition("/")[0]] += 1
        self._bytes += entry.bytes
        self._progress(sum(self._counts.values()), self._copied_bytes)

    def _manifest(self, own: list[Entry], listed: Entry, snapshot: Snapshot) -> Manifest:
        everything = self._wishes.all_images or not snapshot.is_current
        rows = {table: snapshot.count(table) for table in ("instances", "series")}
        return Manifest(
            created_at=self._now,
            folder=self._stamp,
            own=tuple(own),
            list=listed,
            images="all" if everything else "needed",
            counts={**self._counts, "absent": self._absent, "unreadable": len(self._unreadable), **rows},
            bytes=self._bytes + listed.bytes,
            schema=snapshot.schema,
            qc_node=__version__,
        )
