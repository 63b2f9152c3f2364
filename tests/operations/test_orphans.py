"""Files that no row knows: found, and deleted only when that is certain."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from qc_node.dicom.part10 import encode_head
from qc_node.domain import Finding, ModelIdentity, Question, Stage, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.operations.orphans import Orphans
from qc_node.operations.tidying import FIRST_LOOK_S, LOOK_EVERY_S, Tidying
from qc_node.spool import Spool
from tests.ledger.makers import number_of
from tests.receiver.wire_peer import encode, image

VERDICT = Verdict(Stage.CT, ModelIdentity("m", "1", "00"), (Finding(Question.BODY_PART, "chest"),))


class Folder:
    """A data folder with a file and its row in every folder, and what was told of orphans."""

    def __init__(self, root: Path) -> None:
        self.spool, self.ledger = Spool(root), Ledger(root / "ledger.sqlite")
        self.told: list[str] = []
        self.orphans = Orphans(self.ledger, self.spool, self.told.append, lambda: 2000.0)
        self.image = self.spool.image_name("ST", "S", "a")
        self.training = self.spool.training_name("S", 1)
        self.thumbnail = self.spool.thumbnail_name("S", 1, "axial")
        self.report = self.spool.report_name("r")
        for name in (self.image, self.training, self.thumbnail, self.report):
            self.spool.store(name, b"needed")
        self.ledger.instances.add([Received("a", "1", "S", "ST", "1", "CT", "AE", self.image, 5, 1.0)])
        number = number_of(self.ledger, "S")
        self.ledger.verdicts.add(
            number,
            1,
            VERDICT,
            claims={},
            warnings=[],
            timings={},
            source_path=self.image,
            at=2.0,
            report_after=2.0,
            training_path=self.training,
            thumbnails=[self.thumbnail],
        )
        self.ledger.deliveries.post([WrittenObject("r", "1", number, "ST", 1, "sr", self.report)], [], 3.0)
        self.ledger.instances.quarantine(self.spool.quarantine(b"refused"), "a sentence", "AE", 1.0)

    def files(self) -> set[str]:
        root = self.spool.root
        folders = ("images", "training", "thumbnails", "quarantine", "reports", "tmp")
        return {str(p.relative_to(root)) for f in folders for p in (root / f).rglob("*") if p.is_file()}

    def store_image(self, uid: str, series: str = "1.2.3.4") -> str:
        """A whole image of which no row knows."""
        ds = image(SOPInstanceUID=uid, StudyInstanceUID="1.2.3", SeriesInstanceUID=series)
        name = self.spool.image_name("1.2.3", series, uid)
        head = encode_head(MRImageStorage, uid, ExplicitVRLittleEndian, "MRI")
        self.spool.store(name, head + encode(ds))
        return name


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


ORPHANS = ("training/0.npz", "thumbnails/0-axial.png", "quarantine/0.dcm", "reports/0.dcm", "tmp/1-0-0.part")


def test_what_belongs_to_nothing_goes_at_the_second_look_and_nothing_else(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    needed = folder.files()
    for name in ORPHANS:
        folder.spool.store(name, b"nobody's")
    assert folder.orphans.look() == 5 and folder.told == []
    assert folder.files() == needed | set(ORPHANS), "its row may just be on its way"
    with caplog.at_level(logging.WARNING):
        assert folder.orphans.look() == 0
    assert folder.files() == needed
    assert folder.told == ["training", "thumbnails", "quarantine", "reports", "tmp"]
    assert [line.split()[0] for line in caplog.messages] == list(ORPHANS), "one line in the log for each"


@pytest.mark.parametrize("name", ORPHANS)
def test_a_file_that_was_written_anew_between_two_looks_stays(name: str, folder: Folder) -> None:
    folder.spool.store(name, b"first")
    folder.orphans.look()
    folder.spool.store(name, b"second")
    assert folder.orphans.look() == 1 and folder.told == []
    folder.spool.touch(name)  # what the writer does with a report that a kill had cut off from its row
    assert folder.orphans.look() == 1 and folder.spool.has(name)
    folder.orphans.look()
    assert not folder.spool.has(name)


def test_a_file_whose_row_comes_between_two_looks_stays(folder: Folder) -> None:
    name = folder.spool.report_name("late")
    folder.spool.store(name, b"report")
    assert folder.orphans.look() == 1
    folder.ledger.deliveries.post([WrittenObject("late", "1", None, "ST", 1, "vote", name)], [], 4.0)
    assert folder.orphans.look() == 0 and folder.spool.has(name)


def test_an_image_that_lost_its_row_is_taken_in_and_not_deleted(folder: Folder) -> None:
    name = folder.store_image("1.2.3.4.5")
    folder.orphans.look()
    assert folder.ledger.instances.path_of("1.2.3.4.5") is None
    folder.orphans.look()
    assert folder.ledger.instances.path_of("1.2.3.4.5") == name and folder.spool.has(name)
    assert folder.told == []


def test_a_copy_of_an_image_goes_and_an_image_that_cannot_be_read_is_put_away(folder: Folder) -> None:
    stored = folder.store_image("1.2.3.4.5")
    for _ in range(2):
        folder.orphans.look()
    copy = folder.store_image("1.2.3.4.5", series="1.2.3.5")
    os.utime(folder.spool.path(copy), (1.0, 1.0))  # older than what took its place
    broken = folder.spool.image_name("1", "2", "3")
    folder.spool.store(broken, b"no DICOM")
    for _ in range(2):
        folder.orphans.look()
    assert folder.spool.has(stored) and not folder.spool.has(copy) and not folder.spool.has(broken)
    assert folder.told == ["images"]
    row = folder.ledger.instances.quarantined()[-1]
    assert row["reason"].startswith("Found without a ledger row") and folder.spool.has(row["path"])


def test_nothing_precious_goes_when_the_ledger_is_another_one(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    names = {folder.spool.report_name(str(n)) for n in range(20)}
    for name in names:
        folder.spool.store(name, b"report of the ledger that was lost")
    for _ in range(3):
        folder.orphans.look()
    assert names <= folder.files() and folder.told == []
    assert "20 files in reports/ belong to nothing that the ledger knows" in caplog.text


def test_a_look_ends_when_the_node_stops(folder: Folder) -> None:
    folder.spool.store("reports/0.dcm", b"nobody's")
    folder.orphans.look()
    folder.orphans.look(lambda: False)
    assert folder.spool.has("reports/0.dcm") and folder.told == []


def test_the_loop_looks_for_orphans_at_times(folder: Folder) -> None:
    now, steady, told = [2000.0], [0.0], list[str]()
    tidying = Tidying(folder.ledger, folder.spool, lambda s: False, told.append, lambda: now[0], lambda: steady[0])
    folder.spool.store("reports/0.dcm", b"nobody's")
    for seconds in (FIRST_LOOK_S - 1, FIRST_LOOK_S, FIRST_LOOK_S + LOOK_EVERY_S - 1):
        steady[0] = seconds
        tidying.step(72, 90)
        assert folder.spool.has("reports/0.dcm")
    steady[0] = FIRST_LOOK_S + LOOK_EVERY_S
    tidying.step(72, 90)
    assert not folder.spool.has("reports/0.dcm") and told == ["reports"]
