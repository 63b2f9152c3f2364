"""Make the pictures of docs/web.md: ``make pictures``, or ``python -m tests.web.screenshots [STATE …]``.

Every state of :mod:`tests.web.states` that is `shown`, in three widths, dark and light.  Every image in them is a
phantom: nested ellipses, nobody's head.  States that cannot be reached are named, and exit 1 says so.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.web.browser import Chromium
from tests.web.made_clinic import open_sites
from tests.web.states import STATES
from tests.web.test_colours import THEMES as COLOURS
from tests.web.test_colours import channels
from tests.web.visitor import State, Visitor

TARGET = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZES = ((320, 880), (800, 900), (1600, 1000))
FLAT, GREYS = 72, 20
"""What a picture keeps beside the colours of its theme: its most frequent ones, and steps of grey (phantoms)."""


def name_of(state: State, width: int, theme: str) -> str:
    """The file of a picture."""
    return f"web-{state.name}-{width}-{theme}.png"


def wanted(asked: Sequence[str] = ()) -> list[State]:
    """The states that are shown, or those that are asked for by name."""
    return [state for state in STATES if (state.name in asked if asked else state.shown)]


def small(png: bytes, theme: str) -> Image.Image:
    """A screenshot with few colours, those of the theme exact, without noise in what is flat."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    counted = picture.getcolors(picture.width * picture.height) or []
    flat: Any = [colour for _, colour in sorted(counted, reverse=True)[:FLAT]]
    named = [tuple(channels(colour)) for colour in COLOURS[theme].values()]
    greys = [(g, g, g) for g in range(0, 256, 256 // GREYS)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for colour in dict.fromkeys([*named, *flat, *greys]) for channel in colour])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def take(visitor: Visitor, state: State, target: Path) -> None:
    """All pictures of one state."""
    visitor.reach(state)
    for width, height in SIZES:
        visitor.chromium.resize(width, height)
        for theme in COLOURS:
            visitor.chromium.theme(theme)
            visitor.settle()
            small(visitor.chromium.picture(), theme).save(target / name_of(state, width, theme), optimize=True)


def main(asked: Sequence[str]) -> int:
    """Take them; what could not be reached is said and counted."""
    TARGET.mkdir(parents=True, exist_ok=True)
    missed: dict[str, str] = {name: "no such state" for name in asked if name not in {s.name for s in STATES}}
    chromium = Chromium()
    try:
        with open_sites() as sites:
            visitor = Visitor(chromium, sites)
            for state in wanted(asked):
                try:
                    take(visitor, state, TARGET)
                    print(state.name)
                except AssertionError as error:
                    missed[state.name] = str(error).partition("\n")[0]
            chromium.open("about:blank")
    finally:
        chromium.quit()
    if not asked:
        known = {name_of(s, w, t) for s in wanted() for w, _ in SIZES for t in COLOURS}
        for old in TARGET.glob("web-*.png"):
            if old.name not in known:
                old.unlink()
    total = sum(path.stat().st_size for path in TARGET.glob("web-*.png"))
    print(f"{len(list(TARGET.glob('web-*.png')))} pictures, {total / 1e6:.1f} MB in {TARGET}")
    for name, why in missed.items():
        print(f"NOT REACHED: {name}: {why}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
