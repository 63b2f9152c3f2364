"""``qc-node forget`` beside a running node, with real images, a real PACS and series in every state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from tests.end_to_end.node_process import NodeProcess, ct_sample, write_series
from tests.peers import store, wait_for
from tests.peers.fixtures import StartStoreScp

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture
def node(tmp_path: Path, start_storescp: StartStoreScp) -> Iterator[NodeProcess]:
    pacs = start_storescp()
    node = NodeProcess(tmp_path / "node", (pacs.ae_title, pacs.port))
    node.start()
    yield node
    node.stop()


def series_of(patient: str, folder: Path, seed: int) -> set[str]:
    """Files of one series of a patient; returns every word that leads to the patient."""
    words: set[str] = set()
    for path in write_series(ct_sample(4, seed=seed), folder):
        ds = pydicom.dcmread(path)
        ds.PatientID, ds.PatientName, ds.AccessionNumber = patient, f"Name^{patient}", f"ACC-{patient}"
        ds.save_as(path)
        words |= {patient, f"ACC-{patient}"}
        words |= {str(ds[k].value) for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    return words


def forget(node: NodeProcess, *words: str) -> str:
    command = [sys.executable, "-m", "qc_node", "forget", *words, "--yes", "--config", str(node.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def left(node: NodeProcess, words: set[str]) -> list[str]:
    files = [p for p in node.data_dir.rglob("*") if p.is_file() and not p.name.endswith("-shm")]
    return [f"{p}: {word}" for p in [*files, node.log] for word in words if word.encode() in p.read_bytes()]


def states(node: NodeProcess) -> dict[str, int]:
    return node.ledger().series.counts()


def test_a_patient_goes_while_others_are_received_judged_and_reported(node: NodeProcess, tmp_path: Path) -> None:
    mine = [series_of("PATIENT-4711", tmp_path / f"mine{n}", n) for n in range(3)]
    others = [series_of("PATIENT-0815", tmp_path / f"other{n}", 10 + n) for n in range(3)]
    assert store([tmp_path / "mine0", tmp_path / "other0"], node.port).ok
    wait_for(lambda: states(node).get("reported") == 2, 90)
    wait_for(lambda: node.ledger().deliveries.counts() == {"sent": 2}, 60)
    # these are on their way through the node while the patient is forgotten
    assert store([tmp_path / "mine1", tmp_path / "other1", tmp_path / "mine2", tmp_path / "other2"], node.port).ok
    said = forget(node, "--patient-id", "PATIENT-4711")
    assert "3 series, 12 images" in said and "have to be removed there" in said
    wait_for(lambda: states(node) == {"reported": 3}, 90)
    wait_for(lambda: node.ledger().deliveries.counts() == {"sent": 3}, 60)
    assert left(node, set().union(*mine)) == []
    assert left(node, others[0])
    assert 'outcome="failed"} 1.0' not in node.metrics()
    # what arrives later is new
    assert store([tmp_path / "mine0"], node.port).ok
    wait_for(lambda: states(node) == {"reported": 4}, 90)
    assert left(node, mine[0])
    assert node.terminate() == 0
    assert "Traceback" not in node.log.read_text()
    forget(node, "--patient-id", "PATIENT-4711")
    assert left(node, set().union(*mine)) == []
