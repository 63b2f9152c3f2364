"""Every state of every page, narrow and wide, dark and light: axe-core has nothing against it (WCAG 2.2 AA)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers import require
from tests.web.axe import axe_source, faults
from tests.web.browser import Chromium
from tests.web.states import STATES, State, Visitor, open_sites

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("accessibility")]

ORDINARY = ((320, "dark"), (1600, "light"))
ALL = tuple((width, theme) for width in (320, 800, 1600) for theme in ("dark", "light"))


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


def look(visitor: Visitor, state: State, looks: tuple[tuple[int, str], ...]) -> None:
    axe_source()
    visitor.reach(state)
    found = {}
    for width, theme in looks:
        visitor.chromium.resize(width, 900)
        visitor.chromium.theme(theme)
        said = [str(fault) for fault in faults(visitor.chromium)]
        if visitor.chromium.script("return document.documentElement.scrollWidth > innerWidth"):
            said.append("the page is wider than the window")
        if said:
            found[f"{width} px, {theme}"] = said
    if found:
        pytest.fail("\n".join([state.name, *(f"{at}:\n  " + "\n  ".join(said) for at, said in found.items())]))


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_nothing_keeps_anybody_out(visitor: Visitor, state: State) -> None:
    look(visitor, state, ORDINARY)


@pytest.mark.nightly
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_nothing_keeps_anybody_out_at_any_width_in_any_theme(visitor: Visitor, state: State) -> None:
    look(visitor, state, ALL)
