"""Small plots as SVG text: no library, no script; readable at 320 px, in both themes and on paper.

Colours are the variables of the pages, so that a plot in a page follows its theme; a plot that stands alone takes
the values beside them, which are those for white paper.  A page draws each plot twice (:data:`WIDE`,
:data:`NARROW`) and shows the one that fits, because a drawing that is scaled down takes its letters along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

WIDE, NARROW = 520, 288
HEIGHT = 230
RIGHT, TOP, BOTTOM = 14, 14, 40
INK, SOFT, LINE = "var(--text, #1a222a)", "var(--soft, #4d5a67)", "var(--line, #d0d7de)"
ACCENT, GOOD, USABLE = "var(--accent, #1c5d8a)", "var(--good, #1c643a)", "var(--usable, #765000)"
POOR, OPEN = "var(--poor, #a32c26)", "var(--open, #4f5b68)"
SIZE = 12
FONT = f"font-family='system-ui, sans-serif' font-size='{SIZE}'"
LETTER = 6.6
"""Width of a letter, about."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a line is told from others: colour, dashes, and the mark on its points (colour is not enough)."""

    colour: str
    dash: str = ""
    mark: str = "circle"


STYLES = (
    Style(ACCENT),
    Style(USABLE, "6 3", "triangle"),
    Style(GOOD, "2 3", "square"),
    Style(POOR, "8 3 2 3", "diamond"),
    Style(OPEN, "12 4"),
    Style(INK, "1 4", "triangle"),
    Style(ACCENT, "5 2 1 2", "square"),
    Style(USABLE, "10 2", "diamond"),
)
"""Eight lines can be told apart; who has more must say less (:func:`.overview.acceptance_lines`)."""
LEVEL_STYLES = {
    "good": Style(GOOD),
    "acceptable": Style(USABLE, "6 3", "triangle"),
    "poor": Style(POOR, "2 3", "square"),
}
"""The shapes and colours that these levels have everywhere."""
MOST_MARKS = 40
"""Lines with more points than this have no marks."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on the x axis; `day` (ISO 8601) where the browser writes the label anew in its own way."""

    x: float
    label: str
    day: str = ""


def ticks(top: float, count: int = 4, *, whole: bool = False) -> list[float]:
    """Round numbers from 0 up to at least `top`; only whole ones where things are counted."""
    if top <= 0:
        return [0.0, 1.0]
    raw = max(top / count, 1.0) if whole else top / count
    power = 10.0 ** (len(str(int(raw))) - 1 if raw >= 1 else -1)
    steps = (1, 2, 5, 10, 20) if whole else (1, 2, 2.5, 5, 10, 20)
    step = next(s * power for s in steps if s * power >= raw)
    out = [0.0]
    while out[-1] < top - 1e-9:
        out.append(out[-1] + step)
    return out


TIME_UNITS = ((21, 1, "days"), (26 * 7, 7, "weeks"), (3 * 365, 30.4375, "months"), (1 << 30, 365.25, "years"))
"""Up to how many days which unit is used, and how many days it has."""


def time_unit(days: float) -> tuple[float, str]:
    """Days per unit, and the unit, in which a stretch of `days` has a handful of whole numbers.

    Examples
    --------
    >>> time_unit(1)[1], time_unit(70)[1], time_unit(400)[1], time_unit(5000)[1]
    ('days', 'weeks', 'months', 'years')
    """
    return next((per, name) for most, per, name in TIME_UNITS if days <= most)


def monday_ticks(mondays: Sequence[float], width: int) -> list[Tick]:
    """A handful of days for an axis that counts weeks, from when each week began (seconds since 1970)."""
    step = max(1, -(-len(mondays) // max(2, width // 70)))
    days = {n: datetime.fromtimestamp(at, UTC).date() for n, at in enumerate(mondays) if n % step == 0}
    return [Tick(float(n), day.strftime("%d %b"), day.isoformat()) for n, day in days.items()]


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    top: float | None = None,
    percent: bool = False,
    width: int = WIDE,
    styles: Mapping[str, Style] | None = None,
    x_ticks: Sequence[Tick] | None = None,
) -> str:
    """Lines over a common x axis that starts at 0; a legend when there are several."""
    points = [p for line in series.values() for p in line]
    x_max = max([x for x, _ in points] + [t.x for t in x_ticks or ()], default=1.0) or 1.0
    y_ticks = ticks(top if top is not None else max((y for _, y in points), default=1.0), whole=not percent)
    left = 12 + LETTER * max(len(_number(tick, percent)) for tick in y_ticks)

    def place(x: float, y: float) -> tuple[float, float]:
        px = left + x / x_max * (width - left - RIGHT)
        return px, HEIGHT - BOTTOM - y / y_ticks[-1] * (HEIGHT - TOP - BOTTOM)

    body = [_grid(y_ticks, percent, left, width)]
    if x_ticks is None:
        at = [t for t in ticks(x_max, max(2, width // 80), whole=True) if t <= x_max]
        x_ticks = [Tick(t, f"{t:g}") for t in at]
    for tick in x_ticks:
        body.append(text(place(tick.x, 0)[0], HEIGHT - BOTTOM + 16, tick.label, "middle", day=tick.day))
    given = {name: (styles or {}).get(name, STYLES[n % len(STYLES)]) for n, name in enumerate(series)}
    for name, line in series.items():
        style = given[name]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in line))
        body.append(
            f"<polyline points='{path}' fill='none' stroke='{style.colour}' stroke-width='2'{_dashes(style)}/>"
        )
        if len(line) <= MOST_MARKS:
            body += [mark(style, *place(*p)) for p in line]
    body.append(text((left + width - RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    height = HEIGHT
    if len(series) > 1:
        legend, height = _legend(given, width)
        body.append(legend)
    return svg(title, y_label, body, width, height)


def bars(values: Mapping[str, float], *, title: str, width: int = WIDE) -> str:
    """Horizontal bars in the order given, each with its number."""
    row = 26
    height = TOP + max(1, len(values)) * row + 8
    top = max(values.values(), default=1) or 1
    most = int(width * 0.4)
    label = min(most, max([40, *(round(LETTER * len(name)) + 12 for name in values)]))
    fits = int((most - 12) / LETTER)
    body = []
    for n, (name, value) in enumerate(values.items()):
        y = TOP + n * row
        number = f"{value:,.10g}"
        length = value / top * (width - label - 20 - LETTER * max(len(f"{top:,.10g}"), 3))
        body.append(text(label - 8, y + 15, name if len(name) <= fits else name[: fits - 1] + "…", "end", INK))
        body.append(
            f"<rect x='{label}' y='{y + 3}' width='{max(length, 1):.1f}' height='16' rx='3' fill='{ACCENT}'/>"
        )
        body.append(text(label + length + 7, y + 15, number, "start", INK))
    return svg(title, "", body, width, height)


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.0f} %" if percent else f"{value:,.10g}"


def _grid(y_ticks: Sequence[float], percent: bool, left: float, width: int) -> str:
    out = []
    for tick in y_ticks:
        y = HEIGHT - BOTTOM - tick / y_ticks[-1] * (HEIGHT - TOP - BOTTOM)
        out.append(f"<line x1='{left:.1f}' x2='{width - RIGHT}' y1='{y:.1f}' y2='{y:.1f}' stroke='{LINE}'/>")
        out.append(text(left - 6, y + 4, _number(tick, percent), "end"))
    return "".join(out)


def _dashes(style: Style) -> str:
    return f" stroke-dasharray='{style.dash}'" if style.dash else ""


def mark(style: Style, x: float, y: float) -> str:
    """One point of a line."""
    shapes = {
        "circle": f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3'",
        "square": f"<rect x='{x - 3:.1f}' y='{y - 3:.1f}' width='6' height='6'",
        "triangle": f"<path d='M{x:.1f} {y - 4:.1f}l4 7h-8z'",
        "diamond": f"<path d='M{x:.1f} {y - 4:.1f}l4 4-4 4-4-4z'",
    }
    return f"{shapes[style.mark]} fill='{style.colour}'/>"


def _legend(given: Mapping[str, Style], width: int) -> tuple[str, int]:
    out, x, y = [], 8.0, HEIGHT + 10
    for name, style in given.items():
        need = 44 + LETTER * len(name)
        if x > 8 and x + need > width:
            x, y = 8.0, y + 20
        out.append(
            f"<line x1='{x:.0f}' x2='{x + 26:.0f}' y1='{y}' y2='{y}' stroke='{style.colour}' stroke-width='2'"
            f"{_dashes(style)}/>{mark(style, x + 13, y)}"
        )
        out.append(text(x + 32, y + 4, name, "start"))
        x += need + 8
    return "".join(out), y + 12


def text(x: float, y: float, said: str, anchor: str, colour: str = SOFT, day: str = "") -> str:
    """A line of letters; `day` where the browser writes a date anew."""
    dated = f" data-day='{escape(day)}'" if day else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='{colour}' {FONT}{dated}>{escape(said)}</text>"
    )


def svg(title: str, y_label: str, body: Sequence[str], width: int, height: float) -> str:
    """The whole drawing, with a name for those who do not see it."""
    name = escape(f"{title}{', ' + y_label if y_label else ''}", quote=True)
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height:.0f}' role='img'"
        f" aria-label='{name}'>"
        f"<title>{name}</title>"
    )
    return head + "".join(body) + "</svg>"
