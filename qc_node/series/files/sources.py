"""What a person hands to ``classify``: files, folders, archives and NIfTI in any mix, as series.

Whatever cannot be read becomes a source with one sentence in :attr:`SourceSeries.error`; the rest goes on.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import MediaStorageDirectoryStorage

from qc_node.domain import HeaderClaims, QcNodeError, Stage, Volume
from qc_node.series.errors import NotDicom
from qc_node.series.files.archives import ArchiveRefused, Limits, Unpacked, inflate, is_archive, unpack
from qc_node.series.files.nifti import is_nifti, read_nifti
from qc_node.series.headers.routing import Route, route
from qc_node.series.raw_header import scan_file
from qc_node.series.volume.instances import Instance, instance_of
from qc_node.series.volume.stack import OpenedSeries, assemble

Progress = Callable[[int], None]
"""Called with the number of files looked at so far."""


@dataclass(frozen=True)
class SourceSeries:
    """One series as it was found.

    Attributes
    ----------
    source
        Where it was found, for people: a path, with ``!`` before the part inside an archive.
    opened
        The opened DICOM series; None for NIfTI and for what cannot be read.
    nifti
        The NIfTI file; None for DICOM.
    error
        One sentence why nothing can be read here; then there is nothing else.
    """

    source: str
    opened: OpenedSeries | None = None
    nifti: Path | None = None
    stated_modality: str | None = None
    error: str | None = None
    _read: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def modality(self) -> str:
        """Modality of the series, empty when unknown; a NIfTI file is read to guess it."""
        if self.opened is not None:
            return self.opened.modality
        if self.nifti is not None:
            if self.stated_modality:
                return self.stated_modality
            if "modality" not in self._read:
                try:
                    volume = read_nifti(self.nifti)
                except QcNodeError:  # volume() says why
                    return ""
                # the guess needed the voxels: keep them for whoever asks next, once
                self._read.update(modality=volume.modality, volume=volume)
            return str(self._read["modality"])
        return ""

    @property
    def instances(self) -> int:
        """Number of objects: images of a DICOM series, 1 for a NIfTI file, 0 for what cannot be read."""
        if self.opened is not None:
            return len(self.opened.instances)
        return 0 if self.nifti is None else 1

    @property
    def claims(self) -> HeaderClaims:
        """What the header claims; of NIfTI the modality that was stated."""
        if self.opened is not None:
            return self.opened.claims
        return HeaderClaims(modality=self.stated_modality or str(self._read.get("modality", "")))

    def route(self) -> Route:
        """Which stage judges it; NIfTI has no header to route by, so its modality decides."""
        if self.error is not None:
            return Route(None, self.error)
        if self.opened is not None:
            try:
                return route(self.opened)
            except NotDicom as error:  # a header that can be scanned, but not parsed as a whole
                return Route(None, str(error))
        modality = self.modality
        if modality in ("MR", "CT"):
            return Route(Stage.CT if modality == "CT" else Stage.BRAIN_MRI)
        if modality:
            return Route(None, f'The modality "{modality}" is neither CT nor MR.')
        try:
            self.volume()
        except QcNodeError as refusal:
            return Route(None, str(refusal))
        return Route(None, f"{self.source} does not tell its modality.")

    def volume(self) -> Volume:
        """The pixels.

        Raises
        ------
        QcNodeError
            One sentence; see :meth:`OpenedSeries.volume` and :func:`~qc_node.series.files.nifti.read_nifti`.
        """
        if self.opened is not None:
            return self.opened.volume()
        if self.nifti is None:
            raise QcNodeError(self.error or f"{self.source} holds no image.")
        kept: Volume | None = self._read.pop("volume", None)
        return kept if kept is not None else read_nifti(self.nifti, self.stated_modality)


def find_series(
    paths: Iterable[Path],
    modality: str | None = None,
    progress: Progress | None = None,
    limits: Limits | None = None,
    scratch: Path | None = None,
) -> Iterator[SourceSeries]:
    """Every series below `paths`.

    Parameters
    ----------
    paths
        DICOM files, NIfTI files, archives (zip, tar and its compressed kinds) and folders, which are walked
        without following links to folders.
    modality
        ``"MR"`` or ``"CT"`` for files that do not tell: NIfTI, and DICOM without Modality (0008,0060).
    progress
        Told how many files were looked at.
    limits
        How much may come out of one archive.
    scratch
        Where archives are unpacked; by default the system's temporary folder.  An archive's files are gone
        when the next series after its last is asked for.

    Yields
    ------
    SourceSeries
        DICOM series in order of their first file, then NIfTI, archives and what could not be read.
    """
    seen = _Counter(progress)
    limits = limits or Limits()
    archives: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="qc-node-", dir=scratch, ignore_cleanup_errors=True) as folder:
        pile = _Pile(modality, Path(folder), limits)
        for path in paths:
            _collect(Path(path), pile, archives, seen)
        yield from pile.series()
    for archive in archives:
        yield from _from_archive(archive, modality, seen, limits, scratch)


class _Counter:
    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._n = 0

    def __call__(self) -> None:
        self._n += 1
        if self._progress:
            self._progress(self._n)


def _collect(path: Path, pile: _Pile, archives: list[Path], seen: Callable[[], None]) -> None:
    """Sort `path`, and all below it if it is a folder, onto the pile."""
    if not path.is_dir():
        if is_archive(path) and path.is_file():
            archives.append(path)
        else:
            pile.add(path, str(path), named=True)
            seen()
        return

    def complain(error: OSError) -> None:
        pile.errors.append((str(error.filename), f"{error.filename} cannot be read ({error.strerror})."))

    others = 0
    before, complaints = len(pile), len(pile.errors)
    for folder, subfolders, names in os.walk(path, onerror=complain):
        subfolders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if not file.is_file():
                others += 1  # a dangling link, a socket, a pipe that would never end
            elif is_archive(file):
                archives.append(file)
                before -= 1
            elif not pile.add(file, str(file), named=False):
                others += 1
            seen()
    if len(pile) == before and len(pile.errors) == complaints:
        why = f"its {others} files are neither DICOM nor NIfTI" if others else "it holds no file"
        pile.errors.append((str(path), f"{path} holds no image: {why}."))


class _Pile:
    """Files sorted into series."""

    def __init__(self, modality: str | None, scratch: Path, limits: Limits) -> None:
        self._modality = modality
        self._scratch = scratch
        self._limits = limits
        self._dicom: dict[tuple[str, ...], list[tuple[Instance, str]]] = {}
        self._nifti: list[tuple[Path, str]] = []
        self._count = 0
        self._inflated = 0
        self.errors: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return self._count

    def add(self, path: Path, source: str, named: bool) -> bool:
        """Put a file where it belongs; a file that is `named` by the caller must be an image."""
        if is_nifti(path) and (path.is_file() or not path.exists()):
            self._nifti.append((path, source))
            self._count += 1
            return True
        if path.name == "DICOMDIR" and not named:
            return True
        if path.suffix.lower() == ".gz":
            inflated = self._scratch / f"gz{self._inflated:06d}"
            self._inflated += 1
            try:
                inflate(path, inflated, self._limits)
            except ArchiveRefused as refusal:
                self.errors.append((source, str(refusal).replace(str(path), source)))
                return True
            path = inflated
        try:
            instance = instance_of(scan_file(path))
        except NotDicom as error:
            if named or _looks_like_dicom(path):
                self.errors.append((source, str(error).replace(str(path), source)))
                return named
            return False
        if instance.ref.sop_class_uid == MediaStorageDirectoryStorage:
            return True
        self._count += 1
        # without a Series Instance UID the folder is the best guess of what belongs together
        key = (instance.study_uid, instance.series_uid) if instance.series_uid else (str(path.parent), "")
        self._dicom.setdefault(key, []).append((instance, source))
        return True

    def series(self) -> Iterator[SourceSeries]:
        """The series of the pile, one after the other; each is let go when the next is asked for."""
        while self._dicom:
            members = self._dicom.pop(next(iter(self._dicom)))
            opened = assemble([instance for instance, _ in members], modality=self._modality or "")
            sources = [source for _, source in members]
            yield SourceSeries(_common(sources), opened, stated_modality=self._modality)
        for path, source in self._nifti:
            yield SourceSeries(source, nifti=path, stated_modality=self._modality)
        for source, sentence in self.errors:
            yield SourceSeries(source, error=sentence)


def _looks_like_dicom(path: Path) -> bool:
    """A file of a folder that claims to be DICOM deserves a sentence when it cannot be read."""
    try:
        with path.open("rb") as file:
            return path.suffix.lower() in (".dcm", ".ima") or file.read(132)[128:] == b"DICM"
    except OSError:
        return True


def _common(sources: list[str]) -> str:
    """The file of a series of one, else the folder that holds all its files."""
    if len(sources) == 1:
        return sources[0]
    try:
        return os.path.commonpath(sources)
    except ValueError:  # relative and absolute paths in one series
        return sources[0]


def _from_archive(
    archive: Path, modality: str | None, seen: Callable[[], None], limits: Limits, scratch: Path | None
) -> Iterator[SourceSeries]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="qc-node-", dir=scratch))
    except OSError as error:
        yield SourceSeries(str(archive), error=f"{archive} cannot be unpacked ({error.strerror}).")
        return
    try:
        try:
            unpacked = unpack(archive, folder, limits, seen)
        except ArchiveRefused as refusal:
            yield SourceSeries(str(archive), error=str(refusal))
            return
        yield from _from_unpacked(archive, unpacked, _Pile(modality, folder, limits))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _from_unpacked(archive: Path, unpacked: Unpacked, pile: _Pile) -> Iterator[SourceSeries]:
    nested = 0
    for file, name in unpacked.files.items():
        if is_archive(file):
            nested += 1
            continue
        pile.add(file, f"{archive}!{name}", named=False)
    if nested:
        unpacked.problems.append(f"{archive} holds {nested} archives, which are not followed.")
    if not len(pile) and not pile.errors and not unpacked.problems:
        pile.errors.append((str(archive), f"{archive} holds no image."))
    yield from pile.series()
    for problem in dict.fromkeys(unpacked.problems):
        yield SourceSeries(str(archive), error=problem)
