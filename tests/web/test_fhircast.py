"""Following the reading by FHIRcast, against a hub that speaks the published examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.domain import QcNodeError
from qc_node.web.access.readers import Reader
from qc_node.web.broadcast import Broadcaster
from qc_node.web.fhircast import messages
from qc_node.web.fhircast.follower import Follower, Subscription
from qc_node.web.fhircast.messages import Confirmation, Denial, Event, Nonsense, Session, Study, parse, reply
from qc_node.web.votes import cases
from tests.peers import wait_for
from tests.web import hub as published
from tests.web.conftest import Browse, Clinic
from tests.web.hub import TOPIC, Hub, open_event


def event(message: Any) -> Event:
    found = parse(json.dumps(message))
    assert isinstance(found, Event)
    return found


def uids(session: Session) -> list[str | None]:
    return [study.study_uid for study in session.studies]


def test_published_messages_are_understood() -> None:
    opened = event(published.IMAGING_STUDY_OPEN)
    assert opened.studies == (Study(published.STUDY_UID, published.ACCESSION),)
    assert opened.name == "imagingstudy-open" and opened.topic == TOPIC
    report = event(published.DIAGNOSTIC_REPORT_OPEN)
    assert report.studies == (Study("1.2.999.840.83474.8.231.875.3.15.661594731", "GH339884"),)
    old = event(published.STU1_OPEN)
    assert old.studies == (Study("2.16.124.113543.6003.1154777499.30246.19789.3503430045", None),)
    assert parse(json.dumps(published.CONFIRMATION)) == Confirmation(
        TOPIC, ("patient-open", "patient-close"), 7200
    )
    denied = parse(json.dumps(published.DENIAL))
    assert isinstance(denied, Denial) and denied.reason == "session unexpectedly stopped"
    assert json.loads(reply("q9v3jubddqt63n1", 200)) == published.REPLY


def test_the_published_timestamps_order_even_though_their_hours_have_three_digits() -> None:
    times = [
        event(m).at
        for m in (
            published.STU1_OPEN,
            published.IMAGING_STUDY_OPEN,
            published.IMAGING_STUDY_CLOSE,
            published.DIAGNOSTIC_REPORT_OPEN,
        )
    ]
    known = [t for t in times if t is not None]
    assert None not in times and times == sorted(known)
    assert messages.parse_timestamp("2023-04-01T13:00:00+02:00") == messages.parse_timestamp(
        "2023-04-01T11:00:00Z"
    )
    assert (
        messages.parse_timestamp("yesterday") is None and messages.parse_timestamp("2023-13-01T00:00:00") is None
    )


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.booleans(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "id",
                        "event",
                        "hub.event",
                        "context",
                        "resource",
                        "resourceType",
                        "identifier",
                        "system",
                        "value",
                        "type",
                        "coding",
                        "hub.mode",
                        "hub.lease_seconds",
                        "timestamp",
                        "basedOn",
                    ]
                ),
                x,
            )
        ),
    )
)
def test_no_message_breaks_the_parser(message: Any) -> None:
    assert isinstance(parse(json.dumps(message)), Event | Confirmation | Denial | Nonsense)


def test_a_study_uid_that_is_none_is_no_study() -> None:
    bad = open_event("../../etc", 1)
    assert event(bad).studies == ()


def test_open_close_and_the_report_around_it() -> None:
    session = Session(TOPIC)
    assert session.hear(event(published.IMAGING_STUDY_OPEN)) == (200, True)
    assert uids(session) == [published.STUDY_UID]
    assert session.hear(event(published.IMAGING_STUDY_CLOSE)) == (200, True)
    assert session.studies == ()
    assert session.hear(event(published.DIAGNOSTIC_REPORT_OPEN)) == (200, True)
    session.hear(event(open_event("1.5", 1)))
    assert uids(session) == ["1.5"], "a prior opened inside the report"
    session.hear(event(open_event("1.5", 2, verb="close")))
    assert uids(session) == ["1.2.999.840.83474.8.231.875.3.15.661594731"]


def test_old_repeated_and_foreign_events_change_nothing() -> None:
    session = Session(TOPIC)
    session.hear(event(open_event("1.2", 10)))
    assert session.hear(event(open_event("1.1", 5))) == (200, False), "older than the current context"
    assert session.hear(event(open_event("1.2", 10))) == (200, False), "repeated"
    foreign = open_event("1.3", 20)
    foreign["event"]["hub.topic"] = "somebody-else"
    assert session.hear(event(foreign)) == (409, False)
    session.hear(event(open_event("1.3", 3000)), now=event(open_event("1.3", 15)).at or 0.0)
    assert session.hear(event(open_event("1.2", 21))) == (200, True), "a date in the future makes nothing old"
    assert session.hear(event(open_event("9.9", 21, verb="close"))) == (200, False), "a close of another study"
    assert uids(session) == ["1.2"]
    assert session.hear(event(open_event("x", 22, kind="Observation"))) == (200, False)
    assert session.hear(event({"id": "l", "timestamp": "", "event": {"hub.event": "UserLogout"}})) == (200, True)


@pytest.fixture
def hub() -> Iterator[Hub]:
    started = Hub()
    yield started
    started.close()


@pytest.fixture
def follower(clinic: Clinic, hub: Hub) -> Iterator[Follower]:
    found = Follower(clinic.deps(fhircast_hubs=(hub.url,)), Broadcaster())
    yield found
    found.stop()


def subscription_of(follower: Follower, reader: Reader) -> Subscription:
    found = follower.subscription(reader.reader_id)
    assert found is not None
    return found


def following(follower: Follower, reader: Reader, uid: str | None) -> bool:
    now = follower.current(reader.reader_id)
    wanted = [] if uid is None else [cases.open_study(follower._deps, uid)]
    return now is not None and now["cases"] == wanted


def test_subscribe_confirm_follow_and_acknowledge(clinic: Clinic, hub: Hub, follower: Follower) -> None:
    reader, _ = clinic.reader()
    follower.follow(reader.reader_id, hub.url, TOPIC)
    wait_for(lambda: hub.sockets)
    form = hub.requests[0]
    assert (form["hub.channel.type"], form["hub.mode"], form["hub.topic"]) == ("websocket", "subscribe", TOPIC)
    assert "ImagingStudy-open" in form["hub.events"] and form["subscriber.name"] == "qc-node"
    hub.say(published.IMAGING_STUDY_OPEN)
    assert hub.replies.get(timeout=10) == {"id": published.IMAGING_STUDY_OPEN["id"], "status": "200"}
    wait_for(lambda: following(follower, reader, published.STUDY_UID))
    shown = follower.current(reader.reader_id)
    assert shown is not None
    (handle,) = shown["cases"]
    assert cases.summary(follower._deps, handle)["accession_number"] == published.ACCESSION
    hub.say(published.IMAGING_STUDY_CLOSE)
    wait_for(lambda: following(follower, reader, None))


def test_current_context_on_connect(clinic: Clinic, hub: Hub, follower: Follower) -> None:
    hub.open_event = published.IMAGING_STUDY_OPEN
    reader, _ = clinic.reader()
    follower.follow(reader.reader_id, hub.url, TOPIC)
    wait_for(lambda: following(follower, reader, published.STUDY_UID))


def test_reconnects_after_a_cut(clinic: Clinic, hub: Hub, follower: Follower) -> None:
    reader, _ = clinic.reader()
    follower.follow(reader.reader_id, hub.url, TOPIC)
    wait_for(lambda: hub.sockets)
    hub.cut()
    hub.open_event = open_event("1.7", 30)
    wait_for(lambda: following(follower, reader, "1.7"))
    assert len(hub.requests) == 2


def test_renews_the_lease_over_the_same_socket_before_it_ends(
    clinic: Clinic, hub: Hub, follower: Follower
) -> None:
    reader, _ = clinic.reader()
    follower.follow(reader.reader_id, hub.url, TOPIC)
    subscription = subscription_of(follower, reader)
    wait_for(lambda: subscription.session.lease_s == 7200)
    clinic.clock.forward(7200 * 0.85)
    wait_for(lambda: len(hub.requests) == 2)
    assert hub.requests[1]["hub.channel.endpoint"] == subscription.endpoint
    assert hub.requests[1]["hub.mode"] == "subscribe" and len(hub.sockets) == 1


def test_sync_error_asks_what_is_on_the_screen(clinic: Clinic, hub: Hub, follower: Follower) -> None:
    reader, _ = clinic.reader()
    follower.follow(reader.reader_id, hub.url, TOPIC)
    wait_for(lambda: hub.sockets)
    hub.say(open_event("1.4", 1))
    wait_for(lambda: following(follower, reader, "1.4"))
    current = {"context.type": "ImagingStudy", "context": [{"key": "study", "resource": published.STUDY}]}
    hub.context = current
    hub.say(published.SYNC_ERROR)
    wait_for(lambda: following(follower, reader, published.STUDY_UID))


def test_denial_ends_it_and_shows_no_study(clinic: Clinic, hub: Hub, follower: Follower) -> None:
    reader, _ = clinic.reader()
    follower.follow(reader.reader_id, hub.url, TOPIC)
    wait_for(lambda: hub.sockets)
    hub.say(open_event("1.4", 1))
    wait_for(lambda: following(follower, reader, "1.4"))
    hub.say(published.DENIAL)
    wait_for(lambda: following(follower, reader, None))
    assert subscription_of(follower, reader).denied == "session unexpectedly stopped"


def test_stopping_unsubscribes(clinic: Clinic, hub: Hub, follower: Follower) -> None:
    reader, _ = clinic.reader()
    follower.follow(reader.reader_id, hub.url, TOPIC)
    wait_for(lambda: hub.sockets)
    endpoint = subscription_of(follower, reader).endpoint
    follower.stop()
    assert hub.requests[-1] == {
        "hub.channel.type": "websocket",
        "hub.mode": "unsubscribe",
        "hub.topic": TOPIC,
        "hub.channel.endpoint": endpoint,
    }


def test_a_restarted_node_follows_again(clinic: Clinic, hub: Hub, follower: Follower) -> None:
    reader, _ = clinic.reader()
    follower.follow(reader.reader_id, hub.url, TOPIC)
    wait_for(lambda: hub.sockets)
    follower.stop()
    hub.open_event = open_event("1.8", 1)
    again = Follower(clinic.deps(fhircast_hubs=(hub.url,)), Broadcaster())
    try:
        assert again.resume() == 1
        wait_for(lambda: following(again, reader, "1.8"))
    finally:
        again.stop()


def test_only_listed_hubs_are_spoken_to(clinic: Clinic, hub: Hub, follower: Follower, browse: Browse) -> None:
    reader, token = clinic.reader()
    with pytest.raises(QcNodeError, match="not listed"):
        follower.follow(reader.reader_id, "http://169.254.169.254/", TOPIC)
    browser = browse(fhircast_hubs=(hub.url,))
    path = "/launch?hub.url=http://169.254.169.254/&hub.topic=x"
    assert browser.get(path).headers["location"].startswith("/sign-in")
    browser.sign_in(token)
    assert browser.get(path).status_code == 422
    assert browser.get(f"/launch?hub.url={hub.url}&hub.topic={TOPIC}").headers["location"] == "/panel"
    wait_for(lambda: hub.sockets)


def test_a_hub_that_wants_a_token_gets_it(clinic: Clinic, hub: Hub) -> None:
    reader, _ = clinic.reader()
    with_token = Follower(clinic.deps(fhircast_hubs=(hub.url,), fhircast_token="t0ken"), Broadcaster())
    with_token.follow(reader.reader_id, hub.url, TOPIC)
    wait_for(lambda: hub.sockets)
    with_token.stop()
    assert hub.tokens == ["Bearer t0ken"] * 2
