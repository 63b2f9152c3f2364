"""Votes from the PACS itself: key objects made by highdicom and by DCMTK, and those that must not count."""

from __future__ import annotations

import io
import sqlite3
import subprocess
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import highdicom as hd
import pydicom
import pytest
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from qc_node.dicom.patient import pseudonym
from qc_node.engine import pseudonyms
from qc_node.ledger import LedgerError, NewAct, Received
from qc_node.ledger.audit import FORGOTTEN_EVENT
from qc_node.ledger.deliveries import WrittenObject
from qc_node.report.key_objects import build_flag
from qc_node.report.vote_report import read_vote_report
from qc_node.web.access import readers
from qc_node.web.access.readers import Reader
from qc_node.web.app import WebDeps
from qc_node.web.votes import from_key_objects
from qc_node.web.votes.exchange import export_rows
from qc_node.web.votes.follow_up import FollowUp
from qc_node.web.votes.from_key_objects import Intake
from qc_node.web.votes.to_pacs import vote_reporter
from tests.peers import environment, require, validate, wait_for
from tests.report.sources import CREATED, MR_IMAGE, evidence, key, source
from tests.web.conftest import Browse, Clinic, rejected

POOR, REJECTED, GOOD = (
    ("113010", "Quality Issue"),
    ("113001", "Rejected for Quality Reasons"),
    ("113013", "Best In Set"),
)
OF_INTEREST = ("113000", "Of Interest")


def dcm(code: tuple[str, str]) -> CodedConcept:
    return CodedConcept(code[0], "DCM", code[1])


def image() -> Dataset:
    ds = source()
    ds.InstanceNumber = 1
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def key_object(
    title: tuple[str, str] = POOR,
    *,
    person: str | None = "Bode^Mechthild",
    login: str | None = None,
    device: bool = False,
    reason: tuple[str, str] | None = None,
) -> Dataset:
    """A key object as highdicom makes it."""
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        ObserverContext,
        PersonObserverIdentifyingAttributes,
    )

    who, what = None, None
    if person:
        attributes = PersonObserverIdentifyingAttributes(name=person, login_name=login)
        who = ObserverContext(hd.sr.CodedConcept("121006", "DCM", "Person"), attributes)
    if device:
        router = DeviceObserverIdentifyingAttributes(uid=generate_uid(), name="ROUTER")
        what = ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), router)
    content = hd.ko.KeyObjectSelection(
        document_title=dcm(title),
        referenced_objects=[image()],
        observer_person_context=who,
        observer_device_context=what,
    )
    ds: Dataset = hd.ko.KeyObjectSelectionDocument(
        evidence=[image()],
        content=content,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="PACS",
        institution_name="H",
    )
    ds.ContentDate, ds.ContentTime, ds.TimezoneOffsetFromUTC = "20260102", "101500", "+0100"
    if reason:
        stream = io.BytesIO()
        ds.save_as(stream, enforce_file_format=True)
        ds = pydicom.dcmread(io.BytesIO(stream.getvalue()))
        item = Dataset()
        item.RelationshipType, item.ValueType = "HAS CONCEPT MOD", "CODE"
        item.ConceptNameCodeSequence = [dcm(("113011", "Document Title Modifier"))]
        item.ConceptCodeSequence = [dcm(reason)]
        ds.ContentSequence.insert(0, item)
    return ds


def arrive(clinic: Clinic, ds: Dataset) -> str:
    """The receiver has taken in this object."""
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    uid = str(ds.SOPInstanceUID)
    name = clinic.spool.image_name(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), uid)
    clinic.spool.store(name, stream.getvalue())
    clinic.ledger.instances.add(
        [
            Received(
                uid,
                str(ds.SOPClassUID),
                str(ds.SeriesInstanceUID),
                str(ds.StudyInstanceUID),
                str(ExplicitVRLittleEndian),
                "KO",
                "PACS",
                name,
                len(stream.getvalue()),
                clinic.clock.now,
                opens_series=False,
            )
        ]
    )
    return uid


@pytest.fixture
def known(clinic: Clinic) -> Reader:
    """A department with one reader and the series that key objects point at."""
    ds = source()
    clinic.receive(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))
    reader, _ = clinic.reader(dicom_name="Bode^Mechthild", name="M. B.")
    return reader


@pytest.mark.parametrize(
    ("title", "reason", "vote", "reasons"),
    [
        (POOR, ("111210", "Motion blur"), "poor", ["motion"]),
        (GOOD, None, "good", []),
        (REJECTED, ("111209", "Positioning"), "poor", ["positioning"]),
        (REJECTED, ("111211", "Under exposed"), "poor", ["exposure"]),
        (POOR, ("111212", "Over exposed"), "poor", ["exposure"]),
    ],
)
def test_a_known_readers_key_object_is_a_vote(
    clinic: Clinic,
    known: Reader,
    title: tuple[str, str],
    reason: tuple[str, str] | None,
    vote: str,
    reasons: list[str],
) -> None:
    uid = arrive(clinic, key_object(title, reason=reason))
    assert from_key_objects.take_in(clinic.deps()) == [Intake.VOTE]
    (row,) = clinic.ledger.votes.of_subject(str(source().StudyInstanceUID), None)
    assert (row["vote"], row["reasons"], row["source"], row["reader_id"]) == (
        vote,
        reasons,
        "key_object",
        known.reader_id,
    )
    assert (row["series_uid"], row["modality"], row["site"]) == (str(source().SeriesInstanceUID), "MR", "Potsdam")
    assert row["voted_at"] == datetime.fromisoformat("2026-01-02T10:15:00+01:00").timestamp()
    assert row["sop_instance_uid"] == uid and clinic.counted == [(vote, "Potsdam", "MR")]
    assert from_key_objects.take_in(clinic.deps()) == [], "once"


def test_by_login(clinic: Clinic) -> None:
    reader, _ = clinic.reader("mbh")
    arrive(clinic, key_object(person="Somebody^Else", login="MBH"))
    assert from_key_objects.take_in(clinic.deps()) == [Intake.VOTE]
    assert clinic.ledger.votes.all()[0]["reader_id"] == reader.reader_id


@pytest.mark.parametrize("who", ["stranger", "device", "nobody", "disabled", "two of that name"])
def test_others_leave_a_mark_without_author_that_is_never_exported(
    clinic: Clinic, known: Reader, who: str
) -> None:
    ds = key_object(
        person={"stranger": "X^Y", "device": None, "nobody": None}.get(who, "Bode^Mechthild"),
        device=who == "device",
    )
    if who == "disabled":
        readers.disable(clinic.ledger, known.login, 1.0)
    if who == "two of that name":
        clinic.reader("second", name="Mechthild Bode")
    arrive(clinic, ds)
    assert from_key_objects.take_in(clinic.deps()) == [Intake.MARK]
    assert clinic.ledger.votes.count() == 0 and list(export_rows(clinic.ledger)) == []
    (mark,) = clinic.ledger.votes.marks_of(str(source().StudyInstanceUID))
    assert mark["vote"] == "poor" and mark["why_no_vote"]


def test_our_own_flag_sent_back_by_a_router_is_nothing_even_with_another_uid(
    clinic: Clinic, known: Reader
) -> None:
    ds = build_flag(
        source(), evidence(), key(source()), rejected(), software_version="1", node="QCNODE", created=CREATED
    )
    clinic.ledger.deliveries.post(
        [WrittenObject(str(ds.SOPInstanceUID), str(ds.SOPClassUID), None, "1", 1, "kos", "x")], [], 1.0
    )
    arrive(clinic, ds)
    assert from_key_objects.take_in(clinic.deps()) == [Intake.OURS]
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    arrive(clinic, ds)
    assert from_key_objects.take_in(clinic.deps()) == [Intake.MARK], "a device made it"
    assert clinic.ledger.votes.count() == 0


def test_other_objects_and_broken_ones_are_passed_over_once(clinic: Clinic, known: Reader) -> None:
    arrive(clinic, key_object(OF_INTEREST))
    broken = key_object()
    uid = arrive(clinic, broken)
    row = clinic.ledger.instances.unhandled_objects()[-1]
    clinic.spool.store(row["path"], b"not DICOM at all")
    assert from_key_objects.take_in(clinic.deps()) == [Intake.NOT_ABOUT_QUALITY, Intake.UNREADABLE]
    assert clinic.ledger.instances.unhandled_objects() == [] and clinic.ledger.votes.by_key("x", uid) is None


def structure_set(items: int) -> Dataset:
    """An RTSTRUCT with so many contours that say nothing."""
    ds = source()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    )
    ds.ROIContourSequence = [Dataset() for _ in range(items)]
    ds["ROIContourSequence"].is_undefined_length = True
    for item in ds.ROIContourSequence:
        item.is_undefined_length_sequence_item = True
    return ds


def test_no_object_is_read_while_others_wait_for_the_ledger(
    clinic: Clinic, known: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[bool] = []
    read, whose = pydicom.dcmread, pseudonyms.read_pseudonym

    def see_the_lock() -> None:
        other = sqlite3.connect(clinic.ledger.db.path, timeout=0.0, isolation_level=None)
        with closing(other), suppress(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")
            free.append(True)
            return
        free.append(False)

    def read_slowly(*args: Any, **options: Any) -> Any:
        see_the_lock()
        return read(*args, **options)

    def ask_slowly(*args: Any) -> Any:
        see_the_lock()
        return whose(*args)

    monkeypatch.setattr(pydicom, "dcmread", read_slowly)
    monkeypatch.setattr(from_key_objects, "read_pseudonym", ask_slowly)
    arrive(clinic, structure_set(3))
    arrive(clinic, key_object())
    assert from_key_objects.take_in(clinic.deps()) == [Intake.NOT_ABOUT_QUALITY, Intake.VOTE]
    assert free == [True, True, True], "whose the one is; whose the other is, and what it says"


def test_of_other_objects_only_the_beginning_is_read_and_it_says_whose_they_are(
    clinic: Clinic, known: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = structure_set(3)
    arrive(clinic, ds)
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **options: pytest.fail("it was read whole"))
    seen: list[object] = []
    monkeypatch.setattr(pydicom.filereader, "read_sequence", lambda *args, **options: seen.append(args))
    assert from_key_objects.take_in(clinic.deps()) == [Intake.NOT_ABOUT_QUALITY]
    noted = clinic.ledger.patients.of(str(ds.StudyInstanceUID))
    assert noted == pseudonym(clinic.spool.patient_key(), ds.PatientID, ds.get("IssuerOfPatientID", ""))
    assert seen == []


def test_a_key_object_that_is_too_large_is_not_read(
    clinic: Clinic, known: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(clinic, key_object())
    monkeypatch.setattr(from_key_objects, "LARGEST", 1000)
    assert from_key_objects.take_in(clinic.deps()) == [Intake.UNREADABLE]
    assert clinic.ledger.votes.count() == 0 and clinic.ledger.instances.unhandled_objects() == []


def test_a_key_object_that_ends_the_node_is_read_twice_and_one_that_met_a_kill_is_a_vote(
    clinic: Clinic, known: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """What no handler sees, as a kill is seen by none."""

    def kill(*args: object, **options: object) -> None:
        raise Killed

    for kills, comes_of_it in ((1, Intake.VOTE), (2, Intake.UNREADABLE)):
        arrive(clinic, key_object())
        with monkeypatch.context() as patched:
            patched.setattr(pydicom, "dcmread", kill)
            with pytest.raises(Killed):
                from_key_objects.take_in(clinic.deps())
            for _ in range(kills - 1):
                with pytest.raises(Killed):
                    from_key_objects.take_up_interrupted(clinic.deps())
        assert from_key_objects.take_in(clinic.deps()) == []
        assert from_key_objects.take_up_interrupted(clinic.deps()) == [comes_of_it]
        assert from_key_objects.take_up_interrupted(clinic.deps()) == []
    assert clinic.ledger.votes.count() == 1


def test_a_vote_that_a_locked_ledger_does_not_take_comes_again(
    clinic: Clinic, known: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*args: object) -> None:
        raise LedgerError("The ledger cannot be used: database is locked.")

    arrive(clinic, key_object())
    with monkeypatch.context() as patched:
        patched.setattr(clinic.ledger.votes, "add", locked)
        with pytest.raises(LedgerError):
            from_key_objects.take_in(clinic.deps())
    assert from_key_objects.take_in(clinic.deps()) == [Intake.VOTE]


def test_an_object_that_is_forgotten_while_it_is_read_leaves_nothing(
    clinic: Clinic, known: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = pydicom.dcmread

    def forget(*args: Any, **options: Any) -> Any:
        with clinic.ledger.db.transaction() as conn:
            conn.execute("DELETE FROM objects")
            conn.execute("DELETE FROM instances")
        return read(*args, **options)

    arrive(clinic, key_object())
    monkeypatch.setattr(pydicom, "dcmread", forget)
    assert from_key_objects.take_in(clinic.deps()) == [Intake.GONE]
    assert clinic.ledger.votes.count() == 0


@pytest.mark.peer
def test_a_key_object_made_by_dcmtk_is_a_vote(clinic: Clinic, known: Reader, tmp_path: Path) -> None:
    dsr2xml, xml2dsr = require("dsr2xml", "xml2dsr")
    template, xml, made = (tmp_path / name for name in ("template.dcm", "ko.xml", "made.dcm"))
    key_object(GOOD).save_as(template, enforce_file_format=True)
    subprocess.run([dsr2xml, template, xml], check=True, env=environment())
    subprocess.run([xml2dsr, "+Ug", xml, made], check=True, env=environment())
    ds = pydicom.dcmread(made)
    assert str(ds.file_meta.ImplementationVersionName).startswith("OFFIS")
    arrive(clinic, ds)
    assert from_key_objects.take_in(clinic.deps()) == [Intake.VOTE]
    assert clinic.ledger.votes.all()[0]["vote"] == "good"


# -- votes as reports ----------------------------------------------------------------------------------
def vote_on(clinic: Clinic, browse: Browse, **web: Any) -> tuple[str, str]:
    ds = source()
    study, series = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)
    stream = io.BytesIO()
    header = image()
    header.Rows = header.Columns = 1
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    pydicom.dcmwrite(stream, header, enforce_file_format=True)
    name = clinic.spool.image_name(study, series, str(ds.SOPInstanceUID))
    clinic.spool.store(name, stream.getvalue())
    clinic.ledger.instances.add(
        [
            Received(
                str(ds.SOPInstanceUID),
                MR_IMAGE,
                series,
                study,
                "1.2.840.10008.1.2.1",
                "MR",
                "MR",
                name,
                100,
                clinic.clock.now,
            )
        ]
    )
    _, token = clinic.reader(dicom_name="Bode^Mechthild")
    browser = browse()
    browser.sign_in(token)
    from qc_node.web.votes import cases

    shown = browser.show(cases.open_study(clinic.deps(), study))
    assert browser.vote(shown, "poor", "key-00000001", reasons=["motion"]).status_code == 201
    return study, series


def with_vote_reports(clinic: Clinic, **web: Any) -> WebDeps:
    post = vote_reporter(
        clinic.ledger,
        clinic.spool,
        ["PACS"],
        station_name="QCNODE",
        software_version="0.1",
        sr_class="comprehensive",
        clock=clinic.clock,
    )
    return replace(clinic.deps(**web), report_vote=post)


def test_vote_reports_are_off_by_default(clinic: Clinic, browse: Browse) -> None:
    vote_on(clinic, browse)
    clinic.clock.forward(60)
    FollowUp(with_vote_reports(clinic)).step()
    assert clinic.ledger.deliveries.counts() == {}


@pytest.mark.peer
def test_a_vote_becomes_a_valid_report_once_it_cannot_be_undone(
    clinic: Clinic, browse: Browse, tmp_path: Path
) -> None:
    study, series = vote_on(clinic, browse)
    keeper = FollowUp(with_vote_reports(clinic, vote_sr=True))
    keeper.step()
    assert clinic.ledger.deliveries.counts() == {}, "it may still be undone"
    clinic.clock.forward(13)
    keeper.step()
    FollowUp(with_vote_reports(clinic, vote_sr=True)).step()
    assert clinic.ledger.deliveries.counts() == {"pending": 1}, "and once only, a restart between"
    (row,) = clinic.ledger.deliveries.next_pending("PACS", clinic.clock.now + 1)
    ds = pydicom.dcmread(clinic.spool.path(row["path"]))
    said = read_vote_report(ds)
    assert said.series is not None
    assert (said.vote, said.reader.name, said.series.series_instance_uid) == ("poor", "Bode^Mechthild", series)
    assert said.study_instance_uid == study
    target = tmp_path / "vote.dcm"
    target.write_bytes(clinic.spool.path(row["path"]).read_bytes())
    (checked,) = validate([target])
    assert checked.valid, checked.errors


def test_a_vote_taken_back_is_never_sent(clinic: Clinic, browse: Browse) -> None:
    vote_on(clinic, browse)
    row = clinic.ledger.votes.all()[0]
    clinic.ledger.votes.act(
        NewAct(
            key="w",
            vote_id=row["id"],
            kind="withdrawal",
            reader_id=row["reader_id"],
            role=row["role"],
            at=row["voted_at"] + 1,
            received_at=row["voted_at"] + 1,
            source="panel",
        )
    )
    clinic.clock.forward(60)
    FollowUp(with_vote_reports(clinic, vote_sr=True)).step()
    assert clinic.ledger.deliveries.counts() == {}


def test_names_are_compared_by_their_letters(clinic: Clinic) -> None:
    reader, _ = clinic.reader("jv", name="Jörg Vogt", dicom_name=None)
    found = readers.by_person_name(clinic.ledger, "VOGT^JORG")
    assert found is not None and found.reader_id == reader.reader_id
    assert (
        readers.by_person_name(clinic.ledger, "Vogt^Jo") is None
        and readers.by_person_name(clinic.ledger, "^") is None
    )


# -- the loop ------------------------------------------------------------------------------------------
def test_whatever_a_step_raises_the_next_one_follows(clinic: Clinic, known: Reader) -> None:
    calls: list[int] = []

    def trip() -> None:
        calls.append(1)
        raise KeyError("what nobody thought of")

    keeper = FollowUp(clinic.deps(), on_forgotten=trip)
    keeper.start()
    try:
        clinic.ledger.audit.add(FORGOTTEN_EVENT, "test", 1.0, {})
        wait_for(lambda: calls)
        arrive(clinic, key_object())
        wait_for(lambda: clinic.ledger.votes.count() == 1)
        assert keeper.loop.alive()
    finally:
        keeper.stop()


def test_a_part_that_fails_keeps_no_other_part(
    clinic: Clinic, known: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[int] = []

    def trip(*args: object) -> None:
        raise KeyError("what nobody thought of")

    keeper = FollowUp(clinic.deps(), on_forgotten=lambda: forgotten.append(1))
    clinic.ledger.audit.add(FORGOTTEN_EVENT, "test", 1.0, {})
    monkeypatch.setattr(from_key_objects, "take_in", trip)
    with pytest.raises(KeyError):
        keeper.step()
    assert forgotten == [1]


def test_an_object_whose_vote_cannot_be_noted_keeps_no_later_one(
    clinic: Clinic, known: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = clinic.ledger.votes.add
    tripped: list[int] = []

    def trip_once(votes: Any) -> Any:
        if not tripped:
            tripped.append(1)
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        return add(votes)

    monkeypatch.setattr(clinic.ledger.votes, "add", trip_once)
    arrive(clinic, key_object())
    arrive(clinic, key_object())
    assert from_key_objects.take_in(clinic.deps()) == [Intake.UNREADABLE, Intake.VOTE]
    assert clinic.ledger.instances.unhandled_objects() == []


def test_a_vote_that_cannot_be_made_a_report_is_passed_over_and_said_once(
    clinic: Clinic, browse: Browse, caplog: pytest.LogCaptureFixture
) -> None:
    vote_on(clinic, browse)
    clinic.clock.forward(60)

    def trip(*args: object) -> None:
        raise KeyError("what nobody thought of")

    keeper = FollowUp(replace(clinic.deps(vote_sr=True), report_vote=trip))
    keeper.step()
    keeper.step()
    assert caplog.text.count("gets none until the next start") == 1
