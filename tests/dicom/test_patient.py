"""Whose a file is, and the pseudonym of a patient."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from qc_node.dicom.patient import PatientIdentity, key_mark, means, pseudonym, read_identity
from qc_node.spool import Spool
from tests.end_to_end.node_process import ct_sample, write_series

KEY, OTHER = b"k" * 32, b"o" * 32


def test_a_pseudonym_begins_as_its_patient_does_whoever_issued_the_number() -> None:
    north, south, nobody = (pseudonym(KEY, "4711", issuer) for issuer in ("NORTH", "SOUTH", ""))
    assert len({north, south, nobody}) == 3
    assert all(name.startswith(means(KEY, "4711")) for name in (north, south, nobody))
    assert means(KEY, "4711", "NORTH") == north and means(KEY, "4711", "") == nobody
    assert not north.startswith(means(KEY, "471")) and not pseudonym(KEY, "47112").startswith(means(KEY, "4711"))


def test_a_pseudonym_holds_nothing_of_the_patient_and_depends_on_the_key() -> None:
    assert "4711" not in pseudonym(KEY, "4711" * 3) and pseudonym(KEY, "4711") != pseudonym(OTHER, "4711")
    assert pseudonym(KEY, "4711").startswith(key_mark(KEY)) and key_mark(KEY) != key_mark(OTHER)
    assert pseudonym(KEY, "") == ""


@pytest.mark.parametrize(("charset", "name"), [("ISO_IR 100", "Müller-7"), ("ISO_IR 192", "山田-7")])
def test_a_file_says_whose_it_is_in_its_own_character_set(tmp_path: Path, charset: str, name: str) -> None:
    (path,) = write_series(ct_sample(1), tmp_path)
    ds = pydicom.dcmread(path)
    ds.SpecificCharacterSet, ds.PatientID, ds.IssuerOfPatientID = charset, f" {name} ", "NORTH"
    ds.save_as(path)
    assert read_identity(path) == PatientIdentity(name, "NORTH", str(ds.StudyInstanceUID))


@pytest.mark.parametrize("data", [None, b"", b"no DICOM", bytes(132) + b"DICM" + b"\xff" * 99])
def test_what_is_no_dicom_file_names_nobody(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "file").write_bytes(data)
    assert read_identity(tmp_path / "file") is None


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_file_says_whose_it_is_in_every_encoding(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    ds = pydicom.dcmread(write_series(ct_sample(1), tmp_path)[0])
    del ds.PixelData
    ds.SpecificCharacterSet, ds.PatientID, ds.IssuerOfPatientID = "ISO_IR 192", "山田-7", "NORTH"
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    whole, bare = tmp_path / "whole.dcm", tmp_path / "bare.dcm"
    little = syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(whole, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)
    assert read_identity(whole) == PatientIdentity("山田-7", "NORTH", str(ds.StudyInstanceUID))
    del ds.file_meta, ds.preamble
    pydicom.dcmwrite(bare, ds, implicit_vr=True, little_endian=True)
    assert read_identity(bare) == read_identity(whole), "without a head too"


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    keys = {Spool(tmp_path).patient_key() for _ in range(3)}
    assert len(keys) == 1 and len(keys.pop()) == 32
    assert (tmp_path / "patient-key").stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "tmp").iterdir()) == []
