"""Archives that strangers made: unpacked member by member into a folder of our own, within limits.

Members get names of our choosing, so a path inside an archive never chooses a path on the disk; links and
devices are left out; archives inside archives are not followed.  What is counted are the bytes that come
out, never the sizes that an archive claims.
"""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from qc_node.domain import QcNodeError

ARCHIVE_SUFFIXES = (
    ".zip",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.xz",
    ".txz",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
)
"""Names of files that are unpacked."""
_BLOCK = 1 << 20
_XZ_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may come out of one archive.

    Attributes
    ----------
    total_bytes
        Uncompressed size of all members together.
    members
        Number of members.
    ratio, ratio_from
        Uncompressed over compressed size, asked only once ``ratio_from`` bytes came out: small files of
        zeros compress a thousandfold without harm.
    """

    total_bytes: int = 16 << 30
    members: int = 100_000
    ratio: float = 200.0
    ratio_from: int = 256 << 20


class ArchiveRefused(QcNodeError):
    """An archive is broken, or hostile, or too large."""


@dataclass
class Unpacked:
    """What came out: file in our folder to its name in the archive, and sentences about what was left out."""

    files: dict[Path, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def is_archive(path: Path) -> bool:
    """Whether `path` is named like an archive, or is a zip file by its first bytes."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(path: Path, folder: Path, limits: Limits, progress: Callable[[], None] | None = None) -> Unpacked:
    """Unpack the archive at `path` into `folder`.

    Raises
    ------
    ArchiveRefused
        One sentence; what came out until then lies in `folder` and should be thrown away.
    """
    budget = _Budget(path, limits)
    out = Unpacked()
    try:
        members = _zip_members(path, out) if zipfile.is_zipfile(path) else _tar_members(path, out)
        for number, (name, stream) in enumerate(members):
            budget.member()
            target = folder / f"{number:06d}{_suffix(name)}"
            with target.open("wb") as file:
                while block := stream.read(_BLOCK):
                    budget.count(len(block))
                    file.write(block)
            out.files[target] = name
            if progress:
                progress()
    except ArchiveRefused:
        raise
    except (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise ArchiveRefused(f"{path} cannot be unpacked ({_why(error)}).") from None
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise ArchiveRefused(f"{path} is not a readable archive ({_why(error)}).") from None
    return out


def _why(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:120].rstrip(".")


class _Budget:
    """Counts what comes out and stops the unpacking at the limit."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._size = max(path.stat().st_size, 1)
        self._bytes = 0
        self._members = 0

    def member(self) -> None:
        self._members += 1
        if self._members > self._limits.members:
            raise ArchiveRefused(
                f"{self._path} holds more than {self._limits.members} files, which is not unpacked."
            )

    def count(self, n: int) -> None:
        self._bytes += n
        if self._bytes > self._limits.total_bytes:
            gib = self._limits.total_bytes / (1 << 30)
            raise ArchiveRefused(f"{self._path} unpacks to more than {gib:g} GiB, which is not unpacked.")
        if self._bytes > self._limits.ratio_from and self._bytes > self._limits.ratio * self._size:
            raise ArchiveRefused(
                f"{self._path} unpacks to more than {self._limits.ratio:g} times its size, like a zip bomb."
            )


def _suffix(name: str) -> str:
    lower = name.lower()
    return next((s for s in (".nii.gz", ".nii", ".gz", *ARCHIVE_SUFFIXES) if lower.endswith(s)), "")


def _unsafe(name: str) -> bool:
    pure = PurePosixPath(name.replace("\\", "/"))
    return pure.is_absolute() or ".." in pure.parts or name[1:2] == ":"


def _zip_members(path: Path, out: Unpacked) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            kind = info.external_attr >> 28
            if _unsafe(info.filename) or kind not in (0, 0o10):
                what = "names a path outside it" if _unsafe(info.filename) else "is no regular file"
                out.problems.append(f"{path}: a member {what} and was left out.")
                continue
            if info.flag_bits & 1:
                raise ArchiveRefused(f"{path} is encrypted.")
            with archive.open(info) as stream:
                yield info.filename, stream


def _tar_members(path: Path, out: Unpacked) -> Iterator[tuple[str, IO[bytes]]]:
    with decompressed(path) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        for info in archive:
            if info.isdir():
                continue
            if not info.isreg() or _unsafe(info.name):
                what = "names a path outside it" if _unsafe(info.name) else "is a link or device"
                out.problems.append(f"{path}: a member {what} and was left out.")
                continue
            stream = archive.extractfile(info)
            if stream is not None:
                yield info.name, stream


# -- decompression -----------------------------------------------------------------------------------
class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's gzip decoder with the face of the other two."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))


class _Stream(io.RawIOBase):
    """A decompressing reader that never holds more than it was asked for, and bounds xz's memory."""

    def __init__(self, file: IO[bytes], make: Callable[[], _Decompressor]) -> None:
        self._file = file
        self._make = make
        self._decoder = make()
        self._rest = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data or self._file.read(_BLOCK)
                if not rest.strip(b"\0"):
                    return 0
                self._decoder, self._rest, self._begun = self._make(), rest, False
            data = b""
            if self._rest:
                data, self._rest = self._rest, b""
            elif self._decoder.needs_input:
                data = self._file.read(_BLOCK)
                if not data:
                    if self._begun:
                        raise EOFError("it ends too early")
                    return 0
            self._begun = True
            produced = self._decoder.decompress(data, len(buffer))
            if produced:
                buffer[: len(produced)] = produced
                return len(produced)

    def close(self) -> None:
        self._file.close()
        super().close()


def decompressed(path: Path) -> io.BufferedReader:
    """A reader of what is inside `path`: gzip, bzip2, xz by their first bytes, or the file itself."""
    file = path.open("rb")
    magic = file.read(6)
    file.seek(0)
    makers: tuple[tuple[bytes, Callable[[], _Decompressor]], ...] = (
        (b"\x1f\x8b", _Gzip),
        (b"BZh", bz2.BZ2Decompressor),
        (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)),
    )
    for start, make in makers:
        if magic.startswith(start):
            return io.BufferedReader(_Stream(file, make), _BLOCK)
    return file


def inflate(path: Path, target: Path, limits: Limits) -> None:
    """Unpack one compressed file (``.dcm.gz``) to `target`.

    Raises
    ------
    ArchiveRefused
        It is broken or larger than `limits` allow.
    """
    budget = _Budget(path, limits)
    try:
        with decompressed(path) as stream, target.open("wb") as file:
            while block := stream.read(_BLOCK):
                budget.count(len(block))
                file.write(block)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ArchiveRefused(f"{path} cannot be unpacked ({_why(error)}).") from None
