"""A crowd of clients that send a byte now and then, against a node in a process of its own."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.node_process import NodeProcess
from tests.peers import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("crowds")]

CROWD = 300
LIMITS: dict[str, Any] = {"max_connections": 60, "max_connections_per_address": 30, "request_s": 3.0}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Its web pages trust no proxy: the crowd comes from loopback."""
    settings: dict[str, dict[str, Any]] = {"web": {**LIMITS, "trusted_proxies": []}, "metrics": LIMITS}
    node = NodeProcess(tmp_path_factory.mktemp("crowds"), None, settings=settings).start()
    yield node
    node.stop()


def ask(port: int, path: str, source: str) -> int:
    """The status of an answer that must come within a second."""
    with socket.create_connection(("127.0.0.1", port), 1.0, (source, 0)) as sock:
        sock.settimeout(1.0)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        return int(sock.recv(65536).split()[1])


@pytest.mark.parametrize(
    ("listener", "path"), [("metrics", "/metrics"), ("metrics", "/healthz"), ("web", "/healthz")]
)
def test_three_hundred_dribblers_hold_neither_pages_nor_threads_nor_descriptors(
    node: NodeProcess, listener: str, path: str
) -> None:
    port = node.metrics_port if listener == "metrics" else node.web_port
    assert node.process is not None
    process = psutil.Process(node.process.pid)
    assert ask(port, path, "127.0.0.2") == 200
    descriptors, threads = process.num_fds(), process.num_threads()
    crowd = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(CROWD)]
    try:
        for _ in range(3):
            for sock in crowd:
                with contextlib.suppress(OSError):
                    sock.sendall(b"G")
            assert ask(port, path, "127.0.0.2") == 200, "another address"
            assert ask(port, path, "127.0.0.1") == 200, "the same address"
            assert process.num_threads() <= threads + 8
        assert wait_for(lambda: process.num_fds() <= descriptors + 30 + 8)
        began = time.monotonic()
        assert wait_for(lambda: process.num_fds() <= descriptors + 8), "the deadline frees the last ones"
        assert time.monotonic() - began < LIMITS["request_s"] + 10
    finally:
        for sock in crowd:
            sock.close()
    status, body = node.get("/readyz")
    assert (status, json.loads(body)["status"]) == (200, "ok")


def test_the_log_names_the_listener_and_no_address(node: NodeProcess) -> None:
    text = Path(node.log).read_text()
    assert "[metrics] has no place left" in text and "[web] has no place left" in text
    assert "127.0.0.2" not in text and "Traceback" not in text
