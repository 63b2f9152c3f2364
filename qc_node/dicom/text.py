"""Text of a data set in the character set it declares (PS3.5 6.1, PS3.3 C.12.1.1.2), strictly.

pydicom reads whatever comes, with replacement characters where it must guess; that is right for showing and wrong
for writing: a name that was guessed is another name.  Here a text decodes without loss, or not at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pydicom.charset import CODES_TO_ENCODINGS, STAND_ALONE_ENCODINGS, default_encoding, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

TEXT_VRS: Final = frozenset({"PN", "LO", "SH", "LT", "ST", "UT", "UC"})
"""What Specific Character Set (0008,0005) is about."""

UTF_8: Final = "ISO_IR 192"

_NOT_TEXT = frozenset(
    {"SQ", "OB", "OW", "OD", "OF", "OL", "OV", "US", "SS", "UL", "SL", "UV", "SV", "FD", "FL", "AT"}
)
_ESC = b"\x1b"
_FRAGMENT = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_PADDING = "\0 "
_C1 = re.compile("[\x80-\x9f]")
_JIS: Final = ("iso2022_jp", "iso2022_jp_2")
"""Two bytes of G0 for each character: delimiters and escapes are the codec's own business."""
_DELIMITERS = {"PN": b"\\^=\r\n\f\t"}
_TEXT_DELIMITERS = b"\\\r\n\f\t"
"""What brings a value back to its first character set (PS3.5 6.1.2.5.3)."""


def _plain(term: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", term.upper())


_ENCODINGS: Final = {_plain(term): encoding for term, encoding in python_encoding.items()} | {"UTF8": "UTF8"}
_STAND_ALONE: Final = frozenset(map(_plain, STAND_ALONE_ENCODINGS)) | {"UTF8"}


@dataclass(frozen=True)
class CharacterSet:
    """What a data set declares.

    Attributes
    ----------
    terms
        The values of Specific Character Set as they stand there; none where it is missing or empty.
    """

    terms: tuple[str, ...] = ()

    @classmethod
    def of(cls, ds: Dataset, inherited: CharacterSet | None = None) -> CharacterSet:
        """The declaration of `ds`, or that of the data set around it (PS3.5 7.5.3)."""
        said = text_bytes(ds, "SpecificCharacterSet")
        text = said.decode("latin-1") if isinstance(said, bytes) else said
        if text is None or not text.strip(_PADDING):
            return inherited or cls()
        return cls(tuple(term.strip(_PADDING) for term in text.split("\\")))

    @property
    def is_default(self) -> bool:
        """Whether nothing beyond ASCII is declared."""
        return all(_ENCODINGS.get(_plain(term)) == default_encoding for term in self.terms)

    @property
    def is_unknown(self) -> bool:
        """Whether a term is none of DICOM's, not even in another spelling."""
        return not all(_plain(term) in _ENCODINGS for term in self.terms)

    def decode(self, data: bytes, vr: str) -> str | None:
        """The text of a value (all of it, with its backslashes) without padding; None where it does not decode.

        ASCII decodes whatever is declared.  Where nothing is declared UTF-8 is taken for what it is: bytes of any
        other character set are hardly ever valid UTF-8 by chance.
        """
        data = data.rstrip(_PADDING.encode())  # which no set has as the last byte of a character
        if data.isascii() and _ESC not in data:
            return data.decode("ascii")
        try:
            text = self._decode(data, _DELIMITERS.get(vr, _TEXT_DELIMITERS))
        except (UnicodeError, LookupError):
            return None
        return None if text is None or "\x1b" in text else text

    def _decode(self, data: bytes, delimiters: bytes) -> str | None:
        if self.is_default:
            return data.decode("utf-8")
        first, *others = [_ENCODINGS[_plain(term)] for term in self.terms]
        if _plain(self.terms[0]) in _STAND_ALONE:
            return data.decode(first)
        usable = [e for e, term in zip(others, self.terms[1:], strict=True) if _plain(term) not in _STAND_ALONE]
        if first == default_encoding:
            first = "ascii"
            if not usable:
                return data.decode("utf-8")
        text = _extended(data, first, frozenset(usable), delimiters)
        return None if _C1.search(text) else text


def _extended(data: bytes, first: str, others: frozenset[str], delimiters: bytes) -> str:
    """ISO 2022 code extensions.

    Raises
    ------
    UnicodeError, LookupError
        Bytes or escapes that the declaration does not allow.
    """
    if first in _JIS:
        first, others = "ascii", others | {first}
    upper = first
    """What bytes above 0x7F are in: the set that was designated to G1 last."""
    found = []
    for fragment in _FRAGMENT.findall(data):
        if not fragment.startswith(_ESC):
            found.append(fragment.decode(upper))
            continue
        length = 4 if fragment.startswith((b"\x1b$(", b"\x1b$)")) else 3
        encoding = CODES_TO_ENCODINGS[fragment[:length]]
        if encoding in _JIS and encoding in others:
            found.append(fragment.decode(encoding))
            continue
        if fragment[1:2] == b"(":  # ASCII or JIS X 0201 in G0, which every set may go back to
            encoding = upper
        elif encoding not in others | {first}:
            raise LookupError(encoding)
        upper, rest = encoding, fragment[length:]
        end = next((at for at, byte in enumerate(rest) if byte in delimiters), None)
        found.append(rest[:end].decode(upper))
        if end is not None:
            upper = first
            found.append(rest[end:].decode(upper))
    return "".join(found)


def text_bytes(ds: Dataset, keyword: str) -> bytes | str | None:
    """The bytes of an attribute as they came, without decoding (and thereby changing) `ds`.

    Returns
    -------
    bytes, str or None
        A string where somebody decoded or made it already; None where it is missing, empty or no text.
    """
    element = ds.get_item(keyword)
    if element is None or element.VR in _NOT_TEXT or element.value is None:
        return None
    value: Any = element.value
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    raw = [v if isinstance(v, bytes) else getattr(v, "original_string", None) for v in values]
    if raw and all(isinstance(v, bytes) for v in raw):
        return b"\\".join(v for v in raw if v is not None) or None
    return "\\".join(map(str, values)) or None


def decoded(ds: Dataset, keyword: str, inherited: CharacterSet | None = None) -> str | bytes | None:
    """The text of an attribute; its bytes where they do not decode; None where there is none."""
    data = text_bytes(ds, keyword)
    if not isinstance(data, bytes):
        return data
    text = CharacterSet.of(ds, inherited).decode(data, dictionary_VR(keyword))
    return data if text is None else text or None
