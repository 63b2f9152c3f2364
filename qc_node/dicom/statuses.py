"""What the answer to a C-STORE means for the object: it is there, it may be taken later, it never will be.

Statuses: PS3.4 table B.2-1, PS3.7 annex C.  ``docs/conformance.md`` has the same table; a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum

DUPLICATE = 0x0111
"""The peer has an object with this UID already (PS3.7 section C.5.6)."""

FINAL = frozenset(
    {
        0x0105,  # no such attribute
        0x0106,  # invalid attribute value
        0x0112,  # no such SOP instance
        0x0115,  # invalid argument value
        0x0117,  # invalid SOP instance: its UID
        0x0118,  # no such SOP class
        0x0119,  # class-instance conflict
        0x0120,  # missing attribute
        0x0121,  # missing attribute value
        0x0122,  # SOP class not supported
        0x0124,  # not authorized
        0x0211,  # unrecognized operation
        0x0212,  # mistyped argument
    }
)
"""Statuses of PS3.7 about the object, or about what the peer does at all: it will answer so again."""


class StoreAnswer(StrEnum):
    """What a peer says of an object."""

    STORED = "stored"
    """It has the object."""
    LATER = "later"
    """It did not take the object, and may another time."""
    NEVER = "never"
    """It will not take this object."""


def is_warning(status: int) -> bool:
    """Whether a status says that the service was performed, with a reservation (PS3.7 annex C, PS3.4 table B.2-1).

    Examples
    --------
    >>> [is_warning(status) for status in (0x0001, 0x0107, 0x0116, 0xB000, 0xB1FF, 0x0000, 0x0110, 0xA700)]
    [True, True, True, True, True, False, False, False]
    """
    return status in (0x0001, 0x0107, 0x0116) or status & 0xF000 == 0xB000


def store_answer(status: int) -> StoreAnswer:
    """What a status of a C-STORE response means for the object.

    0x0110 (processing failure) and 0xCxxx (cannot understand) blame the object, and yet archives in trouble give
    them to every object until they are well.  So they count as final no more than what nobody knows: an object is
    never given up within seconds unless the answer says that no other will follow.

    Examples
    --------
    >>> [str(store_answer(status)) for status in (0x0000, 0x0111, 0xB007, 0xA700, 0x0110, 0xC000, 0xA900, 0x0122)]
    ['stored', 'stored', 'stored', 'later', 'later', 'later', 'never', 'never']
    """
    if status in (0x0000, DUPLICATE) or is_warning(status):
        return StoreAnswer.STORED
    # A8xx: refused, SOP class not supported (retired); A9xx: data set does not match SOP class
    final = status in FINAL or status & 0xFF00 in (0xA800, 0xA900)
    return StoreAnswer.NEVER if final else StoreAnswer.LATER
