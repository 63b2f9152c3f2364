"""Text decodes without loss in the character set that is declared, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_charset_files
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from qc_node.dicom.text import CharacterSet, decoded, text_bytes

JAPANESE = ("", "ISO 2022 IR 87")

DECODES = {
    "nothing declared, ASCII": ((), b"Doe^Jane ", "Doe^Jane"),
    "nothing declared, UTF-8": ((), "Müller=王^小东".encode(), "Müller=王^小东"),
    "the default declared, UTF-8": (("ISO_IR 6",), "Müller".encode(), "Müller"),
    "UTF-8 as an extension of the default": (("", "ISO_IR 192"), "Müller".encode(), "Müller"),
    "Latin-1": (("ISO_IR 100",), b"M\xfcller", "Müller"),
    "Latin-1, misspelt": (("ISO-IR 100",), b"M\xfcller", "Müller"),
    "Latin-1 that looks like UTF-8": (("ISO_IR 100",), "ü".encode(), "Ã¼"),
    "Cyrillic": (("ISO_IR 144",), b"\xbb\xee\xda", "Люк"),
    "UTF-8": (("ISO_IR 192",), "Wang^XiaoDong=王^小东".encode(), "Wang^XiaoDong=王^小东"),
    "UTF-8 in another spelling": (("utf-8",), "王".encode(), "王"),
    "GB18030": (("GB18030",), "Wang=王^小东㐀".encode("gb18030"), "Wang=王^小东㐀"),
    "GB18030, a second byte that is a backslash": (("GB18030",), b"\x81\x5c^\x81\x5e", "乗^乛"),
    "GBK": (("GBK",), "王^小东".encode("gbk"), "王^小东"),
    "GB18030 beside UTF-8, which no set may stand beside": (
        ("GB18030", "ISO IR 192"),
        "王".encode("gb18030"),
        "王",
    ),
    # PS3.5 H.3.1, H.3.2, I.2, K.2
    "Japanese": (
        JAPANESE,
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "Japanese, half-width": (
        ("ISO 2022 IR 13", "ISO 2022 IR 87"),
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "Japanese, alone": (("ISO 2022 IR 87",), b"\x1b$B;3ED\x1b(B", "山田"),
    "Japanese, a character whose bytes are delimiters": (JAPANESE, b"A=\x1b$B==\x1b(B", "A=十"),
    "Japanese, no way back to ASCII at the end": (JAPANESE, b"A=\x1b$B;3ED", "A=山田"),
    "Japanese, padded before the way back": (JAPANESE, b"A=\x1b$B;3ED ", "A=山田"),
    "Korean": (
        ("", "ISO 2022 IR 149"),
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "Chinese": (
        ("", "ISO 2022 IR 58"),
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
        "Zhang^XiaoDong=张^小东",
    ),
    "two alphabets; a delimiter brings back the first": (
        ("ISO 2022 IR 100", "ISO 2022 IR 144"),
        b"M\xfcller=\x1b-L\xbb\xee^\xfc",
        "Müller=Лю^ü",
    ),
    "ASCII in an unknown set": (("ISO_IR 999",), b"Doe", "Doe"),
}


@pytest.mark.parametrize("case", DECODES)
def test_what_decodes(case: str) -> None:
    terms, data, text = DECODES[case]
    assert CharacterSet(terms).decode(data, "PN") == text


NOT_DECODED = {
    "nothing declared, Latin-1": ((), b"M\xfcller"),
    "nothing declared, escapes": ((), b"\x1b$B;3ED\x1b(B"),
    "Shift-JIS called Latin-1": (("ISO_IR 100",), "山田^太郎".encode("shift_jis")),
    "Windows signs called Latin-1": (("ISO_IR 100",), "Dvořák–Žižka".encode("cp1250")),
    "Latin-1 called UTF-8": (("ISO_IR 192",), b"M\xfcller"),
    "escapes called UTF-8": (("ISO_IR 192",), b"\x1b$B;3ED\x1b(B"),
    "an unknown set": (("ISO_IR 999",), b"M\xfcller"),
    "half an escape": (JAPANESE, b"A=\x1b$"),
    "half a character": (JAPANESE, b"A=\x1b$B;3E"),
    "a set that is not declared": (JAPANESE, b"A=\x1b$)C\xfb\xf3"),
    "high bytes before any escape": (JAPANESE, "山田".encode("shift_jis")),
    "Latin-1 called Korean": (("", "ISO 2022 IR 149"), b"M\xfcller"),
}


@pytest.mark.parametrize("case", NOT_DECODED)
def test_what_does_not_decode(case: str) -> None:
    terms, data = NOT_DECODED[case]
    assert CharacterSet(terms).decode(data, "PN") is None


def raw(**texts: bytes) -> Dataset:
    ds = Dataset()
    for keyword, data in texts.items():
        tag = Tag(keyword)
        ds._dict[tag] = RawDataElement(tag, "LO", len(data), data, 0, False, True)
    return ds


def test_reading_changes_nothing_and_takes_what_is_no_text_for_none() -> None:
    ds = raw(SpecificCharacterSet=b"ISO_IR 100 ", PatientName=b"M\xfcller", PatientID=b"")
    ds.SeriesNumber, ds.ProcedureCodeSequence = 5, []
    assert CharacterSet.of(ds).terms == ("ISO_IR 100",)
    assert decoded(ds, "PatientName") == "Müller"
    assert ds.get_item("PatientName").value == b"M\xfcller"
    assert [text_bytes(ds, k) for k in ("PatientID", "StudyID", "ProcedureCodeSequence")] == [None] * 3


def test_an_item_has_the_character_set_around_it_unless_it_declares_one() -> None:
    around = CharacterSet(("ISO_IR 144",))
    assert decoded(raw(CodeMeaning=b"\xbb\xee"), "CodeMeaning", around) == "Лю"
    own = raw(SpecificCharacterSet=b"ISO_IR 100", CodeMeaning=b"\xfc")
    assert decoded(own, "CodeMeaning", around) == "ü"


def test_the_examples_that_come_with_pydicom_decode_as_pydicom_reads_them() -> None:
    names = {}
    for path in get_charset_files("*.dcm"):
        raw, read = dcmread(path), dcmread(path)
        if "PatientName" in read:
            names[Path(path).name] = decoded(raw, "PatientName"), str(read.PatientName)
    assert len(names) >= 13
    assert [name for name, (ours, theirs) in names.items() if str(ours).rstrip("=") != theirs.rstrip("=")] == []
