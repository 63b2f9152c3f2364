"""Warnings about a series: which are mismatches with what was ordered or claimed, and how to say them anywhere.

Some quote the header, whose free text may hold anything, a name among it.  Pages and reports go to people who see
the header anyway; what is drawn into pixels cannot be taken out again.
"""

from __future__ import annotations

import re

_MISMATCH = re.compile(r'Ordered: |The rule for orders like "|[^"]* \([0-9A-F]{4},[0-9A-F]{4}\) says "')
_HEADER = re.compile(r'[^"]* \([0-9A-F]{4},[0-9A-F]{4}\) says "')
_QUOTATION = re.compile(r'".*"', re.DOTALL)


def is_mismatch(warning: str) -> bool:
    """Whether a warning says that order, rule or header promise something else than was seen."""
    return _MISMATCH.match(warning) is not None


def without_quotation(warning: str) -> str:
    """A warning with an ellipsis in place of what it quotes: from the first quotation mark to the last one.

    Examples
    --------
    >>> without_quotation('Series Description (0008,103E) says "Chest 5"; found: abdomen.')
    'Series Description (0008,103E) says …; found: abdomen.'
    """
    return _QUOTATION.sub("…", warning)


def for_outsiders(sentence: str) -> str:
    """A sentence without what it quotes from a header; the words of a rule are the department's own, and stay.

    Examples
    --------
    >>> for_outsiders('Orders like "abd" expect a series like "venous", and the study has none.')
    'Orders like "abd" expect a series like "venous", and the study has none.'
    """
    return without_quotation(sentence) if _HEADER.match(sentence) else sentence
