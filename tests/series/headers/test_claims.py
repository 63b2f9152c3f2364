"""What headers claim, broken ones included."""

from __future__ import annotations

import io

import pytest
from pydicom import Dataset, config, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.series.headers.claims import read_claims
from tests.series.makers import item


def mr(**values: object) -> Dataset:
    ds = Dataset()
    ds.Modality = "MR"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def test_claims_are_found_and_trimmed() -> None:
    claims = read_claims(
        mr(
            Manufacturer=" SIEMENS ",
            ManufacturerModelName="Prisma",
            MagneticFieldStrength="30000",
            SeriesDescription="t1_mprage_KM",
            ScanningSequence=["GR", "IR"],
            SliceThickness="1.0",
            ContrastBolusAgent="Dotarem",
            BodyPartExamined="BRAIN",
            MRAcquisitionType="3D",
        )
    )
    assert claims.manufacturer == "SIEMENS" and claims.field_strength_t == 3.0
    assert claims.scanning_sequence == ("GR", "IR") and claims.slice_thickness_mm == 1.0
    assert claims.contrast_words and claims.gadolinium_words and claims.contrast_agent == "Dotarem"


def test_order_comes_from_every_place_where_it_stands_once() -> None:
    ds = mr(
        RequestedProcedureDescription="MRI brain",
        RequestedProcedureCodeSequence=item(CodeMeaning="MR head", CodeValue="MRHD1"),
        ProcedureCodeSequence=item(CodeMeaning="MRI brain"),
        RequestAttributesSequence=item(
            RequestedProcedureDescription="MRI brain", ScheduledProcedureStepDescription="Brain with contrast"
        ),
        StudyDescription="Kopf",
    )
    claims = read_claims(ds)
    assert claims.ordered == ("MRI brain", "MR head", "Brain with contrast", "MRHD1")
    assert claims.study_description == "Kopf"


@pytest.mark.parametrize(
    ("series", "study", "agent", "words"),
    [
        ("T1 PRE", "Brain with contrast", None, False),
        ("T1", "Brain with contrast", None, True),
        ("T1", "Brain", None, False),
        ("T1 nativ", "Brain", "Dotarem", True),
        ("T1", "Brain", "off", False),
        ("T1 +C", "Brain without contrast", None, True),
    ],
)
def test_the_words_of_the_series_come_before_those_of_the_study(
    series: str, study: str, agent: str | None, words: bool
) -> None:
    ds = mr(SeriesDescription=series, StudyDescription=study)
    if agent:
        ds.ContrastBolusAgent = agent
    claims = read_claims(ds)
    assert claims.contrast_words is words and claims.gadolinium_words is words


def test_iodine_is_no_gadolinium() -> None:
    ds = mr(SeriesDescription="Abdomen portal venous", ContrastBolusAgent="Omnipaque")
    ds.Modality = "CT"
    claims = read_claims(ds)
    assert claims.contrast_words and not claims.gadolinium_words


def test_enhanced_objects_keep_their_thickness_in_groups() -> None:
    shared = Dataset()
    shared.PixelMeasuresSequence = item(SliceThickness=1.2)
    assert read_claims(mr(SharedFunctionalGroupsSequence=Sequence([shared]))).slice_thickness_mm == 1.2


@pytest.mark.parametrize(
    ("declared", "data", "text"),
    [
        (None, "造影 ガドビスト".encode(), "造影 ガドビスト"),
        (None, b"Sch\xe4del", "Schädel"),
        ("ISO_IR 100", "ü".encode(), "Ã¼"),
        ("GB18030", "造影".encode("gb18030"), "造影"),
    ],
)
def test_undeclared_utf8_is_read_as_such_and_what_is_declared_as_declared(
    declared: str | None, data: bytes, text: str
) -> None:
    ds = mr(StudyInstanceUID="1.2", file_meta=FileMetaDataset(), SpecificCharacterSet=declared or "")
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    code = item(CodeMeaning="x", CodeValue="x")
    ds.RequestedProcedureCodeSequence = code
    data += b" " * (len(data) % 2)
    for target, keyword in ((ds, "SeriesDescription"), (code[0], "CodeMeaning")):
        tag = Tag(keyword)
        target[tag] = DataElement(tag, "LO", data, validation_mode=config.IGNORE)
    buffer = io.BytesIO()
    ds.save_as(buffer, implicit_vr=False, little_endian=True)
    claims = read_claims(dcmread(io.BytesIO(buffer.getvalue()), force=True))
    assert claims.series_description == text
    assert text in claims.ordered


@pytest.mark.parametrize("charset", ["ISO_IR 192", "NO SUCH SET", "ISO 2022 IR 87", "\\ISO 2022 IR 149", ""])
def test_odd_character_sets_never_raise(charset: str) -> None:
    ds = mr(SpecificCharacterSet=charset.split("\\"), SeriesDescription="x")
    ds._dict[Tag("SeriesDescription")] = RawDataElement(
        Tag("SeriesDescription"), "LO", 4, b"\xff\x1b$B", 0, False, True
    )
    assert read_claims(ds).modality == "MR"


def test_a_series_fills_what_the_first_image_leaves_out() -> None:
    claims = read_claims(mr(), [mr(SeriesDescription="T1 SAG", SliceThickness="2")])
    assert claims.series_description == "T1 SAG" and claims.slice_thickness_mm == 2.0


@pytest.mark.parametrize("keyword", ["SliceThickness", "MagneticFieldStrength", "ContrastBolusVolume"])
@pytest.mark.parametrize("value", [b"", b"abc", b"1,5", b"nan", b"inf", b"-3", b"1\\2", b"\xff\xfe"])
def test_broken_numbers_are_no_claims(keyword: str, value: bytes) -> None:
    ds = mr()
    ds._dict[Tag(keyword)] = RawDataElement(Tag(keyword), "DS", len(value), value, 0, False, True)
    claims = read_claims(ds)
    assert claims.slice_thickness_mm in (None, 1.0) and claims.field_strength_t in (None, 1.0)


def test_free_text_is_bounded_and_printable() -> None:
    text = read_claims(mr(SeriesDescription="a\tb\x07" * 5000)).series_description
    assert text is not None and len(text) <= 256 and text.isprintable()


def test_a_data_set_without_anything_claims_nothing() -> None:
    assert read_claims(Dataset()).as_dict() == {"contrast_words": False, "gadolinium_words": False}
    assert read_claims(dcmread(io.BytesIO(b""), force=True)).modality == ""
