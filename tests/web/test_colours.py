"""Colours of the pages: read well enough (WCAG 2.2, 1.4.3 and 1.4.11), and grey where nothing was decided."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import qc_node.web

STATIC = Path(qc_node.web.__file__).parent / "static"
CSS = (STATIC / "pages.css").read_text()


def named(sheet: str) -> dict[str, str]:
    """The colours that a style sheet gives a value, by name."""
    (block,) = re.findall(r"color-scheme: (?:dark|light);([^}]*)\}", sheet)
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))


THEMES = {"dark": named(CSS), "light": named((STATIC / "light.css").read_text())}
GROUNDS = ("ground", "sheet", "raised", "open-ground", "poor-ground", "good-ground", "usable-ground")


def channels(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1] (WCAG 2.2, definition)."""
    shares = [c / 255 for c in channels(colour)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return float(sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("name", ["text", "soft", "open", "good", "usable", "poor", "accent"])
def test_words_and_shapes_stand_out_from_their_ground(theme: str, name: str, ground: str) -> None:
    assert contrast(THEMES[theme][name], THEMES[theme][ground]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_buttons_can_be_read(theme: str) -> None:
    colours = THEMES[theme]
    for word, ground in (
        ("good-text", "good-ground"),
        ("usable-text", "usable-ground"),
        ("poor-text", "poor-ground"),
        ("main-text", "main-ground"),
        ("main-text", "main-hover"),
        ("main-text", "chosen-ground"),
        ("alarm-text", "alarm-button"),
        ("alarm-text", "alarm-hover"),
        ("soft", "field"),
        ("text", "field"),
    ):
        assert contrast(colours[word], colours[ground]) >= 4.5, (word, ground)


def test_the_two_themes_name_the_same_colours() -> None:
    assert THEMES["dark"].keys() == THEMES["light"].keys()


@pytest.mark.parametrize("theme", THEMES)
def test_words_over_pictures_stand_out_from_the_film(theme: str) -> None:
    assert contrast(THEMES[theme]["on-film"], "#000000") >= 7


def test_every_colour_is_named_once() -> None:
    for path in STATIC.glob("*.css"):
        body = re.sub(r"color-scheme: (?:dark|light);[^}]*\}|--film: #000000", "", path.read_text())
        assert not re.findall(r"#[0-9a-f]{3,8}(?=[;, )])", body), path.name


@pytest.mark.parametrize("theme", THEMES)
def test_what_is_undetermined_is_grey(theme: str) -> None:
    for name in ("open", "open-ground"):
        found = channels(THEMES[theme][name])
        assert max(found) - min(found) <= 26, "grey with a touch of blue, and no more"
    assert re.search(r"\.open-tone \.shape \{ color: var\(--open\)", CSS)
