"""What is said when a series or a file cannot be looked at."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from qc_node.domain import QcNodeError


class SeriesRefused(QcNodeError):
    """The files of a series do not make one regular volume; the sentence names the tag at fault."""


class NotDicom(QcNodeError):
    """A file is not a DICOM object that can be read."""


ABOUT_THE_FILE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG}
)
"""Of the operating system's errors those that say something about the file that was asked for."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, and what it was raised from, outermost first."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def is_of_machine(error: BaseException) -> bool:
    """Whether `error` was raised because the machine could not read, not because of what is in a file."""
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno is not None and one.errno not in ABOUT_THE_FILE)
        for one in causes(error)
    )
