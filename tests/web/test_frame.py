"""The frame of every page: who is signed in, the menu, the way past it, the theme of a site, paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from qc_node.web.app import create_app
from qc_node.web.server import serve
from tests.peers import require
from tests.web.browser import Chromium
from tests.web.made_clinic import READERS, open_sites
from tests.web.states import STATES
from tests.web.test_colours import THEMES
from tests.web.visitor import State, Visitor

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("frame")]


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    require("chromium")
    require("chromedriver")
    chromium = Chromium()
    try:
        with open_sites() as sites:
            yield Visitor(chromium, sites)
            chromium.open("about:blank")
    finally:
        chromium.quit()


def state(name: str) -> State:
    return next(s for s in STATES if s.name == name)


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


def ground(chromium: Chromium) -> str:
    return str(chromium.script("return getComputedStyle(document.documentElement).backgroundColor"))


@pytest.mark.parametrize("width", [320, 480, 800, 899, 900, 1600])
@pytest.mark.parametrize("who", ["bode", "long", "kern"])
def test_name_and_role_are_in_view_at_every_width(visitor: Visitor, width: int, who: str) -> None:
    visitor.reach(replace(state("help"), who=who))
    chromium = visitor.chromium
    chromium.resize(width, 900)
    name = READERS[who][0]
    box = chromium.script(
        "const p = document.querySelector('.who p'), r = p.getBoundingClientRect();"
        "return {text: p.innerText, left: r.left, right: r.right, top: r.top, bottom: r.bottom,"
        " clipped: p.scrollWidth > p.clientWidth, isolated: p.querySelector('bdi')?.textContent}"
    )
    assert name in box["text"] and box["isolated"] == name
    assert re.search(r"expert|technologist", box["text"])
    assert (
        0 <= box["left"] < box["right"] <= width and 0 <= box["top"] < box["bottom"] < 130 and not box["clipped"]
    )
    assert chromium.script("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [320, 800, 1600])
def test_every_page_is_reached_by_a_target_that_a_finger_hits(visitor: Visitor, width: int) -> None:
    visitor.reach(state("help"))
    chromium = visitor.chromium
    chromium.resize(width, 900)
    if width < 900:
        assert not chromium.script("return document.querySelector('#pages a').checkVisibility()")
        chromium.click("#menu")
    else:
        assert not chromium.script("return document.getElementById('menu').checkVisibility()")
    sizes = chromium.script(
        "return [...document.querySelectorAll('#pages a, #menu, .brand, .who button')]"
        ".filter((e) => e.checkVisibility())"
        ".map((e) => { const r = e.getBoundingClientRect(); return [e.innerText, r.width, r.height, r.right] })"
    )
    assert len(sizes) >= 6
    for name, wide, high, right in sizes:
        assert wide >= 24 and high >= (32 if width >= 900 else 24) and right <= width, name
    links = [s for s in sizes if s[0] in ("Vote", "Board", "Statistics")]
    assert len(links) == 3 and all(high >= (44 if width < 900 else 36) for _, _, high, _ in links)


def test_the_menu_opens_and_closes_by_keys_alone(visitor: Visitor) -> None:
    visitor.reach(state("help"))
    chromium = visitor.chromium
    chromium.resize(320, 900)
    chromium.press("Tab", "Tab", "Tab")
    assert chromium.script("return document.activeElement.id") == "menu"
    chromium.press("Enter")
    assert chromium.script("return document.activeElement.getAttribute('aria-expanded')") == "true"
    chromium.press("Tab")
    assert chromium.script("return document.activeElement.innerText") == "Vote"
    chromium.press("Escape")
    assert chromium.script(
        "return [document.activeElement.id, document.activeElement.getAttribute('aria-expanded')]"
    ) == [
        "menu",
        "false",
    ]
    chromium.press("Enter", "Tab", "Tab", "Enter")
    chromium.until("return location.pathname === '/live'")


def test_the_first_tab_leads_past_the_frame(visitor: Visitor) -> None:
    visitor.reach(state("help"))
    chromium = visitor.chromium
    chromium.press("Tab")
    skip = chromium.script("const e = document.activeElement; return [e.className, e.getBoundingClientRect().top]")
    assert skip[0] == "skip" and skip[1] >= 0, "in view as soon as it has the focus"
    chromium.press("Enter")
    assert chromium.script("return document.activeElement.id") == "main"
    visitor.reach(state("statistics"))
    chromium.press("Tab", "Enter", "Tab")
    assert chromium.script("return document.getElementById('main').contains(document.activeElement)")


def test_what_has_the_focus_is_outlined(visitor: Visitor) -> None:
    visitor.reach(state("statistics"))
    chromium = visitor.chromium
    for theme in ("dark", "light"):
        chromium.theme(theme)
        chromium.press("Tab")
        outline = chromium.script(
            "const s = getComputedStyle(document.activeElement);"
            "return [s.outlineStyle, s.outlineWidth, s.outlineColor]"
        )
        assert outline == ["solid", "2px", rgb(THEMES[theme]["accent"])]


def test_the_system_chooses_the_theme(visitor: Visitor) -> None:
    visitor.reach(state("help"))
    for theme in ("dark", "light", "dark"):
        visitor.chromium.theme(theme)
        assert ground(visitor.chromium) == rgb(THEMES[theme]["ground"])


@pytest.mark.parametrize(("settled", "asked"), [("dark", "light"), ("light", "dark")])
def test_a_site_that_settled_on_a_theme_has_it_whatever_the_system_asks_for(
    visitor: Visitor, settled: str, asked: str
) -> None:
    clinic = visitor.sites["empty"].clinic
    server = serve(create_app(clinic.deps(theme=settled)), "127.0.0.1", 0)
    try:
        visitor.chromium.theme(asked)
        visitor.chromium.open(f"{server.url}/help")
        assert ground(visitor.chromium) == rgb(THEMES[settled]["ground"])
        visitor.chromium.devtools("Emulation.setEmulatedMedia", media="print")
        assert ground(visitor.chromium) == rgb(THEMES["light"]["ground"]), "paper is light"
    finally:
        visitor.chromium.devtools("Emulation.setEmulatedMedia", media="")
        visitor.chromium.open("about:blank")
        server.stop()


def test_numbers_and_times_are_written_as_the_browser_writes_them(visitor: Visitor) -> None:
    chromium = visitor.chromium
    try:
        chromium.devtools("Emulation.setLocaleOverride", locale="de-DE")
        visitor.reach(state("statistics"))
        assert "1.527" in chromium.text(".facts"), "1,527 as a German reads it"
        assert chromium.script("return [...document.querySelectorAll('data.figure')].length") > 10
        days = chromium.script(
            "return [...document.querySelectorAll('time[data-as=day]')].map((e) => e.textContent)"
        )
        assert days and all(re.fullmatch(r"\d\d\.\d\d\.\d{4}", day) for day in days)
    finally:
        chromium.devtools("Emulation.setLocaleOverride")


MOST_PAGES = {"statistics": 3, "review": 16, "documents": 16, "help": 2, "me": 1}


@pytest.mark.parametrize("name", MOST_PAGES)
def test_on_paper_there_is_the_page_and_nothing_to_press(visitor: Visitor, name: str) -> None:
    visitor.reach(state(name))
    chromium = visitor.chromium
    chromium.theme("dark")
    chromium.devtools("Emulation.setEmulatedMedia", media="print")
    try:
        assert ground(chromium) == rgb(THEMES["light"]["ground"])
        pressed = chromium.script(
            "return [...document.querySelectorAll('nav, button:not(.row-pictures), input, select, .skip')]"
            ".filter((e) => e.checkVisibility())"
            ".map((e) => e.outerHTML.slice(0, 120))"
        )
        assert pressed == []
        assert chromium.script("return document.querySelector('h1').checkVisibility()")
        # no dark blocks: what is drawn in a plot is on the ground of the page
        dark = chromium.script(
            "const sum = (colour) => { const f = colour.match(/[0-9.]+/g).map(Number);"
            " return f.length < 4 ? f[0] + f[1] + f[2] : 765; };"
            "return [...document.querySelectorAll('.plot, .plot svg rect')].filter((e) => {"
            " const c = getComputedStyle(e); return e.getBoundingClientRect().height > 100"
            " && sum(e.matches('rect') ? c.fill : c.backgroundColor) < 200 }).length"
        )
        assert dark == 0
    finally:
        chromium.devtools("Emulation.setEmulatedMedia", media="")
    pdf = base64.b64decode(chromium.devtools("Page.printToPDF", printBackground=False)["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 10_000
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= MOST_PAGES[name], "no page is left empty before a block"
