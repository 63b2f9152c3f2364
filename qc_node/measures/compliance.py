"""Parameters that were set otherwise than this protocol usually has them.  Pure.

What is usual is what most earlier series of the chart had (the mode, as mrQA has it).  A parameter is watched
only where nearly all of them agree: what the scanner adapts to the patient (the exposure under tube current
modulation, a repetition time that follows the heart or the limit of SAR) has no such value and never calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qc_node.domain.measure import Departure
from qc_node.domain.technique import PARAMETERS, Parameter

ENOUGH_STATED = 20
"""Earlier series that must state a parameter before it is watched."""

SHARE = 0.8
"""Share of them that must have the same value."""

WINDOW_STATED = 100
"""How many of the newest earlier series are looked at: what was changed on purpose is usual after 80."""

HABIT = 0.1
"""Share of them from which another value is a second habit, and no departure."""

FEW_OTHERS, NEARLY_ALL = 3, 0.95
"""More other values than that say that the scanner adapts the parameter, unless nearly all agree."""

_WIDE, _AGREE = 0.1, 0.25
"""Of a tolerance that is wider, earlier values must agree within this part: a wide one is met by chance."""

STATES_OR_NOT = frozenset({"contrast"})
"""Parameters of which only counts whether they are stated: names and doses of agents are written in many ways."""

GIVEN, NONE = "given", "none"


@dataclass(frozen=True, slots=True)
class UsualValue:
    """What a parameter usually is.

    Attributes
    ----------
    value
        A number in the unit of the parameter, or text.
    count, stated
        How many earlier series had it, of how many that state the parameter.
    others
        How many other values there were.
    """

    value: float | str
    count: int
    stated: int
    others: int

    @property
    def settled(self) -> bool:
        """Whether nearly all agree, so that another value says something."""
        return self.share >= SHARE and (self.others <= FEW_OTHERS or self.share >= NEARLY_ALL)

    @property
    def share(self) -> float:
        """Which share of the earlier series had it, 0 to 1."""
        return self.count / self.stated


def departures(
    parameters: Mapping[str, float | str], earlier: Sequence[Mapping[str, float | str]]
) -> tuple[Departure, ...]:
    """What differs from what earlier series of the protocol usually had, in the order of :data:`PARAMETERS`.

    Parameters
    ----------
    parameters
        Of the series, by name in :data:`qc_node.domain.technique.PARAMETERS`; other names are left out.
    earlier
        The same of earlier series of the chart, oldest first.
    """
    if not parameters:  # a header that could not be read does not say that no contrast agent was given
        return ()
    newest = [one for one in earlier if one][-WINDOW_STATED:]
    found = (
        _departure(parameter, _stated(parameters, name), [_stated(one, name) for one in newest])
        for name, parameter in PARAMETERS.items()
    )
    return tuple(one for one in found if one is not None)


def usual_value(parameter: Parameter, earlier: Sequence[float | str | None]) -> UsualValue | None:
    """The value that most earlier series had; None where too few state one."""
    stated = [value for value in earlier if value is not None]
    if len(stated) < ENOUGH_STATED:
        return None
    value, count = _mode(parameter, stated)
    others = {str(one).casefold() for one in stated if not _same(parameter, one, value)}
    return UsualValue(value, count, len(stated), len(others))


def _mode(parameter: Parameter, stated: Sequence[float | str]) -> tuple[float | str, int]:
    words = Counter(value for value in stated if isinstance(value, str)).most_common(1)
    number, count = _modal_number(parameter, [value for value in stated if not isinstance(value, str)])
    return words[0] if words and words[0][1] > count else (number, count)


def _departure(
    parameter: Parameter, value: float | str | None, earlier: Sequence[float | str | None]
) -> Departure | None:
    if value is None:  # a header that does not state it says nothing
        return None
    usual = usual_value(parameter, earlier)
    if usual is None or not usual.settled or _same(parameter, value, usual.value):
        return None
    if sum(one is not None and _same(parameter, value, one) for one in earlier) > HABIT * usual.stated:
        return None
    return Departure(parameter.name, _text(value), _text(usual.value), round(usual.share, 4), usual.stated)


def _stated(parameters: Mapping[str, float | str], name: str) -> float | str | None:
    value = parameters.get(name)
    if name in STATES_OR_NOT:
        return GIVEN if value else NONE
    if isinstance(value, str):
        return value.strip() or None
    return None if value is None or not np.isfinite(value) else float(value)


def _modal_number(parameter: Parameter, numbers: Sequence[float]) -> tuple[float, int]:
    """The number that most others agree with, and how many do."""
    if not numbers:
        return 0.0, 0
    ordered = np.sort(np.asarray(numbers, dtype=np.float64))
    agree = parameter.tolerance * (_AGREE if parameter.tolerance > _WIDE else 1.0)
    margin = agree * np.abs(ordered) + 1e-9
    counts = np.searchsorted(ordered, ordered + margin, "right") - np.searchsorted(ordered, ordered - margin)
    best = np.flatnonzero(counts == counts.max())
    return float(ordered[best[len(best) // 2]]), int(counts.max())


def _same(parameter: Parameter, value: float | str, usual: float | str) -> bool:
    if isinstance(value, str) or isinstance(usual, str):
        return str(value).casefold() == str(usual).casefold()
    return abs(value - usual) <= parameter.tolerance * abs(usual) + 1e-9


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
