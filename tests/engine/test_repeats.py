"""A second radiograph of one view in a study is said when its series is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from qc_node.engine import repeats
from qc_node.engine.repeats import repeated_views
from qc_node.ledger import Ledger, Received
from qc_node.series.errors import NotDicom
from qc_node.series.volume.stack import open_series
from qc_node.spool import Spool
from tests.series.makers import make_radiograph


class Department:
    """A ledger and a spool that radiographs arrive in."""

    def __init__(self, root: Path) -> None:
        self.root, self.spool, self.ledger = root, Spool(root / "data"), Ledger(root / "data" / "ledger.sqlite")

    def receive(self, time: str, view: str = "PA", study: str = "1.2.3", modality: str = "DX") -> str:
        """One series of one image; returns its UID."""
        uid = generate_uid()

        def change(ds: Dataset) -> None:
            ds.StudyInstanceUID, ds.SeriesInstanceUID = study, uid
            ds.AcquisitionDate, ds.AcquisitionTime = "20260102", time
            ds.ViewPosition, ds.BodyPartExamined = view, "CHEST"

        path = make_radiograph(self.root / f"{uid}.dcm", np.zeros((8, 8), "<u2"), change, modality=modality)
        name = self.spool.image_name(study, uid, f"{uid}.1")
        self.spool.store(name, path.read_bytes())
        received = Received(f"{uid}.1", "1.2", uid, study, "1.2.840.10008.1.2.1", modality, "ROOM1", name, 1, 10.0)
        self.ledger.instances.add([received])
        return uid

    def said(self, uid: str) -> tuple[str, ...]:
        row = self.ledger.series.get(uid)
        assert row is not None
        names = self.ledger.instances.paths_of_series(row["series_id"])
        return repeated_views(self.ledger, self.spool, row, open_series([self.spool.path(n) for n in names]))


@pytest.fixture
def department(tmp_path: Path) -> Department:
    return Department(tmp_path)


def test_the_later_of_two_series_is_the_retake(department: Department) -> None:
    first, second = department.receive("101500"), department.receive("101700")
    assert department.said(first) == ()
    assert department.said(second) == ("Likely a retake: the same view was taken 2 minutes before.",)


def test_other_views_studies_and_modalities_are_no_retakes(department: Department) -> None:
    one = department.receive("101500")
    department.receive("101400", view="LAT")
    department.receive("101400", study="1.2.4")
    department.receive("101400", modality="CT")
    assert department.said(one) == ()


def test_a_file_that_is_broken_or_gone_says_nothing(department: Department) -> None:
    department.receive("101500")
    (name,) = department.ledger.instances.paths_of_series(1)
    department.spool.path(name).write_bytes(b"nothing")
    second = department.receive("101700")
    assert department.said(second) == ()
    department.spool.path(name).unlink()
    assert department.said(second) == ()


def test_a_fault_of_the_machine_goes_through(department: Department, monkeypatch: pytest.MonkeyPatch) -> None:
    department.receive("101500")
    second = department.receive("101700")

    def fail(path: Path) -> None:
        raise NotDicom(f"{path.name} cannot be read (Too many open files).") from OSError(
            24, "Too many open files"
        )

    monkeypatch.setattr(repeats, "read_dataset", fail)
    with pytest.raises(NotDicom):
        department.said(second)
