"""In which character set a report is written.

UTF-8 (ISO_IR 192) with every text of the images converted, where every text decodes: one character set for the
whole object, which each viewer reads (dcmjs, and with it OHIF, refuses several).  Where one does not, all text of
the images is copied byte for byte, with their declaration or without one, so that the report says of the patient
what the images say; what the node itself writes is ASCII then, which every character set has.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from qc_node.dicom.text import TEXT_VRS, UTF_8, CharacterSet, decoded, text_bytes

ITEM_TEXTS: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")

_IN_ASCII = str.maketrans({"≥": ">=", "≤": "<=", "…": "...", "–": "-", "—": "-", "×": "x", "µ": "u", "ß": "ss"})
_TERM = re.compile(r"[A-Za-z0-9 _.-]{0,16}")


class SourceText:
    """The texts of a header that a report copies.

    Parameters
    ----------
    source
        Is not changed, apart from its code sequences, which are parsed.
    keywords
        Attributes of a text VR.
    sequences
        Code sequences: value, scheme and meaning of their items are texts, in a character set of their own where
        an item declares one.
    """

    def __init__(self, source: Dataset, keywords: Iterable[str], sequences: Iterable[Iterable[Dataset]]) -> None:
        self.source = source
        self.declared = CharacterSet.of(source)
        self._texts = {k: decoded(source, k) for k in keywords}
        in_items = (self.in_item(item, k) for items in sequences for item in items for k in ITEM_TEXTS)
        self.keeps_bytes = any(isinstance(text, bytes) for text in (*self._texts.values(), *in_items))
        """Whether some text does not decode, so that all are copied as bytes."""

    def of(self, keyword: str) -> str | bytes | None:
        """A text; its bytes where it does not decode; None where there is none."""
        return self._texts[keyword]

    def in_item(self, item: Dataset, keyword: str) -> str | bytes | None:
        """The same of an item of a sequence."""
        return decoded(item, keyword, self.declared)


def as_it_stands(ds: Dataset, keyword: str) -> bytes:
    """The bytes of a text of the images; ASCII of what has none any more."""
    data = text_bytes(ds, keyword) or b""
    return data if isinstance(data, bytes) else in_ascii(data)


def in_ascii(text: str) -> bytes:
    """`text` without what ASCII lacks: some signs spelt, accents taken off, ``?`` for the rest."""
    spelt = unicodedata.normalize("NFKD", text.translate(_IN_ASCII))
    return "".join(c for c in spelt if not unicodedata.combining(c)).encode("ascii", "replace")


def note(text: SourceText) -> str | None:
    """What to tell who reads the report where text was copied byte for byte; no text of the images is in it."""
    if not text.keeps_bytes:
        return None
    declared = "\\".join(_writable(text.declared))
    if not declared:
        return (
            "Text of the images is neither ASCII nor UTF-8 and no character set is declared; it stands here byte"
            " for byte, without a character set, and names may be shown wrongly."
        )
    return (
        f"Text of the images does not decode in the character set that they declare ({declared}); it stands here"
        " byte for byte, with that declaration, and names may be shown wrongly."
    )


def settle_character_set(target: Dataset, text: SourceText) -> None:
    """Declare how `target`, to which `text` was copied, is written."""
    if text.keeps_bytes:
        _reduce(target)
        declare(target, text.declared)
    elif not text.declared.is_default or not all(t.isascii() for t in _texts(target)):
        target.SpecificCharacterSet = UTF_8


def declare(target: Dataset, charset: CharacterSet) -> None:
    """Give `target` the declaration of its source, where there is one."""
    terms = _writable(charset)
    if any(terms):
        tag = 0x00080005
        target[tag] = DataElement(tag, "CS", list(terms), validation_mode=config.IGNORE)


def _writable(charset: CharacterSet) -> tuple[str, ...]:
    """The terms, unless one would make a reader or writer do something strange: no CS, or the name of a codec."""
    return charset.terms if all(map(_is_harmless, charset.terms)) else ()


def _is_harmless(term: str) -> bool:
    is_of_python = bool(term) and CharacterSet((term,)).is_unknown and _is_codec(term)
    return _TERM.fullmatch(term) is not None and not is_of_python


def _is_codec(term: str) -> bool:
    try:
        codecs.lookup(term)
    except (LookupError, ValueError):
        return False
    return True


def _reduce(ds: Dataset) -> None:
    """Make every text that is not bytes yet ASCII bytes, so that no writer encodes it."""
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _reduce(item)
        elif element.VR in TEXT_VRS and isinstance(text := text_bytes(ds, element.keyword), str):
            data = in_ascii(text)
            ds[element.tag] = DataElement(element.tag, element.VR, data, validation_mode=config.IGNORE)


def _texts(ds: Dataset) -> Iterator[str | bytes]:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.VR in TEXT_VRS:
            yield text_bytes(ds, element.keyword) or ""
