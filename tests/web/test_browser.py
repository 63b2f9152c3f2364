"""A real Chromium drives the pages: mouse, keys, cut network, two windows, a PACS that switches in mid-vote."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from qc_node.web.app import create_app
from qc_node.web.server import ServerHandle, serve
from qc_node.web.votes import cases, exchange
from tests.peers import wait_for
from tests.web.browser import Chromium
from tests.web.conftest import Clinic, brain, ct, rejected
from tests.web.hub import TOPIC, Hub, open_event
from tests.web.phantom_series import store_series
from tests.web.seventy_days import make_log

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("browser")]


class RealClock:
    """The time of day, as the browser sees it too."""

    @property
    def now(self) -> float:
        return time.time()

    def __call__(self) -> float:
        return time.time()

    def forward(self, seconds: float) -> None:
        """Time passes by itself."""


@dataclass
class Served:
    """The pages in a real server, with one reader's personal link."""

    clinic: Clinic
    server: ServerHandle
    link: str
    reader_id: str

    def case(self, study: str) -> str:
        return cases.open_study(self.clinic.deps(), study)

    def votes(self) -> list[str]:
        return [row["vote"] for row in self.clinic.ledger.votes.all()]

    def acts(self) -> list[str]:
        """What was done with the first vote."""
        (first, *_) = self.clinic.ledger.votes.all()
        return [act["kind"] for act in self.clinic.ledger.votes.acts_of(first["id"])]


@pytest.fixture
def served(clinic: Clinic, chromium: Chromium) -> Iterator[Served]:
    clinic.clock = RealClock()
    clinic.receive("1.2.3", "1.2.3.1", accession="MR-1", description="Head <b>native</b>")
    clinic.judge("1.2.3.1", brain(motion=1), seed=1)
    clinic.receive("1.2.4", "1.2.4.1", accession="MR-2", description="Head with contrast")
    clinic.judge("1.2.4.1", brain(motion=2), seed=2)
    reader, token = clinic.reader(name="Dr. M. Bode", role="expert")
    server = serve(create_app(clinic.deps()), "127.0.0.1", 0)
    chromium.open(f"{server.url}/healthz")
    chromium.script("localStorage.clear()")
    chromium.devtools("Network.clearBrowserCookies")
    chromium.resize(320, 900)
    yield Served(clinic, server, f"{server.url}/sign-in#{token}", reader.reader_id)
    chromium.network(True)
    refused = [
        e for e in chromium.errors() if "ERR_" not in e and "status of 4" not in e and "status of 5" not in e
    ]
    chromium.open("about:blank")
    server.stop()
    assert refused == [], "the pages themselves cause no complaint"


def open_panel(chromium: Chromium, served: Served, study: str = "1.2.3") -> None:
    chromium.open(served.link)
    chromium.until("return location.pathname === '/panel'")
    assert "#" not in chromium.url, "the token does not stay in the address bar"
    chromium.open(f"{served.server.url}/panel/{served.case(study)}")
    chromium.until("return document.querySelector('.vote') && !document.querySelector('.vote').disabled")


def test_vote_by_mouse_then_verdict(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    assert "Shown after your vote" in chromium.text("#opinion")
    assert "Head <b>native</b>" in chromium.text("#what"), "markup in a description is text"
    chromium.click(".vote.good")
    chromium.until_text("#says", "Saved: Good")
    assert "Usable quality" in chromium.text("#opinion")
    assert served.votes() == ["good"]
    row = served.clinic.ledger.votes.all()[0]
    assert row["reader_id"] == served.reader_id and row["study_uid"] == "1.2.3" and not row["verdict_visible"]


def test_vote_reason_undo_and_change_by_keys_alone(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    chromium.press("3")
    chromium.until_text("#says", "Saved: Poor")
    chromium.press("m", "c")
    wait_for(lambda: served.acts() == ["reasons"])
    before = served.clinic.ledger.votes.all()[0]
    assert before["vote"] == "poor" and json.loads(before["reasons"]) == ["motion", "contrast"]
    assert not before["verdict_visible"], "a reason leaves the vote as blind as it was"
    chromium.press("u", "u")
    wait_for(lambda: served.votes() == ["poor", "withdrawn"])
    assert served.acts() == ["reasons", "withdrawal", "withdrawal"], "the reasons first, then the vote"
    chromium.press("2")
    wait_for(lambda: served.votes()[2:] == ["acceptable"])
    chromium.press("/")
    chromium.until("return document.activeElement.id === 'search-text'")
    chromium.press(*"MR-2", "Enter")
    chromium.until_text("#accession", "MR-2")
    chromium.until("return !document.querySelector('.vote').disabled")
    chromium.press("1")
    wait_for(lambda: served.votes()[3:] == ["good"])
    assert [r["study_uid"] for r in served.clinic.ledger.votes.all()] == ["1.2.3"] * 3 + ["1.2.4"]


def test_double_click_and_key_repeat_are_one_vote(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    chromium.script("for (let i = 0; i < 5; i++) document.querySelector('.vote.poor').click()")
    chromium.script(
        "for (let i = 0; i < 9; i++)"
        " document.dispatchEvent(new KeyboardEvent('keydown', {key: '3', repeat: i > 0, bubbles: true}))"
    )
    chromium.until_text("#says", "Poor")
    chromium.until("return document.getElementById('queue').textContent === ''")
    assert served.votes() == ["poor"]


def test_network_cut_and_return_loses_and_doubles_nothing(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    chromium.network(False)
    chromium.press("2")
    chromium.until_text("#says", "kept here")
    assert "1 vote waiting" in chromium.text("#queue")
    assert served.votes() == []
    chromium.network(True)
    chromium.until_text("#says", "Saved: Acceptable")
    assert served.votes() == ["acceptable"]
    row = served.clinic.ledger.votes.all()[0]
    assert row["voted_at"] < row["received_at"]


def test_a_vote_survives_a_closed_window_and_an_answer_that_never_came(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    # The node gets the vote, but its answer is lost on the way: the page must send it again.
    chromium.script(
        "const real = fetch; window.fetch = async (...a) => { await real(...a); throw new TypeError() }"
    )
    chromium.press("1")
    chromium.until_text("#queue", "1 vote waiting")
    wait_for(lambda: served.votes() == ["good"])
    chromium.open("about:blank")
    chromium.open(f"{served.server.url}/panel")
    chromium.until("return document.getElementById('queue')?.textContent === ''")
    chromium.until("return Object.keys(localStorage).every((k) => !k.startsWith('qc-node-'))")
    assert served.votes() == ["good"]


def test_two_windows(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    first = chromium.window()
    second = chromium.new_window()
    try:
        chromium.open(f"{served.server.url}/panel/{served.case('1.2.3')}")
        chromium.until("return document.querySelector('.vote') && !document.querySelector('.vote').disabled")
        chromium.press("3")
        chromium.until_text("#says", "Saved: Poor")
        chromium.switch(first)
        chromium.until("return document.querySelector('.vote.poor').getAttribute('aria-pressed') === 'true'")
        chromium.press("3")
        chromium.until_text("#says", "your vote already")
        assert served.votes() == ["poor"]
    finally:
        chromium.switch(second)
        chromium.do("DELETE", "/window")
        chromium.switch(first)


def test_a_vote_changed_in_another_window_is_not_undone_here(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    first, address = chromium.window(), f"{served.server.url}/panel/{served.case('1.2.3')}"
    chromium.press("1")
    chromium.until_text("#says", "Saved: Good")
    second = chromium.new_window()
    try:
        chromium.open(address)
        chromium.until("return document.querySelector('.vote:enabled')")
        chromium.press("2")
        chromium.until_text("#says", "Saved: Acceptable")
        chromium.switch(first)
        chromium.until_text("#says", "Voted in another window: Acceptable.")
        chromium.press("u")
        chromium.until_text("#says", "Nothing to undo")
        assert served.votes()[-1] == "acceptable"
        chromium.switch(second)
        chromium.resize(800, 900)
        chromium.click(".who button")
        chromium.until("return location.pathname === '/sign-in'")
        chromium.switch(first)
        chromium.until("return location.pathname === '/sign-in'")  # nothing of the study stays for the next person
    finally:
        chromium.switch(second)
        chromium.do("DELETE", "/window")
        chromium.switch(first)


def test_nothing_moves_under_the_finger_when_undo_comes_and_goes(chromium: Chromium, served: Served) -> None:
    where = "return document.getElementById('reasons').getBoundingClientRect().top"
    open_panel(chromium, served)
    before = chromium.script(where)
    chromium.press("1")
    chromium.until_text("#says", "Saved: Good")
    assert chromium.script(where) == before
    assert not chromium.script(
        "document.getElementById('undo').focus(); return document.getElementById('undo-row').hidden"
    )
    chromium.press("u")
    chromium.until("return document.getElementById('undo-row').hidden")
    assert chromium.script(where) == before


def test_signed_out_in_between_keeps_the_vote_for_its_reader(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    chromium.devtools("Network.clearBrowserCookies")
    chromium.press("1")
    chromium.until_text("#says", "sign in again")
    _, other = served.clinic.reader("other", name="O. Ther")
    chromium.open(f"{served.server.url}/sign-in#{other}")
    chromium.until("return location.pathname === '/panel'")
    chromium.until_text("#follow", "Connected")
    assert served.votes() == [], "nobody else sends it"
    chromium.devtools("Network.clearBrowserCookies")
    chromium.open("about:blank")
    chromium.open(served.link)
    wait_for(lambda: served.votes() == ["good"])
    assert served.clinic.ledger.votes.all()[0]["reader_id"] == served.reader_id


def test_the_panel_fits_beside_a_viewer(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    for width in (320, 800, 1600):
        chromium.resize(width, 900)
        assert chromium.script("return document.documentElement.scrollWidth <= innerWidth"), width
        bottom = chromium.script("return document.querySelector('.vote.poor').getBoundingClientRect().bottom")
        assert bottom < 900, "the three buttons are in view without scrolling"


def test_the_board_shows_a_verdict_and_its_alarm_until_acknowledged(chromium: Chromium, served: Served) -> None:
    chromium.open(f"{served.server.url}/live")
    chromium.until_text(".card", "Needs a look")
    served.clinic.receive("1.2.5", "1.2.5.1", scanner="CT_1", modality="CT")
    served.clinic.judge("1.2.5.1", ct("abdomen", True))
    served.server._app.state.board.publish(served.clinic.number("1.2.5.1"))
    chromium.until_text("#cards", "Abdomen, contrast-enhanced")
    served.clinic.receive("1.2.6", "1.2.6.1", scanner="CT_1", modality="MR")
    served.clinic.judge("1.2.6.1", rejected(), description="<script>alert(1)</script>")
    served.server._app.state.board.publish(served.clinic.number("1.2.6.1"))
    chromium.until_text("#cards", "Skull removed")
    assert "<script>alert(1)</script>" in chromium.text("#cards")
    assert chromium.script("return document.querySelectorAll('.alarm').length") == 2
    for left in (1, 0):
        time.sleep(0.7)  # a person looks before the next press; less is a double click
        chromium.click(".alarm button")
        chromium.until("return document.querySelectorAll('.alarm').length === arguments[0]", left)


def test_sign_in_by_pin_and_out(chromium: Chromium, served: Served) -> None:
    served.clinic.reader("anna", name="Anna", pin="271828")
    chromium.open(f"{served.server.url}/panel")
    chromium.until("return location.pathname === '/sign-in'")
    chromium.press(*"anna", "Tab", *"271827", "Enter")
    chromium.until_text("#sign-in [role=alert]", "do not match")
    chromium.press(*"anna", "Tab", *"271828", "Enter")
    chromium.until_text("#follow", "Connected")
    chromium.resize(800, 900)
    chromium.click(".who button")
    chromium.until("return location.pathname === '/sign-in'")


def test_a_link_pasted_on_the_open_sign_in_page_signs_in(chromium: Chromium, served: Served) -> None:
    chromium.devtools("Network.clearBrowserCookies")
    chromium.open(f"{served.server.url}/sign-in?next=/live")
    chromium.until("return Boolean(document.querySelector('#pin-form'))")
    chromium.script("location.hash = 'not-a-link'")
    chromium.until_text("#link-says", "not valid any more")
    assert chromium.script("return location.hash") == ""
    assert not chromium.script("return document.querySelector('#pin-form').hidden"), "the other way is open"
    chromium.script("location.hash = arguments[0]", served.link.split("#")[1])
    chromium.until("return location.pathname === '/live'")
    _, other = served.clinic.reader("klee", name="P. Klee")
    chromium.open(f"{served.server.url}/sign-in")
    chromium.until_text("h1", "Signed in")
    chromium.script("location.hash = arguments[0]", other)
    chromium.until_text("#link-says", "Somebody else is signed in")
    assert chromium.script("return location.hash") == ""
    chromium.click("#instead")
    chromium.until("return location.pathname === '/panel'")
    chromium.until("return document.body.textContent.includes(arguments[0])", "P. Klee")


def test_the_panel_follows_the_viewer_and_a_switch_in_mid_vote_costs_nothing(
    chromium: Chromium, served: Served
) -> None:
    hub = Hub()
    deps = served.clinic.deps(fhircast_hubs=(hub.url,))
    server = serve(create_app(deps), "127.0.0.1", 0)
    try:
        chromium.open(served.link.replace(served.server.url, server.url))
        chromium.until("return location.pathname === '/panel'")
        chromium.open(f"{server.url}/launch?hub.url={hub.url}&hub.topic={TOPIC}")
        wait_for(lambda: hub.sockets)
        hub.say(open_event("1.2.3", 1))
        chromium.until_text("#accession", "MR-1")
        chromium.until("return !document.querySelector('.vote').disabled")
        assert "Following your viewer" in chromium.text("#follow")
        # The key goes down on MR-1; its vote is still on the slow line when the PACS opens MR-2.
        chromium.script(
            "const real = fetch; let first = true; window.fetch = async (a, ...b) => {"
            " if (a === '/api/votes' && first) { first = false;"
            " await new Promise((done) => { window.release = done }) }"
            " return real(a, ...b) }"
        )
        chromium.press("3")
        chromium.until_text("#queue", "1 vote waiting")
        time.sleep(2.0)  # a press counts as being as late as it can have been: by how slowly the page was answered
        hub.say(open_event("1.2.4", 2))
        chromium.until_text("#accession", "MR-2")
        chromium.until("return !document.querySelector('.vote').disabled")
        assert chromium.script("return document.querySelectorAll('.vote[aria-pressed=true]').length") == 0
        chromium.script("window.release()")
        wait_for(lambda: served.votes() == ["poor"])
        chromium.script("document.querySelector('.vote.good').click(); setTimeout(() => window.release(), 50)")
        wait_for(lambda: served.votes() == ["poor", "good"])
        rows = served.clinic.ledger.votes.all()
        assert [(r["study_uid"], r["source"]) for r in rows] == [("1.2.3", "fhircast"), ("1.2.4", "fhircast")]
        # Right after a switch a key was meant for the study before: it lands nowhere.
        chromium.script(
            "const press = () => document.dispatchEvent(new KeyboardEvent('keydown', {key: '3', bubbles: true}));"
            "new MutationObserver(press).observe(document.getElementById('accession'), {childList: true})"
        )
        hub.say(open_event("1.2.3", 3))
        chromium.until_text("#accession", "MR-1")
        chromium.until_text("#says", "press again")
        hub.say(open_event("1.2.3", 4, verb="close"))
        chromium.until("return !document.getElementById('nothing').hidden")
        chromium.press("1")
        time.sleep(0.3)
        assert served.votes() == ["poor", "good"], "nothing on the screen, nothing to vote on"
    finally:
        chromium.open("about:blank")
        server.stop()
        hub.close()


def open_review(chromium: Chromium, served: Served, rows: int) -> None:
    chromium.open(served.link)
    chromium.until("return location.pathname === '/panel'")
    chromium.resize(1600, 1000)
    chromium.open(f"{served.server.url}/review")
    chromium.until("return document.querySelectorAll('.row').length === arguments[0]", rows)


def test_review_by_keyboard_alone(chromium: Chromium, served: Served) -> None:
    clinic = served.clinic
    clinic.receive("1.2.9", "1.2.9.1", scanner="CT_1", modality="CT")
    clinic.judge("1.2.9.1", ct("chest"), warnings=("Ordered: abdomen with contrast; found: chest without.",))
    open_review(chromium, served, 3)
    assert "Ordered: abdomen with contrast" in chromium.text(".row.current")
    assert chromium.script("return document.querySelectorAll('.row.current img').length") == 6
    chromium.press("e")
    chromium.until("return document.activeElement.name === 'body_part'")
    chromium.script(
        "const s = document.activeElement; s.value = 'abdomen';"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    chromium.press("Enter")
    chromium.until_text(".row.current .answers", "✎ abdomen")
    labels = [(x["question"], x["found"], x["label"]) for x in clinic.ledger.labels.all()]
    assert labels == [("body_part", "chest", "abdomen"), ("contrast_enhanced", "no", "no")]
    chromium.press("j")
    chromium.press("y")
    wait_for(lambda: len(clinic.ledger.labels.all()) == 7)
    chromium.press("/", *"nothing so", "Enter")
    chromium.until("return !document.getElementById('no-rows').hidden")
    chromium.press("/")
    chromium.until("return document.activeElement.id === 'filter'")
    chromium.script("document.getElementById('filter').value = ''")
    chromium.press(*"MR-1")
    chromium.until("return document.getElementById('filter').value === 'MR-1'")
    chromium.press("Enter")
    chromium.until("return document.querySelectorAll('.row').length === 1")
    chromium.until_text(".row.current", "1.2.3.1")
    assert "MR-1" not in chromium.url, "what is searched is in no address"
    chromium.script("document.getElementById('filter').value = ''")
    chromium.click("[data-only=not_reviewed]")
    chromium.until("return document.querySelectorAll('.row').length === 1")


def test_a_series_that_arrives_moves_nothing_under_the_readers_eye(chromium: Chromium, served: Served) -> None:
    clinic, publish = served.clinic, served.server._app.state.board.publish
    for n in range(20):
        clinic.receive(f"1.3.{n}", f"1.3.{n}.1")
        clinic.judge(f"1.3.{n}.1", brain())
    open_review(chromium, served, 22)
    chromium.script(
        "const down = () => new KeyboardEvent('keydown', {key: 'j', bubbles: true});"
        "for (let n = 0; n < 12; n++) document.body.dispatchEvent(down())"
    )
    chromium.script(
        "document.querySelector('.row.current [data-act=confirm]').focus(); window.met = 0; const real = fetch;"
        "window.fetch = async (...a) => { const said = await real(...a);"
        " window.met += (await said.clone().text()).length; return said }"
    )
    here = (
        "const r = document.querySelector('.row.current');"
        "return [r.dataset.series, r.getBoundingClientRect().top, document.activeElement.dataset.act]"
    )
    before = chromium.script(here)
    clinic.receive("1.4.1", "1.4.1.1", accession="NEW-1")
    clinic.judge("1.4.1.1", brain())
    publish(clinic.number("1.4.1.1"))
    chromium.until_text("#fresh", "1 new series: show")
    above, mine = clinic.number("1.3.19.1"), int(before[0])
    for number, grade in ((above, 2), (mine, 1)):
        clinic.ledger.series.judge_again(number, clinic.clock.now)
        row = clinic.ledger.series.by_id(number)
        assert row is not None
        clinic.ledger.series.finish(number, row["run"], "judging", clinic.clock.now)
        clinic.judge(row["series_uid"], brain(motion=grade))
        publish(number)
    chromium.until_text(f".row[data-series='{above}']", "Poor")
    chromium.until_text(f".row[data-series='{mine}']", "Usable")
    after = chromium.script(here)
    assert after[0] == before[0] and after[2] == before[2] and abs(after[1] - before[1]) < 1.5
    assert chromium.script("return document.querySelectorAll('.row').length") == 22
    assert chromium.script("return window.met") < 20_000, "only what changed is fetched"
    chromium.click("#fresh")
    chromium.until_text(".row.current", "NEW-1")
    chromium.until(
        "return document.getElementById('fresh').hidden && document.querySelectorAll('.row').length === 23"
    )


def test_pictures_open_and_stored_slices_are_windowed_and_scrolled(chromium: Chromium, served: Served) -> None:
    store_series(served.clinic, "1.2.9", "1.2.9.1", scanner="MR_EAST", slices=6)
    served.clinic.judge("1.2.9.1", brain())
    open_review(chromium, served, 3)
    middle = (
        "const c = document.querySelector('.film'), x = Math.round(c.width * arguments[0]), y = c.height >> 1;"
        "return c.getContext('2d').getImageData(x, y, 1, 1).data[0]"
    )
    chromium.click(".row.current [data-act=pictures]")
    chromium.until_text(".slice-says", "Axial, slice 4 of 6")
    tissue = chromium.script(middle, 0.25)
    assert 60 < tissue < 240
    chromium.press("w")
    chromium.until("return document.querySelector('[data-window=air]').getAttribute('aria-pressed') === 'true'")
    assert chromium.script(middle, 0.25) == 255, "tissue is far above the window for air"
    chromium.press("w")
    chromium.press("Right")
    chromium.until_text(".slice-says", "slice 5 of 6")
    chromium.press("2")
    chromium.until_text(".slice-says", "Coronal, slice 97 of 192")
    chromium.press("4")
    chromium.until_text(".slice-says", "Kept: Axial")
    chromium.press("Escape")
    chromium.until("return !document.getElementById('viewer').open")
    assert chromium.script("return document.activeElement.dataset.act") == "pictures", "where the reader was"
    served.clinic.ledger.db.conn.execute("UPDATE series SET images_removed_at = 1.0 WHERE series_uid = '1.2.9.1'")
    chromium.click(".row.current [data-act=pictures]")
    chromium.until_text("#viewer-note", "removed")
    chromium.until_text(".slice-says", "Axial · level")
    chromium.press("Escape")


def test_expert_grading_by_the_papers_keys(chromium: Chromium, served: Served) -> None:
    clinic = served.clinic
    store_series(clinic, "1.2.9", "1.2.9.1", scanner="MR_EAST", slices=6)
    clinic.judge("1.2.9.1", brain())
    chromium.open(served.link)
    chromium.until("return location.pathname === '/panel'")
    chromium.resize(1600, 1000)
    chromium.open(f"{served.server.url}/annotate")
    chromium.until_text("#tier", "Still open: straight reject, gadolinium, motion, contrast, noise")
    chromium.press(" ")
    chromium.until_text("#grade-says", "Not saved. Still open")
    chromium.press("r", "a", "a", "z", "z", "z", "k", "k")
    chromium.until_text("#tier", "Still open: noise")
    chromium.press(" ")
    chromium.until_text("#grade-says", "Not saved. Still open: noise")
    assert clinic.ledger.gradings.current() == [], "nothing is saved that nobody answered"
    chromium.until("return document.activeElement.name === 'noise'")
    chromium.press(" ")
    chromium.until_text("#tier", "Tier 3")
    chromium.press("Right", "Left")  # as radio buttons do
    chromium.press(" ")
    wait_for(lambda: len(clinic.ledger.gradings.current()) == 1)
    chromium.until_text("#tier", "Still open: straight reject")
    chromium.press("r", "r")
    chromium.until_text("#tier", "Straight reject")
    assert chromium.script("return document.querySelector('[name=motion]').matches(':disabled')")
    chromium.press(" ")
    wait_for(lambda: len(clinic.ledger.gradings.current()) == 2)
    chromium.until_text(".slice-says", "4 of 6")
    chromium.script("document.querySelector('.film').focus()")
    chromium.press("Right")
    chromium.until_text(".slice-says", "5 of 6")
    chromium.press("b")
    chromium.until_text("#tier", "Straight reject")
    chromium.press("r", "k", "a", "z", "d", "d", " ")
    wait_for(lambda: clinic.ledger.db.value("SELECT count(*) FROM gradings") == 3)
    chromium.until_text("#tier", "Still open: straight reject")
    chromium.until_text("#progress", "2 graded by you, 1 to do")
    first, second = clinic.ledger.gradings.current()
    assert (first["motion"], first["contrast"], first["noise"], first["gadolinium"]) == (1, 2, 0, 1)
    assert (second["straight_reject"], second["noise"]) == (0, 1)
    assert [row["verdict_visible"] for row in (first, second)] == [0, 0]
    chromium.network(False)
    chromium.press("r", "r", " ")
    chromium.until_text("#grade-says", "Not saved: the network is cut")
    chromium.script("document.getElementById('back').click()")
    chromium.until_text("#trouble-says", "nothing could be loaded")
    chromium.network(True)
    chromium.click("#again")
    chromium.until("return !document.getElementById('task').hidden")


def test_statistics_page_and_plots(chromium: Chromium, served: Served) -> None:
    text, _ = make_log()
    exchange.import_rows(
        served.clinic.ledger, exchange.read_rows(io.StringIO(text), "log.csv"), now=time.time(), add_readers=True
    )
    chromium.open(served.link)
    chromium.until("return location.pathname === '/panel'")
    for width in (320, 800, 1600):
        chromium.resize(width, 900)
        chromium.open(f"{served.server.url}/stats?period=all")
        chromium.until_text(".facts", "1,527")
        assert chromium.script("return document.documentElement.scrollWidth <= innerWidth"), width
        shown = "return [...document.querySelectorAll('.plot svg')].filter((s) => s.checkVisibility()).length"
        assert chromium.script(shown) == 9, "six of the votes, three week by week"


def test_a_page_is_ready_within_the_blink_of_an_eye(chromium: Chromium, served: Served) -> None:
    open_panel(chromium, served)
    loaded = chromium.script(
        "const n = performance.getEntriesByType('navigation')[0]; return n.loadEventEnd - n.startTime"
    )
    assert loaded > 0
    print(f"panel loaded in {loaded:.0f} ms on loopback")


def test_no_page_overflows_sideways(chromium: Chromium, served: Served) -> None:
    chromium.open(served.link)
    chromium.until("return location.pathname === '/panel'")
    for page in ("panel", "live", "review", "annotate", "stats", "docs"):
        for width in (320, 800, 1600):
            chromium.resize(width, 900)
            chromium.open(f"{served.server.url}/{page}")
            chromium.until("return document.readyState === 'complete'")
            assert chromium.script("return document.documentElement.scrollWidth <= innerWidth"), (page, width)
