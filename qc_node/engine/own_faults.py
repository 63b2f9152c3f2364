"""Faults of the machine, told from those of a series: no memory, no descriptors, no disk, no ledger, no GPU.

A series is never answered with *failed* because of the first kind: it goes back into the queue, and the
worker waits.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from qc_node.ledger import LedgerDamagedError
from qc_node.series.errors import ABOUT_THE_FILE, causes

MAX_ATTEMPTS = 3
"""How often a series may take the worker down with it, or its memory, alone, before it counts as failed."""
PAUSES_S = (1.0, 60.0)
"""First and longest pause after a fault of the machine; doubled from fault to fault."""

ABOUT_EITHER = frozenset({errno.EIO, errno.EACCES, errno.EPERM})
"""A bad sector or wrong rights of one file, or a disk that is gone: the data folder tells which."""
OF_A_ROW = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""SQLite's complaints about what was to be written."""


@dataclass(frozen=True, slots=True)
class OwnFault:
    """A fault of the machine that was met with a series in hand.

    Attributes
    ----------
    sentence
        What is wrong.
    may_be_its
        The series may be the reason: met with it alone, it was an attempt.
    asks_disk
        That holds only where the data folder can be written.
    ends_worker
        The process cannot go on: its GPU context is lost.
    """

    sentence: str
    may_be_its: bool = False
    asks_disk: bool = False
    ends_worker: bool = False


def own_fault(error: BaseException) -> OwnFault | None:
    """What of the machine's is the reason of `error`, or of what it was raised from; None where the series is."""
    for one in causes(error):
        for tell in (_of_ledger, _of_accelerator, _of_memory, _of_system):
            fault = tell(one)
            if fault is not None:
                return fault
    return None


def raised_by_machine(refusal: Exception) -> Exception:
    """What to raise for `refusal`: the machine's error where that is the reason, else itself."""
    for one in causes(refusal):
        if one is not refusal and isinstance(one, OSError | MemoryError) and own_fault(one) is not None:
            return one
    return refusal


def _of_ledger(error: BaseException) -> OwnFault | None:
    if not isinstance(error, sqlite3.Error):
        return None
    if isinstance(error, OF_A_ROW) and not isinstance(error, LedgerDamagedError):
        return OwnFault(f"The ledger does not take what was written ({type(error).__name__}).", may_be_its=True)
    return OwnFault(str(error))


def _of_accelerator(error: BaseException) -> OwnFault | None:
    """torch names the kinds of its errors; older ones say it in the text of a RuntimeError."""
    kind, text = type(error).__name__, str(error)
    if kind == "OutOfMemoryError":
        return OwnFault("The GPU has too little memory for the classifier.", may_be_its=True, ends_worker=True)
    old = isinstance(error, RuntimeError) and text.startswith(("CUDA", "cuDNN", "CUBLAS", "HIP error"))
    if kind != "AcceleratorError" and not old:
        return None
    sentence = f"The GPU does not work ({kind}: {text.splitlines()[0][:120] if text else 'it says no more'})."
    return OwnFault(sentence, may_be_its="device-side assert" in text, ends_worker=True)


def _of_memory(error: BaseException) -> OwnFault | None:
    if isinstance(error, MemoryError):
        return OwnFault("The machine has too little memory for the classifier.", may_be_its=True)
    return None


def _of_system(error: BaseException) -> OwnFault | None:
    if not isinstance(error, OSError) or error.errno is None or error.errno in ABOUT_THE_FILE:
        return None
    unsure = error.errno in ABOUT_EITHER
    sentence = f"The machine does not let the classifier work ({error.strerror})."
    return OwnFault(sentence, may_be_its=unsure, asks_disk=unsure)


class OwnTrouble:
    """How long the worker waits after a fault of the machine: longer each time, until something works again.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause_s = 0.0
        self._until = 0.0
        self.sentence = ""
        """What is wrong; empty when nothing is."""

    def begin(self, sentence: str) -> bool:
        """One fault more; whether it is the first since something worked."""
        is_first = not self.sentence
        first_s, longest_s = PAUSES_S
        self._pause_s = min(max(first_s, self._pause_s * 2), longest_s)
        self._until = self._clock() + self._pause_s
        self.sentence = sentence
        return is_first

    def waits(self) -> bool:
        """Whether it is too early to try again."""
        return bool(self.sentence) and self._clock() < self._until

    def end(self) -> bool:
        """Something works; whether anything had been wrong."""
        was_there = bool(self.sentence)
        self.sentence, self._pause_s = "", 0.0
        return was_there
