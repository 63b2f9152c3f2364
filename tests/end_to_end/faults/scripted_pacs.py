"""A PACS that does what a script says: its behaviour is data, and what it got is kept."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt

from qc_node.dicom.statuses import is_warning
from qc_node.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, STUDY_ROOT_FIND, VERIFICATION
from tests.peers.process import find_free_port

AE_TITLE = "PACS"
PENDING = 0xFF00


# -- the script ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Answer:
    """What becomes of one C-STORE: whether the object is kept, and how it is answered after `after_s` seconds."""

    status: int = 0x0000
    keeps: bool = True
    after_s: float = 0.0
    aborts: bool = False


STORED = Answer()
ABORTS = Answer(keeps=False, aborts=True)
ANSWER_LOST = Answer(aborts=True)
"""It has the object, and the association ends before anybody hears so."""
SILENT = Answer(keeps=False, after_s=math.inf)


def answers(status: int, after_s: float = 0.0) -> Answer:
    """This status; the object is kept where it says so (success, a warning)."""
    return Answer(status, keeps=status == 0 or is_warning(status), after_s=after_s)


@dataclass(frozen=True)
class Count:
    """How C-FIND is answered: with the right count `off_by` so many, after `after_s` s, `endless`, or a status."""

    off_by: int = 0
    after_s: float = 0.0
    endless: bool = False
    status: int = 0x0000


@dataclass(frozen=True)
class Commit:
    """How storage commitment is answered.

    N-ACTION with `status`; the result after `after_s` s (infinite: never), on the node's association or on one of
    the PACS's `own`.  The first so many results say that the object is lost (`fails`), or speak of a transaction
    that nobody knows (`odd`).
    """

    status: int = 0x0000
    after_s: float = 0.05
    own: bool = False
    fails: int = 0
    odd: int = 0


@dataclass(frozen=True)
class Script:
    """What the PACS does.

    ``store`` answers the first C-STORE requests, one after the other; ``objects`` answers, always, the n-th
    object that it saw; whatever is left is stored.  An object that it holds is answered ``duplicate``.  The first
    ``rejects`` associations are rejected.  Without ``find`` or ``commit`` it does not offer that service.
    """

    store: Sequence[Answer] = ()
    objects: Mapping[int, Answer] = field(default_factory=dict)
    duplicate: int = 0x0000
    rejects: int = 0
    find: Count | None = None
    commit: Commit | None = None


# -- the PACS --------------------------------------------------------------------------------------------
class ScriptedPacs:
    """Listens on a port of its own, which stays the same while it comes and goes.

    Attributes
    ----------
    held
        What it keeps: SOP Instance UID to the bytes of a DICOM file, as first received.
    altered
        UIDs that came again with other bytes.
    asked
        (SOP Instance UID, answer) of each C-STORE request.
    images
        Series UID to the number of images that it has of it, for C-FIND.
    node_port
        Where commitment results go on an association of its own.
    """

    def __init__(self, script: Script | None = None, *, node_port: int = 0) -> None:
        self.port = find_free_port()
        self.node_port = node_port
        self.held: dict[str, bytes] = {}
        self.altered: list[str] = []
        self.asked: list[tuple[str, Answer]] = []
        self.requests: list[Dataset] = []
        self.images: dict[str, int] = {}
        self._ae: Any = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.behave(script or Script())

    def behave(self, script: Script) -> None:
        """From now on do as `script` says, from its beginning."""
        with self._lock:
            self.script = script
            self._steps = iter(script.store)
            self._seen: dict[str, int] = {}
            self._rejects, self._results = script.rejects, 0

    # -- life --------------------------------------------------------------------------------------------
    def start(self) -> ScriptedPacs:
        """Listen; with the services that the script has."""
        self._ended.clear()
        self._ae = AE(AE_TITLE)
        for context in AllStoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax)
        services = (self.script.find and STUDY_ROOT_FIND, self.script.commit and STORAGE_COMMITMENT)
        for service in (VERIFICATION, *filter(None, services)):
            self._ae.add_supported_context(service)
        handlers = [
            (evt.EVT_REQUESTED, self._request),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_ACTION, self._action),
        ]
        self._ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def stop(self) -> None:
        """Be gone: nobody listens, and open associations end."""
        self._ended.set()
        if self._ae is not None:
            self._ae.shutdown()
            self._ae = None

    # -- what it has -------------------------------------------------------------------------------------
    def received(self, modality: str = "SR") -> list[Dataset]:
        """What it holds of one modality, in the order of arrival."""
        found = [pydicom.dcmread(io.BytesIO(data)) for data in list(self.held.values())]
        return [ds for ds in found if ds.Modality == modality]

    # -- C-STORE -----------------------------------------------------------------------------------------
    def _request(self, event: Any) -> None:
        with self._lock:
            self._rejects -= 1
            rejected = self._rejects >= 0
        if rejected:
            event.assoc.acse.send_reject(0x02, 0x03, 0x02)  # transient: local limit exceeded
            event.assoc.kill()

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        answer = self._answer_for(uid)
        if answer.keeps:
            self._keep(uid, event.encoded_dataset())
        self.asked.append((uid, answer))
        if self._ended.wait(min(answer.after_s, 3600.0)) or answer.aborts:
            event.assoc.abort()
        return answer.status

    def _answer_for(self, uid: str) -> Answer:
        with self._lock:
            number = self._seen.setdefault(uid, len(self._seen))
            if number in self.script.objects:
                return self.script.objects[number]
            usual = answers(self.script.duplicate) if uid in self.held else STORED
            return next(self._steps, usual)

    def _keep(self, uid: str, data: bytes) -> None:
        before = self.held.setdefault(uid, data)
        if before != data:
            self.altered.append(uid)

    # -- C-FIND ------------------------------------------------------------------------------------------
    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        count = self.script.find or Count(status=0xA700)
        if self._ended.wait(count.after_s) or count.status:
            yield count.status or 0xFE00, None
            return
        uid = event.identifier.get("SeriesInstanceUID")
        match = Dataset()
        match.QueryRetrieveLevel = "SERIES"
        match.StudyInstanceUID, match.SeriesInstanceUID = event.identifier.StudyInstanceUID, uid
        match.NumberOfSeriesRelatedInstances = max(0, self.images.get(uid, 0) + count.off_by)
        yield PENDING, match
        while count.endless and not self._ended.wait(0.01) and not event.is_cancelled:
            yield PENDING, match

    # -- storage commitment ------------------------------------------------------------------------------
    def _action(self, event: Any) -> tuple[int, None]:
        commit, request = self.script.commit or Commit(0x0112), event.action_information
        self.requests.append(request)
        if commit.status == 0 and math.isfinite(commit.after_s):
            Thread(target=self._promise, args=(commit, event.assoc, request), daemon=True).start()
        return commit.status, None

    def _promise(self, commit: Commit, association: Any, request: Dataset) -> None:
        with self._lock:
            self._results += 1
            number = self._results
        result = result_for(request, set() if number <= commit.fails else set(self.held))
        if number <= commit.odd:
            result.TransactionUID = "2.25.1"
        if not self._ended.wait(commit.after_s):
            with suppress(RuntimeError, OSError):  # the node may have gone meanwhile
                self._report(result, None if commit.own else association)

    def _report(self, result: Dataset, association: Any) -> None:
        own = association is None
        if own:
            ae = AE(AE_TITLE)
            ae.add_requested_context(STORAGE_COMMITMENT)
            role = build_role(STORAGE_COMMITMENT, scp_role=True)
            association = ae.associate("127.0.0.1", self.node_port, ae_title="QCNODE", ext_neg=[role])
        kind = 2 if "FailedSOPSequence" in result else 1
        association.send_n_event_report(result, kind, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
        if own:
            association.release()


def result_for(request: Dataset, kept: set[str]) -> Dataset:
    """The result of a commitment request: what is in `kept` is promised, the rest failed (PS3.4 J.3.3)."""
    result = Dataset()
    result.TransactionUID = request.TransactionUID
    for keyword, is_kept in (("ReferencedSOPSequence", True), ("FailedSOPSequence", False)):
        items = [i for i in request.ReferencedSOPSequence if (i.ReferencedSOPInstanceUID in kept) is is_kept]
        for item in items if not is_kept else ():
            item.FailureReason = 0x0112
        if items:
            setattr(result, keyword, items)
    return result
