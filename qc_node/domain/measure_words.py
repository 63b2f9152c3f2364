"""What is said to people about measures: unusual ones, parameters that were changed, new software.  Pure.

The board, the review page, reports, notifications and terminals say these sentences; nobody words them a second
time.  Of a header they quote numbers only, unless the caller asks for more (`quote`): what goes to other systems
never does.
"""

from __future__ import annotations

import re

from qc_node.domain.measure import Departure, Unit, Unusual
from qc_node.domain.technique import PARAMETERS
from qc_node.domain.wording import sentence

UNIT_WORDS: dict[Unit, str] = {
    Unit.ONE: "",
    Unit.PER_MM: "/mm",
    Unit.HU: "HU",
    Unit.MGY_CM: "mGy·cm",
    Unit.MAS: "mAs",
    Unit.DEG: "°",
    Unit.GREY: "grey values",
}
"""Units that people write otherwise than UCUM does."""

NUMBERS = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?([ ]?[x×/\\*][ ]?[-+]?\d+(\.\d+)?)*\Z")
"""A value that says numbers and nothing else: ``95``, ``0.9/0.9``, ``256 x 192``."""

MOST_Z = 99.0
"""Beyond it a number of spreads says nothing more."""


def unit_words(unit: Unit) -> str:
    """A unit as people write it; nothing for a plain number.

    Examples
    --------
    >>> unit_words(Unit.HU), unit_words(Unit.MM), unit_words(Unit.ONE)
    ('HU', 'mm', '')
    """
    return UNIT_WORDS.get(unit, unit.value)


def number(value: float) -> str:
    """A value with three digits that count.

    Examples
    --------
    >>> number(0.031415), number(31.415), number(31415.9), number(-0.0)
    ('0.0314', '31.4', '31416', '0')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value + 0.0:.3g}"


def spreads(z: float) -> str:
    """How many spreads from normal, without the sign.

    Examples
    --------
    >>> spreads(-3.14), spreads(240.0)
    ('3.1', 'over 99')
    """
    return f"over {MOST_Z:.0f}" if abs(z) > MOST_Z else f"{abs(z):.1f}"


def unusual_sentence(unusual: Unusual, title: str, station: str = "") -> str:
    """What is unusual of a measure.

    Parameters
    ----------
    title
        The measure's (:attr:`qc_node.domain.measure.Measure.title`).
    station
        What people call the scanner; empty where it is said elsewhere.

    Examples
    --------
    >>> from qc_node.domain.measure import Baseline
    >>> normal = Baseline(20.0, 2.0, 60)
    >>> unusual_sentence(Unusual("noise_air", 26.2, 3.1, normal), "noise in air", "MR2")
    'Noise in air is 3.1 times the usual spread above normal on MR2.'
    >>> unusual_sentence(Unusual("noise_air", 25, 2.2, normal, "drift", 18), "noise in air", "MR2")
    'Noise in air has drifted: 22 % above normal for the last 18 series of MR2.'
    """
    side = "above" if unusual.z > 0 else "below"
    if unusual.kind == "drift":
        lasts = f"for the last {unusual.since} series" + (f" of {station}" if station else "")
        drifted = f"{title} {_verb(title, 'has', 'have')} drifted"
        return sentence(f"{drifted}: {_how_far(unusual)} {side} normal {lasts}")
    times = f"{spreads(unusual.z)} times the usual spread {side} normal"
    return sentence(f"{title} {_verb(title, 'is', 'are')} {times}" + (f" on {station}" if station else ""))


def _verb(title: str, one: str, many: str) -> str:
    """`many` after a title in the plural ("ghosts along the rows"), by its first noun."""
    noun = next((word for word in title.split() if word not in ("the", "missing")), "")
    return many if noun.endswith("s") and not noun.endswith("ss") else one


def _how_far(unusual: Unusual) -> str:
    """How far a drift is from normal: a share of the centre where that says something, else in spreads."""
    centre, away = abs(unusual.baseline.centre), abs(unusual.baseline.at(unusual.z) - unusual.baseline.centre)
    if centre <= 0.01 * away:
        return f"{spreads(unusual.z)} times the usual spread"
    return f"{100 * away / centre:.0f} %"


def departure_sentence(departure: Departure, quote: bool = False) -> str:
    """What was set otherwise than usual.

    Parameters
    ----------
    quote
        Whether words of the header may be quoted, such as the name of a coil.

    Examples
    --------
    >>> departure_sentence(Departure("echo_time", "95", "30", 0.98))
    'The echo time is 95 ms; this protocol usually has 30 ms.'
    >>> departure_sentence(Departure("coil", "Body", "Head 32", 0.98))
    'The receive coil is not what this protocol usually has.'
    >>> departure_sentence(Departure("coil", "Body", "Head 32", 0.98), quote=True)
    'The receive coil is Body; this protocol usually has Head 32.'
    """
    parameter = PARAMETERS.get(departure.parameter)
    title, unit = (parameter.title, parameter.unit) if parameter else (departure.parameter.replace("_", " "), "")
    if quote or (NUMBERS.match(departure.value) and NUMBERS.match(departure.usual)):
        now, usual = _with_unit(departure.value, unit), _with_unit(departure.usual, unit)
        return sentence(f"{title} is {now}; this protocol usually has {usual}")
    return sentence(f"{title} is not what this protocol usually has")


def _with_unit(value: str, unit: str) -> str:
    if not value:
        return "not stated"
    if not unit or not NUMBERS.match(value):
        return value
    return f"{value}{unit}" if unit == "°" else f"{value} {unit}"


def new_software_sentence(station: str) -> str:
    """That a scanner has new software, so that what is normal is learnt anew.

    Examples
    --------
    >>> new_software_sentence("MR2")
    'MR2 has new software: what is normal for it is learnt anew.'
    """
    return f"{station} has new software: what is normal for it is learnt anew."


def too_few_sentence(lacking: int) -> str:
    """How many series are missing before anything is said; empty where none is.

    Examples
    --------
    >>> too_few_sentence(12)
    '12 more series are needed before anything is called unusual.'
    """
    if lacking <= 0:
        return ""
    needed = "1 more series is" if lacking == 1 else f"{lacking} more series are"
    return f"{needed} needed before anything is called unusual."
