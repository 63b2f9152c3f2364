"""Which scanner made a series, by its header.  Pure."""

from __future__ import annotations

LONGEST = 64
"""Characters; Station Name (0008,1010) has at most 16."""


def station_of(station_name: str, manufacturer: str = "", model: str = "", serial: str = "") -> str:
    """Station Name, else manufacturer, model and serial number; empty where there is neither name nor model.

    Header text may hold anything: what cannot be printed goes, and what is too long is cut.

    Examples
    --------
    >>> station_of(" MR750-ROOM1 "), station_of("", "SIEMENS", "Skyra", "45123"), station_of("", "SIEMENS")
    ('MR750-ROOM1', 'SIEMENS Skyra 45123', '')
    """
    name = _clean(station_name)
    if name or not (_clean(model) or _clean(serial)):
        return name
    return _clean(" ".join((manufacturer, model, serial)))


def _clean(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST])
    return " ".join(printable.split())[:LONGEST].rstrip()
