"""Votes from the PACS itself: key objects made by highdicom and by DCMTK, and those that must not count."""

from __future__ import annotations

import io
import subprocess
from datetime import datetime
from pathlib import Path

import highdicom as hd
import pydicom
import pytest
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from qc_node.ledger import NewAct, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.report.key_objects import build_flag
from qc_node.report.vote_report import read_vote_report
from qc_node.web.access import readers
from qc_node.web.votes import from_key_objects
from qc_node.web.votes.exchange import export_rows
from qc_node.web.votes.from_key_objects import Intake
from qc_node.web.votes.housekeeping import Housekeeping
from qc_node.web.votes.to_pacs import poster
from tests.peers import environment, require, validate
from tests.report.sources import CREATED, MR_IMAGE, evidence, key, source
from tests.web.conftest import rejected

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
    title=POOR,
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
        attributes = DeviceObserverIdentifyingAttributes(uid=generate_uid(), name="ROUTER")
        what = ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), attributes)
    content = hd.ko.KeyObjectSelection(
        document_title=dcm(title),
        referenced_objects=[image()],
        observer_person_context=who,
        observer_device_context=what,
    )
    ds = hd.ko.KeyObjectSelectionDocument(
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


def arrive(house, ds: Dataset) -> str:
    """The door has taken in this object."""
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    uid = str(ds.SOPInstanceUID)
    name = house.spool.image_name(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), uid)
    house.spool.store(name, stream.getvalue())
    house.ledger.instances.add(
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
                house.clock.now,
                opens_series=False,
            )
        ]
    )
    return uid


@pytest.fixture
def known(house):
    """A department with one reader and the series that key objects point at."""
    ds = source()
    house.receive(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))
    reader, _ = house.reader(dicom_name="Bode^Mechthild", name="M. B.")
    return reader


@pytest.mark.parametrize(
    ("title", "reason", "vote", "reasons"),
    [
        (POOR, ("111210", "Motion blur"), "poor", ["motion"]),
        (GOOD, None, "good", []),
        (REJECTED, ("111209", "Positioning"), "poor", ["positioning"]),
    ],
)
def test_a_known_readers_key_object_is_a_vote(house, known, title, reason, vote, reasons):
    uid = arrive(house, key_object(title, reason=reason))
    assert from_key_objects.take_in(house.deps()) == [Intake.VOTE]
    (row,) = house.ledger.votes.of_subject(str(source().StudyInstanceUID), None)
    assert (row["vote"], row["reasons"], row["source"], row["reader_id"]) == (
        vote,
        reasons,
        "key_object",
        known.reader_id,
    )
    assert (row["series_uid"], row["modality"], row["site"]) == (str(source().SeriesInstanceUID), "MR", "Potsdam")
    assert row["voted_at"] == datetime.fromisoformat("2026-01-02T10:15:00+01:00").timestamp()
    assert row["sop_instance_uid"] == uid and house.counted == [(vote, "Potsdam", "MR")]
    assert from_key_objects.take_in(house.deps()) == [], "once"


def test_by_login(house):
    reader, _ = house.reader("mbh")
    arrive(house, key_object(person="Somebody^Else", login="MBH"))
    assert from_key_objects.take_in(house.deps()) == [Intake.VOTE]
    assert house.ledger.votes.all()[0]["reader_id"] == reader.reader_id


@pytest.mark.parametrize("who", ["stranger", "device", "nobody", "disabled", "two of that name"])
def test_others_leave_a_mark_without_author_that_is_never_exported(house, known, who):
    ds = key_object(
        person={"stranger": "X^Y", "device": None, "nobody": None}.get(who, "Bode^Mechthild"),
        device=who == "device",
    )
    if who == "disabled":
        readers.disable(house.ledger, known.login, 1.0)
    if who == "two of that name":
        house.reader("second", name="Mechthild Bode")
    arrive(house, ds)
    assert from_key_objects.take_in(house.deps()) == [Intake.MARK]
    assert house.ledger.votes.count() == 0 and list(export_rows(house.ledger)) == []
    (mark,) = house.ledger.votes.marks_of(str(source().StudyInstanceUID))
    assert mark["vote"] == "poor" and mark["why_no_vote"]


def test_our_own_flag_sent_back_by_a_router_is_nothing_even_with_another_uid(house, known):
    ds = build_flag(
        source(), evidence(), key(source()), rejected(), software_version="1", node="QCNODE", created=CREATED
    )
    house.ledger.deliveries.post(
        [WrittenObject(str(ds.SOPInstanceUID), str(ds.SOPClassUID), None, "1", 1, "kos", "x")], [], 1.0
    )
    arrive(house, ds)
    assert from_key_objects.take_in(house.deps()) == [Intake.OURS]
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    arrive(house, ds)
    assert from_key_objects.take_in(house.deps()) == [Intake.MARK], "a device made it"
    assert house.ledger.votes.count() == 0


def test_other_objects_and_broken_ones_are_passed_over_once(house, known):
    arrive(house, key_object(OF_INTEREST))
    broken = key_object()
    uid = arrive(house, broken)
    row = house.ledger.instances.unhandled_objects()[-1]
    house.spool.store(row["path"], b"not DICOM at all")
    assert from_key_objects.take_in(house.deps()) == [Intake.NOT_ABOUT_QUALITY, Intake.UNREADABLE]
    assert house.ledger.instances.unhandled_objects() == [] and house.ledger.votes.by_key("x", uid) is None


@pytest.mark.peer
def test_a_key_object_made_by_dcmtk_is_a_vote(house, known, tmp_path: Path):
    dsr2xml, xml2dsr = require("dsr2xml", "xml2dsr")
    template, xml, made = (tmp_path / name for name in ("template.dcm", "ko.xml", "made.dcm"))
    key_object(GOOD).save_as(template, enforce_file_format=True)
    subprocess.run([dsr2xml, template, xml], check=True, env=environment())
    subprocess.run([xml2dsr, "+Ug", xml, made], check=True, env=environment())
    ds = pydicom.dcmread(made)
    assert ds.file_meta.ImplementationVersionName.startswith("OFFIS")
    arrive(house, ds)
    assert from_key_objects.take_in(house.deps()) == [Intake.VOTE]
    assert house.ledger.votes.all()[0]["vote"] == "good"


# -- votes as reports ----------------------------------------------------------------------------------
def vote_on(house, browse, **web):
    ds = source()
    study, series = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)
    stream = io.BytesIO()
    header = image()
    header.Rows = header.Columns = 1
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    pydicom.dcmwrite(stream, header, enforce_file_format=True)
    name = house.spool.image_name(study, series, str(ds.SOPInstanceUID))
    house.spool.store(name, stream.getvalue())
    house.ledger.instances.add(
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
                house.clock.now,
            )
        ]
    )
    _, token = house.reader(dicom_name="Bode^Mechthild")
    browser = browse()
    browser.sign_in(token)
    from qc_node.web.votes import cases

    shown = browser.show(cases.open_study(house.deps(), study))
    assert browser.vote(shown, "poor", "key-00000001", reasons=["motion"]).status_code == 201
    return study, series


def with_poster(house, **web):
    from dataclasses import replace

    post = poster(
        house.ledger, house.spool, ["PACS"], station_name="QCNODE", software_version="0.1", clock=house.clock
    )
    return replace(house.deps(**web), post_vote=post)


def test_vote_reports_are_off_by_default(house, browse):
    vote_on(house, browse)
    house.clock.forward(60)
    Housekeeping(with_poster(house)).step()
    assert house.ledger.deliveries.counts() == {}


@pytest.mark.peer
def test_a_vote_becomes_a_valid_report_once_it_cannot_be_undone(house, browse, tmp_path: Path):
    study, series = vote_on(house, browse)
    keeper = Housekeeping(with_poster(house, vote_sr=True))
    keeper.step()
    assert house.ledger.deliveries.counts() == {}, "it may still be undone"
    house.clock.forward(13)
    keeper.step()
    Housekeeping(with_poster(house, vote_sr=True)).step()
    assert house.ledger.deliveries.counts() == {"pending": 1}, "and once only, a restart between"
    (row,) = house.ledger.deliveries.next_pending("PACS", house.clock.now + 1)
    ds = pydicom.dcmread(house.spool.path(row["path"]))
    said = read_vote_report(ds)
    assert (said.vote, said.reader.name, said.series.series_instance_uid) == ("poor", "Bode^Mechthild", series)
    assert said.study_instance_uid == study
    target = tmp_path / "vote.dcm"
    target.write_bytes(house.spool.path(row["path"]).read_bytes())
    (checked,) = validate([target])
    assert checked.valid, checked.errors


def test_a_vote_taken_back_is_never_sent(house, browse):
    vote_on(house, browse)
    row = house.ledger.votes.all()[0]
    house.ledger.votes.act(
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
    house.clock.forward(60)
    Housekeeping(with_poster(house, vote_sr=True)).step()
    assert house.ledger.deliveries.counts() == {}


def test_names_are_compared_by_their_letters(house):
    reader, _ = house.reader("jv", name="Jörg Vogt", dicom_name=None)
    assert readers.by_person_name(house.ledger, "VOGT^JORG").reader_id == reader.reader_id
    assert (
        readers.by_person_name(house.ledger, "Vogt^Jo") is None
        and readers.by_person_name(house.ledger, "^") is None
    )
