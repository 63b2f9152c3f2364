"""A small HTTP listener for machines: GET only, no state, two threads that answer."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from qc_node.domain import QcNodeError
from qc_node.http_server import HttpLimits, HttpServer, bound_socket

log = logging.getLogger("qc_node.listener")

ANSWERING: Final = 2
"""Threads that answer.  They last, so what they open (a connection of the ledger each) is opened once."""
STOP_S: Final = 5.0

Message = MutableMapping[str, Any]


class HttpAnswer(NamedTuple):
    """Status, content type and body of one HTTP answer."""

    status: int
    content_type: str
    body: bytes


Answer = Callable[[str, str], HttpAnswer]
"""From the path without query and the ``Accept`` header to the answer."""

GET_ONLY: Final = HttpAnswer(405, "text/plain; charset=utf-8", b"Only GET is answered here.\n")
FAILED: Final = HttpAnswer(500, "text/plain; charset=utf-8", b"This failed; see the log.\n")


class Listener:
    """Answers GET requests by `answer` until :meth:`stop`.

    Parameters
    ----------
    section
        Section of the configuration to blame when the port cannot be had.
    port
        0 lets the operating system choose; see :attr:`port`.

    Raises
    ------
    QcNodeError
        The port is taken or the address is not ours.
    """

    def __init__(self, section: str, host: str, port: int, answer: Answer, limits: HttpLimits) -> None:
        try:
            sock = bound_socket(host, port)
        except OSError as error:
            raise QcNodeError(port_sentence(section, host, port, error)) from None
        self._answering = ThreadPoolExecutor(ANSWERING, thread_name_prefix=section)
        application = _Application(answer, self._answering)
        self._server = HttpServer(section, sock, application, limits, lifespan="off")

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._server.port

    def stop(self) -> None:
        """Close the port; harmless when called twice."""
        self._server.stop(STOP_S)
        self._answering.shutdown(wait=False, cancel_futures=True)


class _Application:
    """The listener as an ASGI application."""

    def __init__(self, answer: Answer, answering: ThreadPoolExecutor) -> None:
        self._answer = answer
        self._answering = answering

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request; its body, if any, is not read."""
        answer = GET_ONLY
        if scope["method"] in ("GET", "HEAD"):
            accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._answering, self._answered, scope["path"], accept)
        headers = [
            (b"content-type", answer.content_type.encode("latin-1")),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _answered(self, path: str, accept: str) -> HttpAnswer:
        try:
            return self._answer(path, accept)
        except Exception:
            log.exception("a request for operators could not be answered")
            return FAILED


def port_sentence(section: str, host: str, port: int, error: OSError) -> str:
    """Why a port cannot be listened on, naming the key of the configuration."""
    if error.errno == errno.EADDRINUSE:
        return f"[{section}] port {port} on {host} is already in use by another program."
    if error.errno == errno.EACCES:
        return f"[{section}] port {port} on {host} needs rights that this user does not have."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"[{section}] host {host} is not an address of this machine."
    return f"[{section}] {host} port {port} cannot be listened on: {error.strerror or error}."
