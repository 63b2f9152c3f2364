"""Reports on sources that are out of order: empty, broken, in odd character sets, de-identified."""

from __future__ import annotations

import datetime

import pytest
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from qc_node.domain import InstanceRef
from qc_node.report import codes
from qc_node.report.items import codes_named
from tests.report.sources import report, source, written


def test_empty_source_gives_a_report_with_empty_type_2_attributes() -> None:
    header = Dataset()
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds = written(report(header=header))
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
    ):
        assert keyword in ds and not ds[keyword].value
    assert ds.SeriesNumber == 90000
    assert codes_named(ds, codes.PROCEDURE_REPORTED) == [codes.PROCEDURE_OTHER]


BROKEN = {
    "PatientBirthDate": b"not a date",
    "PatientSex": b"female",
    "PatientAge": b"abc",
    "PatientWeight": b"80 kg",
    "PatientSize": b"1,80",
    "StudyDate": b"20261399",
    "StudyTime": b"25:99",
    "SeriesNumber": b"five",
    "StudyDescription": b"\\".join([b"x" * 90, b"\x00\x01"]),
    "PatientComments": b"\xff\xfe\x80",
    "TimezoneOffsetFromUTC": b"Berlin",
    "EthnicGroup": b"\x1b$B",
    "PhysiciansOfRecord": b"A\\B",
}


@pytest.mark.parametrize("keyword", BROKEN)
def test_broken_value_never_raises_and_never_reaches_the_report_unreadable(keyword: str) -> None:
    from pydicom.datadict import dictionary_VR

    header = source()
    tag = Tag(keyword)
    data = BROKEN[keyword]
    header._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(data), data, 0, False, True)
    ds = written(report(header=header))
    for element in ds:
        assert element.VR != "UN"
        if element.tag == tag and element.VR in ("DA", "TM", "CS", "AS", "DS"):
            assert not element.value


def test_every_value_broken_at_once() -> None:
    from pydicom.datadict import dictionary_VR

    header = source()
    for keyword, data in BROKEN.items():
        tag = Tag(keyword)
        header._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(data), data, 0, False, True)
    assert written(report(header=header)).PatientID == "QC-1"


def test_sequence_where_text_should_be_is_left_out() -> None:
    from pydicom.dataelem import DataElement
    from pydicom.sequence import Sequence as DicomSequence

    header = source()
    header[0x00100020] = DataElement(0x00100020, "SQ", DicomSequence([Dataset()]))
    assert written(report(header=header)).PatientID in ("", None)


def test_old_dates_and_times_are_brought_up_to_date() -> None:
    header = source()
    with config.disable_value_validation():
        header.StudyDate, header.StudyTime = "1997.01.02", "10:20:30"
        ds = written(report(header=header))
    assert (ds.StudyDate, ds.StudyTime) == ("19970102", "102030")


def test_identity_is_kept_even_where_it_is_too_long() -> None:
    long_id = "X" * 80
    with config.disable_value_validation():
        ds = written(report(header=source(PatientID=long_id, AccessionNumber="A" * 20)))
        assert (ds.PatientID, ds.AccessionNumber) == (long_id, "A" * 20)


def test_creation_time_is_on_the_clock_of_the_images() -> None:
    at = datetime.datetime(2026, 1, 2, 23, 30, tzinfo=datetime.UTC)
    ds = written(report(header=source(TimezoneOffsetFromUTC="+0100"), created=at))
    assert (ds.ContentDate, ds.ContentTime[:6], ds.TimezoneOffsetFromUTC) == ("20260103", "003000", "+0100")
    plain = written(report(created=at))
    assert (plain.ContentDate, plain.ContentTime[:6]) == ("20260102", "233000")
    assert "TimezoneOffsetFromUTC" not in plain


def test_de_identified_images_give_a_de_identified_report() -> None:
    ds = written(report(header=source(PatientIdentityRemoved="YES", DeidentificationMethod="CTP")))
    assert (ds.PatientIdentityRemoved, ds.DeidentificationMethod) == ("YES", "CTP")
    assert "PatientIdentityRemoved" not in report(header=source(PatientIdentityRemoved="YES"))


def test_path_like_uids_are_only_words() -> None:
    refs = [InstanceRef("1.2.840.10008.5.1.4.1.1.4", "../../../etc/evil")]
    ds = report(evidence=refs)
    assert ds.SOPInstanceUID.startswith("2.25.")
