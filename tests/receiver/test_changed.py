"""A known SOP Instance UID with other content: kept as a new version and judged again, or refused."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
)

from qc_node.dicom.part10 import encode_head
from qc_node.dicom.patient import same_patient
from qc_node.domain import ClosedBy, Correction
from qc_node.ledger import Ledger
from qc_node.ledger.corrections import CORRECTED, GONE_ELSEWHERE, LEFT_BEHIND, MOVED
from qc_node.ledger.deliveries import WrittenObject
from qc_node.ledger.rows import SeriesRow
from qc_node.receiver.content import correction
from qc_node.receiver.store import Request, Store, StoreOutcome
from qc_node.spool import Spool
from tests.receiver.wire_peer import encode, image

STUDY, SERIES = "1.2.3", "1.2.3.4"
UIDS = ("1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3")
OTHER_PIXELS = bytes(16 * 16) + b"\1" * (16 * 16)


class Site:
    """A store and what happens to its series."""

    def __init__(self, root: Path, on_changed: str = "replace") -> None:
        self.spool, self.ledger = Spool(root), Ledger(root / "ledger.sqlite")
        self.store = Store(self.spool, self.ledger, 0, lambda: 1000.0, on_changed)

    def take(self, ds: Dataset, syntax: str = ExplicitVRLittleEndian, data: bytes | None = None) -> StoreOutcome:
        incoming = self.store.receive(Request(ds.SOPClassUID, ds.SOPInstanceUID, syntax, "MRI"))
        incoming.write(memoryview(encode(ds, syntax) if data is None else data))
        return incoming.finish()

    def series(self, study: str = STUDY) -> SeriesRow:
        row = self.ledger.series.find(study, SERIES)
        assert row is not None
        return row

    def report(self, sent: bool) -> str:
        """Close, judge and report the series; the UID of the report."""
        row, series = self.series(), self.ledger.series
        assert series.close(row["series_id"], row["last_received"], ClosedBy.QUIET, 1000.0)
        (claimed,) = series.claim(1000.0)
        assert series.finish(row["series_id"], claimed["run"], "judged", 1000.0)
        uid = f"9.{claimed['run']}"
        written = WrittenObject(uid, "1", row["series_id"], STUDY, claimed["run"], "sr", "reports/x.dcm")
        self.ledger.deliveries.post([written], ["PACS"], 1000.0, reported=(row["series_id"], claimed["run"]))
        if sent:
            self.ledger.deliveries.sent(self.ledger.deliveries.of_series(row["series_id"])[-1]["id"], 1000.0)
        return uid

    def events(self) -> list[tuple[int, str, str | None]]:
        kinds = (CORRECTED, MOVED, LEFT_BEHIND)
        found = self.ledger.series.events(self.series()["series_id"])
        return [(e["run"], e["event"], e["detail"]) for e in found if e["event"] in kinds]

    def files(self) -> list[str]:
        return [str(name) for name in self.spool.images_on_disk()]

    def current(self, uid: str) -> Dataset:
        """What is kept of an instance, which must be there exactly once."""
        (row,) = [v for v in self.ledger.instances.versions(uid) if v["superseded_at"] is None]
        return pydicom.dcmread(self.spool.path(row["path"]))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def make(uid: str = UIDS[0], study: str = STUDY, **changes: Any) -> Dataset:
    uids = {"SOPInstanceUID": uid, "StudyInstanceUID": study, "SeriesInstanceUID": SERIES}
    return image(**uids | changes)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_what_says_the_same_changes_nothing_in_any_transfer_syntax(site: Site, syntax: str) -> None:
    site.take(make())
    site.report(sent=True)
    before, files = site.series(), site.files()
    outcome = site.take(make(), syntax)
    assert (outcome.status, outcome.correction) == (0, None)
    assert site.series() == before and site.files() == files and site.events() == []
    assert len(site.ledger.instances.versions(UIDS[0])) == 1


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_other_pixels_are_a_new_version_that_is_judged_again(site: Site, syntax: str) -> None:
    site.take(make())
    site.report(sent=True)
    outcome = site.take(make(PixelData=OTHER_PIXELS), syntax)
    assert (outcome.status, outcome.correction) == (0, Correction.CONTENT)
    row = site.series()
    assert (row["state"], row["run"], row["instances"], row["due_at"]) == ("receiving", 2, 1, 0)
    assert site.current(UIDS[0]).PixelData == OTHER_PIXELS and len(site.files()) == 1
    assert site.events() == [(2, CORRECTED, "content")], "the report is about the same patient"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_whole_object_takes_the_place_of_one_that_was_cut_short(site: Site, syntax: str) -> None:
    site.take(make(), data=encode(make())[:-100])
    assert site.take(make(), syntax).correction == Correction.CONTENT
    assert site.current(UIDS[0]).PixelData == make().PixelData


def test_a_report_on_the_wrong_patient_that_waits_is_dropped(site: Site) -> None:
    site.take(make())
    site.report(sent=False)
    assert site.take(make(PatientID="RIGHT")).correction == Correction.PATIENT
    (delivery,) = site.ledger.deliveries.of_series(site.series()["series_id"])
    assert delivery["state"] == "dropped" and site.events() == [(2, CORRECTED, "patient")]


def test_a_report_on_the_wrong_patient_that_was_sent_is_noted_once(site: Site) -> None:
    for uid in UIDS:
        site.take(make(uid))
    report = site.report(sent=True)
    for uid in UIDS:
        site.take(make(uid, PatientID="RIGHT"))
    assert site.events() == [(2, CORRECTED, "patient"), (2, LEFT_BEHIND, report)]
    assert site.series()["instances"] == len(site.files()) == 3


def test_a_series_whose_images_move_to_another_study_is_judged_again_until_none_is_left(site: Site) -> None:
    site.take(make(UIDS[0]))
    site.take(make(UIDS[1]))
    report = site.report(sent=True)
    assert site.take(make(UIDS[0], "1.2.9")).correction == Correction.STUDY
    left = site.series()
    assert (left["state"], left["run"], left["instances"]) == ("receiving", 2, 1)
    assert site.events() == [(2, MOVED, None), (2, LEFT_BEHIND, report)]
    site.take(make(UIDS[1], "1.2.9"))
    left, new = site.series(), site.series("1.2.9")
    assert (left["state"], left["instances"], left["sentence"]) == ("skipped", 0, GONE_ELSEWHERE)
    assert (new["state"], new["run"], new["instances"]) == ("receiving", 1, 2) and len(site.files()) == 2


def test_an_image_that_becomes_an_object_of_another_kind_leaves_its_series(site: Site) -> None:
    site.take(make())
    key_object = make(SOPClassUID=KeyObjectSelectionDocumentStorage, Modality="KO")
    assert site.take(key_object).status == 0
    assert (site.series()["state"], site.series()["instances"]) == ("skipped", 0)


def test_a_site_may_refuse_other_content(tmp_path: Path) -> None:
    site = Site(tmp_path, "refuse")
    site.take(make())
    before, files = site.series(), site.files()
    outcome = site.take(make(PatientID="RIGHT"))
    assert (outcome.status, outcome.correction) == (0x0111, Correction.PATIENT) and outcome.sentence
    assert site.series() == before and site.files() == files and site.events() == []
    assert site.take(make()).status == 0 and not list((tmp_path / "tmp").iterdir())


def test_a_corrected_key_object_is_looked_at_again(site: Site) -> None:
    def key_object(**changes: Any) -> Dataset:
        return make("1.5", SOPClassUID=KeyObjectSelectionDocumentStorage, Modality="KO", **changes)

    site.take(key_object())
    site.ledger.instances.mark_handled("1.5")
    site.take(key_object())
    assert site.ledger.instances.unhandled_objects() == []
    site.take(key_object(PatientID="RIGHT"))
    (row,) = site.ledger.instances.unhandled_objects()
    assert pydicom.dcmread(site.spool.path(row["path"])).PatientID == "RIGHT" and len(site.files()) == 1


def test_versions_that_come_at_once_leave_one_current_row_and_its_file(tmp_path: Path) -> None:
    """Rows of several threads come in one batch of the ledger, too."""
    draw = random.Random(7)
    site = Site(tmp_path)
    for round_ in range(12):
        uid = f"{SERIES}.{100 + round_}"
        objects = [make(uid, PatientID=f"P{n}") for n in (0, 1, 2, 0, 1, 2)]
        draw.shuffle(objects)
        statuses: list[int] = []
        start = threading.Barrier(len(objects))

        def send(ds: Dataset, start: threading.Barrier = start, into: list[int] = statuses) -> None:
            start.wait(30)
            into.append(site.take(ds).status)

        threads = [threading.Thread(target=send, args=(ds,)) for ds in objects]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [0] * len(objects)
        assert str(site.current(uid).PatientID) in {"P0", "P1", "P2"}
        assert len(site.files()) == site.series()["instances"] == round_ + 1


# -- what is different -----------------------------------------------------------------------------------
def file(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> memoryview:
    head = encode_head(ds.SOPClassUID, ds.SOPInstanceUID, syntax, "MRI")
    return memoryview(bytes(head) + encode(ds, syntax))


@pytest.mark.parametrize(
    ("changes", "different"),
    [
        ({}, None),
        ({"PatientID": "RIGHT"}, Correction.PATIENT),
        ({"StudyInstanceUID": "1.9"}, Correction.STUDY),
        ({"SeriesInstanceUID": "1.9"}, Correction.STUDY),
        ({"StudyInstanceUID": "1.9", "PatientID": "RIGHT"}, Correction.PATIENT),
        ({"PatientBirthDate": "19700101"}, Correction.CONTENT),
        ({"PixelData": OTHER_PIXELS}, Correction.CONTENT),
    ],
)
def test_the_gravest_difference_counts(changes: dict[str, Any], different: Correction | None) -> None:
    assert correction(file(make()), file(make(**changes))) == different


def test_a_group_length_that_an_archive_took_away_is_no_other_content() -> None:
    whole = encode(make())
    length = bytes.fromhex("08000000554c0400") + (99).to_bytes(4, "little")
    head = bytes(encode_head(make().SOPClassUID, UIDS[0], ExplicitVRLittleEndian, "MRI"))
    assert correction(memoryview(head + length + whole), memoryview(head + whole)) is None


def test_an_earlier_file_that_cannot_be_read_is_other_content() -> None:
    assert correction(memoryview(b"no DICOM"), file(make())) == Correction.CONTENT


def named(patient_id: str = "", issuer: str = "", name: str = "") -> Dataset:
    ds = Dataset()
    ds.PatientID, ds.IssuerOfPatientID, ds.PatientName = patient_id, issuer, name
    return ds


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (named("1"), named("1", name="Other^Name"), True),
        (named("a1"), named("A1 "), True),
        (named("1"), named("2"), False),
        (named("1", "NORTH"), named("1", "SOUTH"), False),
        (named("1", "NORTH"), named("1"), True),
        (named("1", name="Doe^J"), named("", name="Doe^J"), False),
        (named(name="Doe^Jane"), named(name="DOE^JANE"), True),
        (named(name="Doe^Jane"), named(name="Doe^John"), False),
        (Dataset(), named(), True),
    ],
)
def test_the_patient_id_and_then_the_name_say_who_is_the_same(one: Dataset, other: Dataset, same: bool) -> None:
    assert same_patient(one, other) is same and same_patient(other, one) is same
