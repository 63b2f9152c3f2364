"""A backup put back: verified first, whole or not at all.

The data folder is marked as unfinished before the first file comes, and the ledger comes last.  A kill in between
leaves a folder in which no node starts; the restore, run again, goes on with what is there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from qc_node.domain import QcNodeError
from qc_node.operations.backup import LEDGER, SECRET
from qc_node.operations.backup_folder import SHARED, TMP, BackupFolder, Entry, Manifest, sha256_of
from qc_node.spool import FOLDERS, PRIVATE, RESTORING, copy_file, fsync_folder, lock_folder

ROOM_SHARE = 1.05
"""A file system needs more than the bytes: blocks, folders."""
LEDGER_MODE = 0o640

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many bytes are done, and of how many."""


class Restored(NamedTuple):
    """What was done: the manifest, files that were copied, and what the ledger that was there is called now."""

    manifest: Manifest
    copied: int
    set_aside: Path | None


def verify(folder: Path, progress: Progress) -> Manifest:
    """Read every file of a backup and compare it with its SHA-256.

    Raises
    ------
    QcNodeError
        There is no backup; a file is missing or is not what was backed up.
    """
    backup = BackupFolder(folder)
    manifest = backup.manifest()
    if manifest is None:
        raise QcNodeError(
            f"There is no backup in {folder} (no manifest.json); it was never finished, or is elsewhere."
        )
    done = 0
    for entry, path in _everything(backup, manifest):
        try:
            sound = path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256
        except OSError as error:
            raise QcNodeError(
                f"The backup in {folder} is not whole: {path} cannot be read ({error.strerror})."
            ) from error
        if not sound:
            raise QcNodeError(f"The backup in {folder} is damaged: {path} is not what was backed up.")
        done += entry.bytes
        progress("verifying", done, manifest.bytes)
    return manifest


def restore(folder: Path, data_dir: Path, replace_ledger: bool, now: float, progress: Progress) -> Restored:
    """Fill a data folder from the backup in `folder`.

    Parameters
    ----------
    data_dir
        New, empty, or left by a restore that was not finished; made when missing.
    replace_ledger
        Take a folder that is not empty: its ledger is set aside under another name, its files stay, and what is
        missing is added.
    now
        Seconds since the epoch.

    Raises
    ------
    QcNodeError
        See :func:`verify`; a node runs on the data folder; it is not empty; there is no room.
    """
    manifest = verify(folder, progress)
    backup = BackupFolder(folder)
    try:
        made = _make(data_dir)
        with _taken(data_dir, made):
            _refuse_used(data_dir, replace_ledger)
            _refuse_small(backup, manifest, data_dir)
            return _Filling(backup, manifest, data_dir, now, progress).run()
    except OSError as error:
        raise QcNodeError(
            f"The backup could not be put back into {data_dir} ({error.strerror or error}); run the restore again"
            " before a node is started there."
        ) from error


def _everything(backup: BackupFolder, manifest: Manifest) -> Iterator[tuple[Entry, Path]]:
    """Every file of a backup, and where it is; the list itself comes before what it lists."""
    for entry in (manifest.list, *manifest.own):
        yield entry, backup.own_path(manifest, entry)
    for entry in backup.entries(manifest):
        yield entry, backup.path / entry.name


def _make(data_dir: Path) -> bool:
    """Make the data folder; whether it was not there."""
    try:
        data_dir.mkdir(PRIVATE, parents=True)
    except FileExistsError:
        if not data_dir.is_dir():
            raise
        return False
    return True


@contextmanager
def _taken(data_dir: Path, made: bool) -> Iterator[None]:
    """Keep nodes, and other restores, out of the data folder; one that stays empty goes again."""
    was_locked = (data_dir / "lock").exists()
    fd = lock_folder(data_dir)
    try:
        yield
    except QcNodeError:
        if not was_locked and not (data_dir / RESTORING).exists():
            (data_dir / "lock").unlink(missing_ok=True)
        if made and not (data_dir / RESTORING).exists():
            data_dir.rmdir()
        raise
    finally:
        os.close(fd)


def _refuse_used(data_dir: Path, replace_ledger: bool) -> None:
    if replace_ledger or (data_dir / RESTORING).exists():
        return
    for found in sorted(data_dir.iterdir()):
        if found.name in ("lock", "lost+found") or (found.name in FOLDERS and not any(found.iterdir())):
            continue
        raise QcNodeError(
            f"The data folder {data_dir} is not empty ({found.name}): name an empty one with --into, or give"
            " --replace-ledger to set its ledger aside and keep its files."
        )


def _refuse_small(backup: BackupFolder, manifest: Manifest, data_dir: Path) -> None:
    needed = sum(e.bytes for e in manifest.own)
    needed += sum(e.bytes for e in backup.entries(manifest) if not _has_size(data_dir / e.name, e.bytes))
    free = shutil.disk_usage(data_dir).free
    if free < needed * ROOM_SHARE:
        raise QcNodeError(
            f"The backup needs {needed * ROOM_SHARE / 1e9:.1f} GB in {data_dir}, and {free / 1e9:.1f} GB are free."
        )


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


class _Filling:
    """One run."""

    def __init__(
        self, backup: BackupFolder, manifest: Manifest, data_dir: Path, now: float, progress: Progress
    ) -> None:
        self._backup = backup
        self._manifest = manifest
        self._data = data_dir
        self._now = now
        self._progress = progress
        self._copied = self._done = 0

    def run(self) -> Restored:
        """Mark, files, ledger, unmark; in this order."""
        stamp = self._mark()
        for name in FOLDERS:
            (self._data / name).mkdir(PRIVATE, exist_ok=True)
        for entry in self._backup.entries(self._manifest):
            self._put(entry, self._backup.path / entry.name)
        for entry in self._manifest.own:
            if entry.name == SECRET and not (self._data / SECRET).exists():
                self._put(entry, self._backup.own_path(self._manifest, entry))
        aside = self._put_ledger(stamp)
        for place in SHARED:
            for folder, _, _ in os.walk(self._data / place):
                fsync_folder(Path(folder))
        self._give_to_owner()
        fsync_folder(self._data)
        (self._data / RESTORING).unlink()
        fsync_folder(self._data)
        return Restored(self._manifest, self._copied, aside)

    def _mark(self) -> str:
        """Say that the folder is not whole; the time of the first try, which names what is set aside."""
        path = self._data / RESTORING
        if not path.exists():
            stamp = datetime.fromtimestamp(self._now, UTC).strftime("%Y%m%dT%H%M%SZ")
            path.write_text(json.dumps({"since": stamp}))
            fsync_folder(self._data)
            return stamp
        try:
            return str(json.loads(path.read_text())["since"])
        except (ValueError, KeyError):
            return "unknown"

    def _put(self, entry: Entry, source: Path) -> None:
        final = self._data / entry.name
        self._done += entry.bytes
        if not (_has_size(final, entry.bytes) and sha256_of(final) == entry.sha256):
            final.parent.mkdir(PRIVATE, exist_ok=True)
            if copy_file(source, final, self._data / TMP) != (entry.bytes, entry.sha256):
                raise QcNodeError(f"The backup changed while it was being put back ({source}); run it again.")
            self._copied += 1
        self._progress("restoring", self._done, self._manifest.bytes)

    def _put_ledger(self, stamp: str) -> Path | None:
        """Set the ledger that is there aside, with its log, and put the one of the backup in its place."""
        (entry,) = (e for e in self._manifest.own if e.name == LEDGER)
        new = self._data / TMP / LEDGER
        if copy_file(self._backup.own_path(self._manifest, entry), new, self._data / TMP)[1] != entry.sha256:
            raise QcNodeError("The backup changed while it was being put back (its ledger); run it again.")
        new.chmod(LEDGER_MODE)
        aside = self._data / f"ledger-set-aside-{stamp}.sqlite"
        for suffix in ("-wal", "-shm", ""):  # the log first: it must never lie beside another ledger
            there = self._data / f"{LEDGER}{suffix}"
            if there.exists():
                there.replace(f"{aside}{suffix}")
        fsync_folder(self._data)
        new.replace(self._data / LEDGER)
        return aside if aside.exists() else None

    def _give_to_owner(self) -> None:
        """What root puts into the folder of a service belongs to the service."""
        owner = self._data.stat()
        if os.geteuid() != 0 or owner.st_uid == 0:
            return
        for place, folders, files in os.walk(self._data):
            for name in (*folders, *files):
                os.chown(Path(place, name), owner.st_uid, owner.st_gid, follow_symlinks=False)
