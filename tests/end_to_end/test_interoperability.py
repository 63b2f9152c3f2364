"""The whole collection of odd and broken objects walks through a running node."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import pytest

from tests.end_to_end.node_process import NodeProcess
from tests.peers import Orthanc, validate, wait_for
from tests.receiver.test_interoperability import as_sent
from tests.receiver.wire_peer import WirePeer

pytestmark = [pytest.mark.peer, pytest.mark.data, pytest.mark.slow]

FINAL = {"reported", "skipped", "failed"}


def test_every_object_ends_as_a_report_a_sentence_or_a_refusal(
    shared_data: Path, orthanc: Orthanc, tmp_path: Path
) -> None:
    with tarfile.open(shared_data / "dicom" / "interoperability.tar.xz") as archive:
        archive.extractall(tmp_path / "objects", filter="data")
    with (shared_data / "dicom" / "interoperability.csv").open() as table:
        paths = [tmp_path / "objects" / row["file"] for row in csv.DictReader(table)]
    node = NodeProcess(tmp_path / "node", (orthanc.ae_title, orthanc.port)).start()
    try:
        answers = []
        for path in paths:
            sop_class, sop_instance, syntax, data = as_sent(path)
            with WirePeer(node.port) as peer:
                peer.associate((sop_class, [syntax]), calling="INTEROP", called="QCNODE")
                answers.append(peer.store(sop_class, sop_instance, data))
                peer.release()
        stored = answers.count(0x0000)
        assert stored > 100
        ledger = node.ledger()
        refused = ledger.instances.quarantined()
        assert len(refused) == len(answers) - stored and all(r["reason"] for r in refused)
        assert all(status == 0 or status >> 8 in (0xA9, 0xC2) for status in answers)

        wait_for(lambda: set(ledger.series.counts()) <= FINAL, 180)
        wait_for(lambda: ledger.deliveries.counts().get("pending", 0) == 0, 60)
        for row in ledger.series.recent(1000):
            assert row["state"] == "reported" or row["sentence"], row
            assert "classifier could not judge" not in (row["sentence"] or ""), row["sentence"]
        assert node.ready()
        assert "Traceback" not in node.log.read_text()
        reports = orthanc.received(modality="SR")
        assert len(reports) == ledger.series.counts().get("reported", 0)
        files = []
        for number, report in enumerate(reports):
            files.append(tmp_path / f"report-{number}.dcm")
            report.save_as(files[-1])
        for verdict in validate(files):
            assert verdict.valid, verdict.errors
    finally:
        node.stop()
