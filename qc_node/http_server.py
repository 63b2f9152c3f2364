"""HTTP for pages and for machines: uvicorn in a thread, behind limits that no client can hold for long.

uvicorn knows no time for a request and counts connections that say nothing like any other.  Here a request must
be whole (head and body) within a time, an answer must be taken within a time, and there are so many places, in all
and for one address.  Where no place is left, the connection that has waited longest without a whole request gives
way to the new one: whoever asks gets in, whoever only holds on goes.  Requests in work and open streams are never
cut for others.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from qc_node.domain import QcNodeError

log = logging.getLogger("qc_node.http")

START_TIMEOUT_S = 20.0
BACKLOG = 128
"""Connections that are taken in one go before the first of them is looked at: descriptors beyond the limit."""
IDLE_S = 30.0
"""How long a connection may stay open between two requests."""
ANSWER_STALL_S = 30.0
ANSWER_STEP = 1 << 15
"""A client must take so many bytes of its answer (or the rest) in so long."""
LOG_EVERY_S = 60.0
CROWDED_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 25\r\n"
    b"Retry-After: 5\r\nConnection: close\r\n\r\nToo many are connected.\r\n"
)

T = TypeVar("T")


@dataclass(frozen=True)
class HttpLimits:
    """How much one listener gives away.

    Attributes
    ----------
    connections
        Open at a time, over all addresses.
    per_address
        How many of these one address may have; an IPv6 network of 64 bits counts as one.
    proxies
        Addresses that speak for many clients; only the total holds for them.
    request_s
        Longest time from the first byte (or connecting) to a whole request, head and body.
    """

    connections: int
    per_address: int
    proxies: frozenset[str]
    request_s: float


class Crowded(Exception):
    """No place is left, and nobody holds one without need."""


class Admission(Generic[T]):
    """Who is connected, and who has to go when somebody comes.  No I/O.

    Parameters
    ----------
    limits
        Its times are not looked at here.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._group: dict[T, str] = {}
        self._inside: Counter[str] = Counter()
        self._waiting: dict[T, None] = {}

    def admit(self, who: T, address: str) -> T | None:
        """Let `who` in; returns who must go for that, if anybody.

        Raises
        ------
        Crowded
            All places, or all of this address, are in use.
        """
        address = plain_address(address)
        group = address if address in self._limits.proxies else network_of(address)
        leaving = self._for_whom(group, address in self._limits.proxies)
        if leaving is not None:
            self.remove(leaving)
        self._group[who] = group
        self._inside[group] += 1
        self._waiting[who] = None
        return leaving

    def _for_whom(self, group: str, is_proxy: bool) -> T | None:
        if not is_proxy and self._inside[group] >= self._limits.per_address:
            return self._longest_waiting(lambda one: self._group[one] == group)
        if len(self._group) >= self._limits.connections:
            return self._longest_waiting(lambda one: True)
        return None

    def _longest_waiting(self, wanted: Callable[[T], bool]) -> T:
        for one in self._waiting:
            if wanted(one):
                return one
        raise Crowded

    def waits(self, who: T) -> None:
        """`who` has no whole request, or does not take the answer: it may be cut for others."""
        if who in self._group:
            self._waiting.setdefault(who)

    def works(self, who: T) -> None:
        """A request of `who` is being answered: it stays."""
        self._waiting.pop(who, None)

    def remove(self, who: T) -> None:
        """`who` is gone; harmless when called twice."""
        self._waiting.pop(who, None)
        group = self._group.pop(who, None)
        if group is not None:
            self._inside[group] -= 1
            if not self._inside[group]:
                del self._inside[group]

    def __len__(self) -> int:
        return len(self._group)


def plain_address(address: str) -> str:
    """An address as people write it: IPv4 also where a socket of both kinds shows it as IPv6."""
    return address.removeprefix("::ffff:")


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the 64 bits that are given to one place of IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


class _TurnedAway:
    """Says in the log that places are short, at most once a minute; no address, no request."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._silent_until = 0.0

    def note(self, now: float) -> None:
        """One connection was refused or cut for want of a place."""
        self._count += 1
        if now >= self._silent_until:
            log.warning(
                "[%s] has no place left: %d connections were refused or cut; raise max_connections, "
                "or max_connections_per_address, if these are not strangers",
                self._name,
                self._count,
            )
            self._count, self._silent_until = 0, now + LOG_EVERY_S


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection with deadlines, and a place that it can lose.

    A deadline always runs, except while a request is being answered and its answer is taken: streams may last.

    Parameters
    ----------
    limits, admission, turned_away
        Shared by all connections of a listener.
    """

    def __init__(
        self,
        limits: HttpLimits,
        admission: Admission[BoundedConnection],
        turned_away: _TurnedAway,
        **uvicorns: Any,
    ) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        self._admission = admission
        self._turned_away = turned_away
        self._deadline: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._is_idle = False

    # -- what asyncio and uvicorn call ---------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Find a place, or say 503 and close."""
        super().connection_made(transport)
        try:
            leaving = self._admission.admit(self, self.client[0] if self.client else "")
        except Crowded:
            self._turned_away.note(self.loop.time())
            transport.write(CROWDED_ANSWER)
            transport.close()
            self._within(ANSWER_STALL_S)
            return
        if leaving is not None:
            self._turned_away.note(self.loop.time())
            leaving.cut()
        self._within(self._limits.request_s)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; the first ones start its time."""
        if self._is_idle:
            self._is_idle = False
            self._within(self._limits.request_s)
        super().data_received(data)
        if self.transport.is_closing():
            self._within(ANSWER_STALL_S)
        elif self._has_whole_request():
            self._within(None)
            self._admission.works(self)

    def on_response_complete(self) -> None:
        """The answer was handed over: wait for the next request, if its predecessor was whole."""
        was_whole = self._has_whole_request()
        super().on_response_complete()
        if self._has_whole_request() and not self.transport.is_closing():
            return  # the next one had come already
        self._admission.waits(self)
        if self.transport.is_closing():
            self._within(ANSWER_STALL_S)
        elif was_whole:
            self._is_idle = True
            self._within(IDLE_S)

    def pause_writing(self) -> None:
        """The client takes nothing: its time runs."""
        super().pause_writing()
        self._within(ANSWER_STALL_S)
        self._admission.waits(self)

    def resume_writing(self) -> None:
        """The client takes its answer again."""
        super().resume_writing()
        if not self.transport.is_closing() and not self._is_idle:
            self._within(None)
            self._admission.works(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._within(None)
        self._admission.remove(self)
        super().connection_lost(exc)

    # -- ours ----------------------------------------------------------------------------------------
    def cut(self) -> None:
        """End the connection at once; nothing that waits to be sent keeps it."""
        self.transport.abort()

    def _has_whole_request(self) -> bool:
        return self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)

    def _within(self, seconds: float | None) -> None:
        """Cut the connection after `seconds` unless this is called again; None lets it be."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._unsent = self.transport.get_write_buffer_size()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        taken = self._unsent - self.transport.get_write_buffer_size()
        if self._unsent > 0 and taken >= min(self._unsent, ANSWER_STEP):
            self._within(ANSWER_STALL_S)  # it takes its answer, slowly
        else:
            self.cut()


class HttpServer:
    """An ASGI application on a listening socket, in a thread, until :meth:`stop`.

    Parameters
    ----------
    name
        Section of the configuration, for thread and log.
    sock
        Bound (:func:`bound_socket`); belongs to the server from now on.
    options
        For :class:`uvicorn.Config`.

    Raises
    ------
    QcNodeError
        The application did not start.
    """

    def __init__(self, name: str, sock: socket.socket, app: Any, limits: HttpLimits, **options: Any) -> None:
        self.address: str = sock.getsockname()[0]
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._failure: BaseException | None = None
        connection = partial(BoundedConnection, limits, Admission(limits), _TurnedAway(name))
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=cast(Any, connection),
                access_log=False,  # a query may hold an accession number
                proxy_headers=False,  # who connected decides whose headers are believed
                log_config=None,
                log_level=logging.WARNING,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=3,
                backlog=BACKLOG,
                timeout_keep_alive=int(IDLE_S),
                **options,
            )
        )
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._await_start(name)

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._sock])
        except BaseException as error:
            self._failure = error
        finally:
            self._sock.close()

    def _await_start(self, name: str) -> None:
        pause = threading.Event()
        for _ in range(int(START_TIMEOUT_S * 100)):
            if self._server.started or not self._thread.is_alive():
                break
            pause.wait(0.01)
        if not self._server.started:
            self._server.should_exit = True
            why = f": {self._failure}" if self._failure else ""
            raise QcNodeError(f"[{name}] on {self.address}:{self.port} did not start{why}.")

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float) -> None:
        """Take nobody more, finish requests in flight, close the port; harmless when called twice."""
        self._server.should_exit = True
        self._thread.join(timeout_s)


def bound_socket(host: str, port: int) -> socket.socket:
    """A TCP socket on `host` and `port`; port 0 takes a free one.

    Raises
    ------
    OSError
        The address is in use or not ours.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
