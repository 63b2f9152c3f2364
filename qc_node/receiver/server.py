"""Accepting connections in one process: a thread each, half-open peers cut first."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

from qc_node.receiver import negotiation, pdu
from qc_node.receiver.addresses import PeerAddresses
from qc_node.receiver.association import Association
from qc_node.receiver.events import Event
from qc_node.receiver.settings import ReceiverSettings
from qc_node.receiver.store import Store
from qc_node.receiver.wire import Gone, Wire

MAX_PDU = 32768
"""The longest PDU we ask for.  With longer ones a sender fills its buffers and then waits, while we wait for it:
measured on loopback, 1,000 objects of 135 KB over one association took 0.9 s at 32 KB and 1.6 s at 128 KB."""


LINGER_BYTES = 1 << 20
"""What a peer that we hang up on may still send before the connection is reset."""

BEAT_S = 2.0
"""How often the thread that accepts says that it does."""

DRAIN_SILENT_S = 5.0
"""While the node is drained an association ends that has brought no object for so long ..."""
DRAIN_LONGEST_S = 60.0
"""... and every other one after so long, between two objects: a PACS may send over one association for ever."""


class _Connection:
    """A socket, its thread, and how far it has come."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        self.sock = sock
        self.host = host
        self.calling_ae = ""
        self.established = False
        self.is_cut = False
        self.heard = time.monotonic()
        """When it brought its last object."""
        self.thread: threading.Thread | None = None

    def cut(self) -> None:
        """Wake the thread that reads from the socket; it closes it."""
        self.is_cut = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> None:
        """Close; what we sent still arrives."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.sock.close()


class Server:
    """Serves a listening socket.

    Parameters
    ----------
    listener
        Bound and listening; may be shared with other processes.
    limit
        Associations at a time.  As many connections again may be half-open; beyond that the oldest of these goes.
    on_beat
        Called by the thread that accepts, every two seconds; must not wait.
    """

    def __init__(
        self,
        listener: socket.socket,
        settings: ReceiverSettings,
        store: Store,
        on_event: Callable[[Event], None],
        log: logging.Logger,
        limit: int,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._store = store
        self._on_event = on_event
        self._log = log
        self._limit = limit
        self._on_beat = on_beat
        self._limit_per_peer = max(1, -(-settings.max_associations_per_peer * limit // settings.max_associations))
        self._addresses = PeerAddresses(settings.associate_s)
        self._stopping = threading.Event()
        self._draining_since: float | None = None
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
        self._acceptor = threading.Thread(target=self._accept, name="receiver-accept", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._acceptor.start()

    def alive(self) -> bool:
        """Whether connections are being accepted."""
        return self._acceptor.is_alive() and not self._stopping.is_set()

    def stop(self, grace_s: float) -> None:
        """Accept nobody any more, let the objects in flight end, then close; after `grace_s` cut what is left."""
        self._stopping.set()
        self._wake.send(b"!")
        self._acceptor.join()
        for sock in (self._listener, self._wake, self._woken):
            sock.close()
        end = time.monotonic() + grace_s
        for late in (False, True):
            for connection in self._snapshot():
                if late or not connection.established:
                    connection.cut()
                if connection.thread is not None:
                    connection.thread.join(max(0.0, end - time.monotonic()) + (1.0 if late else 0.0))

    def drain(self, on: bool) -> None:
        """Let no new association in, and end those that are open soon, between two objects; or undo that."""
        if not on:
            self._draining_since = None
        elif self._draining_since is None:
            self._draining_since = time.monotonic()

    def _is_over(self, connection: _Connection) -> bool:
        """Whether an association has to end when its message in hand is answered."""
        since = self._draining_since
        if since is None or self._stopping.is_set():
            return self._stopping.is_set()
        now = time.monotonic()
        return now - since > DRAIN_LONGEST_S or now - max(since, connection.heard) > DRAIN_SILENT_S

    def open_associations(self) -> int:
        """How many associations are open; connections that are none yet, or no longer, do not count."""
        return sum(connection.established for connection in self._snapshot())

    def open_connections(self) -> int:
        """How many peers are connected."""
        return len(self._snapshot())

    def _snapshot(self) -> list[_Connection]:
        with self._lock:
            return list(self._connections)

    # -- threads -------------------------------------------------------------------------------------
    def _accept(self) -> None:
        next_beat = time.monotonic()
        while not self._stopping.is_set():
            if time.monotonic() >= next_beat:
                self._on_beat()
                next_beat = time.monotonic() + BEAT_S
            select.select([self._listener, self._woken], [], [], BEAT_S)
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                continue  # nobody came, or another process was faster
            except OSError as error:
                if self._stopping.is_set():
                    return
                self._log.warning("a connection could not be accepted: %s", error)
                time.sleep(0.1)
                continue
            try:
                self._admit(_Connection(sock, str(address[0]).removeprefix("::ffff:")))
            except Exception:
                self._log.exception("a connection could not be served")

    def _admit(self, connection: _Connection) -> None:
        with self._lock:
            half_open = [c for c in self._connections if not c.established and not c.is_cut]
            self._connections.append(connection)
        if len(half_open) >= max(self._limit, 8):
            half_open[0].cut()
        connection.thread = threading.Thread(
            target=self._serve, args=(connection,), name="association", daemon=True
        )
        try:
            connection.thread.start()
        except RuntimeError:  # no more threads: the peer may come again
            with self._lock:
                self._connections.remove(connection)
            connection.hang_up()
            raise

    def _serve(self, connection: _Connection) -> None:
        try:
            self._converse(connection)
        except Exception:
            self._log.exception("an association ended by an error of ours")
        finally:
            connection.hang_up()
            self._store.ledger.close()
            with self._lock:
                self._connections.remove(connection)

    def _converse(self, connection: _Connection) -> None:
        settings = self._settings
        wire = Wire(
            connection.sock,
            stopping=lambda: self._is_over(connection),
            idle_s=settings.idle_s,
            stall_s=settings.stall_s,
        )

        def pass_on(event: Event) -> None:
            connection.heard = time.monotonic()
            self._on_event(event)

        try:
            request = pdu.parse_associate_rq(wire.associate_rq(settings.associate_s))
            rejection = self._check(request, connection)
            if rejection is not None:
                self._log.warning("association rejected: %s", rejection.sentence)
                wire.send(rejection.answer)
                self._linger(connection.sock)
                return
            wire.idle_s = settings.idle_s_by_ae.get(request.calling_ae, settings.idle_s)
            acceptance = negotiation.negotiate(request, MAX_PDU)
            wire.send(acceptance.answer)
            Association(wire, acceptance, request.calling_ae, self._store, pass_on, self._log).converse()
            connection.established = False  # its place is free while it lingers
            self._linger(connection.sock)
        except pdu.ProtocolError as error:
            connection.established = False
            self._log.warning("association aborted: %s", error)
            self._abort(wire, connection.sock, 2, 6)
        except Gone as gone:
            connection.established = False
            self._log.info("association ended: %s", gone)
            self._abort(wire, connection.sock, 2, 0)

    def _check(self, request: pdu.AssociateRequest, connection: _Connection) -> negotiation.Rejection | None:
        """Why the peer may not come in, or None and its place is taken."""
        s = self._settings
        rejection = negotiation.check_context(request) or negotiation.check_titles(
            request,
            ae_title=s.ae_title,
            peers=s.peers,
            accept_unknown=s.accept_unknown,
            is_at=lambda host: self._addresses.is_at(host, connection.host),
        )
        if rejection is not None:
            return rejection
        if self._draining_since is not None:
            return negotiation.DRAINING
        if not self._store.has_space():
            return negotiation.NO_SPACE
        connection.calling_ae = request.calling_ae
        with self._lock:
            return self._take_place(connection)

    def _take_place(self, connection: _Connection) -> negotiation.Rejection | None:
        """Count who is in; one sender that opens more and more must not lock all others out."""
        inside = [c for c in self._connections if c.established]
        if len(inside) >= self._limit:
            return negotiation.TOO_MANY
        of_title = sum(c.calling_ae == connection.calling_ae for c in inside)
        of_host = sum(c.host == connection.host for c in inside)
        if max(of_title, of_host) >= self._limit_per_peer:
            return negotiation.TOO_MANY_OF_PEER
        connection.established = True
        return None

    @staticmethod
    def _abort(wire: Wire, sock: socket.socket, source: int, reason: int) -> None:
        with contextlib.suppress(Gone):
            wire.send(pdu.encode_abort(source, reason))
            Server._linger(sock)

    @staticmethod
    def _linger(sock: socket.socket) -> None:
        """Let the peer close first for a moment (PS3.8 state Sta13), so that no reset overtakes our last PDU."""
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 500_000))
            end, left = time.monotonic() + 1.0, LINGER_BYTES
            while left > 0 and time.monotonic() < end and (data := sock.recv(65536)):
                left -= len(data)
