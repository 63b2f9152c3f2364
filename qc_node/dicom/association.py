"""Calling another application entity: C-ECHO, C-FIND, N-ACTION, and C-STORE of files, byte for byte.

Every wait is bounded (:class:`Timeouts`), and every failure is a :class:`PeerError`: one sentence that names the
peer, and a kind that tells the outbox what to do about it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from qc_node.dicom.part10 import StoredObject
from qc_node.dicom.statuses import DUPLICATE, StoreAnswer, is_warning, store_answer
from qc_node.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, VERIFICATION
from qc_node.domain import QcNodeError

MAX_CONTEXTS = 128
"""Presentation contexts that one association can hold (PS3.8 9.3.2.2: odd numbers below 256)."""

MAX_PDU = 131072
"""Largest PDU that we take, in bytes."""

SPARE_S = 2.0
"""How much longer than its timeouts an exchange may take, in seconds."""

PROBE_S = 1.0
"""How long a second look at a peer that is not there may take, in seconds; only the reason is wanted."""

CUT_AGAIN_S = 0.05
"""How often a connection is looked for that has to be cut, in seconds."""

SLOWEST = 50_000.0
"""Bytes a second below which a transfer counts as stalled."""

Context = tuple[str, str]
"""Abstract syntax (SOP class) and transfer syntax."""

OnEventReport = Callable[[int, Callable[[], Any]], int]
"""Takes the event type of an N-EVENT-REPORT and a function that decodes its data set; returns a status."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds: for TCP, for the association, for an answer, for a stalled socket.

    ``total`` bounds everything from the call to the release, whatever the peer does in between; None: each step
    has its own bound only, because a call that sends many objects may take long.
    """

    connect: float = 5.0
    association: float = 10.0
    response: float = 30.0
    network: float = 30.0
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """An application entity that can be called, and what to call oneself there."""

    name: str
    ae_title: str
    host: str
    port: int
    calling_ae_title: str = "QCNODE"
    timeouts: Timeouts = field(default_factory=Timeouts)

    def __str__(self) -> str:
        return f"{self.name} ({self.ae_title} at {self.host}:{self.port})"


class Trouble(StrEnum):
    """What went wrong with a peer."""

    UNREACHABLE = "unreachable"
    """No TCP connection."""
    REJECTED = "rejected"
    """The peer refused the association."""
    SILENT = "silent"
    """No answer in time."""
    ABORTED = "aborted"
    """The association ended while we were at it."""
    BUSY = "busy"
    """A failure status after which it may work later (:func:`~qc_node.dicom.statuses.store_answer`)."""
    REFUSED = "refused"
    """A failure status for good: the object itself is refused."""
    UNSUPPORTED = "unsupported"
    """The peer does not take this SOP class in this transfer syntax."""


class PeerError(QcNodeError):
    """One sentence that names the peer, and the kind of trouble."""

    def __init__(self, trouble: Trouble, sentence: str) -> None:
        super().__init__(sentence)
        self.trouble = trouble

    @property
    def concerns_the_object(self) -> bool:
        """Whether the peer is well and only this object is not welcome."""
        return self.trouble in (Trouble.REFUSED, Trouble.UNSUPPORTED)


class Call:
    """An open association with `peer`; made by :func:`call`."""

    def __init__(self, peer: Peer, association: Any, sockets: list[socket.socket]) -> None:
        self.peer = peer
        self.association = association
        self._sockets = sockets
        self._message_id = 0

    def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether the peer takes this SOP class in this transfer syntax."""
        return any(
            c.abstract_syntax == sop_class_uid and c.transfer_syntax[0] == transfer_syntax_uid
            for c in self.association.accepted_contexts
        )

    def next_message_id(self) -> int:
        """A message id that is not in use."""
        self._message_id = self._message_id % 65535 + 1
        return self._message_id

    def bounded(self, extra_s: float = 0.0) -> AbstractContextManager[None]:
        """Cut the connection when what follows takes longer than any patience (a peer that trickles bytes)."""
        return _cut_off_after(self.peer.timeouts.response + SPARE_S + extra_s, self._sockets)

    def store(self, obj: StoredObject) -> int:
        """C-STORE one object as it lies on the disk.

        Only an object of the node's own is proposed in Implicit VR Little Endian as well, and re-encoded when the
        peer takes nothing else.

        Returns
        -------
        int
            0x0000, a warning, or :data:`~qc_node.dicom.statuses.DUPLICATE`: the peer has the object.

        Raises
        ------
        PeerError
            The object was not stored, or nobody knows.
        """
        data: Any = obj.path
        if not self.accepts(obj.sop_class_uid, obj.transfer_syntax_uid):
            explicit = obj.transfer_syntax_uid == ExplicitVRLittleEndian
            if not (explicit and self.accepts(obj.sop_class_uid, ImplicitVRLittleEndian)):
                raise PeerError(
                    Trouble.UNSUPPORTED,
                    f"Peer {self.peer} does not take {_uid_name(obj.sop_class_uid)} in "
                    f"{_uid_name(obj.transfer_syntax_uid)}.",
                )
            from pydicom import dcmread

            data = dcmread(obj.path)
        try:
            with self.bounded(obj.path.stat().st_size / SLOWEST):
                status = self.association.send_c_store(data, msg_id=self.next_message_id())
        except (RuntimeError, OSError) as error:
            raise PeerError(Trouble.ABORTED, f"Peer {self.peer} ended the association: {error}.") from error
        return self._checked(status, DUPLICATE)

    def find(self, query: Any, sop_class_uid: str) -> Iterator[tuple[Any, Any]]:
        """C-FIND: statuses and matches as they come (PS3.4 section C.4.1)."""
        with self.bounded():
            yield from self.association.send_c_find(query, sop_class_uid, msg_id=self.next_message_id())

    def action(self, data_set: Any, action_type: int, sop_class_uid: str, sop_instance_uid: str) -> int:
        """N-ACTION; the status that the peer answered with.

        Raises
        ------
        PeerError
            The association ended, or no answer came.
        """
        try:
            with self.bounded():
                status, _ = self.association.send_n_action(
                    data_set, action_type, sop_class_uid, sop_instance_uid, msg_id=self.next_message_id()
                )
        except (RuntimeError, OSError) as error:
            raise PeerError(Trouble.ABORTED, f"Peer {self.peer} ended the association: {error}.") from error
        if "Status" not in status:
            raise self._unanswered()
        return int(status.Status)

    def echo(self) -> None:
        """C-ECHO.

        Raises
        ------
        PeerError
            No answer, or not success.
        """
        with self.bounded():
            status = self.association.send_c_echo(self.next_message_id())
        self._checked(status)

    def abort(self) -> None:
        """End the association at once; after this, nothing is released any more."""
        with _cut_off_after(SPARE_S, self._sockets):
            self.association.abort()

    def _unanswered(self) -> PeerError:
        return PeerError(
            Trouble.SILENT if self.association.is_aborted else Trouble.ABORTED,
            f"Peer {self.peer} ended the association or gave no answer within {self.peer.timeouts.response:g} s.",
        )

    def _checked(self, status: Any, *also: int) -> int:
        """The status, where it means that it is done: success, a warning, or one of `also`."""
        if "Status" not in status:
            raise self._unanswered()
        code = int(status.Status)
        if code == 0 or is_warning(code) or code in also:
            return code
        comment = str(status.get("ErrorComment", "") or "").strip()
        sentence = f"Peer {self.peer} answered with status 0x{code:04X}" + (f" ({comment})." if comment else ".")
        raise PeerError(Trouble.BUSY if store_answer(code) is StoreAnswer.LATER else Trouble.REFUSED, sentence)


@contextmanager
def call(peer: Peer, contexts: Sequence[Context], on_event_report: OnEventReport | None = None) -> Iterator[Call]:
    """An association with `peer`, released at the end, aborted after an exception.

    When :attr:`Timeouts.total` is over the connection is cut, and what is under way fails.

    Parameters
    ----------
    contexts
        At most 128; each becomes one presentation context with its one transfer syntax.
    on_event_report
        Answers N-EVENT-REPORT on this association, in a thread of pynetdicom's.

    Raises
    ------
    PeerError
        No association.
    """
    connected: list[socket.socket] = []
    total = peer.timeouts.total
    bound = nullcontext() if total is None else _cut_off_after(total, connected)
    with bound, _associated(peer, contexts, connected, on_event_report) as open_call:
        yield open_call


@contextmanager
def _associated(
    peer: Peer, contexts: Sequence[Context], connected: list[socket.socket], on_event_report: OnEventReport | None
) -> Iterator[Call]:
    """The same without a bound on the whole; the sockets that are opened are added to `connected`."""
    from pynetdicom import AE, _config, build_context, evt

    hush()
    # A path handed to send_c_store is then streamed as it lies on the disk instead of decoded and re-encoded.
    _config.STORE_SEND_CHUNKED_DATASET = True
    ae = AE(peer.calling_ae_title)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = peer.timeouts.connect
    ae.acse_timeout = peer.timeouts.association
    ae.dimse_timeout = peer.timeouts.response
    ae.network_timeout = peer.timeouts.network
    proposed = [build_context(abstract, transfer) for abstract, transfer in dict.fromkeys(contexts)]
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, _tune_socket, [peer.timeouts.network, connected])]
    if on_event_report is not None:
        handlers.append((evt.EVT_N_EVENT_REPORT, _report_event, [on_event_report]))
    limit = peer.timeouts.connect + peer.timeouts.association + SPARE_S
    try:
        with _cut_off_after(limit, connected):
            association = ae.associate(
                peer.host,
                peer.port,
                contexts=proposed,
                ae_title=peer.ae_title,
                max_pdu=MAX_PDU,
                evt_handlers=handlers,
            )
    except (OSError, ValueError, TypeError) as error:
        raise PeerError(Trouble.UNREACHABLE, f"Peer {peer} cannot be reached: {error}.") from error
    if not association.is_established:
        raise _no_association(peer, association, contexts, bool(connected))
    try:
        yield Call(peer, association, connected)
    except BaseException:
        with _cut_off_after(limit, connected):
            association.abort()
        raise
    if association.is_established:
        with _cut_off_after(limit, connected):
            association.release()


def hush() -> None:
    """Keep pynetdicom from logging: each failure in several lines, where :class:`PeerError` says it in one; and
    data sets."""
    from pynetdicom import _config

    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    logger = logging.getLogger("pynetdicom")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


@contextmanager
def _cut_off_after(seconds: float, sockets: list[socket.socket]) -> Iterator[None]:
    """Shut the connection down when the block is not done in time.

    pynetdicom's own timeouts start anew with each byte that arrives; this one does not.  A connection that is
    opened only after the time is over is shut down too.
    """
    done = threading.Event()

    def cut() -> None:
        while not done.wait(CUT_AGAIN_S):
            for sock in list(sockets):
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        done.set()
        timer.cancel()


def _tune_socket(event: Any, timeout: float, connected: list[socket.socket]) -> None:
    """No Nagle delay for our small PDUs, and a bound on how long a peer that reads nothing can hold us."""
    sock = event.assoc.dul.socket.socket
    connected.append(sock)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(timeout)


def _report_event(event: Any, take: OnEventReport) -> tuple[int, None]:
    return take(event.event_type, lambda: event.event_information), None


def _no_association(peer: Peer, association: Any, contexts: Sequence[Context], connected: bool) -> PeerError:
    if association.is_rejected:
        primitive = association.acceptor.primitive
        why = getattr(primitive, "reason_str", "") or "no reason given"
        kind = getattr(primitive, "result_str", "") or "rejected"
        return PeerError(Trouble.REJECTED, f"Peer {peer} refused the association ({kind}: {why}).")
    if association.rejected_contexts:
        names = ", ".join(dict.fromkeys(_uid_name(abstract) for abstract, _ in contexts))
        return PeerError(Trouble.UNSUPPORTED, f"Peer {peer} does not take {names}.")
    if connected:
        return PeerError(
            Trouble.SILENT,
            f"Peer {peer} took the connection but made no association within {peer.timeouts.association:g} s.",
        )
    why = "it hung up at once"
    try:
        # pynetdicom keeps the reason to itself, so the question is put once more.
        with socket.create_connection((peer.host, peer.port), timeout=min(peer.timeouts.connect, PROBE_S)):
            pass
    except OSError as error:
        why = error.strerror or str(error) or "no answer"
    return PeerError(Trouble.UNREACHABLE, f"Peer {peer} cannot be reached: {why}.")


def echo(peer: Peer) -> float:
    """C-ECHO; returns the seconds it took, association included.

    Raises
    ------
    PeerError
        The peer does not answer, or not with success.
    """
    start = time.perf_counter()
    contexts = [(VERIFICATION, str(syntax)) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]
    with call(peer, contexts) as open_call:
        open_call.echo()
    return time.perf_counter() - start


def accepted(peer: Peer, sop_class_uids: Iterable[str]) -> frozenset[str]:
    """Which of these SOP classes a peer accepts, in Explicit or Implicit VR Little Endian; nothing is sent.

    Raises
    ------
    PeerError
        There is no association; a peer that accepts none of them is none of these cases.
    """
    syntaxes = [str(syntax) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]
    contexts = [(uid, syntax) for uid in sop_class_uids for syntax in syntaxes]
    try:
        with call(peer, contexts) as open_call:
            return frozenset(uid for uid, syntax in contexts if open_call.accepts(uid, syntax))
    except PeerError as error:
        if error.trouble is Trouble.UNSUPPORTED:
            return frozenset()
        raise


def _uid_name(uid: str) -> str:
    return str(UID(uid).name)
