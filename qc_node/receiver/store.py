"""From bytes on the wire to a durable instance.

Order, always: temporary file, its bytes and its name durable, ledger row, answer.  The row needs no flush of
the disk of its own: it survives a kill, and what a power cut takes of it is made again from the file at the
next start (:mod:`qc_node.receiver.recovery`).  The rows of several associations are written in one transaction
by whichever thread comes first (group commit).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from qc_node.dicom import received_header
from qc_node.dicom.part10 import encode_head, look_into, size_note
from qc_node.dicom.received_header import Facts, HeaderError
from qc_node.domain import Correction
from qc_node.ledger import Ledger, Received
from qc_node.receiver.content import correction, digest_of
from qc_node.series.headers import expected
from qc_node.spool import Spool, TempFile

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DUPLICATE = 0x0111
"""Duplicate SOP instance (PS3.7 C.5.7): with other content, which the configuration refuses."""
CANNOT_UNDERSTAND = 0xC210

REFUSED = "An object with this SOP Instance UID and other content is here, and [node] on_changed refuses another."

LOOK_EVERY_S = 0.25
WATERMARK_EVERY = 1 << 26
"""A long object looks at the free space again after so many bytes."""


@dataclass(frozen=True, slots=True)
class Request:
    """The C-STORE request that an object belongs to."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """How it ended: a C-STORE status (PS3.4 table B.2-1), a sentence unless it succeeded, facts where read.

    ``correction`` says what is different from the object that was stored under the same UID before.
    """

    status: int
    sentence: str = ""
    bytes: int = 0
    facts: Facts | None = None
    correction: Correction | None = None

    @property
    def opens_series(self) -> bool:
        """Whether the object was stored and makes its series a candidate for judging."""
        return self.status == SUCCESS and self.facts is not None and expected.opens_series(self.facts)


class _Waiting:
    """An instance whose file is durable and whose row is not yet."""

    __slots__ = ("done", "error", "fresh", "row")

    def __init__(self, row: Received) -> None:
        self.row = row
        self.done = False
        self.fresh = False
        self.error: Exception | None = None


class Store:
    """Spool and ledger as the receiver uses them; shared by all associations of a process.

    Parameters
    ----------
    low_watermark_bytes
        With less free space nothing is taken in.
    clock
        Seconds since the epoch.
    on_changed
        What becomes of an instance that comes again with other content: ``replace`` keeps it as a new version,
        ``refuse`` answers 0x0111.
    """

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        low_watermark_bytes: int,
        clock: Callable[[], float],
        on_changed: str = "replace",
    ) -> None:
        self.spool = spool
        self.ledger = ledger
        self.clock = clock
        self.on_changed = on_changed
        self._low = low_watermark_bytes
        self._free, self._look_again = 0, 0.0
        self._queue: list[_Waiting] = []
        self._queue_lock = threading.Lock()
        self._turn = threading.Lock()
        self._between_processes = os.open(spool.root / "tmp", os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._between_processes)

    def has_space(self) -> bool:
        """Whether the disk is above its low watermark (asked of the system at most every quarter second)."""
        now = time.monotonic()
        if now >= self._look_again:
            self._free = self.spool.free_bytes()
            self._look_again = now + LOOK_EVERY_S
        return self._free >= self._low

    def receive(self, request: Request) -> Incoming:
        """Begin to take in one object."""
        return Incoming(self, request)

    def correction(self, name: str, data: memoryview) -> Correction | None:
        """What the DICOM file `data` says differently from the one that is stored as `name`; None: nothing."""
        try:
            with self.spool.path(name).open("rb") as file:
                stored = look_into(file.fileno())
        except (FileNotFoundError, ValueError):  # gone this moment; empty
            return Correction.CONTENT
        return correction(stored, data)

    def quarantine(self, data: memoryview, reason: str, calling_ae: str) -> None:
        """Keep bytes that were refused, with the reason."""
        name = self.spool.quarantine(data, ".dcm")
        self.ledger.instances.quarantine(name, reason, calling_ae, self.clock())

    def add(self, row: Received) -> bool:
        """Write the row of a durable file, together with all others that wait; whether it was new.

        Raises
        ------
        sqlite3.Error, OSError
            The ledger cannot be written; the row is not there.
        """
        mine = _Waiting(row)
        with self._queue_lock:
            self._queue.append(mine)
        with self._turn:
            if not mine.done:
                self._write_waiting()
        if mine.error is not None:
            raise mine.error
        return mine.fresh

    def _write_waiting(self) -> None:
        # SQLite would poll for its lock; this waits, and meanwhile more rows come to the same transaction
        fcntl.flock(self._between_processes, fcntl.LOCK_EX)
        with self._queue_lock:
            batch, self._queue = self._queue, []
        try:
            fresh = self.ledger.instances.add([item.row for item in batch], self.spool.count_there)
            for item, new in zip(batch, fresh, strict=True):
                item.fresh = new
        except Exception as error:
            for item in batch:
                item.error = error
        finally:
            fcntl.flock(self._between_processes, fcntl.LOCK_UN)
            for item in batch:
                item.done = True


class Incoming:
    """One object on its way in: :meth:`write` its data set, then :meth:`finish`, or :meth:`abandon` it.

    Never raises for what a peer or a full disk does: after a failed write it swallows the rest, and
    :meth:`finish` says what went wrong.
    """

    def __init__(self, store: Store, request: Request) -> None:
        self._store = store
        self._request = request
        self._temp: TempFile | None = None
        self._outcome: StoreOutcome | None = None
        self._head = 0
        self._next_look = WATERMARK_EVERY
        self.bytes = 0
        if not store.has_space():
            self._outcome = StoreOutcome(OUT_OF_RESOURCES, "The disk is below its low watermark.")
            return
        try:
            self._temp = store.spool.temp()
            self._temp.write(
                encode_head(
                    request.sop_class_uid,
                    request.sop_instance_uid,
                    request.transfer_syntax_uid,
                    request.calling_ae,
                )
            )
            self._head = self._temp.size
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.abandon()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self._outcome = StoreOutcome(OUT_OF_RESOURCES, f"The object could not be written: {reason}.", self.bytes)

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._temp is not None:
            self._temp.discard()
            self._temp = None

    def write(self, data: memoryview) -> None:
        """Append to the data set."""
        self.bytes += len(data)
        if self._temp is None:
            return
        try:
            self._temp.write(data)
        except OSError as error:
            self._give_up(error)
            return
        if self.bytes >= self._next_look:
            self._next_look += WATERMARK_EVERY
            if not self._store.has_space():
                self.abandon()
                self._outcome = StoreOutcome(
                    OUT_OF_RESOURCES, "The disk fell below its low watermark.", self.bytes
                )

    def finish(self) -> StoreOutcome:
        """Make the object durable.

        Returns
        -------
        StoreOutcome
            Status 0x0000 stored or already there, 0x0111 there with other content, 0xA700 no space, 0xA900 or
            0xC21x refused and quarantined.
        """
        if self._temp is None:
            return self._outcome or StoreOutcome(OUT_OF_RESOURCES, "The object was abandoned.", self.bytes)
        try:
            return self._finish(self._temp)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
            assert self._outcome is not None
            return self._outcome
        finally:
            self.abandon()

    def _finish(self, temp: TempFile) -> StoreOutcome:
        request, store = self._request, self._store
        data = look_into(temp.fileno())
        facts: Facts | None = None
        try:
            facts = received_header.facts(data, request.transfer_syntax_uid, self._head)
            refusal = received_header.check(facts, request.sop_class_uid, request.sop_instance_uid)
        except HeaderError as error:
            refusal = (CANNOT_UNDERSTAND, str(error))
        if refusal is not None:
            store.quarantine(data, refusal[1], request.calling_ae)
            return StoreOutcome(*refusal, self.bytes, facts)
        assert facts is not None
        return self._keep(temp, data, facts)

    def _keep(self, temp: TempFile, data: memoryview, facts: Facts) -> StoreOutcome:
        """Give a sound object its name and its row, unless what is there says the same."""
        store, uid = self._store, facts.sop_instance_uid
        newest = store.ledger.instances.newest(uid)
        there = newest is not None and store.spool.has(newest["path"])
        corrects = store.correction(newest["path"], data) if newest is not None and there else None
        if there and (corrects is None or store.on_changed == "refuse"):
            return self._known(facts, corrects)
        version = 1 if newest is None else newest["version"] + 1  # a row without its file keeps nothing
        size = temp.size
        temp.write_at(0, size_note(size))
        name = self._name(temp, facts, version)
        self._temp = None
        row = received(facts, self._request, name, size, store.clock(), version)
        if corrects is not None:
            row = replace(row, digest=digest_of(data), correction=corrects)
        return self._enter(row, data, facts)

    def _name(self, temp: TempFile, facts: Facts, version: int) -> str:
        """Make the bytes durable under a name that no other version has."""
        spool, uids = self._store.spool, (facts.study_uid, facts.series_uid, facts.sop_instance_uid)
        name = spool.image_name(*uids, version)
        try:
            spool.commit(temp, name, replace=False)
        except FileExistsError:  # a twin that has no row yet, perhaps with other content; an earlier version
            name = spool.image_name(*uids, version, mark=os.urandom(8).hex())
            spool.commit(temp, name, replace=False)
        return name

    def _known(self, facts: Facts, corrects: Correction | None) -> StoreOutcome:
        """The answer where nothing is kept."""
        if corrects is None:
            return StoreOutcome(SUCCESS, bytes=self.bytes, facts=facts)
        return StoreOutcome(DUPLICATE, REFUSED, self.bytes, facts, corrects)

    def _enter(self, row: Received, data: memoryview, facts: Facts) -> StoreOutcome:
        """Write the row of a durable file; where another one of its UID was faster, see what is different."""
        store, uid, name = self._store, row.sop_instance_uid, row.path
        while not self._add(row):
            current = store.ledger.instances.newest(uid)
            if current is None or current["path"] == name:
                break
            if store.spool.has(current["path"]):
                corrects = store.correction(current["path"], data)
                if corrects is None or store.on_changed == "refuse":
                    store.spool.remove(name)
                    return self._known(facts, corrects)
                row = replace(row, digest=digest_of(data), correction=corrects)
            row = replace(row, version=current["version"] + 1)
        if row.correction is not None:
            remove_superseded(store.spool, store.ledger, uid)
        return StoreOutcome(SUCCESS, bytes=self.bytes, facts=facts, correction=row.correction)

    def _add(self, row: Received) -> bool:
        store = self._store
        try:
            return store.add(row)
        except (OSError, sqlite3.Error):
            # The sender will hear "out of resources"; start-up adopts the file should even this fail.
            if store.ledger.instances.path_of(row.sop_instance_uid) != row.path:
                (store.spool.root / row.path).unlink(missing_ok=True)
            raise


def remove_superseded(spool: Spool, ledger: Ledger, sop_instance_uid: str) -> None:
    """Delete the files of earlier versions of an instance: they may hold the data of another patient."""
    for row in ledger.instances.versions(sop_instance_uid):
        if row["superseded_at"] is not None:
            spool.remove(row["path"])


def received(facts: Facts, request: Request, name: str, size: int, at: float, version: int = 1) -> Received:
    """The ledger row of one instance."""
    count, rule = expected.expected_count(facts)
    return Received(
        sop_instance_uid=facts.sop_instance_uid,
        sop_class_uid=facts.sop_class_uid,
        series_uid=facts.series_uid,
        study_uid=facts.study_uid,
        transfer_syntax_uid=request.transfer_syntax_uid,
        modality=facts.modality,
        calling_ae=request.calling_ae,
        path=name,
        bytes=size,
        received_at=at,
        opens_series=expected.opens_series(facts),
        expected=count,
        expected_rule=rule,
        version=version,
        station=facts.station,
    )
