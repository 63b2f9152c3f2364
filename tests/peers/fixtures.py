"""Fixtures that start real peers and stop each by its own handle."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qc_node.dicom.association import Peer, Timeouts
from tests.peers.dcmtk import StoreScp
from tests.peers.orthanc import Orthanc

QUICK = Timeouts(connect=2.0, association=2.0, response=2.0, network=2.0)

PeerAt = Callable[..., Peer]
StartOrthanc = Callable[..., Orthanc]
StartStoreScp = Callable[..., StoreScp]


@pytest.fixture
def start_orthanc(tmp_path: Path) -> Iterator[StartOrthanc]:
    """A function that starts an Orthanc; arguments as :class:`Orthanc`, without the folder."""
    started: list[Orthanc] = []

    def start(**options: Any) -> Orthanc:
        orthanc = Orthanc(tmp_path / f"orthanc-{len(started)}", **options)
        started.append(orthanc)
        orthanc.start()
        return orthanc

    yield start
    for orthanc in started:
        orthanc.stop(signal.SIGKILL)  # a clean end takes seconds, and nobody reads its data any more


@pytest.fixture
def orthanc(start_orthanc: StartOrthanc) -> Orthanc:
    """A running Orthanc with AE title ORTHANC."""
    return start_orthanc()


@pytest.fixture
def start_storescp(tmp_path: Path) -> Iterator[StartStoreScp]:
    """A function that starts a storescp; arguments as :class:`StoreScp`, without the folder."""
    started: list[StoreScp] = []

    def start(*switches: str, **options: Any) -> StoreScp:
        folder = tmp_path / f"storescp-{len(started)}"
        folder.mkdir()
        scp = StoreScp(folder, *switches, **options)
        started.append(scp)
        scp.start()
        return scp

    yield start
    for scp in started:
        scp.stop()


@pytest.fixture
def peer_at() -> PeerAt:
    """A peer on loopback with short timeouts."""

    def make(port: int, ae_title: str = "PACS", name: str = "PACS", timeouts: Timeouts = QUICK) -> Peer:
        return Peer(name, ae_title, "127.0.0.1", port, "QCNODE", timeouts)

    return make
