"""Words of a header that name a patient or another person, so that no chart, table or report repeats them.

Somebody types a name into a field for something else, and a codes-only field is not codes only any more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress

from pydicom import Dataset
from pydicom.datadict import dictionary_VR

from qc_node.dicom.text import CharacterSet, text_bytes

KEYWORDS = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthDate",
    "PatientBirthName",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
)
LONGEST = 1 << 10
"""Bytes of a value that are looked at."""
SHORTEST = 3
"""Initials are in every text."""
WITHIN = 5
"""Words from so many letters on are found inside other words too; shorter ones, as BONE or KIM, only alone."""
CUT = 8
"""From so many letters on, the beginning of a longer word is taken for that word."""


def folded_words(text: str) -> frozenset[str]:
    """Words of a text without case and accents, and as they are left where only ASCII stays.

    Examples
    --------
    >>> sorted(folded_words("MÜLLER^Jo"))
    ['jo', 'mller', 'muller']
    """
    lower = text.casefold()
    plain = "".join(c for c in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(c))
    return frozenset(re.findall(r"[^\W_]+", f"{plain} {''.join(c for c in lower if c.isascii())}"))


def patient_words(header: Dataset) -> frozenset[str]:
    """Words that say who is in a header."""
    found = (word for key in KEYWORDS for text in _spellings(header, key) for word in folded_words(text))
    return frozenset(word for word in found if len(word) >= SHORTEST)


def _spellings(header: Dataset, keyword: str) -> Iterator[str]:
    """A value as it may be meant: whoever repeats a name elsewhere repeats its character set or not."""
    try:
        data = text_bytes(header, keyword)
    except Exception:  # whatever pydicom meets in a broken value, it is no name
        return
    if isinstance(data, bytes):
        yield data[:LONGEST].decode("latin-1")
        yield data[:LONGEST].decode("utf-8", "ignore")
        with suppress(Exception):  # the declared character set may be none
            yield CharacterSet.of(header).decode(data[:LONGEST], dictionary_VR(keyword)) or ""
    elif data:
        yield data[:LONGEST]


def names_somebody(text: str, words: frozenset[str]) -> bool:
    """Whether a text holds one of `words`.

    Examples
    --------
    >>> doe = frozenset({"doe", "johnson", "4711302"})
    >>> [names_somebody(t, doe) for t in ("gr_doe", "xJohnson2", "DOESNT", "Br40d", "")]
    [True, True, False, False, False]
    """
    seen = folded_words(text)
    return any(
        word in seen
        or (len(word) >= WITHIN and any(word in one for one in seen))
        or any(len(one) >= CUT and word.startswith(one) for one in seen)
        for word in words
    )
