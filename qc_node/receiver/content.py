"""Whether an instance that comes again says the same, and if not, what became different.

Identical bytes under one transfer syntax are the same, and so are equal headers with the same pixels.  Where
pixels cannot be compared because a transfer syntax compresses them, the headers decide: an archive that forwards
what the modality has sent too may have compressed them, and nobody wants that judged twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from qc_node.dicom.elements import ScanError, Window
from qc_node.dicom.part10 import FileHead, read_head
from qc_node.dicom.patient import same_patient
from qc_node.domain import Correction

AT_A_TIME = 1 << 20
_PIXELS = 0x7FE00008
_STUDY, _SERIES = Tag(0x0020, 0x000D), Tag(0x0020, 0x000E)
_NATIVE = {str(ExplicitVRLittleEndian): 12, str(ImplicitVRLittleEndian): 8}
"""Syntaxes whose pixels stand there as they are, and the bytes of tag, VR and length before them (PS3.5 7.1)."""


def digest_of(data: memoryview) -> str:
    """Digest of transfer syntax and data set of a DICOM file: 32 hexadecimal digits."""
    head = read_head(Window(data))
    said = hashlib.blake2b(head.transfer_syntax_uid.encode(), digest_size=16)
    said.update(data[head.start :])
    return said.hexdigest()


def correction(old: memoryview, new: memoryview) -> Correction | None:
    """What is different in `new`, both whole DICOM files; None where they say the same.

    An old one that cannot be read is different content.
    """
    try:
        before, after = read_head(Window(old)), read_head(Window(new))
    except ScanError:
        return Correction.CONTENT
    same_syntax = before.transfer_syntax_uid == after.transfer_syntax_uid
    if same_syntax and _equal(old[before.start :], new[after.start :]):
        return None
    one, other = _header(old), _header(new)
    if one is None or other is None:
        return Correction.CONTENT
    if not same_patient(one[0], other[0]):
        return Correction.PATIENT
    if any(one[0].get(tag) != other[0].get(tag) for tag in (_STUDY, _SERIES)):
        return Correction.STUDY
    if one[0] != other[0]:
        return Correction.CONTENT
    pixels, others = _pixels(old[one[1] :], before), _pixels(new[other[1] :], after)
    if pixels is not None and others is not None:
        return None if _equal(pixels, others) else Correction.CONTENT
    return Correction.CONTENT if same_syntax else None


def _equal(one: memoryview, other: memoryview) -> bool:
    if len(one) != len(other):
        return False
    parts = range(0, len(one), AT_A_TIME)
    return all(bytes(one[n : n + AT_A_TIME]) == bytes(other[n : n + AT_A_TIME]) for n in parts)


def _pixels(rest: memoryview, head: FileHead) -> memoryview | None:
    """What stands after the header, without tag and length of the pixels; None where it is compressed."""
    skipped = _NATIVE.get(head.transfer_syntax_uid)
    return None if skipped is None else rest[skipped:]


def _header(data: memoryview) -> tuple[Dataset, int] | None:
    """All before the pixels, without file meta information, and where they begin; None where it cannot be read.

    Of a file that is deflated as a whole they begin nowhere.
    """
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        file = BytesIO(data)
        read = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        header = Dataset()
        header.update({element.tag: element for element in read if _counts(element.tag)})
        return header, file.tell()
    return None


def _counts(tag: BaseTag) -> bool:
    return tag < _PIXELS and tag.element != 0
