"""A closed study against what is usual: protocols that lack or are new, radiographs that were repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from qc_node.domain.measure import Measured
from qc_node.domain.technique import Technique
from qc_node.engine.usual_studies import note_what_is_usual
from qc_node.ledger import Ledger, Received
from qc_node.ledger.measured import NewMeasured
from qc_node.spool import Spool
from tests.ledger.makers import number_of

KIND = "Head, routine"


class Department:
    """Studies of measured series in a ledger and a spool."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.images = 0

    def image(self, study: str, series: str, modality: str = "MR", ds: Dataset | None = None) -> int:
        """One image of a series that is closed then; returns its number."""
        self.images += 1
        path = f"images/{self.images}.dcm"
        if ds is not None:
            (self.spool.root / "images").mkdir(exist_ok=True)
            ds.save_as(self.spool.path(path), enforce_file_format=True)
        one = Received(
            f"1.9.{self.images}", "1.2", series, study, "1.2.840.10008.1.2.1", modality, "MR2", path, 10, 1.0
        )
        assert self.ledger.instances.add([one]) == [True]
        number = number_of(self.ledger, series)
        self.ledger.series.close(number, 1.0, "test", 5.0)
        return number

    def study(self, uid: str, *sequences: str, station: str = "MR2") -> None:
        """A closed study with one series of each sequence."""
        for n, sequence in enumerate(sequences):
            number = self.image(uid, f"{uid}.{n}")
            technique = Technique("MR", station, "VE11", {"sequence": sequence, "name": "1a2b3c4d"})
            self.ledger.measured.add(NewMeasured(number, 1, Measured({"noise_air": 1.0}), technique, 1), 6.0)
        self.ledger.studies.describe(uid, None, KIND)
        assert self.ledger.studies.close(uid, 1.0, "test", float(self.images))

    def usual(self, uid: str) -> tuple[str, ...]:
        """What is said of a study, which the ledger keeps."""
        said = note_what_is_usual(self.ledger, self.spool, uid)
        assert self.ledger.studies.usual(uid) == said
        return said


@pytest.fixture
def department(tmp_path: Path) -> Department:
    return Department(tmp_path)


def test_what_a_study_lacks_and_has_beside_the_usual_is_named(department: Department) -> None:
    for n in range(30):
        department.study(f"1.{n}", "t1", "t2", "flair")
    department.study("2.1", "t1", "t2")
    assert department.usual("2.1") == (
        "No series flair; studies of this kind usually have one (30 of the last 30).",
    )
    department.study("2.2", "t1", "t2", "flair", "tof")
    (said,) = department.usual("2.2")
    assert said.startswith("A series tof is extra")
    department.study("2.3", "t1", "t2", "flair")
    assert department.usual("2.3") == ()


def test_nothing_is_said_of_the_first_studies_and_of_other_scanners(department: Department) -> None:
    for n in range(15):
        department.study(f"1.{n}", "t1", "t2")
    department.study("2.1", "t1")
    assert department.usual("2.1") == (), "fifteen studies are too few"
    for n in range(15, 40):
        department.study(f"1.{n}", "t1", "t2")
    department.study("2.2", "t1", station="MR9")
    assert department.usual("2.2") == (), "nothing is known of that scanner"
    assert len(department.usual("2.1")) == 1


def radiograph(series: str, time: str, view: str = "PA") -> Dataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"{series}.1")
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "3.1", series, "DX"
    ds.AcquisitionDate, ds.AcquisitionTime = "20260102", time
    ds.ViewPosition, ds.BodyPartExamined, ds.ImageLaterality = view, "CHEST", "U"
    ds.Rows = ds.Columns = 2
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 7, 0, 1
    ds.PhotometricInterpretation, ds.PixelData = "MONOCHROME2", b"\0" * 4
    return ds


def test_a_second_radiograph_of_the_same_view_within_minutes_is_a_likely_retake(department: Department) -> None:
    department.image("3.1", "3.1.1", "DX", radiograph("3.1.1", "100000"))
    department.image("3.1", "3.1.2", "DX", radiograph("3.1.2", "100400", "LL"))
    assert department.usual("3.1") == ()
    department.image("3.1", "3.1.3", "DX", radiograph("3.1.3", "100300"))
    assert department.usual("3.1") == ("Likely a retake: the same view was taken 3 minutes before.",)
    (department.spool.root / "images/1.dcm").write_bytes(b"broken")
    assert department.usual("3.1") == (), "an image that cannot be read is no retake"
