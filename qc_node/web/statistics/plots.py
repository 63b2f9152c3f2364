"""Small plots as SVG text: no library, no script, readable in the dark and in print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 34
INK, SOFT, LINE, GROUND = "#cdd5dd", "#96a2ae", "#2a323b", "#13181d"
COLOURS = ("#7fb4d8", "#dba94a", "#63b884", "#c79bd6", "#e0766f", "#8ed0c8", "#b8c26a", "#e3a3b5")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "1 4", "5 2 1 2", "10 2")
"""Lines differ by their dashes, too: colour alone tells nothing to one reader in twelve."""
FONT = "font-family='system-ui, sans-serif' font-size='11'"


def ticks(top: float, count: int = 4) -> list[float]:
    """Round numbers from 0 up to at least `top`."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / count
    power = 10.0 ** (len(str(int(raw))) - 1 if raw >= 1 else -1)
    step = next(s * power for s in (1, 2, 2.5, 5, 10, 20) if s * power >= raw)
    out = [0.0]
    while out[-1] < top - 1e-9:
        out.append(out[-1] + step)
    return out


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    top: float | None = None,
    percent: bool = False,
) -> str:
    """Lines over a common x axis that starts at 0; a legend when there are several."""
    points = [p for line in series.values() for p in line]
    x_max = max((x for x, _ in points), default=1.0) or 1.0
    y_ticks = ticks(top if top is not None else max((y for _, y in points), default=1.0))
    y_max = y_ticks[-1]

    def place(x: float, y: float) -> str:
        px = LEFT + x / x_max * (WIDTH - LEFT - RIGHT)
        py = HEIGHT - BOTTOM - y / y_max * (HEIGHT - TOP - BOTTOM)
        return f"{px:.1f},{py:.1f}"

    body = [_grid(y_ticks, percent)]
    for tick in ticks(x_max, 6):
        if tick <= x_max:
            px = place(tick, 0).split(",")[0]
            body.append(_text(px, HEIGHT - BOTTOM + 14, f"{tick:g}", "middle"))
    for n, (_, line) in enumerate(series.items()):
        colour, dash = COLOURS[n % len(COLOURS)], DASHES[n % len(DASHES)]
        path = " ".join(place(x, y) for x, y in line)
        dashes = f" stroke-dasharray='{dash}'" if dash else ""
        body.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.8'{dashes}/>")
        if len(line) == 1:
            x, y = place(*line[0]).split(",")
            body.append(f"<circle cx='{x}' cy='{y}' r='3' fill='{colour}'/>")
    height = HEIGHT
    if len(series) > 1:
        legend, height = _legend(list(series))
        body.append(legend)
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label, "middle"))
    return _svg(title, y_label, body, height)


def bars(values: Mapping[str, float], *, title: str) -> str:
    """Horizontal bars in the order given, each with its number."""
    row = 24
    height = TOP + max(1, len(values)) * row + 8
    top = max(values.values(), default=1) or 1
    label = min(190, max([40, *(7 * len(name) + 12 for name in values)]))
    body = []
    for n, (name, value) in enumerate(values.items()):
        y = TOP + n * row
        length = value / top * (WIDTH - label - 70)
        body.append(_text(label - 8, y + 14, name if len(name) < 27 else name[:25] + "…", "end", INK))
        body.append(
            f"<rect x='{label}' y='{y + 3}' width='{max(length, 1):.1f}' height='15' rx='3' fill='#3d6a8a'/>"
        )
        body.append(_text(label + length + 7, y + 14, f"{value:g}", "start", INK))
    return _svg(title, "", body, height)


def _grid(y_ticks: Sequence[float], percent: bool) -> str:
    out = []
    for tick in y_ticks:
        y = HEIGHT - BOTTOM - tick / y_ticks[-1] * (HEIGHT - TOP - BOTTOM)
        out.append(f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y:.1f}' y2='{y:.1f}' stroke='{LINE}'/>")
        said = f"{100 * tick:.0f} %" if percent else f"{tick:,.10g}"
        out.append(_text(LEFT - 6, y + 4, said, "end"))
    return "".join(out)


def _legend(names: Sequence[str]) -> tuple[str, int]:
    out = []
    per_row = 3
    for n, name in enumerate(names):
        x = LEFT + (n % per_row) * 170
        y = HEIGHT + 8 + (n // per_row) * 18
        colour, dash = COLOURS[n % len(COLOURS)], DASHES[n % len(DASHES)]
        dashes = f" stroke-dasharray='{dash}'" if dash else ""
        out.append(f"<line x1='{x}' x2='{x + 26}' y1='{y}' y2='{y}' stroke='{colour}' stroke-width='2'{dashes}/>")
        out.append(_text(x + 32, y + 4, name, "start"))
    return "".join(out), HEIGHT + 18 * ((len(names) - 1) // per_row + 1) + 4


def _text(x: float | str, y: float, said: str, anchor: str, colour: str = SOFT) -> str:
    place = x if isinstance(x, str) else f"{x:.1f}"
    return f"<text x='{place}' y='{y:.1f}' text-anchor='{anchor}' fill='{colour}' {FONT}>{escape(said)}</text>"


def _svg(title: str, y_label: str, body: Sequence[str], height: int) -> str:
    name = escape(f"{title}{', ' + y_label if y_label else ''}")
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{name}'>"
        f"<title>{name}</title><rect width='{WIDTH}' height='{height}' fill='{GROUND}'/>"
    )
    return head + "".join(body) + "</svg>"
