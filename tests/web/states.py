"""Every state of every page, a line each: axe looks at all of them, and the documents show some.

``STATES`` says where a state is, what to press, and what shows that it is reached.  `Visitor` goes there in a real
Chromium, on a made-up clinic (`fill`): nested ellipses, nobody's head.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from qc_node.domain import Reason
from qc_node.ledger import Ledger
from qc_node.spool import Spool
from qc_node.web.app import create_app
from qc_node.web.server import ServerHandle, serve
from qc_node.web.votes import cases, exchange
from tests.web.browser import Chromium
from tests.web.cable import Cable
from tests.web.conftest import Clinic, brain, ct, rejected, undecided
from tests.web.phantom_series import store_series
from tests.web.seventy_days import make_log

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


def narrow(visitor: Visitor) -> object:
    """The window becomes as narrow as the panel beside a viewer."""
    return visitor.chromium.resize(320, 900)


def cut(visitor: Visitor) -> object:
    """The cable is pulled out, in the middle of everything."""
    return visitor.site.cable.pull()


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
        """The first part of the address: ``/panel``."""
        return "/" + re.split(r"[/?#]", self.address)[1]


STATES = (
    State("panel-empty", "/panel", "#recent", site="empty"),
    State("panel-list", "/panel", "#recent li", shown=True),
    State("panel-not-found", "/panel", "#recent li", steps=(press("/", *"NONE-1", "Enter"), see("main", "NONE-1"))),
    State("panel", "/panel/{1.2.3}", ".vote:enabled", shown=True),
    State("panel-right-to-left", "/panel/{1.2.11}", ".vote:enabled"),
    State("panel-not-here", "/panel/{1.2.99}", ".vote:enabled"),
    State("panel-reasons", "/panel/{1.2.4}", ".vote:enabled", steps=(press("m", "n"), see(".reason[aria-pressed=true]"))),
    State("panel-voted", "/panel/{1.2.6}", ".vote:enabled", steps=(press("2"), see("#says", "Saved"), press("m"), see("#opinions li"))),
    State("panel-good", "/panel/{1.2.7}", ".vote:enabled", steps=(press("1"), see("#says", "Saved"))),
    State("panel-undone", "/panel/{1.2.9}", ".vote:enabled", steps=(press("3"), see("#says", "Saved"), press("u"), see("#says", "Taken back"))),
    State("panel-cut", "/panel/{1.2.10}", ".vote:enabled", steps=(cut, press("3"), see("#queue", "waiting"))),
    State("choose", "/panel?AccessionNumber=MR-TWICE", ".list a"),
    State("board-empty", "/live", "#no-cards", site="empty"),
    State("board", "/live", "main", "Live", who="", shown=True),
    State("board-cut", "/live", ".card", steps=(cut, see("body", "No connection"))),
    State("review-empty", "/review", "#no-rows", site="empty"),
    State("review", "/review", ".row", shown=True),
    State("review-editing", "/review", ".row", steps=(press("e"), see(".edit select"))),
    State("review-nothing-found", "/review", ".row", steps=(enter("#filter", "nothing-is-like-this"), see("#no-rows"))),
    State("review-signed-out", "/review", ".row", who=""),
    State("grade-loading", "/annotate", "h1", never="/api/annotate"),
    State("grade", "/annotate", ".characteristic", shown=True),
    State("grade-rejected", "/annotate", ".characteristic", steps=(press("r"), see("#tier", "reject"))),
    State("grade-settle", "/annotate", "#queue-open", steps=(click("#queue-open"), see("#both .choice"))),
    State("grade-done", "/annotate", "#done", site="empty"),
    State("statistics-empty", "/stats", "main", site="empty"),
    State("statistics", "/stats", ".plot", shown=True),
    State("sign-in", "/sign-in", "#pin-form", who="", shown=True),
    State("sign-in-wrong", "/sign-in", "#pin-form", who="", steps=(press(*"bode", "Tab", *"000000", "Enter"), see("[role=alert]", "match"))),
    State("not-here", "/thumbnails/nothing", "h1"),
    State("documents", "/docs", "article", shown=True),
    State("menu", "/live", "#no-cards", site="empty", steps=(narrow, click("#menu"), see("#pages a"))),
)  # fmt: skip


# -- where ---------------------------------------------------------------------------------------------
class Now:
    """The time of day, some minutes ago while the clinic is being filled."""

    behind = 2400.0

    @property
    def now(self) -> float:
        return time.time() - self.behind

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.behind = max(0.0, self.behind - 150 * seconds)


def fill(clinic: Clinic) -> None:
    """A morning in a department, 70 days of votes, and gradings of two experts."""
    store_series(clinic, "1.2.3", "1.2.3.1", scanner="MR_EAST", slices=60)
    clinic.ledger.studies.describe("1.2.3", "MR-204417", "MRI head, native")
    clinic.judge("1.2.3.1", brain(motion=1), seed=1)

    def arrive(study: str, accession: str, description: str, scanner: str, modality: str, images: int) -> str:
        series = f"{study}.1"
        clinic.receive(
            study,
            series,
            accession=accession,
            description=description,
            scanner=scanner,
            modality=modality,
            images=images,
        )
        return series

    series = arrive("1.2.4", "MR-204418", "MRI head with contrast", "MR_WEST", "MR", 176)
    clinic.judge(series, brain(motion=2, contrast=1, gadolinium=True), seed=2)
    series = arrive("1.2.5", "CT-88120", "CT abdomen-pelvis with contrast", "CT_1", "CT", 240)
    clinic.judge(
        series,
        ct("chest"),
        seed=3,
        description="Chest 3.0 Br40",
        warnings=("Ordered: abdomen-pelvis with contrast; found: chest without.",),
        claims={"ordered": ["CT abdomen-pelvis with contrast"]},
    )
    series = arrive("1.2.6", "MR-204419", "MRI head", "MR_3T", "MR", 192)
    clinic.judge(series, rejected(), seed=4, description="BET_t1_mprage")
    series = arrive("1.2.7", "MR-204420", "MRI head, native", "MR_3T", "MR", 176)
    clinic.judge(series, brain(), seed=5)
    series = arrive("1.2.11", "MR-204423", "تصوير الدماغ بالرنين المغناطيسي", "MR_WEST", "MR", 28)
    clinic.judge(series, brain(), seed=8, description="סריקת ראש T1")
    series = arrive("1.2.9", "MR-204421", "MRI head", "MR_ER", "MR", 160)
    clinic.judge(series, rejected(Reason.COVERAGE, measured=True), seed=6, description="t1_mprage_sag")
    series = arrive("1.2.10", "MR-204422", "MRI head", "MR_OR", "MR", 150)
    clinic.judge(series, undecided(), seed=7, description="T1W_3D_TFE")
    arrive("1.2.8", "XR-5120", "Chest PA", "DX_ROOM2", "DX", 1)
    for study in ("1.2.20", "1.2.21"):
        arrive(study, "MR-TWICE", "MRI head, two procedures", "MR_EAST", "MR", 20)
    start = datetime.now(UTC).replace(hour=7, minute=0, second=0, microsecond=0) - timedelta(days=70)
    log = io.StringIO(make_log(start=start)[0])
    exchange.import_rows(clinic.ledger, exchange.read_rows(log, "log.csv"), now=time.time(), add_readers=True)


def disagree(site: Site) -> None:
    """Two experts see one series differently: one rejects it, so both have to sit together."""
    number = site.clinic.verdict("1.2.3.1")["id"]
    for login, answer in (
        ("bode", {"straight_reject": True}),
        ("kern", {"straight_reject": False, "gadolinium": False, "motion": 1, "contrast": 0, "noise": 0}),
    ):
        body = json.dumps({"key": f"grading-{login}", **answer}).encode()
        headers = {"authorization": f"Bearer {site.tokens[login]}", "content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(site.url(f"/api/annotate/{number}"), body, headers))


@dataclass
class Site:
    """A node's pages in a real server, and the personal links of its readers."""

    clinic: Clinic
    server: ServerHandle
    cable: Cable
    tokens: dict[str, str]

    def url(self, address: str) -> str:
        opened = re.sub(r"\{(.+?)\}", lambda m: cases.open_study(self.clinic.deps(), m[1]), address)
        return self.cable.url + opened


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
        for step in state.steps:
            step(self)
        self.chromium.until(
            "return document.fonts.status === 'loaded'"
            " && [...document.images].every((i) => i.complete || i.loading === 'lazy')"
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


def _open_site(root: Path, *, filled: bool) -> Site:
    clock = Now()
    clinic = Clinic(Ledger(root / "ledger.sqlite"), Spool(root), clock)
    tokens = {}
    if filled:
        fill(clinic)
    clock.behind = 0.0
    _, tokens["bode"] = clinic.reader("bode", name="Dr. M. Bode", role="expert", pin="271828")
    _, tokens["kern"] = clinic.reader("kern", name="دكتورة كرن", role="expert")
    _, tokens["long"] = clinic.reader(
        "long", name="Prof. Dr. Wilhelmine von Hohenstein-Ahlberg", role="technologist"
    )
    app = create_app(clinic.deps(requests_per_minute=100_000, votes_per_minute=10_000, sign_ins_per_minute=10_000))
    server = serve(app, "127.0.0.1", 0)
    site = Site(clinic, server, Cable(server.port), tokens)
    if filled:
        disagree(site)
    return site


@contextmanager
def open_sites() -> Iterator[dict[str, Site]]:
    """The two nodes that the states are on, by name."""
    with tempfile.TemporaryDirectory() as temporary:
        sites = {}
        for name in ("day", "empty"):
            folder = Path(temporary) / name
            folder.mkdir()
            sites[name] = _open_site(folder, filled=name == "day")
        try:
            yield sites
        finally:
            for site in sites.values():
                site.cable.close()
                site.server.stop()
