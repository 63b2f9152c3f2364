"""Serve the pages from a thread of the node."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI

from qc_node.domain import QcNodeError
from qc_node.http_server import HttpServer, bound_socket


@dataclass
class ServerHandle:
    """A running server."""

    host: str
    port: int
    _server: HttpServer
    _app: FastAPI

    @property
    def url(self) -> str:
        """Where the pages are."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else name}:{self.port}"

    def alive(self) -> bool:
        """Whether the pages are served."""
        return self._server.alive()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End open streams, finish requests in flight, close the port."""
        self._app.state.broadcaster.close()
        self._server.stop(timeout_s)


def serve(app: FastAPI, host: str, port: int) -> ServerHandle:
    """Start serving `app`, within the limits of its options; returns once connections are taken.

    Raises
    ------
    QcNodeError
        The address is in use or not ours, or the application did not start.
    """
    try:
        sock = bound_socket(host, port)
    except OSError as error:
        raise QcNodeError(f"The web port {host}:{port} cannot be opened: {error.strerror or error}.") from error
    server = HttpServer("web", sock, app, app.state.deps.web.limits)
    return ServerHandle(host, server.port, server, app)
