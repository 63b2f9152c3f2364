"""The whole loop: the node sends, asks, takes the answer on an association of the PACS's own, and counts it."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest

from qc_node.config import load
from qc_node.node import Node
from tests.end_to_end.node_process import NodeProcess, ct_sample, write_series
from tests.ledger.makers import number_of
from tests.peers import store, validate, wait_for
from tests.peers.fixtures import StartOrthanc
from tests.peers.process import find_free_port
from tests.receiver.test_commitment import report as report_result
from tests.receiver.test_commitment import result, sent


@pytest.mark.peer
def test_reports_of_a_running_node_are_committed_by_orthanc(tmp_path: Path, start_orthanc: StartOrthanc) -> None:
    orthanc = start_orthanc()
    node = NodeProcess(
        tmp_path / "node",
        (orthanc.ae_title, orthanc.port),
        settings={"pacs": {"storage_commitment": True, "flag_object": True}},
    )
    orthanc.learn_modality("node", "QCNODE", node.port)
    node.start()
    try:
        assert store(write_series(ct_sample(), tmp_path / "ct"), node.port).ok
        ledger = node.ledger()
        wait_for(lambda: ledger.deliveries.counts() == {"committed": 1}, 90)
        counted = 'qc_node_deliveries_total{destination="PACS",outcome="committed"} 1.0'
        wait_for(lambda: counted in node.metrics())
    finally:
        node.stop()
    (report,) = orthanc.received(modality="SR")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    row = ledger.deliveries.reports_of(number_of(ledger, str(evidence.SeriesInstanceUID)))[0]
    stored = pydicom.dcmread(node.data_dir / row["path"])
    assert stored == pydicom.dcmread(io.BytesIO(orthanc.received_file(report.SOPInstanceUID)))
    (verdict,) = validate([node.data_dir / row["path"]])
    assert verdict.errors == ()
    ledger.close()


def test_results_on_an_association_of_the_pacs_own_are_counted_once(tmp_path: Path) -> None:
    config = tmp_path / "qc-node.toml"
    config.write_text(f"""
        [node]
        host = "127.0.0.1"
        port = {find_free_port()}
        data_dir = "{tmp_path / "data"}"
        accept_unknown_callers = true
        [pacs]
        destination = "PACS"
        [[peer]]
        name = "PACS"
        ae_title = "PACS"
        host = "127.0.0.1"
        port = {find_free_port()}
        role = ["send"]
    """)
    (tmp_path / "data").mkdir()
    node = Node(load(config, {}))
    node.receiver.start()
    try:

        def counted() -> float | None:
            labels = {"destination": "PACS", "outcome": "committed"}
            return node.metrics.registry.get_sample_value("qc_node_deliveries_total", labels)

        sent(node.ledger, "2.1", "2.2", "2.3")
        assert report_result(node.receiver.port, result(["2.1"], [], transaction="1.7"), 1) == 0
        wait_for(lambda: counted() == 1)
        for _ in range(2):
            assert report_result(node.receiver.port, result(["2.1", "2.2"], ["2.3"])) == 0
        wait_for(lambda: counted() == 2)
    finally:
        node.receiver.stop(2.0)
    assert counted() == 2
    assert node.ledger.deliveries.counts() == {"committed": 2, "pending": 1}
    node.ledger.close()
