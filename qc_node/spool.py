"""Durable files.  The only code that names a file in the data folder.

Names are digests of UIDs, never the UIDs themselves: a peer may send ``../../../etc/evil`` as a SOP Instance
UID and must not choose a path by it.  A file appears under its final name only when its bytes are on the disk:
temporary file, fsync, rename, fsync of the folder; or, where the file system's journal makes a name durable
with the bytes, name and one fsync (:mod:`qc_node.filesystems`).

Layout below the root::

    tmp/         half-written files; swept at start
    images/      received instances, one folder per series
    reports/     the exact bytes of every object that the node wrote
    quarantine/  what could not be understood, as received
    training/    one de-identified network input per judged series, three pictures of one that no classifier takes
    thumbnails/  mid-plane pictures of judged series
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import math
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qc_node.domain import QcNodeError
from qc_node.filesystems import names_follow_bytes

PRIVATE = 0o750
"""What a folder may be at most: patient data are nobody's business but the service's, and its group's to read."""
LOOSE = 0o777 & ~PRIVATE
PATIENT_KEY = "patient-key"
"""The secret of the pseudonyms of patients; who restores a backup without it finds nobody by them."""
OWN_FILES = ("ledger*.sqlite*", "lock", "web-secret", PATIENT_KEY)

FOLDERS = ("tmp", "images", "reports", "quarantine", "training", "thumbnails")


PICTURES = ".pictures"
"""After a series in the name of the file of its pictures."""
PROBE, PROBE_BYTES = ".probe", 4096
COPY_BYTES = 1 << 20
RESTORING = "restoring"
"""There while a backup is being put back: what is beside it is not whole."""


def digest(*parts: str) -> str:
    """A file-name-safe name for `parts` (UIDs, keys): 32 hexadecimal digits."""
    joined = "\x00".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(joined, digest_size=16).hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _listed(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _tighten(path: Path) -> bool:
    """Take from group and others what :data:`PRIVATE` does not give them; whether there was something to take."""
    found = path.stat(follow_symlinks=False)
    open_to_all = stat.S_IMODE(found.st_mode) & LOOSE
    shared = stat.S_ISLNK(found.st_mode) or found.st_mode & stat.S_ISVTX or found.st_uid != os.geteuid()
    if not open_to_all or shared:
        return False
    path.chmod(stat.S_IMODE(found.st_mode) & ~LOOSE)
    return True


_token = os.urandom(4).hex()
_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file it is, whatever its name: its number, and when it was written or last touched (ns).

    ``changed`` is when it got its name (seconds since the epoch), and says nothing about which file it is.
    """

    number: int
    modified_ns: int
    changed: float = field(compare=False)


class TempFile:
    """A file being written; invisible until :meth:`commit`, gone after :meth:`discard`."""

    def __init__(self, folder: Path) -> None:
        # one system call: reception makes one of these per object, and tempfile.mkstemp makes several
        name = f"{folder}/{os.getpid()}-{_token}-{next(_serial)}.part"
        self._fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._name = name
        self.size = 0

    @property
    def path(self) -> Path:
        """Where the bytes are until they get their name."""
        return Path(self._name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; raises :class:`OSError` (ENOSPC among others)."""
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.size += written
            view = view[written:]

    def fileno(self) -> int:
        """The descriptor, open for reading and writing."""
        return self._fd

    def write_at(self, position: int, data: bytes) -> None:
        """Replace what was written at `position`, in bytes from the beginning."""
        os.pwrite(self._fd, data, position)

    def commit(self, final: Path, *, names_follow: bool = False, replace: bool = True) -> None:
        """Put the bytes on the disk and give them their name.

        With `names_follow` the file system makes a name durable with the bytes
        (:func:`qc_node.filesystems.names_follow_bytes`): one flush of the disk in place of two.  A power cut may
        then leave a new name without all its bytes, never one that this method has returned from.

        Raises
        ------
        FileExistsError
            There is such a file, and it is not to `replace`.  The bytes are still here.
        """
        if not (names_follow and self._name_and_sync(final, replace)):
            os.fdatasync(self._fd)
            if replace or not self._link(final):
                os.replace(self._name, final)  # noqa: PTH105
            fsync_folder(final.parent)
        self._close()
        self._unlink()

    def _link(self, final: Path) -> bool:
        """Give the file a second name, unless that is taken; False where the file system has no such thing."""
        try:
            os.link(self._name, final)
        except PermissionError:
            if final.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from None
            return False
        return True

    def _name_and_sync(self, final: Path, replace: bool) -> bool:
        """Whether it could be done: a file that is there may have been answered for, and is not replaced so."""
        try:
            if not self._link(final):
                return False
        except FileExistsError:
            if replace:
                return False
            raise
        try:
            os.fsync(self._fd)
        except OSError:
            final.unlink(missing_ok=True)
            raise
        return True

    def discard(self) -> None:
        """Forget the file; harmless when called twice or after :meth:`commit`."""
        self._close()
        self._unlink()

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name)  # noqa: PTH108

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def prove_writable(temporary: Path, final: Path) -> None:
    """Write a page in the folder `temporary`, sync it, give it a name in the folder `final`, and remove it again.

    Raises
    ------
    OSError
        One of these steps fails: the disk is full or read-only, the two folders are on different file systems.
    """
    temp, name = TempFile(temporary), final / PROBE
    try:
        temp.write(bytes(PROBE_BYTES))
        temp.commit(name)
    finally:
        temp.discard()
        name.unlink(missing_ok=True)


def refuse_unfinished(root: Path) -> None:
    """Say no to a data folder that a restore has begun to fill and not finished.

    Raises
    ------
    QcNodeError
        It is one.
    """
    if (root / RESTORING).exists():
        raise QcNodeError(
            f"The data folder {root} holds a restore that was not finished; run `qc-node restore` again."
        )


def has_reports(root: Path) -> bool:
    """Whether a node has written anything yet."""
    return bool(_listed(root / "reports"))


def lock_folder(root: Path) -> int:
    """Take the data folder for this process; the lock goes with the process, even after ``kill -9``.

    Raises
    ------
    QcNodeError
        Another process has it.
    """
    fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise QcNodeError(f"The data folder {root} is in use by another qc-node.") from None
    return fd


def copy_file(source: Path, final: Path, temporary: Path) -> tuple[int, str]:
    """Copy a file by way of the folder `temporary`; its length in bytes, and the SHA-256 (hex) of what was copied.

    The bytes are on the disk when this returns; the name once the folder of `final` is synced.

    Raises
    ------
    OSError
        The source is gone (:class:`FileNotFoundError`), the disk is full.
    """
    digest, temp = hashlib.sha256(), TempFile(temporary)
    try:
        with source.open("rb") as file:
            while block := file.read(COPY_BYTES):
                temp.write(block)
                digest.update(block)
        os.fdatasync(temp.fileno())
        temp.path.replace(final)
    finally:
        temp.discard()
    return temp.size, digest.hexdigest()


class Spool:
    """The data folder.

    Parameters
    ----------
    root
        Created when missing.  Every path this class returns or takes is relative to it, as a string.

    Raises
    ------
    QcNodeError
        The folder cannot be created or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        refuse_unfinished(root)
        try:
            root.mkdir(PRIVATE, parents=True, exist_ok=True)
            for name in FOLDERS:
                (root / name).mkdir(PRIVATE, exist_ok=True)
            self.temp().discard()
        except OSError as error:
            raise QcNodeError(f"The data folder {root} cannot be used: {error.strerror or error}.") from error
        self._names_follow = names_follow_bytes(root / "images")

    # -- names ---------------------------------------------------------------------------------------
    def image_name(
        self, study_uid: str, series_uid: str, sop_instance_uid: str, version: int = 1, mark: str = ""
    ) -> str:
        """Relative path of one version of a received instance; a later one never takes an earlier one's name.

        A `mark` that nobody else has tells versions apart that arrive at once.
        """
        suffix = f"-{mark}" if mark else "" if version == 1 else f"-{version}"
        return f"images/{digest(study_uid, series_uid)}/{digest(sop_instance_uid)}{suffix}.dcm"

    def report_name(self, sop_instance_uid: str) -> str:
        """Relative path of an object that the node wrote."""
        return f"reports/{digest(sop_instance_uid)}.dcm"

    def training_name(self, series_uid: str, run: int) -> str:
        """Relative path of the de-identified network input of one run of a series."""
        return f"training/{digest(series_uid, str(run))}.npz"

    def pictures_name(self, series_uid: str, run: int) -> str:
        """Relative path of the pictures of one run of a series that no classifier takes."""
        return self.training_name(f"{series_uid}{PICTURES}", run)

    def thumbnail_name(self, series_uid: str, run: int, view: str) -> str:
        """Relative path of one thumbnail (`view` is one of the node's own words, e.g. ``axial``)."""
        return f"thumbnails/{digest(series_uid, str(run))}-{view}.png"

    # -- writing -------------------------------------------------------------------------------------
    def temp(self) -> TempFile:
        """A new temporary file on the same file system as everything else."""
        return TempFile(self.root / "tmp")

    def folder_of(self, name: str) -> Path:
        """The folder that holds `name`, created durably when missing."""
        folder = (self.root / name).parent
        if not folder.is_dir():
            folder.mkdir(PRIVATE, parents=True, exist_ok=True)
            fsync_folder(folder.parent)
        return folder

    def prove_writable(self) -> None:
        """Do with a page of zeros what is done with each image; raises :class:`OSError` where that fails."""
        prove_writable(self.root / "tmp", self.root / "images")

    def store(self, name: str, data: bytes | memoryview) -> None:
        """Write `data` durably under `name`; a second time with the same bytes changes nothing."""
        temp = self.temp()
        try:
            temp.write(data)
            self.commit(temp, name)
        except BaseException:
            temp.discard()
            raise

    def commit(self, temp: TempFile, name: str, *, replace: bool = True) -> None:
        """Make `temp` durable under `name`, whose folder may vanish meanwhile: retention empties it.

        Raises
        ------
        FileExistsError
            There is such a file, and it is not to `replace`.
        """
        self.folder_of(name)
        try:
            temp.commit(self.root / name, names_follow=self._names_follow, replace=replace)
        except FileNotFoundError:
            self.folder_of(name)
            temp.commit(self.root / name, names_follow=self._names_follow, replace=replace)

    def quarantine(self, data: bytes | memoryview, suffix: str = ".bin") -> str:
        """Keep bytes that could not be understood; returns the name they were given."""
        name = f"quarantine/{hashlib.blake2b(data, digest_size=16).hexdigest()}{suffix}"
        self.store(name, data)
        return name

    # -- reading and tidying -------------------------------------------------------------------------
    def path(self, name: str) -> Path:
        """The absolute path of `name`.

        Raises
        ------
        QcNodeError
            `name` points outside the data folder.
        """
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise QcNodeError(f"The name {name!r} points outside the data folder.")
        return path

    def has(self, name: str) -> bool:
        """Whether the file `name` is there: one system call, for each duplicate that is received."""
        return os.path.exists(f"{self.root}/{name}")  # noqa: PTH110

    def count_there(self, names: Sequence[str]) -> int:
        """How many of the files `names` are there; each folder is listed once."""
        folders: dict[str, set[str]] = {}
        for folder, _, file in (name.rpartition("/") for name in names):
            folders.setdefault(folder, set()).add(file)
        return sum(len(files & _listed(self.root / folder)) for folder, files in folders.items())

    def remove(self, name: str) -> None:
        """Delete `name` if it is there, and its folder once that is empty."""
        self.path(name).unlink(missing_ok=True)
        self._leave(name)

    def identity(self, name: str) -> FileIdentity | None:
        """What tells the file `name` from one that takes its place; None where there is none."""
        try:
            found = os.stat(f"{self.root}/{name}")  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        return FileIdentity(found.st_ino, found.st_mtime_ns, found.st_ctime)

    def remove_all(self, names: Iterable[str]) -> int:
        """Delete files so that not even a power cut brings one back; returns how many were there."""
        gone, folders = 0, set()
        for name in names:
            path = self.path(name)
            gone += path.exists()
            self.remove(name)
            folders.add(path.parent)
        for folder in folders | {folder.parent for folder in folders}:
            if folder.is_dir() and folder.is_relative_to(self.root.resolve()):
                fsync_folder(folder)
        return gone

    def images_of(self, study_uid: str, series_uid: str, older_than: float = math.inf) -> list[str]:
        """Files in the folder of a series, with or without a row, from before `older_than` (seconds, epoch)."""
        folder = Path(self.image_name(study_uid, series_uid, "")).parent
        return [
            f"{folder}/{name}" for name in _listed(self.root / folder) if self._age(folder / name) < older_than
        ]

    def kept_of(self, series: str, run: int) -> list[str]:
        """Network input, pictures and thumbnails of one run of a series that are there, with or without a row."""
        stem = Path(self.training_name(series, run)).stem
        found = [*(self.root / "thumbnails").glob(f"{stem}-*.png"), self.root / "training" / f"{stem}.npz"]
        found.append(self.root / self.pictures_name(series, run))
        return [str(path.relative_to(self.root)) for path in found if path.exists()]

    def reports_since(self, at: float) -> list[str]:
        """Reports that were written since then (seconds since the epoch), with or without a row."""
        names = _listed(self.root / "reports")
        return [f"reports/{name}" for name in names if self._age(Path("reports") / name) >= at]

    def _age(self, name: Path) -> float:
        """When a file was written; infinite for one that is gone."""
        try:
            return (self.root / name).stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def patient_key(self) -> bytes:
        """The secret of :func:`qc_node.dicom.patient.pseudonym` (32 bytes), made when missing.

        Raises
        ------
        OSError
            It cannot be read or written.
        """
        path = self.root / PATIENT_KEY
        if not path.exists():
            temp = self.temp()
            try:
                temp.write(os.urandom(32))
                os.fsync(temp.fileno())
                with contextlib.suppress(FileExistsError):  # another process was faster
                    path.hardlink_to(temp.path)
                fsync_folder(self.root)
            finally:
                temp.discard()
        return path.read_bytes()

    def remove_this(self, name: str, seen: FileIdentity) -> bool:
        """Delete the file that was `seen` under `name`, and nothing that has taken its place meanwhile."""
        taken = self.set_aside(name, seen)
        if taken is not None:
            self.remove(taken)
        return taken is not None

    def set_aside(self, name: str, seen: FileIdentity) -> str | None:
        """Put the file that was `seen` under `name` into quarantine; its new name, None where it was replaced."""
        kept = f"quarantine/{digest(name, str(seen.modified_ns))}.dcm"
        if self.identity(name) != seen or not self._take(self.root / name, self.root / kept, seen, kept):
            return None
        self.touch(kept)
        fsync_folder(self.root / "quarantine")
        self._leave(name)
        return kept

    def _take(self, source: Path, target: Path, seen: FileIdentity, name: str) -> bool:
        """Rename in one step, then look at what was taken: another process may have been quicker."""
        try:
            source.rename(target)
        except FileNotFoundError:
            return False
        if self.identity(name) == seen:
            return True
        with contextlib.suppress(FileExistsError):  # one that is newer still has the name
            source.hardlink_to(target)
        target.unlink()
        return False

    def touch(self, name: str) -> None:
        """Say that the file `name` is needed: who has seen it as nobody's looks at it anew."""
        os.utime(f"{self.root}/{name}")

    def _leave(self, name: str) -> None:
        """Delete the folder of `name` once it is empty."""
        folder = (self.root / name).parent
        if folder.parent.name == "images":
            with contextlib.suppress(OSError):
                folder.rmdir()

    def sweep(self, before: float = math.inf) -> int:
        """Delete half-written files of processes that are gone; returns how many.

        Parameters
        ----------
        before
            Seconds since the epoch, when the first process that is alive started: later files may be its own.
        """
        count = 0
        for name in _listed(self.root / "tmp"):
            path = self.root / "tmp" / name
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ctime < before:
                    path.unlink()
                    count += 1
        return count

    def tighten(self) -> int:
        """Close to other users what an earlier version, or a hand, left open; returns how many things it were.

        Only what is the node's own by its name, belongs to this user, and is no link.  The folders of series
        are left to :meth:`tighten_series`: there may be a hundred thousand, and a closed one is above them.
        """
        own = [self.root, *(self.root / name for name in FOLDERS)]
        own += [path for pattern in OWN_FILES for path in self.root.glob(pattern)]
        return sum(_tighten(path) for path in own)

    def tighten_series(self) -> int:
        """The same for the folders of series; some may vanish meanwhile."""
        count = 0
        with os.scandir(self.root / "images") as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    count += _tighten(Path(entry.path))
        return count

    def ledger_copies(self) -> list[str]:
        """Copies of the ledger that an upgrade left in the data folder."""
        return sorted(path.name for path in self.root.glob("ledger-*.sqlite"))

    def images_on_disk(self) -> Iterator[str]:
        """Names of all received instances on the disk, with or without a ledger row."""
        for names in self.image_folders():
            yield from names

    def image_folders(self) -> Iterator[list[str]]:
        """Names of the received instances on the disk, one folder after the other; an empty folder is deleted."""
        with os.scandir(self.root / "images") as folders:
            for folder in folders:
                files = _listed(Path(folder.path))
                if not files:
                    with contextlib.suppress(OSError):
                        Path(folder.path).rmdir()
                yield [f"images/{folder.name}/{file}" for file in sorted(files) if file.endswith(".dcm")]

    def files(self, folder: str, at_once: int = 1000) -> Iterator[list[str]]:
        """Names of the files in one of :data:`FOLDERS`, so many `at_once`."""
        with os.scandir(self.root / folder) as entries:
            names = (f"{folder}/{entry.name}" for entry in entries)
            while some := list(itertools.islice(names, at_once)):
                yield some

    def free_bytes(self) -> int:
        """Free space of the file system in bytes."""
        return shutil.disk_usage(self.root).free
