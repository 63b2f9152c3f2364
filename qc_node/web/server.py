"""Serve the pages from a thread of the node."""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from qc_node.domain import QcNodeError

START_TIMEOUT_S = 20.0


@dataclass
class ServerHandle:
    """A running server."""

    host: str
    port: int
    _server: uvicorn.Server
    _thread: threading.Thread
    _app: FastAPI

    @property
    def url(self) -> str:
        """Where the pages are."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else name}:{self.port}"

    def stop(self, timeout_s: float = 10.0) -> None:
        """End open streams, finish requests in flight, close the port."""
        self._app.state.broadcaster.close()
        self._server.should_exit = True
        self._thread.join(timeout_s)


def serve(app: FastAPI, host: str, port: int) -> ServerHandle:
    """Start serving `app`; returns once connections are taken.  Port 0 takes a free one.

    No access log is written: a query may hold an accession number.

    Raises
    ------
    QcNodeError
        The address is in use or not ours, or the application did not start.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise QcNodeError(f"The web port {host}:{port} cannot be opened: {error.strerror or error}.") from error
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level=logging.WARNING,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=3,
        limit_concurrency=1200,
        backlog=512,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            server.run(sockets=[sock])
        except BaseException as error:
            failed.append(error)
        finally:
            sock.close()

    thread = threading.Thread(target=run, name="web", daemon=True)
    thread.start()
    waited = threading.Event()
    for _ in range(int(START_TIMEOUT_S * 100)):
        if server.started or not thread.is_alive():
            break
        waited.wait(0.01)
    if not server.started:
        server.should_exit = True
        raise QcNodeError(
            f"The web pages on {host}:{port} did not start{': ' + str(failed[0]) if failed else ''}."
        )
    return ServerHandle(host, int(sock.getsockname()[1]), server, thread, app)
