"""Heads of files: written before the data set, read again after a crash, missing in what users have."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, MRImageStorage

from qc_node.dicom.elements import ScanError, Window
from qc_node.dicom.part10 import encode_head, open_object, read_head
from qc_node.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from tests.receiver.wire_peer import encode, image


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "../../evil", "", "\u00ff" * 70])
def test_the_head_of_a_file_is_read_again(uid: str) -> None:
    written = encode_head(MRImageStorage, uid, ExplicitVRLittleEndian, "CALLER")
    head = read_head(Window(written + encode(image())))
    assert head.start == len(written)
    assert head.sop_instance_uid == uid and head.source_ae_title == "CALLER"
    assert head.transfer_syntax_uid == ExplicitVRLittleEndian and head.sop_class_uid == MRImageStorage


def test_the_head_of_a_file_is_read_by_pydicom() -> None:
    ds = image()
    head = encode_head(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian, "CALLER")
    read = dcmread(BytesIO(head + encode(ds)))
    assert read.file_meta.SourceApplicationEntityTitle == "CALLER"
    assert read.file_meta.FileMetaInformationVersion == b"\0\1" and read == ds
    assert read.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert read.file_meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME


@pytest.mark.parametrize("data", [b"\1\0\0\0\1\0LO\2\0", b"\1\0\0\0XX", b"\2\0\1\0OB", b"\3\0", b""])
def test_a_deflated_data_set_begins_where_its_head_says_so_whatever_its_bytes(data: bytes) -> None:
    written = encode_head(MRImageStorage, "1.2.3", DeflatedExplicitVRLittleEndian, "CALLER")
    assert read_head(Window(written + data)).start == len(written)


def test_a_group_length_that_is_wrong_does_not_matter() -> None:
    written = bytearray(encode_head(MRImageStorage, "1.2.3", ExplicitVRLittleEndian, "CALLER"))
    for wrong in (0, 60, 10_000, 0xFFFFFFFF):
        written[140:144] = struct.pack("<L", wrong)
        head = read_head(Window(bytes(written) + encode(image())))
        assert head.start == len(written) and head.source_ae_title == "CALLER"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=12), st.integers(100, 400))
def test_a_head_of_any_bytes_is_read_or_refused(tail: bytes, patch: bytes, at: int) -> None:
    raw = bytearray(encode_head(MRImageStorage, "1.2.3", ExplicitVRLittleEndian, "CALLER") + tail)
    raw[at : at + len(patch)] = patch
    try:
        head = read_head(Window(bytes(raw)))
    except ScanError:
        return
    assert 132 <= head.start <= len(raw)


def test_a_file_without_a_head_is_completed_as_ours_and_its_data_set_stays(tmp_path: Path) -> None:
    data = encode(image())
    (tmp_path / "bare").write_bytes(data)
    (tmp_path / "scratch").mkdir()
    obj = open_object(tmp_path / "bare", tmp_path / "scratch")
    assert obj.path.read_bytes().endswith(data) and obj.source == tmp_path / "bare"
    meta = dcmread(obj.path, stop_before_pixels=True).file_meta
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert "SourceApplicationEntityTitle" not in meta
    assert (meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID) == (
        ExplicitVRLittleEndian,
        obj.sop_instance_uid,
    )
