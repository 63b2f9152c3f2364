"""The panel in a real Chromium beside a viewer whose hub opens, dies, comes back and logs out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from qc_node.web.app import create_app
from qc_node.web.server import ServerHandle, serve
from tests.peers import wait_for
from tests.web.axe import bring_axe
from tests.web.browser import Chromium
from tests.web.conftest import Clinic, brain
from tests.web.hub import TOPIC, Hub, open_event, told
from tests.web.test_browser import RealClock, Served

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("browser")]

READY = "return !document.getElementById('study').hidden && !document.querySelector('.vote').disabled"
NOTHING = "return !document.getElementById('nothing').hidden"


@pytest.fixture
def hub() -> Iterator[Hub]:
    started = Hub()
    yield started
    started.close()


@pytest.fixture
def served(clinic: Clinic, chromium: Chromium, hub: Hub) -> Iterator[Served]:
    clinic.clock = RealClock()
    clinic.receive("1.2.3", "1.2.3.1", accession="MR-1", description="Head")
    clinic.judge("1.2.3.1", brain(motion=1), seed=1)
    clinic.receive("1.2.4", "1.2.4.1", accession="MR-2", description="ראש")
    reader, token = clinic.reader(name="Dr. M. Bode")
    clinic.ledger.sessions.start("digest", reader.reader_id, clinic.clock.now)
    server: ServerHandle = serve(create_app(clinic.deps(fhircast_hubs=(hub.url,), undo_s=20.0)), "127.0.0.1", 0)
    found = Served(clinic, server, f"{server.url}/sign-in#{token}", reader.reader_id)
    chromium.open(f"{server.url}/healthz")
    chromium.script("localStorage.clear()")
    chromium.devtools("Network.clearBrowserCookies")
    chromium.resize(320, 1000)
    chromium.open(found.link)
    chromium.until("return location.pathname === '/panel'")
    chromium.until_text("#follow", "Not following")
    yield found
    chromium.open("about:blank")
    server.stop()


def launch(chromium: Chromium, served: Served, hub: Hub) -> None:
    chromium.open(f"{served.server.url}/launch?hub.url={hub.url}&hub.topic={TOPIC}")
    wait_for(lambda: hub.sockets)
    chromium.until_text("#follow", "Following your viewer: no study open")


def show(chromium: Chromium, served: Served, study: str = "1.2.3") -> None:
    chromium.open(f"{served.server.url}/panel/{served.case(study)}")
    chromium.until(READY)


def acts(served: Served) -> list[tuple[str, Any]]:
    (first, *_) = served.clinic.ledger.votes.all()
    rows = served.clinic.ledger.votes.acts_of(first["id"])
    return [(act["kind"], json.loads(act["value"]) if act["value"] else None) for act in rows]


def test_hub_opens_dies_comes_back_and_logs_out(chromium: Chromium, served: Served, hub: Hub) -> None:
    launch(chromium, served, hub)
    hub.say(open_event("1.2.3", 1))
    chromium.until_text("#accession", "MR-1")
    chromium.until(READY)
    hub.kill()
    chromium.until_text("#banner", "Your viewer is not connected")
    assert chromium.script(NOTHING), "an old study is worse than none"
    chromium.press("3")
    hub.open_event = open_event("1.2.3", 1)
    again = Hub(port=hub.port)
    again.open_event = open_event("1.2.4", 2)
    try:
        chromium.until_text("#accession", "MR-2")
        assert chromium.script("return document.getElementById('banner').hidden")
        assert served.votes() == [], "the key landed nowhere"
        again.say(told("Home-open", 3))
        chromium.until(NOTHING)
        again.say(open_event("1.2.3", 4))
        chromium.until(READY)
        chromium.press("2")
        wait_for(lambda: served.votes() == ["acceptable"])
        again.say(told("UserLogout", 5))
        chromium.until("return location.pathname === '/sign-in'")
        session = served.clinic.ledger.sessions.get("digest")
        assert session is not None and session["ended_by"] == "UserLogout"
    finally:
        again.close()


def test_a_launch_wins_over_an_idle_topic_until_the_topic_opens_a_study(
    chromium: Chromium, served: Served, hub: Hub
) -> None:
    launch(chromium, served, hub)
    chromium.open(f"{served.server.url}/panel?AccessionNumber=MR-1")
    chromium.until(READY)
    chromium.until_text("#follow", "no study open")
    assert chromium.text("#accession") == "MR-1"
    hub.say(open_event("1.2.4", 1))
    chromium.until_text("#accession", "MR-2")
    chromium.open(f"{served.server.url}/panel?AccessionNumber=MR-1")
    chromium.until(READY)
    chromium.until_text("#follow", "Following your viewer")
    assert chromium.text("#accession") == "MR-1", "also over a study that is open there"
    chromium.open(f"{served.server.url}/panel")
    chromium.until_text("#accession", "MR-2")
    chromium.click("#stop-following")
    chromium.until(NOTHING)
    chromium.until_text("#follow", "Not following a viewer")
    row = served.clinic.ledger.readers.get(served.reader_id)
    assert row is not None and row["fhircast_topic"] is None


def test_a_panel_that_hears_nothing_shows_nothing_of_the_viewer(
    chromium: Chromium, served: Served, hub: Hub
) -> None:
    launch(chromium, served, hub)
    hub.say(open_event("1.2.3", 1))
    chromium.until(READY)
    port = served.server.port
    served.server.stop()
    chromium.until_text("#banner", "No connection to qc-node")
    assert chromium.script(NOTHING)
    hub.open_event = open_event("1.2.4", 2)
    deps = served.clinic.deps(fhircast_hubs=(hub.url,))
    served.server = serve(create_app(deps), "127.0.0.1", port)
    chromium.until_text("#accession", "MR-2")
    assert chromium.script("return document.getElementById('banner').hidden")


def test_everything_about_a_vote_by_keys_and_undo_says_what_it_undid(chromium: Chromium, served: Served) -> None:
    show(chromium, served)
    chromium.press("s", "m", "2")
    chromium.until_text("#says", "Saved: Acceptable")
    chromium.until("return !document.getElementById('agreeing').hidden")
    chromium.press("y")
    chromium.until_text("#says", "you agree")
    chromium.press("d")
    chromium.until_text("#says", "how sure you are")
    chromium.press("k", *"moved", "Enter")
    chromium.until_text("#says", "Comment saved")
    wait_for(lambda: len(acts(served)) == 5)
    assert acts(served) == [
        ("reasons", ["motion"]),
        ("confidence", 1.0),
        ("agreement", {"agrees": True, "reports": []}),
        ("confidence", 0.0),
        ("comment", "moved"),
    ]
    for said in ("Comment taken back", "How sure you are was taken back", "answer to the verdict was taken back"):
        chromium.press("u")
        chromium.until_text("#says", said)
    chromium.press("n")
    chromium.press("u")
    chromium.until_text("#says", "Reason taken back")
    chromium.until("return document.getElementById('queue').textContent === ''")
    pressed = (
        "return [...document.querySelectorAll('[aria-pressed=true]')].map((b) => Object.values(b.dataset)[0])"
    )
    assert chromium.script(pressed) == ["acceptable", "motion", "sure"]
    chromium.press("u")
    chromium.until_text("#says", "Vote taken back")
    wait_for(lambda: served.votes() == ["acceptable", "withdrawn"])
    assert chromium.script(pressed) == []
    assert chromium.errors() == [] or all("answer" in e for e in chromium.errors())


def test_a_vote_is_withdrawn_on_reopening_the_study(chromium: Chromium, served: Served) -> None:
    show(chromium, served)
    chromium.press("3")
    wait_for(lambda: served.votes() == ["poor"])
    show(chromium, served)
    assert chromium.script("return document.getElementById('undo-row').hidden"), (
        "what was done before is not undone here"
    )
    chromium.press("u")
    chromium.until_text("#says", "withdraw it")
    chromium.click("#withdraw")
    chromium.until_text("#says", "withdrawn")
    wait_for(lambda: served.votes() == ["poor", "withdrawn"])
    chromium.until("return document.getElementById('withdraw').hidden")


def test_the_second_window_shows_the_verdict_too(chromium: Chromium, served: Served) -> None:
    show(chromium, served)
    first = chromium.window()
    second = chromium.new_window()
    try:
        show(chromium, served)
        chromium.press("1")
        chromium.until_text("#opinions", "Usable quality")
        chromium.switch(first)
        chromium.until_text("#opinions", "Usable quality")
        assert "Shown after your vote" not in chromium.text("#opinion")
    finally:
        chromium.switch(second)
        chromium.do("DELETE", "/window")
        chromium.switch(first)


def test_a_slip_of_a_finger_is_no_study_and_near_ones_are_offered(chromium: Chromium, served: Served) -> None:
    chromium.until(NOTHING)
    chromium.press("/")
    chromium.press(*"MR-3", "Enter")
    chromium.until_text("#search-says", "No study has the number MR-3")
    chromium.until("return document.querySelectorAll('#recent button').length === 2")
    assert chromium.text("#recent-title") == "Did you mean"
    assert served.clinic.ledger.history.presented() == []
    assert (
        chromium.script("return getComputedStyle(document.querySelector('#recent bdi')).unicodeBidi") == "isolate"
    )
    chromium.click("#recent button")
    chromium.until(READY)


def test_one_heading_and_legible_buttons_in_every_state(chromium: Chromium, served: Served) -> None:
    def check(state: str) -> None:
        chromium.devtools("Page.setBypassCSP", enabled=True)
        bring_axe(chromium)
        chromium.script("axe.run().then((r) => { window.found = r.violations })")
        found = chromium.until(
            "return window.found && [window.found.map((v) => [v.id, v.impact, v.nodes[0].html])]"
        )
        chromium.script("delete window.found")
        assert found == [[]], state

    chromium.until(NOTHING)
    check("no study")
    show(chromium, served)
    check("before the vote")
    chromium.press("1", "s")
    chromium.until_text("#says", "how sure")
    chromium.until("return !document.getElementById('agreeing').hidden")
    check("after the vote")


def test_the_technologists_answer_comes_back_to_who_voted_poor(chromium: Chromium, served: Served) -> None:
    show(chromium, served)
    chromium.press("3")
    wait_for(lambda: served.votes() == ["poor"])
    calls = served.clinic.ledger.alarms
    wait_for(
        lambda: [alarm for alarm in calls.open_ones() if alarm["vote_id"] == 1], 60
    )  # once it cannot be undone
    (alarm,) = (alarm for alarm in calls.open_ones() if alarm["vote_id"] == 1)
    show(chromium, served)
    assert chromium.script("return document.getElementById('answer').hidden"), "nobody has answered yet"
    acknowledge = (
        "return fetch(arguments[0], {method: 'POST', headers: {'content-type': 'application/json'},"
        " body: JSON.stringify({answer: 'repeated'})}).then((r) => r.status)"
    )
    assert chromium.script(acknowledge, f"/api/alarms/{alarm['id']}/acknowledge") == 200
    show(chromium, served)
    chromium.until_text("#answer", "Technologist: The series was repeated.")
    chromium.press("/")
    chromium.until_text("#answers", "The series was repeated.")
