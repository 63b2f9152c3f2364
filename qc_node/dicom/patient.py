"""Whose a DICOM file is, and the pseudonym under which a node knows that patient.

A pseudonym is keyed (HMAC, RFC 2104) with a secret of the node: without it nobody can try all numbers of a
hospital.  It finds a patient's studies again when no file is left that names them.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import unicodedata
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

TAGS = ["SpecificCharacterSet", "PatientID", "IssuerOfPatientID", "StudyInstanceUID"]
_TAGS = (0x00080005, 0x00100020, 0x00100021, 0x0020000D)
_LONGEST = 1 << 12
"""Bytes of a value; a Patient ID has 64 characters."""
_MOST_FOR_PYDICOM = 1 << 19
"""Bytes in which the patient is looked for where the walk finds none."""
_LETTERS = 24


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """Patient ID (0010,0020), Issuer of Patient ID (0010,0021), Study Instance UID; what is missing is empty."""

    patient_id: str
    issuer: str
    study_uid: str


def read_identity(path: Path) -> PatientIdentity | None:
    """Whom a file is about; None when it is gone or no DICOM."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            found = identity_of(_scanned(file) or _by_pydicom(file))
    except Exception:  # whatever pydicom trips over: quarantined files are read with this too
        return None
    return found if found.patient_id or found.study_uid else None


def _scanned(file: BinaryIO) -> Any:
    """The elements of :data:`TAGS` by a walk that is bounded whatever the bytes; None where they are not found."""
    from pydicom.uid import ExplicitVRBigEndian

    from qc_node.dicom.elements import FileWindow, ScanError, Wanted, Window, inflate, scan
    from qc_node.dicom.part10 import look_into, read_head
    from qc_node.dicom.uids import DEFLATED, IMPLICIT

    window: Window = FileWindow(file.fileno())
    try:
        head = read_head(window)
        start = head.start
        if head.transfer_syntax_uid in DEFLATED:
            window, start = Window(inflate(look_into(file.fileno())[start:])), 0
        big_endian = head.transfer_syntax_uid == ExplicitVRBigEndian
        wanted = Wanted(frozenset(_TAGS), last=max(_TAGS), longest=_LONGEST)
        explicit = head.transfer_syntax_uid not in IMPLICIT
        found, _ = scan(window, wanted, explicit=explicit, big_endian=big_endian, start=start)
    except ScanError:
        return None
    return _decoded(found) if max(_TAGS) in found else None


def _decoded(found: dict[int, bytes]) -> Any:
    """A data set of these values."""
    from pydicom.filereader import read_dataset

    parts = (struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value for tag, value in found.items())
    return read_dataset(BytesIO(b"".join(parts)), is_implicit_VR=True, is_little_endian=True)


def _by_pydicom(file: BinaryIO) -> Any:
    """What pydicom, which bears more, finds at the beginning of the file."""
    from pydicom.filereader import read_partial

    file.seek(0)
    head = BytesIO(file.read(_MOST_FOR_PYDICOM))
    return read_partial(head, lambda tag, *_: tag > max(_TAGS), force=True, specific_tags=sorted(_TAGS))


def identity_of(ds: Any) -> PatientIdentity:
    """Whom a data set is about."""
    return PatientIdentity(*(_text(ds, keyword) for keyword in TAGS[1:]))


def same_patient(one: Any, other: Any) -> bool:
    """Whether two data sets name one patient.

    By Patient ID (0010,0020), within its issuer where both name one (0010,0021); by Patient's Name (0010,0010)
    where neither has an ID.  An ID in one and none in the other is no agreement.
    """
    first, second = identity_of(one), identity_of(other)
    if not first.patient_id and not second.patient_id:
        return _name(one) == _name(other)
    issuers = {first.issuer, second.issuer} - {""}
    return first.patient_id.casefold() == second.patient_id.casefold() and len(issuers) < 2


def _name(ds: Any) -> str:
    folded = unicodedata.normalize("NFKD", _text(ds, "PatientName")).casefold()
    return " ".join(folded.replace("^", " ").replace("=", " ").split())


def _text(ds: Any, keyword: str) -> str:
    """As reports write it, so that images and their report name one patient; ``ds`` is not changed."""
    from qc_node.dicom.text import decoded

    try:
        found = decoded(ds, keyword) or ""
    except Exception:  # a value that cannot be read names nobody
        return ""
    return (found if isinstance(found, str) else found.decode("latin-1")).strip(" \0")


def pseudonym(key: bytes, patient_id: str, issuer: str = "") -> str:
    """``key.patient.issuer``: a mark of the key, then the patient without and with the issuer; see :func:`means`.

    Empty for images that name nobody.
    """
    if not patient_id:
        return ""
    return f"{means(key, patient_id)}{_mac(key, 'issued', patient_id, issuer)}"


def means(key: bytes, patient_id: str, issuer: str | None = None) -> str:
    """What a pseudonym of the patient begins with; all of it when the issuer is given (empty: none named)."""
    if issuer is not None:
        return pseudonym(key, patient_id, issuer)
    return f"{key_mark(key)}{_mac(key, 'patient', patient_id)}."


def key_mark(key: bytes) -> str:
    """What every pseudonym under this key begins with: those of a key that was lost can be told."""
    return f"{_mac(key, 'key')[:8]}."


def _mac(key: bytes, *parts: str) -> str:
    return keyed_digest(key, b"", *parts)[:_LETTERS]


def keyed_digest(key: bytes, salt: bytes, *parts: str) -> str:
    """HMAC-SHA256 of `parts` (hexadecimal); another `salt` gives another one that cannot be linked."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hmac.new(key, salt + b"\0" + text, hashlib.sha256).hexdigest()
