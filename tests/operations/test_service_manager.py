"""systemd is told what the node does, where it wants to know."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from qc_node.operations import service_manager


@pytest.mark.parametrize("kind", ["a path", "an abstract name"])
def test_the_service_manager_hears_that_images_are_taken(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "a path" else f"@qc-node-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1) if name[0] == "@" else name)
        listener.settimeout(10)
        service_manager.tell("READY=1", "STATUS=Takes images.", environ={"NOTIFY_SOCKET": name})
        assert listener.recv(1000) == b"READY=1\nSTATUS=Takes images."


@pytest.mark.parametrize("name", ["", "no/path", "/nowhere/at/all"])
def test_nobody_who_listens_is_no_error(name: str) -> None:
    service_manager.tell("READY=1", environ={"NOTIFY_SOCKET": name})
    service_manager.tell("READY=1", environ={})
