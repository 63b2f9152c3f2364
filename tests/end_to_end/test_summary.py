"""The QC summary with real processes: a PACS decodes it and may send it back, and no kill loses or doubles it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from qc_node.report.summary import SUMMARY_CLASS
from tests.end_to_end.faults import ct, node_and_pacs
from tests.end_to_end.node_process import NodeProcess, ct_sample, settle, write_series
from tests.peers import Orthanc, store, wait_for

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SETTINGS: dict[str, dict[str, Any]] = {"pacs": {"summary": "all"}, "completion": {"study_quiet_s": 2.0}}
KILL_POINTS = {
    "study just closed": "qc_node.ledger.studies:Studies.close:after:1",
    "drawn, not yet in the outbox": "qc_node.ledger.deliveries:Deliveries.post:before:2",
    "in the outbox, not yet sent": "qc_node.ledger.deliveries:Deliveries.post:after:2",
    "acknowledged by the PACS, not yet noted": "qc_node.ledger.deliveries:Deliveries.sent:before:2",
}


def has_arrived(node: NodeProcess) -> bool:
    """Whether report and picture of one series were sent, and nothing is left to do."""
    db = node.ledger().db
    sql = "SELECT kind FROM deliveries JOIN reports USING (sop_instance_uid) WHERE state = 'sent' ORDER BY kind"
    due = db.value("SELECT count(*) FROM summaries_due")
    return due == 0 and [row["kind"] for row in db.rows(sql)] == ["sr", "summary"]


@pytest.mark.parametrize("kill_point", KILL_POINTS)
def test_a_kill_at_any_point_loses_and_doubles_no_picture(kill_point: str, tmp_path: Path) -> None:
    with node_and_pacs(tmp_path, settings=SETTINGS, crash=KILL_POINTS[kill_point]) as hospital:
        hospital.modality.sends(ct(8))
        wait_for(hospital.node.dead, 90)
        hospital.node.start()
        wait_for(lambda: has_arrived(hospital.node), 90)
        settle(1.0)
        hospital.comes_to_rest()
        held = [pydicom.dcmread(io.BytesIO(data)) for data in hospital.pacs.held.values()]
        (picture,) = (ds for ds in held if ds.SOPClassUID == SUMMARY_CLASS)
        assert len(held) == 2 and picture.InstanceNumber == 1
        assert len(list((hospital.node.data_dir / "reports").iterdir())) == 2, "and no file is left over"


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(tmp_path / "orthanc") as orthanc:
        yield orthanc


@pytest.fixture
def node(pacs: Orthanc, tmp_path: Path) -> Iterator[NodeProcess]:
    process = NodeProcess(tmp_path / "node", (pacs.ae_title, pacs.port), settings=SETTINGS)
    yield process.start()
    process.stop()


def test_a_pacs_shows_the_picture_and_may_send_it_back(node: NodeProcess, pacs: Orthanc, tmp_path: Path) -> None:
    write_series(ct_sample(8), tmp_path / "ct")
    assert store([tmp_path / "ct"], node.port).ok
    wait_for(lambda: has_arrived(node), 90)
    (picture,) = pacs.received(modality="OT")
    assert (picture.SOPClassUID, picture.SeriesDescription) == (SUMMARY_CLASS, "QC summary")
    known = {i["MainDicomTags"]["SOPInstanceUID"]: i["ID"] for i in pacs.get("/instances?expand")}
    uid = known[str(picture.SOPInstanceUID)]
    with Image.open(io.BytesIO(pacs.fetch(f"/instances/{uid}/preview"))) as shown:
        assert np.array_equal(np.asarray(shown.convert("RGB")), picture.pixel_array)
    with Image.open(io.BytesIO(pacs.fetch(f"/instances/{uid}/rendered"))) as shown:
        assert np.array_equal(np.asarray(shown.convert("RGB")), picture.pixel_array)

    pacs.learn_modality("node", "QCNODE", node.port)
    pacs.fetch("/modalities/node/store", uid.encode(), "POST")
    ledger = node.ledger()
    wait_for(lambda: ledger.db.value("SELECT count(*) FROM objects WHERE handled = 1") == 1, 30)
    settle(4.0)  # time for a study that is open again to close
    assert ledger.series.counts() == {"reported": 1}
    assert ledger.db.value("SELECT count(*) FROM votes") == 0 and has_arrived(node)
