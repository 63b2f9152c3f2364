"""A control chart as SVG text: points in their order, the usual range, what is unusual, changes of software.

As :mod:`qc_node.web.statistics.plots`, whose letters, colours and sizes it has: no library, no script.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from qc_node.domain.measure_words import number
from qc_node.measures.charts import ChartPoint, ChartSegment
from qc_node.web.statistics import plots
from qc_node.web.statistics.plots import (
    ACCENT,
    BOTTOM,
    HEIGHT,
    INK,
    LETTER,
    LINE,
    POOR,
    RIGHT,
    SOFT,
    TOP,
    USABLE,
)

MARKS = {
    "": plots.Style(ACCENT),
    "outlier": plots.Style(POOR, mark="diamond"),
    "drift": plots.Style(USABLE, mark="triangle"),
}
"""How a point looks by what called: colour and shape."""
ROOM = 0.08
"""Free space above and below everything, as a share of the height."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values and points lie on the drawing."""

    bottom: float
    top: float
    count: int
    left: float
    width: int

    def x(self, n: float) -> float:
        """Of the point with this place in the order."""
        return self.left + 8 + (n + 0.5) / max(self.count, 1) * (self.width - self.left - RIGHT - 8)

    def y(self, value: float) -> float:
        """Of a value; what lies outside is drawn at the edge."""
        share = (min(max(value, self.bottom), self.top) - self.bottom) / (self.top - self.bottom)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def drawn_chart(
    stretches: Sequence[ChartSegment], *, title: str, unit: str, software: str, order: str, width: int = plots.WIDE
) -> str:
    """Draw a chart.

    Parameters
    ----------
    stretches
        One for each software version, oldest first; points are drawn as for a patient of usual size.
    software
        What is written at a change of software.
    order
        What is written below the axis.
    """
    points = [point for stretch in stretches for point in stretch.points]
    steps = round_values(*_span(stretches))
    left = 12 + LETTER * max(len(number(step)) for step in steps)
    frame = _Frame(steps[0], steps[-1], len(points), left, width)
    body = [*_steps(steps, frame), *_dates(points, frame)]
    first = 0
    for n, stretch in enumerate(stretches):
        body += _usual(stretch, first, frame)
        body += _change(first, software, frame) if n else ()
        first += len(stretch.points)
    line = " ".join(f"{frame.x(n):.1f},{frame.y(point.drawn):.1f}" for n, point in enumerate(points))
    body.append(f"<polyline points='{line}' fill='none' stroke='{LINE}' stroke-width='1'/>")
    body += [plots.mark(MARKS[p.kind], frame.x(n), frame.y(p.drawn)) for n, p in enumerate(points)]
    body.append(plots.text((left + width - RIGHT) / 2, HEIGHT - 6, order, "middle"))
    return plots.svg(title, unit, body, width, HEIGHT)


def _span(stretches: Sequence[ChartSegment]) -> tuple[float, float]:
    """From where to where everything lies, with room."""
    values = [point.drawn for stretch in stretches for point in stretch.points]
    limits = [v for stretch in stretches for v in (stretch.low, stretch.high) if v is not None]
    low, high = min([*values, *limits], default=0.0), max([*values, *limits], default=1.0)
    room = ROOM * (high - low) or ROOM * abs(high) or 1.0
    return (0.0 if 0 <= low < room else low - room), high + room


def round_values(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers around a span.

    Examples
    --------
    >>> round_values(1.9, 4.2)
    [1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    >>> round_values(-0.01, 0.031)
    [-0.01, 0.0, 0.01, 0.02, 0.03, 0.04]
    """
    raw = (high - low) / (count + 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) + 0.0 for n in range(first, last + 1)]


def _steps(steps: Sequence[float], frame: _Frame) -> Iterator[str]:
    for step in steps:
        y = frame.y(step)
        yield f"<line x1='{frame.left:.1f}' x2='{frame.width - RIGHT}' y1='{y:.1f}' y2='{y:.1f}' stroke='{LINE}'/>"
        yield plots.text(frame.left - 6, y + 4, number(step), "end")


def _dates(points: Sequence[ChartPoint], frame: _Frame) -> Iterator[str]:
    """A handful of days below the points."""
    step = max(1, -(-len(points) // max(2, frame.width // 90)))
    for n, point in enumerate(points):
        if n % step == 0:
            day = datetime.fromtimestamp(point.at, UTC).date()
            anchor = "start" if n == 0 else "middle"
            yield plots.text(frame.x(n), HEIGHT - BOTTOM + 16, day.strftime("%d %b"), anchor, day=day.isoformat())


def _usual(stretch: ChartSegment, first: int, frame: _Frame) -> Iterator[str]:
    """The usual range as a band with lines at its edges, and its centre as dashes."""
    if stretch.low is None or stretch.high is None or stretch.centre is None:
        return
    x1, x2 = frame.x(first - 0.5), frame.x(first + len(stretch.points) - 0.5)
    top, bottom = frame.y(stretch.high), frame.y(stretch.low)
    yield (
        f"<rect x='{x1:.1f}' y='{top:.1f}' width='{x2 - x1:.1f}' height='{bottom - top:.1f}' fill='{ACCENT}'"
        " fill-opacity='0.1'/>"
    )
    for value, dash in ((stretch.low, ""), (stretch.centre, " stroke-dasharray='6 3'"), (stretch.high, "")):
        y = frame.y(value)
        yield f"<line x1='{x1:.1f}' x2='{x2:.1f}' y1='{y:.1f}' y2='{y:.1f}' stroke='{SOFT}'{dash}/>"


def _change(first: int, said: str, frame: _Frame) -> Iterator[str]:
    """A line where new software begins."""
    x = frame.x(first - 0.5)
    yield (
        f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{TOP}' y2='{HEIGHT - BOTTOM}' stroke='{INK}' stroke-width='1.5'"
        " stroke-dasharray='2 3'/>"
    )
    right = x > frame.width / 2
    yield plots.text(x - 4 if right else x + 4, TOP - 3, said, "end" if right else "start", INK)
