"""A destination that is called by DIMSE: C-STORE, C-ECHO and storage commitment (PS3.4 annexes B, A and J)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from qc_node.dicom import association, commitment
from qc_node.dicom.association import MAX_CONTEXTS, Call, Context, Peer, PeerError, Trouble, call
from qc_node.dicom.part10 import StoredObject
from qc_node.dicom.statuses import DUPLICATE, is_warning
from qc_node.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from qc_node.domain import InstanceRef
from qc_node.outbox.transport.interface import CommitmentQuestion, TransportOutcome, TransportStatus

log = logging.getLogger("qc_node.outbox")

COMMITMENT_CONTEXTS: Final[tuple[Context, ...]] = (
    (STORAGE_COMMITMENT, ExplicitVRLittleEndian),
    (STORAGE_COMMITMENT, ImplicitVRLittleEndian),
)


class DimseTransport:
    """The way to one application entity.

    Parameters
    ----------
    peer
        Whom to call, and how long to wait.
    re_encode
        Propose Implicit VR Little Endian as well for what is Explicit VR Little Endian, and re-encode an object
        for a peer that takes nothing else.  For objects of our own; a user's files are sent as they are.
    commitment_wait_s
        How long the association stays open for the answer to a commitment request.
    """

    def __init__(self, peer: Peer, *, re_encode: bool = True, commitment_wait_s: float = 0.5) -> None:
        self.peer = peer
        self._re_encode = re_encode
        self._commitment_wait_s = commitment_wait_s

    @property
    def name(self) -> str:
        """See :class:`~qc_node.outbox.transport.interface.Transport`."""
        return self.peer.name

    def echo(self) -> float:
        """C-ECHO; see :class:`~qc_node.outbox.transport.interface.Transport`."""
        return association.echo(self.peer)

    def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
        """C-STORE; see :class:`~qc_node.outbox.transport.interface.Transport`.

        Each SOP class and transfer syntax has a presentation context of its own; more than one association can
        hold take more associations.
        """
        return self._store(objects, None)

    def store_and_ask(
        self, objects: Sequence[StoredObject], question: CommitmentQuestion
    ) -> Iterator[TransportOutcome]:
        """As :meth:`store`, and N-ACTION on the same association where the peer offers that."""
        return self._store(objects, question)

    def ask(self, references: Sequence[InstanceRef], question: CommitmentQuestion) -> bool:
        """N-ACTION on an association of its own; whether the peer took the question."""
        listener = _Listener(question)
        try:
            with call(self.peer, COMMITMENT_CONTEXTS, listener.take) as open_call:
                return self._ask(open_call, references, listener)
        except PeerError as error:
            if error.trouble is Trouble.UNSUPPORTED:
                self._not_offered(references, question)
            else:
                log.warning("storage commitment: %s", error)
            return False

    # -- one association -----------------------------------------------------------------------------
    def _store(
        self, objects: Sequence[StoredObject], question: CommitmentQuestion | None
    ) -> Iterator[TransportOutcome]:
        spare = len(COMMITMENT_CONTEXTS) if question is not None else 0
        for batch, contexts in _batches(objects, self._contexts_of, MAX_CONTEXTS - spare):
            if (yield from self._store_batch(batch, contexts, question)):
                return

    def _contexts_of(self, obj: StoredObject) -> tuple[Context, ...]:
        own = (obj.sop_class_uid, obj.transfer_syntax_uid)
        if self._re_encode and obj.transfer_syntax_uid == ExplicitVRLittleEndian:
            return own, (obj.sop_class_uid, ImplicitVRLittleEndian)
        return (own,)

    def _store_batch(
        self, batch: Sequence[StoredObject], contexts: Sequence[Context], question: CommitmentQuestion | None
    ) -> Generator[TransportOutcome, None, bool]:
        """Over one association; returns whether nothing more can be tried now."""
        listener = _Listener(question) if question is not None else None
        if listener is not None:
            contexts = [*contexts, *COMMITMENT_CONTEXTS]
        done = 0
        try:
            with call(self.peer, contexts, listener.take if listener is not None else None) as open_call:
                for obj in batch:
                    outcome = _stored(open_call, obj)
                    done += 1
                    try:
                        yield outcome
                    except GeneratorExit:
                        return True  # the association is released, as one is that has done its work
                    if outcome.ends:
                        return True
                if listener is not None:
                    self._ask(
                        open_call, [InstanceRef(o.sop_class_uid, o.sop_instance_uid) for o in batch], listener
                    )
        except PeerError as error:
            if done == len(batch):
                log.warning("storage commitment: %s", error)
            elif error.trouble is Trouble.UNSUPPORTED:
                for _ in batch[done:]:
                    yield TransportOutcome(TransportStatus.REFUSED, str(error))
            else:
                yield TransportOutcome(TransportStatus.UNAVAILABLE, str(error))
                return True
        return False

    def _ask(self, open_call: Call, references: Sequence[InstanceRef], listener: _Listener) -> bool:
        if not any(open_call.accepts(*context) for context in COMMITMENT_CONTEXTS):
            self._not_offered(references, listener.question)
            return False
        transaction_uid = listener.question.put(references)
        data_set = commitment.request(transaction_uid, references)
        status = open_call.action(data_set, commitment.REQUEST, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
        if status != 0 and not is_warning(status):
            sentence = f"Peer {self.peer} refused the request for storage commitment (status 0x{status:04X})."
            listener.question.refused(transaction_uid, sentence)
            log.warning("%s", sentence)
            return False
        listener.arrived.wait(self._commitment_wait_s)
        return True

    def _not_offered(self, references: Sequence[InstanceRef], question: CommitmentQuestion) -> None:
        """No question can be put; for who waits for the promise, that is a refusal."""
        sentence = (
            f"Peer {self.peer} does not offer storage commitment; where it never will, set [pacs]"
            " storage_commitment = false."
        )
        question.refused(question.put(references), sentence)
        log.warning("%s", sentence)


class _Listener:
    """Takes N-EVENT-REPORT on our own association; ``arrived`` is set once an answer has been noted."""

    def __init__(self, question: CommitmentQuestion) -> None:
        self.question = question
        self.arrived = threading.Event()

    def take(self, event_type: int, data_set: Callable[[], Any]) -> int:
        """The statuses of :func:`qc_node.dicom.commitment.take_result`."""
        status, sentence = commitment.take_result(event_type, data_set, self.question.answered)
        log.log(logging.WARNING if status else logging.INFO, "%s", sentence)
        if status != commitment.NO_SUCH_EVENT_TYPE:
            self.arrived.set()
        return status


def _stored(open_call: Call, obj: StoredObject) -> TransportOutcome:
    try:
        status = open_call.store(obj)
    except PeerError as error:
        if error.concerns_the_object:
            return TransportOutcome(TransportStatus.REFUSED, str(error))
        if error.trouble is Trouble.BUSY:
            return TransportOutcome(TransportStatus.BUSY, str(error))
        open_call.abort()
        return TransportOutcome(TransportStatus.BROKEN, str(error))
    return TransportOutcome(TransportStatus.STORED, _reservation(status))


def _reservation(status: int) -> str:
    if status == DUPLICATE:
        return f"Answered with 0x{status:04X} (duplicate SOP instance): the destination had it already."
    return f"Stored with the warning 0x{status:04X}." if status else ""


def _batches(
    objects: Sequence[StoredObject], contexts_of: Callable[[StoredObject], tuple[Context, ...]], most: int
) -> Iterator[tuple[list[StoredObject], list[Context]]]:
    """Objects in their order, as many at a time as fit into `most` presentation contexts, with these contexts."""
    batch: list[StoredObject] = []
    contexts: dict[Context, None] = {}
    for obj in objects:
        more = dict.fromkeys(contexts_of(obj))
        if batch and len(contexts | more) > most:
            yield batch, list(contexts)
            batch, contexts = [], {}
        batch.append(obj)
        contexts |= more
    if batch:
        yield batch, list(contexts)
