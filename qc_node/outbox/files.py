"""Files of a user, sent as they are, at once and without rows: no outbox, and a sentence for each that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from qc_node.dicom.part10 import StoredObject, open_object
from qc_node.domain import QcNodeError
from qc_node.outbox.transport.interface import Transport, TransportStatus


@dataclass(frozen=True, slots=True)
class FilesSent:
    """What became of the files: how many were stored, how many with a warning, which not and why."""

    sent: int
    warned: int
    failed: tuple[tuple[Path, str], ...]

    @property
    def ok(self) -> bool:
        """Whether every file was stored."""
        return not self.failed


Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""


def send_files(paths: Sequence[Path], transport: Transport, progress: Progress | None = None) -> FilesSent:
    """Send files, and the files below folders.  One that cannot be sent never stops the others.

    Raises
    ------
    QcNodeError
        The destination is not there at all, or was not there twice in a row; a path does not exist, or there is
        no file.
    """
    files = _files(paths)
    with TemporaryDirectory(prefix="qc-node-send-") as scratch:
        sending = _Sending(len(files), progress)
        waiting = sending.open(files, Path(scratch))
        while waiting:
            waiting = sending.send(waiting, transport)
    return FilesSent(sending.sent, sending.warned, tuple(sending.failed))


class _Sending:
    """The tally of one call."""

    def __init__(self, of: int, progress: Progress | None) -> None:
        self.sent = self.warned = 0
        self.failed: list[tuple[Path, str]] = []
        self._of = of
        self._progress = progress
        self._in_vain = False

    def open(self, files: Sequence[Path], scratch: Path) -> list[StoredObject]:
        """Those that are DICOM objects."""
        objects = []
        for file in files:
            try:
                objects.append(open_object(file, scratch))
            except QcNodeError as error:
                self._fail(file, str(error))
        return objects

    def send(self, objects: Sequence[StoredObject], transport: Transport) -> list[StoredObject]:
        """Send what can be sent in one go; returns what has not been tried yet."""
        tried = 0
        for outcome in transport.store(objects):
            if outcome.status is TransportStatus.UNAVAILABLE:
                if self._in_vain or not (self.sent or self.failed):
                    raise QcNodeError(outcome.sentence)
                self._in_vain = True
                return list(objects[tried:])
            self._in_vain = False
            if outcome.status is TransportStatus.STORED:
                self.sent += 1
                self.warned += bool(outcome.sentence)
                self._report()
            else:
                self._fail(objects[tried].source, outcome.sentence)
            tried += 1
        if not tried:
            raise QcNodeError(f"The transport to {transport.name} says nothing of its objects.")
        return list(objects[tried:])

    def _fail(self, file: Path, sentence: str) -> None:
        self.failed.append((file, sentence))
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.sent + len(self.failed), self._of)


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.is_file() and p.name != "DICOMDIR")
        elif path.is_file():
            files.append(path)
        else:
            raise QcNodeError(f"There is no file or folder {path}.")
    if not files:
        raise QcNodeError(f"There is no file to send in {', '.join(map(str, paths))}.")
    return files
