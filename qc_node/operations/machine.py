"""What the doctor looks at in the machine: clock, time zone, file systems, flushes, encryption.

Each function says what it measured; what cannot be measured is said to be unknown.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from qc_node.filesystems import file_system_of
from qc_node.operations.diagnosis import Diagnosis, fault, fine, question, warning
from qc_node.spool import FOLDERS, TempFile, prove_writable

EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (2026, 2100))
"""A clock outside of these is not set: the program is younger, and nobody will run it then."""
AHEAD_S = 60.0
"""A row may be so much in the future; clocks step when they are set."""
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})
"""SQLite's write-ahead log needs shared memory, which these do not give (sqlite.org/wal.html)."""
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
OF_CONTAINER = frozenset({"overlay", "aufs"})
FLUSHES, FLUSH_BYTES = 15, 4096
TOO_FAST_S, TOO_SLOW_S = 20e-6, 0.05
"""No disk stores a page in less than the first; beyond the second reception is slow."""
STA_UNSYNC = 0x40
"""A bit of the kernel's clock status: nobody keeps the clock (adjtimex(2))."""


# -- clock -----------------------------------------------------------------------------------------------
class Sync(NamedTuple):
    """What the kernel says of its clock: kept by somebody, and how wrong it may be at most, in seconds."""

    kept: bool
    max_error_s: float


def kernel_sync() -> Sync | None:
    """Ask the kernel, changing nothing (``adjtimex`` with no mode); None where it does not say."""

    class Timex(ctypes.Structure):
        """The beginning of ``struct timex``; the rest is room."""

        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_byte * 256),
        )

    told = Timex()
    try:
        if ctypes.CDLL(None).adjtimex(ctypes.byref(told)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return Sync(not told.status & STA_UNSYNC, told.maxerror / 1e6)


def clock(now: float, newest_row: float | None, sync: Sync | None) -> Iterator[Diagnosis]:
    """Whether the time is plausible, kept by somebody, and not before what the ledger has seen.

    Parameters
    ----------
    now, newest_row
        Seconds since the epoch; when the last image came, or None.
    sync
        What :func:`kernel_sync` said.
    """
    shown = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if not EARLIEST <= now < LATEST:
        yield fault(f"The clock says {shown}, which cannot be; set it, or reports carry that date.")
    elif newest_row is not None and newest_row > now + AHEAD_S:
        yield warning(
            f"The clock says {shown}, and the ledger has an image that came {span(newest_row - now)} later: the"
            " clock was ahead then, or is behind now."
        )
    elif sync is None:
        yield question(f"The clock says {shown}; the kernel does not say whether NTP keeps it. Does it?")
    elif not sync.kept:
        yield warning(
            f"The clock says {shown}, and the kernel says that nobody keeps it: set NTP up (chrony,"
            " systemd-timesyncd), or times in reports drift away from those of the PACS."
        )
    else:
        yield fine(f"The clock says {shown} and is kept by NTP (at most {span(sync.max_error_s)} off).")


def time_zone(now: float) -> Diagnosis:
    """Which local time reports carry where the images do not say (Timezone Offset From UTC, (0008,0201))."""
    local = datetime.fromtimestamp(now).astimezone()
    offset = local.strftime("%z")
    shown = f"The local time is {local:%H:%M} ({local.tzname()}, UTC{offset[:3]}:{offset[3:]}); reports carry it."
    if local.tzname() in ("UTC", "Etc/UTC", "Universal"):
        return question(f"{shown} Is that the time of the hospital? If not set the machine's time zone, or TZ.")
    return fine(shown)


def span(seconds: float) -> str:
    """A length of time, for people."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


# -- disk ------------------------------------------------------------------------------------------------
def write_faults(folder: Path, existing: Path) -> Iterator[str]:
    """Why something could not be stored, tried as the node does it; in `existing` before the first start."""
    temporary = folder / "tmp"
    places = [folder / name for name in FOLDERS if name != "tmp" and (folder / name).is_dir()]
    if not temporary.is_dir() or not places:
        temporary, places = existing, [existing]
    for final in places:
        what = "image" if final.name in ("images", existing.name) else "file"
        try:
            prove_writable(temporary, final)
        except OSError as error:
            yield f"[node] data_dir {folder}: no {what} can be stored in {final}: {error.strerror or error}."
            if temporary == final:
                return


def file_systems(folder: Path, existing: Path) -> Iterator[Diagnosis]:
    """What the file system of the data folder means for what is stored there."""
    kind, _ = file_system_of(existing)
    where = f"[node] data_dir {folder} is"
    if kind in NETWORK_FILE_SYSTEMS:
        yield fault(f"{where} on a network file system ({kind}); the ledger needs a local disk.")
    elif kind in IN_MEMORY:
        yield warning(f"{where} in memory ({kind}): images, votes and reports are gone when the machine restarts.")
    elif kind in OF_CONTAINER:
        yield warning(f"{where} inside a container ({kind}) and goes with it: mount a volume there.")
    ledger = folder / "ledger.sqlite"
    if ledger.exists() and ledger.stat().st_dev != folder.stat().st_dev:
        yield warning(
            f"The ledger {ledger} is on another file system than its folder: a disk image holds but one."
        )


def flush_times(
    folder: Path, clock: Callable[[], float] = time.perf_counter, sync: Callable[[int], None] = os.fdatasync
) -> list[float]:
    """How long the disk takes, in seconds, to store a page: :data:`FLUSHES` times, in a file that is removed."""
    taken: list[float] = []
    temp = TempFile(folder)
    try:
        for _ in range(FLUSHES):
            temp.write(os.urandom(FLUSH_BYTES))
            began = clock()
            sync(temp.fileno())
            taken.append(clock() - began)
    finally:
        temp.discard()
    return taken


def flushes(folder: Path, taken: list[float]) -> Diagnosis:
    """What the times of some flushes say about the disk under `folder`."""
    usual = median(taken)
    if file_system_of(folder)[0] in IN_MEMORY:
        return fine(f"A flush of {folder} takes no time, because it is in memory.")
    if usual < TOO_FAST_S:
        return warning(
            f"A flush of the disk under {folder} takes {usual * 1e6:.0f} µs (median of {len(taken)}), which no"
            " disk can do: a write cache, a virtual disk or a mount option may drop flushes, and a power cut would"
            " then lose what was answered with success."
        )
    if usual > TOO_SLOW_S:
        return warning(
            f"A flush of the disk under {folder} takes {usual * 1000:.0f} ms (median of {len(taken)}): one"
            f" association stores no more than {1 / usual:.0f} images a second."
        )
    return fine(f"A flush of the disk under {folder} takes {usual * 1000:.2f} ms (median of {len(taken)}).")


# -- encryption ------------------------------------------------------------------------------------------
def encryption(folder: Path, sys: Path = Path("/sys")) -> Diagnosis:
    """Whether a dm-crypt volume (LUKS) is below the file system of `folder`; what else encrypts is not seen."""
    name = _crypt_below(_block_device(folder, sys))
    if name is not None:
        return fine(f"The disk under {folder} is encrypted (dm-crypt volume {name}).")
    return question(
        f"Is the disk under {folder} encrypted? No dm-crypt volume shows below it (a disk or a hypervisor that"
        " encrypts by itself does not show), and it holds images of patients: docs/operations.md, 'Encryption at"
        " rest'."
    )


def _block_device(folder: Path, sys: Path) -> Path:
    """What the kernel says of the device below a folder; btrfs and others have a number of their own."""
    device, source = folder.stat().st_dev, Path(file_system_of(folder)[1])
    if os.major(device) == 0 and source.is_block_device():
        device = source.stat().st_rdev
    return sys / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"


def _crypt_below(block: Path, depth: int = 8) -> str | None:
    """The first dm-crypt volume among a block device and what it is made of (LVM, RAID)."""
    try:
        if (block / "dm" / "uuid").read_text(encoding="ascii").startswith("CRYPT-"):
            return (block / "dm" / "name").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        pass
    if depth == 0 or not (block / "slaves").is_dir():
        return None
    found = (_crypt_below(below, depth - 1) for below in sorted((block / "slaves").iterdir()))
    return next((name for name in found if name is not None), None)
