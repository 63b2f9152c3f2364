"""One scanner for headers: it walks over the elements of a data set and copies only the values it is asked for.

A full parse with pydicom costs about a millisecond for each object; this walk goes by the lengths (PS3.5
section 7), jumps over everything else, long private headers included, and costs a tenth of that or less.  What
it does not understand at once is a :class:`ScanError`, and the caller may ask pydicom, which knows more.

Whatever the bytes, :func:`scan` returns or raises :class:`ScanError`: depth, number of elements and size of what
is kept and inflated are bounded.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass

LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Value representations whose length has 32 bits (PS3.5 table 7.1-1)."""
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
"""Those whose length has 16 (PS3.5 table 7.1-2)."""
UNDEFINED_LENGTH = 0xFFFFFFFF

DEEPEST = 32
"""Sequences within sequences; real headers have five or six."""
LONGEST_INFLATED = 1 << 24
"""Bytes of a deflated data set that a header may reach into."""

_CHUNK = 16384
_ITEMS, _ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE, 0xE000, 0xE00D, 0xE0DD
_FORMS = {order: (struct.Struct(order + "HH2sH"), struct.Struct(order + "L")) for order in "<>"}


class ScanError(Exception):
    """The scanner does not understand the bytes; the sentence says what it met."""


class TooManyElements(ScanError):
    """The walk was given up: nobody should walk over all of this."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for and how far to go.

    Attributes
    ----------
    tags
        Top-level elements whose values are kept.
    last
        The walk ends before the first top-level element with a greater tag.
    longest
        Longer values are not kept, in bytes.
    most
        Elements that the walk may touch, nested ones included.
    ordered
        Whether tags must ascend, as PS3.5 section 7.1 demands.
    """

    tags: frozenset[int]
    last: int
    longest: int = 256
    most: int = 50_000
    ordered: bool = False


class Window:
    """Bytes in memory, all of them at hand."""

    __slots__ = ("buffer", "size", "start")

    def __init__(self, data: memoryview | bytes) -> None:
        self.buffer: memoryview | bytes = data
        self.size = len(data)
        self.start = 0

    def at(self, offset: int, length: int) -> int:
        """Make `length` bytes at `offset` available; returns their index in :attr:`buffer`.

        Raises
        ------
        ScanError
            There are not so many.
        """
        if offset + length > self.size:
            raise ScanError("an element is cut off")
        return offset


class FileWindow(Window):
    """A sliding view of an open file, read in chunks.

    Not a mapping: a file of somebody else's that shrinks while we look at it must not kill the process.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        super().__init__(os.pread(fd, _CHUNK, 0))
        self.fd = fd
        self.size = os.fstat(fd).st_size

    def at(self, offset: int, length: int) -> int:
        """See :meth:`Window.at`; an :class:`OSError` of the file system passes through."""
        index = offset - self.start
        if index < 0 or index + length > len(self.buffer):
            self.buffer = os.pread(self.fd, max(_CHUNK, length), offset)
            self.start = offset
            index = 0
            if len(self.buffer) < length:
                raise ScanError("an element is cut off")
        return index


def scan(
    window: Window,
    wanted: Wanted,
    *,
    explicit: bool,
    big_endian: bool = False,
    start: int = 0,
    end: int | None = None,
) -> tuple[dict[int, bytes], int]:
    """The values of the wanted elements, and where the walk ended.

    Parameters
    ----------
    explicit, big_endian
        The encoding of the data set (PS3.5 section 7.1, annex A).
    start, end
        Where in the window the data set begins and ends; by default it is all of it.

    Returns
    -------
    (dict, int)
        Tag to value as it is stored, and the offset of the first element beyond ``wanted.last``, or of the end.

    Raises
    ------
    ScanError
        The bytes are no data set in this encoding.
    """
    try:
        return _walk(
            window, wanted, explicit, ">" if big_endian else "<", start, window.size if end is None else end
        )
    except struct.error as error:
        raise ScanError("an element is cut off") from error


def _walk(
    window: Window, wanted: Wanted, explicit: bool, order: str, at: int, size: int
) -> tuple[dict[int, bytes], int]:
    # One flat loop without calls: it is what a header costs.
    heads, lengths = (form.unpack_from for form in _FORMS[order])
    tags, last, longest, ordered = wanted.tags, wanted.last, wanted.longest, wanted.ordered
    found: dict[int, bytes] = {}
    left, depth, previous = wanted.most, 0, -1
    implicit_from, with_vr = DEEPEST + 2, explicit  # the depth from which no VR is written
    if at + 8 <= size:
        window.at(at, 8)
    buffer, base = window.buffer, window.start
    held = base + len(buffer)
    while at + 8 <= size:
        if at + 12 > held:
            window.at(at, min(12, size - at))
            buffer, base = window.buffer, window.start
            held = base + len(buffer)
        left -= 1
        if left < 0:
            raise TooManyElements("there are too many elements")
        group, element, vr, length = heads(buffer, at - base)
        if group == _ITEMS:
            if depth == 0 or element not in (_ITEM, _ITEM_END, _SEQUENCE_END):
                raise ScanError("an item stands outside a sequence")
            (length,) = lengths(buffer, at - base + 4)
            at += 8
            if element == _SEQUENCE_END:
                depth -= 1
                if depth < implicit_from:
                    implicit_from, with_vr = DEEPEST + 2, explicit
            elif element == _ITEM and length != UNDEFINED_LENGTH:
                at += length
            continue
        tag = group << 16 | element
        if depth == 0:
            if tag > last:
                break
            if ordered and tag <= previous:
                raise ScanError("the elements are not in order")
            previous = tag
        if not with_vr:
            (length,) = lengths(buffer, at - base + 4)
            value = at + 8
        elif vr in SHORT_VRS:
            value = at + 8
        elif vr in LONG_VRS:
            (length,) = lengths(buffer, at - base + 8)
            value = at + 12
        else:
            raise ScanError("an element has no known VR")
        if length == UNDEFINED_LENGTH:
            depth += 1
            if depth > DEEPEST:
                raise ScanError("sequences are nested too deeply")
            if with_vr and vr == b"UN":
                # UN of undefined length is a sequence in Implicit VR (PS3.5 section 6.2.2, note 4)
                implicit_from, with_vr = depth, False
            at = value
            continue
        at = value + length
        if at > size:
            raise ScanError("an element is longer than the data set")
        if depth == 0 and length <= longest and tag in tags:
            if at > held:
                window.at(value, length)
                buffer, base = window.buffer, window.start
                held = base + len(buffer)
            found[tag] = bytes(buffer[value - base : at - base])
    if depth:
        raise ScanError("a sequence has no end")
    return found, at


def element_at(window: Window, at: int, *, explicit: bool, big_endian: bool = False) -> tuple[int, int, int]:
    """Tag, value length and value offset of the element at `at`, where :func:`scan` ended.

    Raises
    ------
    ScanError
        There is none.
    """
    heads, lengths = (form.unpack_from for form in _FORMS[">" if big_endian else "<"])
    index = window.at(at, min(12, max(8, window.size - at)))
    try:
        group, element, vr, length = heads(window.buffer, index)
        if explicit and vr in SHORT_VRS:
            return group << 16 | element, length, at + 8
        if explicit and vr not in LONG_VRS:
            raise ScanError("an element has no known VR")
        (length,) = lengths(window.buffer, index + (8 if explicit else 4))
    except struct.error as error:
        raise ScanError("an element is cut off") from error
    return group << 16 | element, length, at + (12 if explicit else 8)


def inflate(data: memoryview, most: int = LONGEST_INFLATED) -> memoryview:
    """The head of a deflated data set (PS3.5 section A.5), at most `most` bytes of it.

    Raises
    ------
    ScanError
        The bytes are not deflated.
    """
    try:
        return memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most))
    except zlib.error as error:
        raise ScanError("the deflated data set cannot be inflated") from error
