"""A corrected patient, end to end: images again with another name, a repaired pixel, a merge no image brings."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.end_to_end.node_process import NodeProcess, ct_sample, write_series
from tests.peers import Orthanc, store, wait_for

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture
def node(orthanc: Orthanc, tmp_path: Path) -> Iterator[NodeProcess]:
    process = NodeProcess(tmp_path / "node", (orthanc.ae_title, orthanc.port))
    yield process.start()
    process.stop()


def rewrite(files: list[Path], **changes: object) -> None:
    for path in files:
        ds = pydicom.dcmread(path)
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        ds.save_as(path)


def next_report(orthanc: Orthanc, count: int) -> Dataset:
    """The report of this number."""
    reports: list[Dataset] = wait_for(
        lambda: found if len(found := orthanc.received(modality="SR")) == count else None, 60
    )
    return reports[-1]


def predecessor(report: Dataset) -> str | None:
    if "PredecessorDocumentsSequence" not in report:
        return None
    series = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    return str(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def changed(node: NodeProcess) -> float:
    """How many objects came with other content and were kept."""
    found = re.findall(r'^qc_node_instances_changed_total\{[^}]*outcome="kept"\} (\S+)$', node.metrics(), re.M)
    return sum(map(float, found))


def test_reports_follow_the_patient_from_the_images_and_from_the_operator(
    node: NodeProcess, orthanc: Orthanc, tmp_path: Path
) -> None:
    folder = tmp_path / "ct"
    files = write_series(ct_sample(6), folder)
    rewrite(files, PatientID="WRONG1", PatientName="Wrong^Patient")
    assert store([folder], node.port).ok
    wrong = next_report(orthanc, 1)
    assert (wrong.PatientID, changed(node)) == ("WRONG1", 0)
    assert store([folder], node.port).ok, "the same again is a success"

    rewrite(files, PatientID="RIGHT1", PatientName="Right^Patient")
    assert store([folder], node.port).ok
    right = next_report(orthanc, 2)
    assert (right.PatientID, right.PatientName, predecessor(right)) == ("RIGHT1", "Right^Patient", None)
    assert changed(node) == 6
    rows = node.get("/api/review")[1]
    assert (
        f"The report {wrong.SOPInstanceUID} at the PACS is about another patient" in rows and "RIGHT1" not in rows
    )

    rewrite(files, ImageComments="repaired")
    assert store([folder], node.port).ok
    repaired = next_report(orthanc, 3)
    assert (repaired.PatientID, predecessor(repaired)) == ("RIGHT1", right.SOPInstanceUID)

    command = [sys.executable, "-m", "qc_node", "relink", "--config", str(node.config)]
    command += ["--study-uid", str(right.StudyInstanceUID), "--patient-id", "MERGED1"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"The report {repaired.SOPInstanceUID}" in said
    merged = next_report(orthanc, 4)
    assert (merged.PatientID, merged.PatientName, predecessor(merged)) == ("MERGED1", "Right^Patient", None)

    log = node.log.read_text()
    assert not re.search("WRONG1|RIGHT1|MERGED1|Patient\\^|\\^Patient", log)
    assert len(list((node.data_dir / "images").rglob("*.dcm"))) == 6


KILL_POINTS = {
    "new file named, no row": "qc_node.ledger.instances:Instances.add:before:9",
    "new row, old file there": "qc_node.spool:Spool.remove:before:2",
    "old file removed, no answer": "qc_node.spool:Spool.remove:after:2",
    "new report written, not yet in the outbox": "qc_node.ledger.deliveries:Deliveries.post:before:2",
}


@pytest.mark.parametrize("kill_point", KILL_POINTS)
def test_a_kill_while_a_series_is_corrected_loses_no_version_and_keeps_no_old_file(
    kill_point: str, orthanc: Orthanc, tmp_path: Path
) -> None:
    folder = tmp_path / "ct"
    files = write_series(ct_sample(6), folder)
    rewrite(files, PatientID="WRONG1", PatientName="Wrong^Patient")
    node = NodeProcess(tmp_path / "node", (orthanc.ae_title, orthanc.port), crash=KILL_POINTS[kill_point]).start()
    try:
        assert store([folder], node.port).ok
        next_report(orthanc, 1)
        rewrite(files, PatientID="RIGHT1", PatientName="Right^Patient")
        store([folder], node.port)
        wait_for(node.dead, 60)
        node.start()
        assert store([folder], node.port).ok, "what a modality does with what was not answered"
        wait_for(lambda: orthanc.received(modality="SR")[-1].PatientID == "RIGHT1", 60)
        last = orthanc.received(modality="SR")[-1]
        assert (
            len(
                last.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
            )
            == 6
        )
        kept = [pydicom.dcmread(path).PatientID for path in (node.data_dir / "images").rglob("*.dcm")]
        assert kept == ["RIGHT1"] * 6
        ledger = node.ledger()
        assert ledger.db.value("SELECT count(*) FROM instances WHERE superseded_at IS NULL") == 6
        assert ledger.db.value("SELECT count(*) FROM events WHERE event = 'left_behind'") == 1
    finally:
        node.stop()
