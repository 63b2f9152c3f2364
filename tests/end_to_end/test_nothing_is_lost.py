"""Real processes, real faults: what was answered 0x0000 comes back as exactly one report."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.end_to_end.faults import ct, node_and_pacs
from tests.end_to_end.node_process import NodeProcess, ct_sample, settle, write_series
from tests.peers import Orthanc, store, wait_for
from tests.peers.fixtures import StartStoreScp

pytestmark = [pytest.mark.peer, pytest.mark.slow]

KILL_POINTS = {
    "after rename, before row": "qc_node.ledger.instances:Instances.add:before:3",
    "after row, before response": "qc_node.ledger.instances:Instances.add:after:3",
    "series just closed": "qc_node.ledger.series:SeriesTable.close:after:1",
    "claimed, being judged": "qc_node.ledger.series:SeriesTable.note_claims:after:1",
    "judged, verdict not yet written": "qc_node.ledger.verdicts:Verdicts.add:before:1",
    "report written, not yet in the outbox": "qc_node.ledger.deliveries:Deliveries.post:before:1",
    "report in the outbox, not yet sent": "qc_node.ledger.deliveries:Deliveries.post:after:1",
    "acknowledged by the PACS, not yet noted": "qc_node.ledger.deliveries:Deliveries.sent:before:1",
}


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    nodes: list[NodeProcess] = []

    def start(pacs: tuple[str, int] | None, **options: Any) -> NodeProcess:
        nodes.append(NodeProcess(tmp_path / f"node-{len(nodes)}", pacs, **options))
        return nodes[-1].start()

    yield start
    for node in nodes:
        node.stop()


def answered(output: str) -> int:
    """How many instances storescu saw answered 0x0000."""
    return len(re.findall(r"Received Store Response \(Success\)", output))


def reports(pacs: Orthanc) -> list[pydicom.Dataset]:
    return pacs.received(modality="SR")


def evidence(report: pydicom.Dataset) -> set[str]:
    return {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


@pytest.mark.parametrize("kill_point", KILL_POINTS)
def test_a_kill_at_any_point_loses_and_doubles_nothing(kill_point: str, tmp_path: Path) -> None:
    with node_and_pacs(tmp_path, crash=KILL_POINTS[kill_point]) as hospital:
        series = ct(8)
        hospital.modality.sends(series)
        wait_for(hospital.node.dead, 60)
        hospital.node.start()
        hospital.sends(series)  # what a modality does with what was not answered, and more
        hospital.comes_to_rest()
        settle(1.0)
        seen = hospital.comes_to_rest()
        assert len(seen.tables["instances"]) == len(series)
        assert len(seen.held) == len(seen.tables["reports"]), "each report under one UID"
        assert not list((hospital.node.data_dir / "tmp").iterdir())


def are_pending(node: NodeProcess, count: int) -> bool:
    return node.ledger().deliveries.counts().get("pending", 0) == count


def test_a_pacs_that_was_down_gets_everything_in_order_and_once(
    start_node: Callable[..., NodeProcess], start_storescp: StartStoreScp, tmp_path: Path
) -> None:
    pacs = start_storescp()
    node = start_node((pacs.ae_title, pacs.port))
    pacs.stop()
    for number in range(3):
        write_series(ct_sample(4, seed=number), tmp_path / f"ct{number}")
        assert store([tmp_path / f"ct{number}"], node.port).ok
        wait_for(partial(are_pending, node, number + 1), 60)
    node.kill()  # the outbox must also survive this
    node.start()
    pacs.start()
    wait_for(lambda: node.ledger().deliveries.counts() == {"sent": 3}, 90)
    expected = [r["sop_instance_uid"] for r in node.ledger().db.rows("SELECT * FROM deliveries ORDER BY id")]
    assert pacs.received_uids() == expected


@pytest.mark.parametrize("switch", ["--refuse", "--abort-during", "--abort-after"])
def test_a_pacs_that_misbehaves_is_tried_again(
    switch: str, start_node: Callable[..., NodeProcess], start_storescp: StartStoreScp, tmp_path: Path
) -> None:
    bad = start_storescp(switch)
    node = start_node((bad.ae_title, bad.port))
    write_series(ct_sample(4), tmp_path / "ct")
    assert store([tmp_path / "ct"], node.port).ok
    wait_for(
        lambda: node.ledger().db.value("SELECT count(*) FROM deliveries WHERE attempts > 0 AND state = 'pending'"),
        60,
    )
    assert node.ready() or "outbox" in node.get("/readyz")[1]
    bad.stop()
    good = start_storescp(port=bad.port)
    wait_for(lambda: node.ledger().deliveries.counts() == {"sent": 1}, 90)
    assert len(good.received_uids()) == 1


def test_sigterm_under_load_finishes_the_object_in_flight_and_keeps_the_rest(
    start_node: Callable[..., NodeProcess], orthanc: Orthanc, tmp_path: Path
) -> None:
    node = start_node((orthanc.ae_title, orthanc.port))
    folders = [tmp_path / f"ct{n}" for n in range(4)]
    for number, folder in enumerate(folders):
        write_series(ct_sample(60, seed=number), folder)
    outputs: list[str] = []
    senders = [
        threading.Thread(target=lambda f=folder: outputs.append(store([f], node.port).output))
        for folder in folders
    ]
    for sender in senders:
        sender.start()
    wait_for(lambda: node.ledger().db.value("SELECT count(*) FROM instances") > 20, 30)
    assert node.terminate() == 0
    for sender in senders:
        sender.join()
    sent = sum(answered(o) for o in outputs)
    assert node.ledger().db.value("SELECT count(*) FROM instances") >= sent
    assert not list((node.data_dir / "tmp").iterdir())
    assert "Traceback" not in node.log.read_text()

    node.start()
    for folder in folders:
        assert store([folder], node.port).ok
    wait_for(lambda: {len(evidence(r)) for r in reports(orthanc)[-4:]} == {60}, 90)
    assert node.ledger().db.value("SELECT count(*) FROM instances") == 240


def test_a_late_image_gives_a_new_report_that_names_its_predecessor(
    start_node: Callable[..., NodeProcess], orthanc: Orthanc, tmp_path: Path
) -> None:
    files = write_series(ct_sample(8), tmp_path / "ct")
    for path in files:  # no count in the header: the quiet time closes
        ds = pydicom.dcmread(path)
        del ds.ImagesInAcquisition
        ds.save_as(path)
    node = start_node((orthanc.ae_title, orthanc.port))
    assert store(files[:-1], node.port).ok
    first = wait_for(lambda: reports(orthanc), 60)
    assert store(files[-1:], node.port).ok
    both = wait_for(lambda: r if len(r := reports(orthanc)) == 2 else None, 60)
    assert len(evidence(first[0])) == 7 and len(evidence(both[1])) == 8
    named = both[1].PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first[0].SOPInstanceUID
