"""A small HTTP listener for machines: GET only, no state, one thread per question."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import NamedTuple
from urllib.parse import urlsplit

from qc_node.domain import QcNodeError

log = logging.getLogger("qc_node.listener")

SLOWEST_CLIENT_S = 10.0
"""A client that has not sent its request by then is cut off, or its thread would stay for ever."""


class HttpAnswer(NamedTuple):
    """Status, content type and body of one HTTP answer."""

    status: int
    content_type: str
    body: bytes


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class _Server6(_Server):
    address_family = AF_INET6


def _nothing() -> None:
    """Nothing to tidy up."""


class Listener:
    """Answers GET requests from `answer` (path without query, ``Accept`` header) until :meth:`stop`.

    Parameters
    ----------
    section
        Section of the configuration to blame when the port cannot be had.
    port
        0 lets the operating system choose; see :attr:`port`.
    after
        Called in the thread of each request when it is answered, for example to close what the thread opened.

    Raises
    ------
    QcNodeError
        The port is taken or the address is not ours.
    """

    def __init__(
        self,
        section: str,
        host: str,
        port: int,
        answer: Callable[[str, str], HttpAnswer],
        after: Callable[[], None] = _nothing,
    ) -> None:
        handler = _handler(answer, after)
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), handler)
        except OSError as error:
            raise QcNodeError(port_sentence(section, host, port, error)) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name=section, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Close the port; harmless when called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


def port_sentence(section: str, host: str, port: int, error: OSError) -> str:
    """Why a port cannot be listened on, naming the key of the configuration."""
    if error.errno == errno.EADDRINUSE:
        return f"[{section}] port {port} on {host} is already in use by another program."
    if error.errno == errno.EACCES:
        return f"[{section}] port {port} on {host} needs rights that this user does not have."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"[{section}] host {host} is not an address of this machine."
    return f"[{section}] {host} port {port} cannot be listened on: {error.strerror or error}."


def _handler(answer: Callable[[str, str], HttpAnswer], after: Callable[[], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SLOWEST_CLIENT_S
        server_version = "qc-node"
        sys_version = ""

        def do_GET(self) -> None:
            try:
                status, content_type, body = answer(urlsplit(self.path).path, self.headers.get("Accept", ""))
            except Exception:
                log.exception("a request for operators could not be answered")
                status, content_type, body = 500, "text/plain; charset=utf-8", b"This failed; see the log.\n"
            finally:
                after()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a request line may carry what nobody should read in a log."""

    return Handler
