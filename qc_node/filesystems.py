"""What a file system promises about a file that was made durable.

POSIX promises the bytes alone: the name is durable only after the folder was synced, too.  A journal writes in
order, so on a journaled ext4, and on XFS, a sync of a new file takes along the name that it was given before
(the transaction of the name is older than that of the blocks).  One flush of the disk less for each image
matters where a flush costs milliseconds.
"""

from __future__ import annotations

import os
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
EXT4_STATE = Path("/sys/fs/ext4")
NO_JOURNAL = "<none>"


def file_system_of(folder: Path, mounts: Path = MOUNTS) -> tuple[str, str]:
    """Kind (``ext4``, ``nfs4``, ``overlay``, ...) and source of the file system that `folder` is on.

    Both are empty where the system does not say, as outside Linux.
    """
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) > 2 and len(kind) > 1 and fields[2] == wanted:
            return kind[0], kind[1]
    return "", ""


def names_follow_bytes(folder: Path, mounts: Path = MOUNTS, ext4_state: Path = EXT4_STATE) -> bool:
    """Whether to sync a new file in `folder` makes the name durable that it has; False where nobody says so."""
    kind, source = file_system_of(folder, mounts)
    if kind == "xfs":
        return True
    if kind != "ext4":
        return False
    try:
        task = (ext4_state / Path(source).resolve().name / "journal_task").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
    return task.strip() != NO_JOURNAL
