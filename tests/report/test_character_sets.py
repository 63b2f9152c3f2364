"""Text of the images in reports: UTF-8 where all of it decodes, else their bytes, their declaration and a note."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag

from qc_node.dicom.patient import same_patient
from qc_node.report.character_set import note
from qc_node.report.modules import source_text
from qc_node.report.reading import read_report
from tests.dicom.test_text import DECODES, NOT_DECODED
from tests.peers.process import require
from tests.peers.validators import validate
from tests.report.sources import as_bytes, evidence, report, source, written
from tests.report.test_key_objects import flag
from tests.report.test_valid import headers, report_on
from tests.report.test_vote_report import vote

Builder = Callable[[Dataset], Dataset]
BUILDERS: dict[str, Builder] = {
    "report": lambda header: report(header=header, warnings=["≥ 5 mm: „Größe“"]),
    "flag": lambda header: flag(header=header),
    "vote": lambda header: vote("poor", header=header),
}


def with_bytes(terms: tuple[str, ...] = (), **texts: bytes) -> Dataset:
    """A header that came from a file with these bytes in it."""
    header = source()
    declared = {"SpecificCharacterSet": "\\".join(terms).encode()} if any(terms) else {}
    for keyword, data in (declared | texts).items():
        put(header, keyword, data)
    return header


def put(ds: Dataset, keyword: str, data: bytes) -> None:
    tag = Tag(keyword)
    data += b" " * (len(data) % 2)
    ds._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(data), data, 0, False, True)


def bytes_of(ds: Dataset, keyword: str) -> bytes:
    """What stands in the file, without padding."""
    value: Any = pydicom.dcmread(io.BytesIO(as_bytes(ds))).get_item(keyword).value
    assert value is None or isinstance(value, bytes)
    return (value or b"").rstrip(b" \0")


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("case", DECODES)
def test_what_decodes_is_written_in_utf8(case: str, kind: str) -> None:
    terms, data, text = DECODES[case]
    made = BUILDERS[kind](with_bytes(terms, PatientName=data, ReferringPhysicianName=data))
    assert bytes_of(made, "PatientName") == bytes_of(made, "ReferringPhysicianName") == text.encode()
    needs_none = text.isascii() and not terms and kind != "report"
    assert written(made).get("SpecificCharacterSet") == (None if needs_none else "ISO_IR 192")


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("case", NOT_DECODED)
def test_what_does_not_decode_is_copied_byte_for_byte_with_its_declaration(case: str, kind: str) -> None:
    terms, data = NOT_DECODED[case]
    header = with_bytes(terms, PatientName=data, StudyDescription="Schädel".encode("latin-1"), PatientID=b"QC-1")
    made = BUILDERS[kind](header)
    assert bytes_of(made, "PatientName") == data
    assert bytes_of(made, "StudyDescription") == "Schädel".encode("latin-1")
    declared = written(made).get("SpecificCharacterSet")
    assert declared == (None if not terms else terms[0] if len(terms) == 1 else list(terms))


def test_a_note_says_that_text_was_copied_and_what_the_node_writes_is_ascii_then() -> None:
    terms, data = NOT_DECODED["Shift-JIS called Latin-1"]
    said = read_report(written(report(header=with_bytes(terms, PatientName=data), warnings=["≥ 5 mm: „Größe“"])))
    quoted, note = said.warnings
    assert quoted == ">= 5 mm: ?Grosse?"
    assert "does not decode in the character set that they declare (ISO_IR 100)" in note
    _, undeclared = read_report(
        written(report(header=with_bytes(PatientName=b"M\xfcller"), warnings=["x"]))
    ).warnings
    assert "no character set is declared" in undeclared


def test_an_attribute_more_that_does_not_decode_keeps_the_whole_object() -> None:
    made = report(header=with_bytes(("ISO_IR 192",), PatientName="Müller".encode(), PatientComments=b"\xff\xfe"))
    assert bytes_of(made, "PatientName") == "Müller".encode()
    assert bytes_of(made, "PatientComments") == b"\xff\xfe"
    assert written(made).SpecificCharacterSet == "ISO_IR 192"
    assert len(read_report(written(made)).warnings) == 1


@pytest.mark.parametrize("terms", ["rot13", "utf_16", "a\x00b", "ÄÖÜ", "ISO_IR 100" * 9])
def test_a_declaration_that_would_mislead_a_reader_is_left_out(terms: str) -> None:
    header = with_bytes(PatientName=b"M\xfcller")
    put(header, "SpecificCharacterSet", terms.encode("latin-1"))
    made = report(header=header)
    assert bytes_of(made, "PatientName") == b"M\xfcller"
    assert "SpecificCharacterSet" not in written(made)


def test_ascii_without_a_declaration_needs_none() -> None:
    assert "SpecificCharacterSet" not in written(report())
    assert written(report(warnings=["≥ 5 mm"])).SpecificCharacterSet == "ISO_IR 192"


def test_a_header_that_was_used_once_gives_the_same_again() -> None:
    header = with_bytes(("", "ISO 2022 IR 87"), PatientName=DECODES["Japanese"][1])
    assert as_bytes(report(header=header)) == as_bytes(report(header=header))
    broken = with_bytes(PatientName=b"M\xfcller")
    assert as_bytes(report(header=broken)) == as_bytes(report(header=broken))


@pytest.mark.parametrize("keyword", ["PatientID", "PatientName"])
@pytest.mark.parametrize("case", [*DECODES, *NOT_DECODED])
def test_images_and_their_report_name_one_patient(case: str, keyword: str) -> None:
    terms, data, *_ = DECODES.get(case) or NOT_DECODED[case]
    header = with_bytes(terms, **({"PatientID": b"", keyword: data}))
    first = report(header=header)
    assert same_patient(written(first), header)
    assert not same_patient(written(first), with_bytes(terms, **({"PatientID": b"", keyword: b"Other"})))
    assert as_bytes(report(header=header)) == as_bytes(first), "comparing changes nothing"


# -- what is too long --------------------------------------------------------------------------------
def test_limits_are_characters_not_bytes() -> None:
    umlauts = ("ü" * 64).encode("latin-1")
    ds = written(
        report(
            header=with_bytes(
                ("ISO_IR 100",), StudyDescription=umlauts, ReferringPhysicianName=umlauts, StudyID=b"\xfc" * 16
            )
        )
    )
    assert ds.StudyDescription == ds.ReferringPhysicianName == "ü" * 64
    assert ds.StudyID == "ü" * 16


def test_descriptions_are_cut_and_parts_of_ids_and_names_left_out() -> None:
    header = with_bytes(
        ("ISO_IR 100",),
        StudyDescription=b"\xfc" * 65,
        StudyID=b"\xfc" * 17,
        ReferringPhysicianName=b"\xfc" * 65 + b"=x",
        PhysiciansOfRecord=b"A^B\\" + b"\xfc" * 65,
    )
    ds = written(report(header=header))
    assert ds.StudyDescription == "ü" * 64
    assert not ds.StudyID and not ds.ReferringPhysicianName
    assert ds.PhysiciansOfRecord == "A^B"


@pytest.mark.parametrize("terms", [("ISO_IR 100",), ()])
@pytest.mark.parametrize("keyword", ["PatientID", "IssuerOfPatientID", "AccessionNumber", "PatientName"])
def test_identity_is_copied_whole_converted_or_not(keyword: str, terms: tuple[str, ...]) -> None:
    data = b"\xfc" * 300
    made = report(header=with_bytes(terms, **{keyword: data}))
    assert bytes_of(made, keyword) == (("ü" * 300).encode() if terms else data)


def test_too_long_values_are_not_copied_as_bytes_unless_they_are_identity() -> None:
    made = report(header=with_bytes(PatientName=b"M\xfcller", StudyDescription=b"\xfc" * 65, StudyID=b"1" * 17))
    ds = written(made)
    assert "StudyDescription" not in ds and not ds.StudyID


# -- codes -------------------------------------------------------------------------------------------
def with_code(own: str | None, meaning: bytes, terms: tuple[str, ...] = (), value: bytes = b"X1") -> Dataset:
    item = Dataset()
    for keyword, data in (("CodeValue", value), ("CodingSchemeDesignator", b"99X"), ("CodeMeaning", meaning)):
        put(item, keyword, data)
    if own is not None:
        put(item, "SpecificCharacterSet", own.encode())
    header = with_bytes(terms)
    header.ProcedureCodeSequence = DicomSequence([item])
    return header


@pytest.mark.parametrize(
    ("own", "terms", "data", "text"),
    [
        ("ISO_IR 144", ("ISO_IR 100",), b"\xbb\xee", "Лю"),
        (None, ("ISO_IR 100",), b"\xfc", "ü"),
        (None, (), "王".encode(), "王"),
        ("\\ISO 2022 IR 87", (), b"\x1b$B;3ED\x1b(B", "山田"),
    ],
)
def test_codes_are_converted_from_the_character_set_of_their_item(
    own: str | None, terms: tuple[str, ...], data: bytes, text: str
) -> None:
    ds = written(report(header=with_code(own, data, terms)))
    (code,) = ds.ProcedureCodeSequence
    assert code.CodeMeaning == text and "SpecificCharacterSet" not in code
    assert ds.SpecificCharacterSet == "ISO_IR 192"


def test_a_code_that_does_not_decode_keeps_its_bytes_and_the_declaration_of_its_item() -> None:
    made = report(header=with_code("ISO_IR 192", b"\xfc", ("ISO_IR 100",)))
    read = written(made)
    assert read.SpecificCharacterSet == "ISO_IR 100"
    (code,) = read.ProcedureCodeSequence
    assert code.SpecificCharacterSet == "ISO_IR 192"
    assert code.get_item("CodeMeaning").value.rstrip() == b"\xfc"


def test_the_part_of_a_code_is_no_code() -> None:
    assert "ProcedureCodeSequence" not in report(header=with_code(None, b"meaning", value=b"1" * 17))
    (code,) = report(header=with_code(None, b"m" * 70)).ProcedureCodeSequence
    assert code.CodeMeaning == "m" * 64


# -- others read it ----------------------------------------------------------------------------------
INVALID_IN_THE_IMAGES = ("Character invalid for character repertoire", "contains invalid data values")


@pytest.mark.peer
def test_every_case_is_valid_or_as_invalid_as_the_text_of_the_images(tmp_path: Path) -> None:
    paths = {}
    for kind, build in BUILDERS.items():
        for number, (terms, data, _) in enumerate(DECODES.values()):
            paths[tmp_path / f"good-{kind}-{number}.dcm"] = build(with_bytes(terms, PatientName=data))
        for number, (terms, data) in enumerate(NOT_DECODED.values()):
            paths[tmp_path / f"kept-{kind}-{number}.dcm"] = build(with_bytes(terms, PatientName=data))
    for path, made in paths.items():
        path.write_bytes(as_bytes(made))
    verdicts = validate(list(paths))
    assert {v.path.name: v.errors for v in verdicts if v.path.name.startswith("good") and not v.valid} == {}
    kept = [e for v in verdicts if v.path.name.startswith("kept") for e in v.errors]
    assert [e for e in kept if not any(known in e for known in INVALID_IN_THE_IMAGES)] == []


@pytest.mark.peer
def test_dcmtk_reads_the_name_of_every_case_that_decodes(tmp_path: Path) -> None:
    (program,) = require("dcm2json")
    for number, (terms, data, text) in enumerate(DECODES.values()):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(as_bytes(report(header=with_bytes(terms, PatientName=data))))
        shown: Any = json.loads(subprocess.run([program, str(path)], capture_output=True, check=True).stdout)
        (name,) = shown["00100010"]["Value"]
        groups = [name.get(k, "") for k in ("Alphabetic", "Ideographic", "Phonetic")]
        assert "=".join(groups).rstrip("=") == text


@pytest.mark.data
def test_odd_objects_give_reports_in_one_character_set_or_with_a_note(shared_data: Path) -> None:
    found = headers(shared_data / "dicom" / "interoperability.tar.xz")
    converted = {}
    for name, header in found.items():
        text = source_text(header)
        ds = written(report_on(header, evidence()))
        if note(text) is None:
            assert ds.get("SpecificCharacterSet") in (None, "ISO_IR 192"), name
            said = text.of("PatientName")
            assert str(ds.PatientName).rstrip("=") == str(said or "").rstrip("="), name
            if said and not said.isascii():
                converted[name] = said
        else:
            assert len(read_report(ds).warnings) == 2, name
    assert len(found) > 180
    assert converted == {"015_chrJapMulti.dcm": "やまだ^たろう"}
