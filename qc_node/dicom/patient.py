"""Whose a DICOM file is, and the pseudonym under which a node knows that patient.

A pseudonym is keyed (HMAC, RFC 2104) with a secret of the node: without it nobody can try all numbers of a
hospital.  It finds a patient's studies again when no file is left that names them.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAGS = ["SpecificCharacterSet", "PatientID", "IssuerOfPatientID", "StudyInstanceUID"]
_LETTERS = 24


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """Patient ID (0010,0020), Issuer of Patient ID (0010,0021), Study Instance UID; what is missing is empty."""

    patient_id: str
    issuer: str
    study_uid: str


def read_identity(path: Path) -> PatientIdentity | None:
    """Whom a file is about; None when it is gone or no DICOM."""
    from pydicom import dcmread

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = identity_of(dcmread(path, specific_tags=TAGS, stop_before_pixels=True, force=True))
    except Exception:  # whatever pydicom trips over: quarantined files are read with this too
        return None
    return found if found.patient_id or found.study_uid else None


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
