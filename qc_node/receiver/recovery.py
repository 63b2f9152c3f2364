"""After a crash: nothing lost, nothing doubled.

A process can die between the name of a file and its ledger row.  The sender got no answer and will send again,
but it need not: the file is complete, so it is adopted.  After a power cut rows may be missing that were
answered for (the files were durable, the rows not yet): they are made again here.

All of this may go on while the receiver takes images.  What was written since the first process started is left to
it, and a file is put away only if it is the very one that was looked at: the receiver may give its name to another
one meanwhile.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from qc_node.dicom import received_header
from qc_node.dicom.elements import ScanError, Window
from qc_node.dicom.part10 import is_whole, look_into, read_head
from qc_node.dicom.received_header import Facts, HeaderError
from qc_node.domain.name_set import NameSet
from qc_node.ledger import Ledger, Received
from qc_node.receiver.content import correction, digest_of
from qc_node.receiver.store import Request, received, remove_superseded
from qc_node.spool import FileIdentity, Spool

OnCopy = Callable[[str], None]
"""Called with the name of each file that was deleted because its instance is stored elsewhere."""


def recover(
    spool: Spool,
    ledger: Ledger,
    clock: Callable[[], float] = time.time,
    *,
    before: float = math.inf,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Sweep half-written files and adopt whole ones that have no row.

    Takes eight bytes of memory for each row of an image, and a folder of the spool at a time.  A second run finds
    nothing to do.

    Parameters
    ----------
    before
        Seconds since the epoch, when this process started, where a receiver may be at work: files that were
        written since then are left alone.  By default none are.
    stop
        Asked before each folder; whether to leave the rest to the next start.

    Returns
    -------
    int
        How many were adopted.  What cannot be read goes into quarantine with a reason.
    """
    recovery = Recovery(spool, ledger, clock, before)
    recovery.sweep()
    known = NameSet(ledger.removals.named("images"))
    adopted = 0
    for names in spool.image_folders():
        if stop():
            break
        adopted += sum(recovery.take_in(name) for name in known.lacks(names))
    return adopted


CLOCK_GRAIN_S = 0.1
"""A file may seem older than the moment that it was made after: file systems read a clock that is late."""


class Recovery:
    """What becomes of a file in ``images/`` that no row names.

    Parameters
    ----------
    before
        As for :func:`recover`.
    on_copy
        See :data:`OnCopy`.
    """

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        clock: Callable[[], float],
        before: float = math.inf,
        on_copy: OnCopy = lambda name: None,
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        self._clock = clock
        self._before = before - CLOCK_GRAIN_S
        self._on_copy = on_copy

    def sweep(self) -> None:
        """Delete half-written files of processes that are gone."""
        if self._clock_is_sound():
            self._spool.sweep(self._before)

    def take_in(self, name: str) -> bool:
        """Adopt a whole file; one that cannot be read goes into quarantine, a copy goes."""
        seen = self._spool.identity(name)
        if seen is None or self._before <= seen.changed <= self._clock():
            return False
        try:
            facts, request, size = self._read(name)
        except FileNotFoundError:
            return False
        except (ScanError, HeaderError, ValueError) as error:
            self._put_away(name, seen, error)
            return False
        return self._adopt(name, seen, facts, request, size)

    def _read(self, name: str) -> tuple[Facts, Request, int]:
        data = _bytes_of(self._spool, name)
        if not is_whole(data):
            raise HeaderError("A power cut left it incomplete; it was never answered with success.")
        head = read_head(Window(data))
        request = Request(
            head.sop_class_uid, head.sop_instance_uid, head.transfer_syntax_uid, head.source_ae_title
        )
        facts = received_header.facts(data, head.transfer_syntax_uid, head.start)
        refusal = received_header.check(facts, request.sop_class_uid, request.sop_instance_uid)
        if refusal is not None:
            raise HeaderError(refusal[1])
        return facts, request, len(data)

    def _adopt(self, name: str, seen: FileIdentity, facts: Facts, request: Request, size: int) -> bool:
        versions = self._ledger.instances.versions(facts.sop_instance_uid)
        mine = next((row for row in versions if row["path"] == name), None)
        if mine is not None:
            if mine["superseded_at"] is not None:  # a kill has kept it from being removed
                self._remove_copy(name, seen)
            return False  # else its row came meanwhile
        version = versions[-1]["version"] + 1 if versions else 1
        at = min(seen.modified_ns / 1e9, self._clock())
        row = received(facts, request, name, size, at, version)
        if versions and self._spool.has(versions[-1]["path"]):
            corrected = self._correcting(row, versions[-1]["path"], seen)
            if corrected is None:
                self._remove_copy(name, seen)
                return False
            row = corrected
        (new,) = self._ledger.instances.add([row], self._spool.count_there)
        if new and row.correction is not None:
            remove_superseded(self._spool, self._ledger, row.sop_instance_uid)
        return new

    def _correcting(self, row: Received, stored: str, seen: FileIdentity) -> Received | None:
        """The row of a file that is no older than the stored one and says something else; else None."""
        other = self._spool.identity(stored)
        if other is None or other.modified_ns > seen.modified_ns:
            return None
        before, after = (_bytes_of(self._spool, name) for name in (stored, row.path))
        corrects = correction(before, after)
        return None if corrects is None else replace(row, digest=digest_of(after), correction=corrects)

    def _remove_copy(self, name: str, seen: FileIdentity) -> None:
        """The instance is stored elsewhere, so that this copy was never answered: or its row is just coming."""
        if self._is_old(seen) and self._spool.remove_this(name, seen):
            self._on_copy(name)

    def _put_away(self, name: str, seen: FileIdentity, error: Exception) -> None:
        if not self._is_old(seen):
            return
        kept = self._spool.set_aside(name, seen)
        if kept is not None:
            reason = f"It has no readable head: {error}." if isinstance(error, ScanError) else str(error)
            reason = f"Found without a ledger row: {reason}"
            self._ledger.instances.quarantine(kept, reason, "", self._clock())

    def _is_old(self, seen: FileIdentity) -> bool:
        return seen.changed < self._before and self._clock_is_sound()

    def _clock_is_sound(self) -> bool:
        """Whether files of this process are younger than `before`: not until a clock set back gets there."""
        return self._before == math.inf or self._clock() >= self._before


def _bytes_of(spool: Spool, name: str) -> memoryview:
    with spool.path(name).open("rb") as file:
        return look_into(file.fileno())
