"""Small functions that call another application entity: C-ECHO and C-STORE of files, byte for byte.

Every wait is bounded (:class:`Timeouts`), and every failure is a :class:`PeerError`: one sentence that names the
peer, and a kind that tells the outbox what to do about it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from qc_node.dicom.file_meta import StoredObject, open_object
from qc_node.domain import QcNodeError

MAX_CONTEXTS = 128
"""Presentation contexts that one association can hold (PS3.8 9.3.2.2: odd numbers below 256)."""

MAX_PDU = 131072
"""Largest PDU that we take, in bytes."""

SPARE_S = 2.0
"""How much longer than its timeouts an exchange may take, in seconds."""

SLOWEST = 50_000.0
"""Bytes a second below which a transfer counts as stalled."""

EXPLICIT_LE = "1.2.840.10008.1.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
VERIFICATION = "1.2.840.10008.1.1"

Context = tuple[str, str]
"""Abstract syntax (SOP class) and transfer syntax."""

WARNINGS = frozenset({0xB000, 0xB006, 0xB007})
"""C-STORE statuses with which the object is stored, though changed or doubted (PS3.4 table B.2-1)."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds: for TCP, for the association, for an answer, for a stalled socket."""

    connect: float = 5.0
    association: float = 10.0
    response: float = 30.0
    network: float = 30.0


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
    """Status A7xx: out of resources; it may work later."""
    REFUSED = "refused"
    """Any other failure status: the object itself is refused."""
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
            0x0000, or one of :data:`WARNINGS`.

        Raises
        ------
        PeerError
            The object was not stored, or nobody knows.
        """
        data: Any = obj.path
        if not self.accepts(obj.sop_class_uid, obj.transfer_syntax_uid):
            if obj.transfer_syntax_uid != EXPLICIT_LE or not self.accepts(obj.sop_class_uid, IMPLICIT_LE):
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
        return self._checked(status)

    def _checked(self, status: Any) -> int:
        if "Status" not in status:
            raise PeerError(
                Trouble.SILENT if self.association.is_aborted else Trouble.ABORTED,
                f"Peer {self.peer} ended the association or gave no answer within "
                f"{self.peer.timeouts.response:g} s.",
            )
        code = int(status.Status)
        if code == 0 or code in WARNINGS:
            return code
        comment = str(status.get("ErrorComment", "") or "").strip()
        sentence = f"Peer {self.peer} answered with status 0x{code:04X}" + (f" ({comment})." if comment else ".")
        raise PeerError(Trouble.BUSY if code & 0xFF00 == 0xA700 else Trouble.REFUSED, sentence)


@contextmanager
def call(peer: Peer, contexts: Sequence[Context], handlers: Sequence[Any] = ()) -> Iterator[Call]:
    """An association with `peer`, released at the end, aborted after an exception.

    Parameters
    ----------
    contexts
        At most 128; each becomes one presentation context with its one transfer syntax.
    handlers
        pynetdicom's event handlers, for N-EVENT-REPORT on this association.

    Raises
    ------
    PeerError
        No association.
    """
    from pynetdicom import AE, _config, build_context, evt

    _hush()
    # A path handed to send_c_store is then streamed as it lies on the disk instead of decoded and re-encoded.
    _config.STORE_SEND_CHUNKED_DATASET = True
    ae = AE(peer.calling_ae_title)
    ae.connection_timeout = peer.timeouts.connect
    ae.acse_timeout = peer.timeouts.association
    ae.dimse_timeout = peer.timeouts.response
    ae.network_timeout = peer.timeouts.network
    proposed = [build_context(abstract, transfer) for abstract, transfer in dict.fromkeys(contexts)]
    connected: list[socket.socket] = []
    opened = (evt.EVT_CONN_OPEN, _tune_socket, [peer.timeouts.network, connected])
    limit = peer.timeouts.connect + peer.timeouts.association + SPARE_S
    try:
        with _cut_off_after(limit, connected):
            association = ae.associate(
                peer.host,
                peer.port,
                contexts=proposed,
                ae_title=peer.ae_title,
                max_pdu=MAX_PDU,
                evt_handlers=[opened, *handlers],
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


def _hush() -> None:
    """pynetdicom logs each failure in several lines; :class:`PeerError` says it in one."""
    logger = logging.getLogger("pynetdicom")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


@contextmanager
def _cut_off_after(seconds: float, sockets: list[socket.socket]) -> Iterator[None]:
    """Shut the connection down when the block is not done in time.

    pynetdicom's own timeouts start anew with each byte that arrives; this one does not.
    """

    def cut() -> None:
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tune_socket(event: Any, timeout: float, connected: list[socket.socket]) -> None:
    """No Nagle delay for our small PDUs, and a bound on how long a peer that reads nothing can hold us."""
    sock = event.assoc.dul.socket.socket
    connected.append(sock)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(timeout)


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
        with socket.create_connection((peer.host, peer.port), timeout=peer.timeouts.connect):
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
    with call(peer, [(VERIFICATION, EXPLICIT_LE), (VERIFICATION, IMPLICIT_LE)]) as line:
        with line.bounded():
            status = line.association.send_c_echo(line.next_message_id())
        line._checked(status)
    return time.perf_counter() - start


# -- files of a user ---------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of the files: how many were stored, how many with a warning, which not and why."""

    sent: int
    warned: int
    failed: tuple[tuple[Path, str], ...]

    @property
    def ok(self) -> bool:
        """Whether every file was stored."""
        return not self.failed


Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""


def send(paths: Sequence[Path], peer: Peer, progress: Progress | None = None) -> SendResult:
    """Send files, and the files below folders, to `peer` as they are.

    Each SOP class and transfer syntax has a presentation context of its own; more than 128 of them, or a broken
    association, take further associations.  A file that cannot be sent never stops the others.

    Raises
    ------
    PeerError
        The peer cannot be reached at all, or gave no association twice in a row.
    QcNodeError
        A path does not exist, or there is no file.
    """
    files = _files(paths)
    failed: list[tuple[Path, str]] = []
    sent = warned = 0

    def report() -> None:
        if progress is not None:
            progress(sent + len(failed), len(files))

    waiting: list[StoredObject] = []
    with _scratch() as scratch:
        for file in files:
            try:
                waiting.append(open_object(file, scratch))
            except QcNodeError as error:
                failed.append((file, str(error)))
                report()
        refusals = 0
        while waiting:
            batch = _batch(waiting)
            try:
                with call(peer, sorted({(o.sop_class_uid, o.transfer_syntax_uid) for o in batch})) as line:
                    refusals = 0
                    for obj in batch:
                        try:
                            warned += line.store(obj) != 0
                            sent += 1
                        except PeerError as error:
                            failed.append((obj.source, str(error)))
                            if error.trouble in (Trouble.ABORTED, Trouble.SILENT):
                                waiting.pop(0)
                                report()
                                raise
                        waiting.pop(0)
                        report()
            except PeerError as error:
                if error.trouble is Trouble.UNSUPPORTED:
                    failed += [(obj.source, str(error)) for obj in batch]
                    del waiting[: len(batch)]
                    report()
                    continue
                refusals += 1
                if (not sent and not failed) or refusals > 1:
                    raise
    return SendResult(sent, warned, tuple(failed))


@contextmanager
def _scratch() -> Iterator[Path]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="qc-node-send-") as folder:
        yield Path(folder)


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.is_file() and p.name != "DICOMDIR")
        elif path.is_file():
            files.append(path)
        else:
            raise QcNodeError(f"There is no file or folder {path}.")
    if not files:
        raise QcNodeError(f"There is no file to send in {', '.join(map(str, paths))}.")
    return files


def _batch(waiting: Sequence[StoredObject]) -> list[StoredObject]:
    """As many objects from the head of the line as fit into the contexts of one association."""
    contexts: set[Context] = set()
    batch: list[StoredObject] = []
    for obj in waiting:
        contexts.add((obj.sop_class_uid, obj.transfer_syntax_uid))
        if len(contexts) > MAX_CONTEXTS:
            break
        batch.append(obj)
    return batch


def _uid_name(uid: str) -> str:
    from pydicom.uid import UID

    return str(UID(uid).name)
