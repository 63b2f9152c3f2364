"""A third-party hub's story: connect, open, cut, silence, restart, home, logout; what is on the screen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qc_node.web.app import create_app
from qc_node.web.broadcast import Broadcaster
from qc_node.web.fhircast import messages
from qc_node.web.fhircast.follower import Follower, Link
from qc_node.web.votes import cases
from tests.peers import wait_for
from tests.web import hub as published
from tests.web.conftest import Browse, Browser, Clinic, brain
from tests.web.hub import TOPIC, Hub, open_event, told

STUDY, OTHER = "1.2.3", "1.2.4"


class Heard(Broadcaster):
    """Keeps what pages are told."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, dict[str, Any]]] = []

    def publish(self, channel: str, event: str, data: Any) -> int:
        self.events.append((event, dict(data)))
        return super().publish(channel, event, data)


StartFollower = Callable[..., Follower]


@pytest.fixture
def start(clinic: Clinic) -> Iterator[StartFollower]:
    """A function that makes a follower of a hub."""
    started: list[Follower] = []

    def make(hub: Hub, **more: Any) -> Follower:
        started.append(Follower(clinic.deps(fhircast_hubs=(hub.url,)), Heard(), **more))
        return started[-1]

    yield make
    for follower in started:
        follower.stop()


def told_pages(follower: Follower) -> list[tuple[str, dict[str, Any]]]:
    broadcaster = follower._broadcaster
    assert isinstance(broadcaster, Heard)
    return broadcaster.events


def shows(follower: Follower, reader_id: str, link: str, *studies: str) -> bool:
    now = follower.current(reader_id)
    wanted = [cases.open_study(follower._deps, uid) for uid in studies]
    return now is not None and (now["link"], now["cases"]) == (link, wanted)


def closed_by(clinic: Clinic, context: str) -> str | None:
    row = clinic.ledger.contexts.get(context)
    return None if row is None else row["closed_by"]


def test_the_whole_story(clinic: Clinic, start: StartFollower) -> None:
    reader, _ = clinic.reader()
    clinic.ledger.sessions.start("digest", reader.reader_id, clinic.clock.now)
    hub = Hub()
    follower = start(hub)
    me = reader.reader_id
    follower.follow(me, hub.url, TOPIC)
    wait_for(lambda: shows(follower, me, Link.CONNECTED))
    hub.say(open_event(STUDY, 1))
    wait_for(lambda: shows(follower, me, Link.CONNECTED, STUDY))
    context = follower.screen(me).context_id
    assert context is not None
    hub.cut()
    wait_for(lambda: shows(follower, me, Link.CUT))
    wait_for(lambda: closed_by(clinic, context) == "cut")  # pages come first
    wait_for(lambda: hub.sockets)
    hub.say(open_event(STUDY, 1))  # told once more, word for word: after a cut it is news
    wait_for(lambda: shows(follower, me, Link.CONNECTED, STUDY))
    assert follower.screen(me).context_id != context
    hub.kill()
    wait_for(lambda: shows(follower, me, Link.CUT))
    current = {"context.type": "ImagingStudy", "context": [{"key": "study", "resource": published.STUDY}]}
    hub = Hub(context=current, port=hub.port)  # restarted, and asked what is open meanwhile
    try:
        wait_for(lambda: shows(follower, me, Link.CONNECTED, published.STUDY_UID))
        hub.say(told("UserLogout", 9))
        wait_for(lambda: follower.current(me) is None)
        wait_for(lambda: ("signed-out", {"by": "viewer"}) in told_pages(follower))
        session = clinic.ledger.sessions.get("digest")
        assert session is not None and session["ended_by"] == "UserLogout"
        row = clinic.ledger.readers.get(me)
        assert row is not None and row["fhircast_topic"] is None, "a restarted node does not follow it again"
        wait_for(lambda: hub.requests[-1]["hub.mode"] == "unsubscribe")
    finally:
        follower.stop()
        hub.close()


@pytest.mark.parametrize(
    "nonsense", ["[" * 100_000, '{"hub.mode": "subscribe", "hub.lease_seconds": "nan"}', "{}"]
)
def test_no_nonsense_of_a_hub_leaves_an_old_study_on_the_screen(
    clinic: Clinic, start: StartFollower, nonsense: str
) -> None:
    me, hub = clinic.reader()[0].reader_id, Hub()
    follower = start(hub)
    follower.follow(me, hub.url, TOPIC)
    wait_for(lambda: shows(follower, me, Link.CONNECTED))
    hub.say(open_event(STUDY, 1))
    wait_for(lambda: shows(follower, me, Link.CONNECTED, STUDY))
    try:
        for socket in list(hub.sockets):
            socket.send(nonsense)
        time.sleep(0.3)
        assert shows(follower, me, Link.CONNECTED, STUDY), "nonsense tells nothing, and ends nothing"
        hub.say(open_event(OTHER, 2))
        wait_for(lambda: shows(follower, me, Link.CONNECTED, OTHER))
    finally:
        hub.close()


def test_a_time_at_the_end_of_all_time_is_none() -> None:
    assert messages.parse_timestamp("9999-12-31T23:59:59-14:00") is None


@pytest.mark.parametrize("name", ["Home-open", "home-open", "Patient-close", "UserHibernate", "userHibernate"])
def test_the_viewer_left_the_study_without_closing_it(name: str) -> None:
    session = messages.Session(TOPIC)
    for message in (open_event(STUDY, 1), open_event(STUDY, 1, kind="DiagnosticReport")):
        session.hear(as_event(message))
    assert session.hear(as_event(told(name, 2))) == (200, True)
    assert not session.studies
    session.hear(as_event(open_event(OTHER, 3)))
    assert session.hear(as_event(told(name, 2) | {"id": "late"})) == (200, False), "older than what is open now"
    assert [study.study_uid for study in session.studies] == [OTHER]


def as_event(message: dict[str, Any]) -> messages.Event:
    found = messages.parse(json.dumps(message))
    assert isinstance(found, messages.Event)
    return found


def test_the_published_heartbeat_promises_the_next_event() -> None:
    assert as_event(published.HEARTBEAT).period_s == 10.0
    for decimal in (None, "soon", -1):
        assert as_event(told("Heartbeat", 1, [{"key": "period", "decimal": decimal}])).period_s is None


@pytest.mark.parametrize("denies", [False, True])
def test_a_hub_that_refuses_unknown_events_is_asked_for_those_it_knows(
    clinic: Clinic, start: StartFollower, denies: bool
) -> None:
    reader, _ = clinic.reader()
    hub = Hub(knows=messages.BASE_EVENTS, denies=denies)
    try:
        follower = start(hub)
        follower.follow(reader.reader_id, hub.url, TOPIC)
        wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED))
        asked = [form["hub.events"].split(",") for form in hub.requests]
        assert asked == [list(messages.EVENTS), list(messages.BASE_EVENTS)]
        hub.say(open_event(STUDY, 1))
        wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED, STUDY))
        follower.stop()
    finally:
        hub.close()


def test_a_hub_that_falls_silent_is_noticed_though_nothing_is_closed(clinic: Clinic, start: StartFollower) -> None:
    reader, _ = clinic.reader()
    hub = Hub(relay=True)
    assert hub.relay is not None
    try:
        follower = start(hub, ping_s=0.3)
        follower.follow(reader.reader_id, hub.url, TOPIC)
        wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED))
        hub.say(open_event(STUDY, 1))
        wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED, STUDY))
        time.sleep(1.0)
        assert shows(follower, reader.reader_id, Link.CONNECTED, STUDY), "pings are answered"
        hub.relay.flows.clear()
        wait_for(lambda: shows(follower, reader.reader_id, Link.CUT))
        follower.stop()
    finally:
        hub.close()


def test_a_promised_heartbeat_that_stays_away_is_a_cut(clinic: Clinic, start: StartFollower) -> None:
    reader, _ = clinic.reader()
    hub = Hub()
    hurried = {"key": "period", "decimal": 0.4}
    try:
        follower = start(hub)
        follower.follow(reader.reader_id, hub.url, TOPIC)
        wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED))
        hub.say(open_event(STUDY, 1))
        hub.say(told("heartbeat", 2, [hurried]))
        wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED, STUDY))
        wait_for(lambda: ("context", "cut") in [(e, d.get("link")) for e, d in told_pages(follower)])
    finally:
        follower.stop()
        hub.close()


def test_a_denied_topic_can_be_launched_again(clinic: Clinic, start: StartFollower) -> None:
    reader, _ = clinic.reader()
    hub = Hub()
    try:
        follower = start(hub)
        follower.follow(reader.reader_id, hub.url, TOPIC)
        wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED))
        hub.say(published.DENIAL)
        wait_for(lambda: shows(follower, reader.reader_id, Link.REFUSED))
        follower.follow(reader.reader_id, hub.url, TOPIC)
        wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED))
    finally:
        follower.stop()
        hub.close()


# -- through the pages --------------------------------------------------------------------------------
@pytest.fixture
def hub() -> Iterator[Hub]:
    started = Hub()
    yield started
    started.close()


@pytest.fixture
def followed(clinic: Clinic, browse: Browse, hub: Hub) -> Iterator[tuple[Browser, str]]:
    """A signed-in browser whose viewer has a study open, and the study's case."""
    clinic.receive(STUDY, f"{STUDY}.1", accession="A-1")
    clinic.judge(f"{STUDY}.1", brain())
    reader, token = clinic.reader()
    browser = browse(create_app(clinic.deps(fhircast_hubs=(hub.url,))))
    browser.sign_in(token)
    browser.get(f"/launch?hub.url={hub.url}&hub.topic={TOPIC}")
    wait_for(lambda: hub.sockets)
    hub.say(open_event(STUDY, 1))
    follower = browser.app.state.follower
    wait_for(lambda: shows(follower, reader.reader_id, Link.CONNECTED, STUDY))
    yield browser, cases.open_study(clinic.deps(), STUDY)
    follower.stop()


def link(browser: Browser) -> str | None:
    found: str | None = browser.get("/api/following").json()["link"]
    return found


def test_no_vote_lands_on_a_study_whose_viewer_is_cut_off(
    clinic: Clinic, hub: Hub, followed: tuple[Browser, str]
) -> None:
    browser, case = followed
    shown = browser.show(case, "fhircast")
    clinic.clock.forward(4)
    hub.cut()
    wait_for(lambda: link(browser) == "cut")
    # The page has not heard of it yet: the key goes down three seconds after the cut.
    clinic.clock.forward(3)
    late = browser.vote(shown, "poor", "key-00000001", ms_since_asked=7000)
    assert late.status_code == 409 and "closed" in late.json()["detail"]
    assert clinic.ledger.votes.count() == 0
    # One that went down before it, and was long on its way, is taken: by its age, or by the page's own clock.
    assert browser.vote(shown, "good", "key-00000002", age_ms=5000).status_code == 201
    assert browser.vote(shown, "poor", "key-00000003", ms_since_asked=3000).status_code == 201
    assert browser.post(f"/api/cases/{case}/show?how=fhircast").status_code == 409, "nothing is open there now"


def test_a_cut_in_the_moment_of_the_key_press(clinic: Clinic, hub: Hub, followed: tuple[Browser, str]) -> None:
    """Whatever the order in which cut and vote reach the node, what was pressed after the cut is not taken."""
    browser, case = followed
    shown = browser.show(case, "fhircast")
    follower = browser.app.state.follower
    context = follower.screen(shown["reader"]).context_id
    for number in range(20):
        clinic.clock.forward(1)
        if number == 10:
            hub.say(told("Home-open", 20))
        answer = browser.vote(shown, ("good", "poor")[number % 2], f"key-000000{number:02}")
        closed = clinic.ledger.contexts.get(context)
        assert closed is not None
        if answer.status_code == 201:
            pressed = answer.json()["vote"]["voted_at"]
            assert closed["closed_at"] is None or pressed < closed["closed_at"]
        else:
            assert answer.status_code == 409 and closed["closed_at"] is not None
    assert answer.status_code == 409


def test_what_was_open_when_the_node_was_killed_takes_no_vote_afterwards(
    clinic: Clinic, browse: Browse, followed: tuple[Browser, str]
) -> None:
    browser, case = followed
    shown = browser.show(case, "fhircast")
    _, token = clinic.reader("other")
    again = browse()  # a new start on the same ledger, which nobody stopped properly
    again.sign_in(token)
    clinic.clock.forward(1)
    assert browser.vote(shown, "good", "key-00000001").status_code == 409


def test_following_can_be_stopped_and_stays_so(clinic: Clinic, hub: Hub, followed: tuple[Browser, str]) -> None:
    browser, case = followed
    shown = browser.show(case, "fhircast")
    assert browser.get("/api/following").json()["cases"] == [case]
    stopped = browser.delete("/api/following").json()
    assert stopped == {"following": False, "cases": [], "context": None, "link": None}
    assert browser.get("/api/following").json() == stopped
    wait_for(lambda: hub.requests[-1]["hub.mode"] == "unsubscribe")
    assert browser.app.state.follower.resume() == 0
    clinic.clock.forward(1)
    assert browser.vote(shown, "good", "key-00000001").status_code == 409
    by_hand = browser.show(case)
    assert browser.vote(by_hand, "good", "key-00000002").status_code == 201


def test_only_the_viewer_of_the_reader_says_what_is_open(clinic: Clinic, followed: tuple[Browser, str]) -> None:
    browser, _ = followed
    other = cases.open_study(clinic.deps(), OTHER)
    refused = browser.post(f"/api/cases/{other}/show?how=fhircast")
    assert refused.status_code == 409 and "viewer" in refused.json()["detail"]
    assert clinic.ledger.history.presented() == []
