"""Colours of the pages: read well enough (WCAG 2.2, 1.4.3 and 1.4.11), and grey where nothing was decided."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import qc_node.web

CSS = (Path(qc_node.web.__file__).parent / "static" / "pages.css").read_text()
COLOURS = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", CSS))
GROUNDS = ("ground", "sheet", "raised", "open-ground", "poor-ground", "good-ground", "usable-ground")


def channels(name: str) -> list[int]:
    return [int(COLOURS[name][at : at + 2], 16) for at in (1, 3, 5)]


def luminance(name: str) -> float:
    """Relative luminance in [0, 1] (WCAG 2.2, definition)."""
    shares = [c / 255 for c in channels(name)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return float(sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("name", ["text", "soft", "open", "good", "usable", "poor"])
def test_words_and_shapes_stand_out_from_their_ground(name: str, ground: str) -> None:
    low, high = sorted((luminance(name), luminance(ground)))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_what_is_undetermined_is_grey() -> None:
    for name in ("open", "open-ground"):
        assert max(channels(name)) - min(channels(name)) <= 26, "grey with a touch of blue, and no more"
    assert re.search(r"\.open-tone \.shape \{ color: var\(--open\)", CSS)
