"""The whole loop: the node sends, asks, and takes Orthanc's answer on an association that Orthanc opens."""

from __future__ import annotations

import io

import pydicom
import pytest

from tests.end_to_end.node_process import NodeProcess, ct_sample, write_series
from tests.ledger.makers import number_of
from tests.peers import store, validate, wait_for

pytestmark = pytest.mark.peer


def test_reports_of_a_running_node_are_committed_by_orthanc(tmp_path, start_orthanc):
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
