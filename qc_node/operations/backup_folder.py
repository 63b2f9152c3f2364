"""A backup as files, and the manifest that says what belongs to it.

::

    manifest.json                 written last, replaced in one step: there is a whole backup or there is none
    20261126T102753Z/             what changes from backup to backup
        ledger.sqlite, web-secret
        files.jsonl               name, bytes and SHA-256 of each file below, in order of the names
    images/ reports/ thumbnails/ training/
                                  as in the data folder; files never change, so the next backup keeps them
    lock, tmp/                    of the backup that is being made

Names are digests, as in the data folder: no patient data.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qc_node.domain import QcNodeError
from qc_node.spool import copy_file, fsync_folder

FORMAT = 1
"""Of the manifest; another number is another layout."""
MANIFEST, LIST, LOCK, TMP = "manifest.json", "files.jsonl", "lock", "tmp"
SHARED = ("images", "reports", "thumbnails", "training")
"""Folders whose files several backups share, in order."""
PRIVATE_FOLDER = 0o700
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a backup; `name` is its name in the data folder."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What belongs to one backup.

    Attributes
    ----------
    created_at
        Seconds since the epoch: the moment of the ledger.
    folder
        Where the files are that belong to this backup alone.
    own
        These: the ledger, and the key of the web sessions where there is one.
    list
        The list of all other files, as a file of its own.
    images
        ``needed`` or ``all``.
    counts
        Files by kind; ``absent``: named by a row and not on the disk; ``unreadable``: there, and the disk does not
        give them; ``instances``, ``series``: rows.
    bytes
        All files together.
    """

    created_at: float
    folder: str
    own: tuple[Entry, ...]
    list: Entry
    images: str
    counts: dict[str, int]
    bytes: int
    schema: int
    qc_node: str
    format: int = FORMAT

    @property
    def when(self) -> str:
        """The moment, for people (UTC)."""
        return datetime.fromtimestamp(self.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class BackupFolder:
    """The folder that backups go to; :meth:`making` before anything is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- reading -------------------------------------------------------------------------------------
    def manifest(self) -> Manifest | None:
        """The backup that is there, or None.

        Raises
        ------
        QcNodeError
            The manifest cannot be read, or is of another program.
        """
        path = self.path / MANIFEST
        try:
            data = json.loads(path.read_bytes())
            if data["format"] != FORMAT:
                raise QcNodeError(
                    f"The backup {self.path} was made by another version of qc-node (manifest.json)."
                )
            data["own"] = tuple(Entry(**entry) for entry in data["own"])
            data["list"] = Entry(**data["list"])
            manifest = Manifest(**{k: v for k, v in data.items() if k != "created"})
            for name in (manifest.folder, *(entry.name for entry in (manifest.list, *manifest.own))):
                _refuse_path(name)
            return manifest
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise QcNodeError(f"The manifest {path} cannot be read: {error}.") from error

    def usable(self) -> Manifest | None:
        """The backup that is there, where its list is as it was written: its files need not be copied again."""
        manifest = self.manifest()
        if manifest is None:
            return None
        path = self.own_path(manifest, manifest.list)
        return manifest if path.is_file() and sha256_of(path) == manifest.list.sha256 else None

    def entries(self, manifest: Manifest) -> Iterator[Entry]:
        """Every shared file of a backup, in order of the names."""
        with (self.path / manifest.folder / manifest.list.name).open(encoding="ascii") as lines:
            for line in lines:
                entry = Entry(**json.loads(line))
                top, _, rest = entry.name.partition("/")
                if top not in SHARED:
                    raise QcNodeError(f"The backup {self.path} lists a file that is none of ours ({entry.name}).")
                for part in rest.split("/"):
                    _refuse_path(part)
                yield entry

    def own_path(self, manifest: Manifest, entry: Entry) -> Path:
        """Where a file is that belongs to one backup alone."""
        return self.path / manifest.folder / entry.name

    # -- writing -------------------------------------------------------------------------------------
    @contextmanager
    def making(self) -> Iterator[None]:
        """Make the folder, and keep other backups out of it.

        Raises
        ------
        QcNodeError
            It holds something else, or another backup is being made.
        """
        self.path.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        if not (self.path / MANIFEST).exists():
            self._refuse_strangers()
        fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise QcNodeError(f"Another backup is being written into {self.path}.") from None
            shutil.rmtree(self.path / TMP, ignore_errors=True)
            for name in (TMP, *SHARED):
                (self.path / name).mkdir(PRIVATE_FOLDER, exist_ok=True)
            yield
        finally:
            os.close(fd)

    def _refuse_strangers(self) -> None:
        ours = {*SHARED, LOCK, TMP, "lost+found"}
        for found in self.path.iterdir():
            if found.name not in ours and not _is_stamp(found):
                raise QcNodeError(
                    f"{self.path} holds something that is no backup ({found.name}); name an empty folder."
                )

    def keep(self, source: Path, name: str) -> Entry:
        """Copy a file into the backup; raises :class:`FileNotFoundError` when it is gone."""
        final = self.path / name
        final.parent.mkdir(PRIVATE_FOLDER, exist_ok=True)
        return Entry(name, *copy_file(source, final, self.path / TMP))

    def write_manifest(self, manifest: Manifest) -> None:
        """Say that the backup is whole; the one before is no longer needed."""
        data: dict[str, Any] = {"created": manifest.when, **asdict(manifest)}
        self._sync_folders()
        new = self.path / TMP / MANIFEST
        with new.open("x", encoding="utf-8") as file:
            new.chmod(0o600)
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / MANIFEST)
        fsync_folder(self.path)

    def _sync_folders(self) -> None:
        for top in (*SHARED, *(p.name for p in self.path.iterdir() if _is_stamp(p))):
            for place, _, _ in os.walk(self.path / top):
                fsync_folder(Path(place))

    def prune(self, manifest: Manifest) -> int:
        """Remove what does not belong to the backup that `manifest` describes; returns how many files."""
        for found in self.path.iterdir():
            if _is_stamp(found) and found.name != manifest.folder:
                shutil.rmtree(found)
        wanted, removed = InOrder(self.entries(manifest)), 0
        for name in names_below(self.path, SHARED):
            if wanted.find(name) is None:
                (self.path / name).unlink()
                removed += 1
        for place, folders, files in os.walk(self.path / "images", topdown=False):
            if not folders and not files:
                Path(place).rmdir()
        return removed


class InOrder:
    """Finds entries of a list that is in order, when it is asked in order; holds one of them at a time."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._left = iter(entries)
        self._next = next(self._left, None)

    def find(self, name: str) -> Entry | None:
        """The entry `name`; it must not be before one that was asked for earlier."""
        while self._next is not None and self._next.name < name:
            self._next = next(self._left, None)
        return self._next if self._next is not None and self._next.name == name else None


def names_below(root: Path, folders: Iterable[str]) -> Iterator[str]:
    """Names of all files below some folders of `root`, in order of the names where the folders are."""
    for folder in folders:
        try:
            found = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        for entry in found:
            name = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from names_below(root, [name])
            else:
                yield name


def _refuse_path(name: str) -> None:
    """A backup comes from elsewhere: its names must not lead out of the folder."""
    if name in ("", ".", "..") or "/" in name:
        raise QcNodeError(f"The backup names a file that leads elsewhere ({name!r}).")


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_stamp(path: Path) -> bool:
    """Whether a folder is named by a time, as ``20261126T102753Z``."""
    return len(path.name) >= 16 and path.name[8] == "T" and path.name.endswith("Z") and path.name[:8].isdigit()
