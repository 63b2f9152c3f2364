"""Reading a socket so that no peer can hold memory or a thread for long.

One preallocated buffer per connection; the body of a PDU is handed on as it comes in, never collected.  Every
wait has a deadline: a peer that has begun a PDU must finish it within the stall time, and one that has begun a
message must bring it at a lowest speed, because any number of small PDUs could make up a message.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qc_node.receiver import pdu

BUFFER_BYTES = 1 << 18
TICK_S = 0.5
"""How often a waiting thread looks at the clock and at the stop sign."""

LONGEST_ASSOCIATE_RQ = 1 << 20
"""A request with 128 contexts of 60 transfer syntaxes each has less than 300 KB."""
LONGEST_P_DATA = 1 << 24
"""Bodies are streamed, so a peer that ignores our maximum costs nothing; beyond this it is talking nonsense."""
LONGEST_COMMAND = 1 << 16
SLOWEST_BYTES_PER_S = 1000
"""A modem of 9,600 baud brings more; a peer below this on average, after the stall time, only holds its place."""


class Gone(Exception):
    """The conversation is over: the peer closed, stalled or aborted, or the receiver stops."""


class Stalled(Gone):
    """The peer did not send what it owed in time."""


class Released(Gone):
    """The peer asked for release."""


@dataclass(slots=True)
class Pdv:
    """The head of one presentation data value (PS3.8 section 9.3.5.1)."""

    context_id: int
    is_command: bool
    is_last: bool
    size: int


class Wire:
    """One accepted connection.

    Parameters
    ----------
    sock
        Set to blocking with a receive tick and without Nagle's delay.
    stopping
        Tells whether the receiver stops; looked at only between messages.
    idle_s, stall_s
        Longest silence between messages, and longest time from the first byte of a PDU to its last.  For the bytes
        of one message we wait `stall_s` at most, and a second more for each :data:`SLOWEST_BYTES_PER_S` that came.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        stopping: Callable[[], bool],
        idle_s: float,
        stall_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sock = sock
        self._stopping = stopping
        self.idle_s = idle_s
        """May be changed once it is known who calls."""
        self._stall_s = stall_s
        self._now = monotonic
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        self._pdu_left = 0
        self._pdv_left = 0
        self._deadline = 0.0
        self._patience_s = 0.0
        """How much longer we wait for the bytes of this message; what we do meanwhile does not count."""
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(TICK_S * 1e6)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", max(1, int(stall_s)), 0))

    # -- bytes ---------------------------------------------------------------------------------------
    def _poll(self, into: memoryview) -> int:
        """What is there, waiting one tick at most; 0 when nothing came."""
        try:
            count = self._sock.recv_into(into)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Gone("the connection broke") from error
        if count == 0:
            raise Gone("the peer closed the connection")
        return count

    def _receive(self, into: memoryview) -> int:
        """At least one byte, before the deadline of the PDU and while there is patience with the message."""
        began = self._now()
        while True:
            count = self._poll(into)
            now = self._now()
            if now > self._deadline:
                raise Stalled("the peer stalled in the middle of a PDU")
            if now - began > self._patience_s:
                raise Stalled("the peer sends a message too slowly")
            if count:
                self._patience_s += count / SLOWEST_BYTES_PER_S - (now - began)
                return count

    def _need(self, count: int) -> memoryview:
        """The next `count` bytes (at most the buffer)."""
        if self._start == self._end:
            self._start = self._end = 0
        if self._end - self._start < count:
            if self._start + count > len(self._buffer):
                held = self._end - self._start
                self._buffer[:held] = bytes(self._buffer[self._start : self._end])
                self._start, self._end = 0, held
            while self._end - self._start < count:
                self._end += self._receive(self._buffer[self._end :])
        view = self._buffer[self._start : self._start + count]
        self._start += count
        return view

    def _some(self, limit: int) -> memoryview:
        """Between 1 and `limit` of the next bytes."""
        if self._start == self._end:
            self._start = 0
            self._end = self._receive(self._buffer)
        count = min(limit, self._end - self._start)
        view = self._buffer[self._start : self._start + count]
        self._start += count
        return view

    def _await_message(self) -> None:
        """Wait for the first byte of a message; the only place where a stop may end an idle association."""
        if self._start != self._end:
            if self._stopping():
                raise Gone("the receiver stops")
            return
        end = self._now() + self.idle_s
        self._start = self._end = 0
        while not self._end:
            if self._stopping():
                raise Gone("the receiver stops")
            if self._now() > end:
                raise Stalled("the peer was silent for too long")
            self._end = self._poll(self._buffer)

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Gone("the peer does not take our answer") from error

    # -- PDUs ----------------------------------------------------------------------------------------
    def associate_rq(self, within_s: float) -> bytes:
        """The body of the A-ASSOCIATE-RQ, which must be there within `within_s` (the ARTIM timer).

        Raises
        ------
        ProtocolError
            Something else came, or it is unreasonably long.
        """
        self._deadline = self._now() + within_s
        self._patience_s = within_s
        kind, length = struct.unpack(">BxL", self._need(6))
        if kind != pdu.ASSOCIATE_RQ:
            raise pdu.ProtocolError("the first PDU is no association request")
        if length > LONGEST_ASSOCIATE_RQ:
            raise pdu.ProtocolError(f"the association request announces {length} bytes")
        body = bytearray()
        while len(body) < length:
            body += self._some(length - len(body))
        return bytes(body)

    def next_pdv(self, *, first: bool) -> Pdv:
        """The head of the next PDV; `first` when it begins a message.

        Raises
        ------
        Released, Gone, ProtocolError
            The peer released, aborted, went away or broke the protocol.
        """
        if first:
            if self._pdu_left == 0:
                self._await_message()
            self._patience_s = self._stall_s
        if self._pdu_left == 0:
            self._pdu_left = self._next_p_data()
        if self._pdu_left < pdu.PDV_HEAD:
            raise pdu.ProtocolError("a P-DATA-TF PDU is too short for a PDV")
        size, context_id, control = struct.unpack(">LBB", self._need(6))
        if size < 2 or size + 4 > self._pdu_left:
            raise pdu.ProtocolError("a PDV is longer than its PDU")
        self._pdu_left -= size + 4
        self._pdv_left = size - 2
        return Pdv(context_id, bool(control & 1), bool(control & 2), size - 2)

    def _next_p_data(self) -> int:
        """The length of the P-DATA-TF PDU that comes next."""
        self._deadline = self._now() + self._stall_s
        kind, length = struct.unpack(">BxL", self._need(6))
        if kind == pdu.RELEASE_RQ and length == 4:
            self._need(4)
            raise Released("the peer released the association")
        if kind == pdu.ABORT:
            raise Gone("the peer aborted the association")
        if kind != pdu.P_DATA:
            raise pdu.ProtocolError(f"a PDU of type {kind:02X} cannot come here")
        if length > LONGEST_P_DATA:
            raise pdu.ProtocolError(f"a P-DATA-TF PDU announces {length} bytes")
        return int(length)

    def body(self) -> Iterator[memoryview]:
        """The bytes of the PDV whose head was read last; each view is good until the next one."""
        while self._pdv_left:
            view = self._some(self._pdv_left)
            self._pdv_left -= len(view)
            yield view

    def command(self) -> tuple[int, pdu.Command]:
        """The next command set and its context ID."""
        data = bytearray()
        context_id = None
        while True:
            pdv = self.next_pdv(first=not data and context_id is None)
            if not pdv.is_command:
                raise pdu.ProtocolError("a data set came without a command")
            if context_id not in (None, pdv.context_id):
                raise pdu.ProtocolError("a message changed its presentation context")
            context_id = pdv.context_id
            if len(data) + pdv.size > LONGEST_COMMAND:
                raise pdu.ProtocolError("the command set is unreasonably long")
            for view in self.body():
                data += view
            if pdv.is_last:
                return context_id, pdu.parse_command(bytes(data))

    def data_set(self, context_id: int) -> Iterator[memoryview]:
        """The bytes of the data set that follows a command, as they come in."""
        while True:
            pdv = self.next_pdv(first=False)
            if pdv.is_command or pdv.context_id != context_id:
                raise pdu.ProtocolError("a data set was interrupted by another message")
            yield from self.body()
            if pdv.is_last:
                return
