"""UIDs are spelt in one place, and the program has one identity."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

import qc_node
from qc_node.dicom import uids
from qc_node.dicom.part10 import encode_head
from qc_node.dicom.uids import is_uid
from tests.receiver.wire_peer import encode, image
from tests.report.sources import report
from tests.report.test_key_objects import flag

PACKAGE = Path(qc_node.__file__).parent


def test_no_module_but_one_spells_a_uid() -> None:
    literal = re.compile(r"""["'](?:1\.2\.840\.|2\.25\.\d)""")
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if literal.search(line) and "uid:" not in line
    ]
    assert {place.split(":")[0] for place in found} == {"dicom/uids.py"}, found


def test_what_pydicom_knows_by_another_name_is_that() -> None:
    names = {
        uids.VERIFICATION: "Verification SOP Class",
        uids.STORAGE_COMMITMENT: "Storage Commitment Push Model SOP Class",
        uids.STORAGE_COMMITMENT_INSTANCE: "Storage Commitment Push Model SOP Instance",
        uids.STUDY_ROOT_FIND: "Study Root Query/Retrieve Information Model - FIND",
        uids.APPLICATION_CONTEXT: "DICOM Application Context Name",
        uids.PAPYRUS_3: "Papyrus 3 Implicit VR Little Endian",
        uids.JPIP_REFERENCED: "JPIP Referenced",
        uids.JPIP_REFERENCED_DEFLATE: "JPIP Referenced Deflate",
    }
    assert {uid: UID(uid).name for uid in names} == names
    assert all(UID(uid).is_transfer_syntax for uid in uids.LOSSY | uids.JPIP | uids.NATIVE | uids.DEFLATED)
    assert not uids.LOSSY & uids.NATIVE


@pytest.mark.parametrize("uid", ["1.2.3", "1.02.3", "0", "1." * 31 + "11", "2.25." + "9" * 39])
def test_what_a_device_may_name_its_objects(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize(
    "text", ["", ".", "1.", ".1", "1..2", "1.2.3\n", " 1.2", "1.2.x", "../1.2", "1.2/3", "٣.٤", "1." * 32 + "1"]
)
def test_what_is_no_uid(text: str) -> None:
    assert not is_uid(text)


def test_our_identity_is_as_the_standard_asks() -> None:
    assert UID(uids.IMPLEMENTATION_CLASS_UID).is_valid
    assert 1 <= len(uids.IMPLEMENTATION_VERSION_NAME) <= 16 and uids.IMPLEMENTATION_VERSION_NAME.isascii()
    statement = (PACKAGE.parent / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert uids.IMPLEMENTATION_CLASS_UID in statement and uids.IMPLEMENTATION_VERSION_NAME in statement


def test_whatever_we_write_bears_our_identity() -> None:
    head = read_head_of_a_received_file()
    for meta in (head, report().file_meta, flag().file_meta):
        assert meta.ImplementationClassUID == uids.IMPLEMENTATION_CLASS_UID
        assert meta.ImplementationVersionName == uids.IMPLEMENTATION_VERSION_NAME


def read_head_of_a_received_file() -> FileMetaDataset:
    written = encode_head(MRImageStorage, "1.2.3", ExplicitVRLittleEndian, "CALLER")
    return dcmread(BytesIO(written + encode(image()))).file_meta
