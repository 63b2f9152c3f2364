"""Which protocols a study of its kind usually has, and which this one lacks or has beside.  Pure.

The kind of a study is its scanner and a digest of its procedure or protocol name (`study_kind`): free text of a
header is never kept.  The written rules of an order (``[[rule]]``) say what must be there; this, what usually is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from qc_node.domain.wording import sentence

ENOUGH_STUDIES = 20
"""Earlier studies of the kind before anything is said."""

WINDOW_STUDIES = 100
"""How many of the newest earlier ones are looked at."""

USUAL_SHARE = 0.9
"""Share of them that must have a protocol for its lack to be named, and that must lack one for it to be named."""

_RARE = 0.02
"""A protocol of more than this share of the studies is no surprise."""

CONTRAST = {"yes": "with contrast", "no": ""}
"""Words for the part ``contrast`` of a protocol key."""


@dataclass(frozen=True, slots=True)
class StudySurprise:
    """A protocol that a study lacks, or has beside the usual ones.

    Attributes
    ----------
    protocol
        As in the chart (``name=value|…``).
    missing
        Whether it is missing; else it is extra.
    count, studies
        How many earlier studies have it, of how many.
    """

    protocol: str
    missing: bool
    count: int
    studies: int


def study_kind(station: str, words: str) -> str:
    """Scanner and kind of a study as one key: eight hex digits of the SHA-256 stand for the words.

    Examples
    --------
    >>> study_kind("MR2", "Kopf nativ") == study_kind("MR2", " KOPF  Nativ ")
    True
    >>> study_kind("MR2", "")
    ''
    """
    plain = " ".join(words.casefold().split())
    return f"{station}|{hashlib.sha256(plain.encode()).hexdigest()[:8]}" if station and plain else ""


def surprises(protocols: Collection[str], earlier: Sequence[Collection[str]]) -> tuple[StudySurprise, ...]:
    """What a complete study lacks or has beside what its kind usually has: missing ones first.

    Parameters
    ----------
    protocols
        Protocol keys of its series; how often one occurs does not matter.
    earlier
        The same of complete earlier studies of the kind, oldest first.
    """
    newest = [set(one) - {""} for one in earlier if one][-WINDOW_STUDIES:]
    if len(newest) < ENOUGH_STUDIES or not protocols:
        return ()
    counts, here = Counter(name for one in newest for name in one), set(protocols) - {""}
    missing = [name for name, count in counts.items() if name not in here and count >= USUAL_SHARE * len(newest)]
    extra = [name for name in here if counts[name] <= _RARE * len(newest)] if _settled(newest, counts) else []
    return tuple(
        StudySurprise(name, is_missing, counts[name], len(newest))
        for names, is_missing in ((missing, True), (extra, False))
        for name in sorted(names)
    )


def _settled(studies: Sequence[Collection[str]], counts: Counter[str]) -> bool:
    """Whether studies of the kind are alike: nearly all have only protocols that are no rarity."""
    rare = {name for name, count in counts.items() if count <= _RARE * len(studies)}
    return sum(not rare & set(one) for one in studies) >= USUAL_SHARE * len(studies)


def surprise_sentence(surprise: StudySurprise) -> str:
    """One surprise for people.

    Examples
    --------
    >>> surprise_sentence(StudySurprise("orientation=sagittal|sequence=se_t2", True, 38, 40))
    'No series sagittal se_t2; studies of this kind usually have one (38 of the last 40).'
    >>> surprise_sentence(StudySurprise("sequence=epi", False, 0, 40))
    'A series epi is extra; studies of this kind usually have none (0 of the last 40 had one).'
    """
    name, of = protocol_words(surprise.protocol), f"of the last {surprise.studies}"
    if surprise.missing:
        return sentence(f"no series {name}; studies of this kind usually have one ({surprise.count} {of})")
    return sentence(
        f"a series {name} is extra; studies of this kind usually have none ({surprise.count} {of} had one)"
    )


def protocol_words(key: str) -> str:
    """A protocol key as people read it, without the digest of its name.

    Examples
    --------
    >>> protocol_words("contrast=no|name=1a2b3c4d|orientation=sagittal|sequence=se_t2")
    'sagittal se_t2'
    >>> protocol_words("contrast=yes|orientation=axial")
    'with contrast axial'
    """
    parts = (part.partition("=") for part in key.split("|"))
    words = (
        CONTRAST.get(value, value) if name == "contrast" else value for name, _, value in parts if name != "name"
    )
    return " ".join(word for word in words if word)
