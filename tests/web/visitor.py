"""Somebody with a browser who goes to a state of a page: where it is, what to press, what shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.web.browser import Chromium
from tests.web.made_clinic import Site

Step = Callable[["Visitor"], object]


# -- what somebody does ------------------------------------------------------------------------------
def press(*keys: str) -> Step:
    return lambda visitor: visitor.chromium.press(*keys)


def click(selector: str) -> Step:
    return lambda visitor: visitor.chromium.click(selector)


def enter(selector: str, text: str) -> Step:
    return lambda visitor: visitor.chromium.type(selector, text)


def see(selector: str, words: str = "") -> Step:
    """Wait until something is in view, with these words in it."""
    return lambda visitor: visitor.chromium.until(
        "return [...document.querySelectorAll(arguments[0])].some((e) => e.checkVisibility()"
        " && e.innerText.toLowerCase().includes(arguments[1].toLowerCase()))",
        selector,
        words,
        seconds=15,
    )


def narrow(visitor: Visitor) -> None:
    """The window becomes as narrow as the panel beside a viewer."""
    visitor.chromium.resize(320, 900)


def cut(visitor: Visitor) -> None:
    """The cable is pulled out, in the middle of everything."""
    visitor.site.cable.pull()


@dataclass(frozen=True)
class State:
    """A state of a page, and the way there.

    Attributes
    ----------
    address
        ``{1.2.3}`` in it becomes the opaque name of that study.
    ready, says
        What is in view, with which words, before `steps` are taken; each step waits for what it brings about.
    who
        Login of who is signed in; empty: nobody.
    site
        ``day`` (a morning in a department, 70 days of votes) or ``empty`` (a new node).
    never
        Part of an address that is not answered, so that a loading state stays.
    shown
        Whether ``docs/web.md`` has pictures of it.
    """

    name: str
    address: str
    ready: str
    says: str = ""
    steps: tuple[Step, ...] = ()
    who: str = "bode"
    site: str = "day"
    never: str = ""
    shown: bool = False

    @property
    def page(self) -> str:
        """The address without what is looked at: ``/panel``, ``/stats/measures``."""
        return re.split(r"/\{|[?#]", self.address)[0]


@dataclass
class Visitor:
    """Somebody with a browser, who goes from state to state."""

    chromium: Chromium
    sites: dict[str, Site]
    _signed_in: tuple[str, str] = ("", "")
    site: Site = field(init=False)
    _holds: list[str] = field(default_factory=list)

    def reach(self, state: State) -> None:
        """Go there.

        Raises
        ------
        AssertionError
            Something that the way there needs never came into view.
        """
        self._leave()
        self.site = site = self.sites[state.site]
        if self._signed_in != (state.site, state.who):
            self._sign_in(site, state.who)
            self._signed_in = (state.site, state.who)
        self.chromium.resize(1280, 900)
        if state.never:
            self._hold(state.never)
        self.chromium.open(site.url(state.address))
        see(state.ready, state.says)(self)
        self.settle()
        for step in state.steps:
            step(self)
        self.settle()

    def settle(self) -> None:
        """Wait until fonts and pictures are there, those that a page loads when they come into view among them."""
        self.chromium.until(
            "return document.fonts.status === 'loaded' && [...document.images].every((i) => i.complete"
            " || (i.loading === 'lazy' && i.getBoundingClientRect().top > innerHeight))"
        )

    def _leave(self) -> None:
        for site in self.sites.values():
            site.cable.mend()
        while self._holds:
            self.chromium.devtools("Page.removeScriptToEvaluateOnNewDocument", identifier=self._holds.pop())
        self.chromium.open("about:blank")

    def _sign_in(self, site: Site, who: str) -> None:
        self.chromium.devtools("Network.clearBrowserCookies")
        if who:
            self.chromium.open(f"{site.cable.url}/sign-in#{site.tokens[who]}")
            self.chromium.until("return location.pathname === '/panel'")

    def _hold(self, part: str) -> None:
        """Requests to such an address are never answered."""
        script = (
            "const real = window.fetch; window.fetch = (a, ...more) =>"
            f" String(a).includes({part!r}) ? new Promise(() => 0) : real(a, ...more);"
        )
        kept = self.chromium.devtools("Page.addScriptToEvaluateOnNewDocument", source=script)
        self._holds.append(kept["identifier"])
