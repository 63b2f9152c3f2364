"""Whose an object is: enough to tell two patients apart, and never to be logged."""

from __future__ import annotations

import unicodedata

from pydicom.dataset import Dataset
from pydicom.tag import Tag

PATIENT_NAME, PATIENT_ID, ISSUER = Tag(0x0010, 0x0010), Tag(0x0010, 0x0020), Tag(0x0010, 0x0021)
IDENTITY = (PATIENT_NAME, PATIENT_ID, ISSUER)
"""What :func:`same_patient` looks at."""


def same_patient(one: Dataset, other: Dataset) -> bool:
    """Whether two headers name one patient.

    By Patient ID (0010,0020), within its issuer where both name one (0010,0021); by Patient's Name (0010,0010) where
    neither has an ID.  An ID in one and none in the other is no agreement.
    """
    ids = _text(one, PATIENT_ID), _text(other, PATIENT_ID)
    if not any(ids):
        return _name(one) == _name(other)
    issuers = _text(one, ISSUER), _text(other, ISSUER)
    return ids[0] == ids[1] and (not all(issuers) or issuers[0] == issuers[1])


def _text(ds: Dataset, tag: int) -> str:
    element = ds.get(tag)
    return "" if element is None or element.value is None else str(element.value).strip(" \0").casefold()


def _name(ds: Dataset) -> str:
    folded = unicodedata.normalize("NFKD", _text(ds, PATIENT_NAME))
    return " ".join(folded.replace("^", " ").replace("=", " ").split())
