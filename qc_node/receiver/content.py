"""Whether an instance that comes again says the same, and if not, what became different.

Identical bytes under one transfer syntax are the same.  Under another syntax the headers decide: an archive that
forwards what the modality has sent too may have compressed the pixels, and nobody wants that judged twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from qc_node.dicom.elements import ScanError, Window
from qc_node.dicom.part10 import FileHead, read_head
from qc_node.dicom.patient import same_patient
from qc_node.domain import Correction

AT_A_TIME = 1 << 20
_PIXELS = 0x7FE00008
_STUDY, _SERIES = Tag(0x0020, 0x000D), Tag(0x0020, 0x000E)


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
    if before.transfer_syntax_uid == after.transfer_syntax_uid and _equal(old, before, new, after):
        return None
    one, other = _header(old), _header(new)
    if one is None or other is None:
        return Correction.CONTENT
    if not same_patient(one, other):
        return Correction.PATIENT
    if any(one.get(tag) != other.get(tag) for tag in (_STUDY, _SERIES)):
        return Correction.STUDY
    recoded = before.transfer_syntax_uid != after.transfer_syntax_uid and one == other
    return None if recoded else Correction.CONTENT


def _equal(old: memoryview, before: FileHead, new: memoryview, after: FileHead) -> bool:
    one, other = old[before.start :], new[after.start :]
    if len(one) != len(other):
        return False
    parts = range(0, len(one), AT_A_TIME)
    return all(bytes(one[n : n + AT_A_TIME]) == bytes(other[n : n + AT_A_TIME]) for n in parts)


def _header(data: memoryview) -> Dataset | None:
    """All before the pixels, without file meta information; None where pydicom cannot read it."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        read = pydicom.dcmread(BytesIO(data), force=True, stop_before_pixels=True)
        header = Dataset()
        header.update({element.tag: element for element in read if _counts(element.tag)})
        return header
    return None


def _counts(tag: BaseTag) -> bool:
    return tag < _PIXELS and tag.element != 0
