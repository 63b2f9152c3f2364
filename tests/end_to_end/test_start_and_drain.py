"""Images are taken before anything else is there; a planned stop finishes what is there and says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qc_node.config import default_models_dir
from qc_node.dicom.association import Peer, Timeouts
from qc_node.outbox.files import FilesSent, send_files
from qc_node.outbox.transport.dimse import DimseTransport
from tests.dicom.scps import scripted_scp
from tests.end_to_end.node_process import NodeProcess, ct_sample, write_series
from tests.peers import wait_for
from tests.peers.process import find_free_port, is_listening
from tests.receiver.wire_peer import Rejected, WirePeer

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("start")]

ECHO = ("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])
LIGHT = "import sys, qc_node.cli.main, qc_node.cli.node, qc_node.config, qc_node.intake; print(*sys.modules)"


@pytest.fixture
def nodes() -> Iterator[list[NodeProcess]]:
    """Nodes that end with the test."""
    started: list[NodeProcess] = []
    yield started
    for node in started:
        node.stop()


def send(files: list[Path], node: NodeProcess) -> FilesSent:
    peer = Peer("node", "QCNODE", "127.0.0.1", node.port, "CT1", Timeouts(20.0, 60.0, 60.0, 60.0))
    return send_files(files, DimseTransport(peer, re_encode=False))


def ready(node: NodeProcess, path: str = "/readyz") -> tuple[int, dict[str, Any]]:
    status, body = node.get(path, node.metrics_port)
    return status, json.loads(body)


def code_of(answer: dict[str, Any], name: str) -> str:
    (check,) = (check for check in answer["checks"] if check["name"] == name)
    return str(check["code"])


def qc_node(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qc_node", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# -- the start -------------------------------------------------------------------------------------------
def test_what_the_port_does_not_need_is_not_imported_before_it_is_open() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, timeout=60)
    heavy = {
        "torch",
        "SimpleITK",
        "scipy",
        "PIL",
        "fastapi",
        "uvicorn",
        "prometheus_client",
        "pydicom",
        "pynetdicom",
    }
    assert heavy & set(done.stdout.split()) == set()


def test_images_are_taken_and_closed_while_the_models_cannot_be_read(
    tmp_path: Path, nodes: list[NodeProcess]
) -> None:
    models = tmp_path / "models"
    shutil.copytree(default_models_dir(), models)
    card = json.loads((models / "ct" / "card.json").read_text())
    weights = models / "ct" / card["files"][0]["name"]
    aside = weights.rename(tmp_path / "aside")
    os.mkfifo(weights)  # a disk that is away: whoever reads it waits
    node = NodeProcess(tmp_path / "node", None, settings={"classify": {"models_dir": str(models)}})
    nodes.append(node)
    node.start(wait=False)
    wait_for(lambda: is_listening(node.port), 60)
    files = write_series(ct_sample(4), tmp_path / "ct")
    assert send(files, node).ok

    wait_for(lambda: is_listening(node.metrics_port), 60)
    wait_for(lambda: code_of(ready(node)[1], "worker") == "worker_loading", 60)
    status, answer = ready(node)
    assert (status, answer["takes"], answer["delivers"]) == (503, True, False)
    assert code_of(answer, "reception") == "ok"
    assert ready(node, "/readyz/takes")[0] == 200 and ready(node, "/healthz")[0] == 200
    wait_for(lambda: is_listening(node.web_port), 60)
    assert node.get("/readyz/takes")[0] == 200
    assert "loaded" in json.loads(node.get("/api/board")[1])["notice"]
    wait_for(lambda: node.ledger().series.counts() == {"queued": 1}, 30)

    writer = os.open(weights, os.O_WRONLY)
    aside.rename(weights)
    os.close(writer)  # who read the pipe reads an empty file, and the next one the weights
    wait_for(lambda: ready(node)[0] == 200, 120)
    assert "notice" not in json.loads(node.get("/api/board")[1])
    wait_for(lambda: node.ledger().series.counts() == {"reported": 1}, 60)
    assert node.terminate() == 0


# -- drain -----------------------------------------------------------------------------------------------
def rejected(node: NodeProcess) -> tuple[int, ...] | None:
    with WirePeer(node.port) as peer:
        try:
            peer.associate(ECHO)
        except Rejected as rejection:
            return tuple(int(value) for value in rejection.args)
    return None


def test_a_drained_node_has_finished_and_takes_nothing(tmp_path: Path, nodes: list[NodeProcess]) -> None:
    stored: list[str] = []

    def store(event: Any) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0xA700 if len(stored) < 3 else 0x0000

    with scripted_scp(store) as port:
        node = NodeProcess(tmp_path / "node", ("PACS", port))
        nodes.append(node)
        node.start()
        with WirePeer(node.port) as idle:
            idle.associate(ECHO)
            assert send(write_series(ct_sample(4), tmp_path / "ct"), node).ok
            draining = qc_node("drain", "--config", node.config, "--timeout", 120)
            wait_for(lambda: rejected(node) == (2, 3, 1), 30)
            status, answer = ready(node)
            assert (status, answer["takes"], code_of(answer, "drain")) == (503, False, "draining")
            assert ready(node, "/healthz")[0] == 200 and ready(node, "/readyz/takes")[0] == 503
            said, errors = draining.communicate(timeout=150)
            assert draining.returncode == 0, errors
            assert "Left: " in said and said.splitlines()[-1].startswith("Drained")
            assert idle.hung_up()
        assert node.ledger().deliveries.counts() == {"sent": 1} and len(stored) == 3

        again = qc_node("drain", "--config", node.config, "--cancel")
        assert again.wait(60) == 0
        wait_for(lambda: rejected(node) is None, 30)
        wait_for(lambda: ready(node)[0] == 200, 30)
    assert node.terminate() == 0
    nobody = qc_node("drain", "--config", node.config)
    assert "No node runs" in nobody.communicate(timeout=60)[1] and nobody.returncode == 1


def test_a_drain_that_cannot_finish_says_what_is_left_and_a_start_ends_it(
    tmp_path: Path, nodes: list[NodeProcess]
) -> None:
    node = NodeProcess(tmp_path / "node", ("PACS", find_free_port()))
    nodes.append(node)
    node.start()
    assert send(write_series(ct_sample(4), tmp_path / "ct"), node).ok
    wait_for(lambda: node.ledger().deliveries.counts() == {"pending": 1}, 60)
    draining = qc_node("drain", "--config", node.config, "--timeout", 2)
    _, said = draining.communicate(timeout=60)
    assert draining.returncode == 1
    assert "1 objects that their destination has not taken" in said and "next start" in said
    assert rejected(node) == (2, 3, 1)
    assert node.terminate() == 0
    node.start(wait=False)
    wait_for(lambda: is_listening(node.port), 60)
    assert rejected(node) is None
    assert node.ledger().deliveries.counts() == {"pending": 1}
