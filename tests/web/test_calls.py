"""A reader's poor vote calls the technologists, their answer comes back, and calls are counted."""

from __future__ import annotations

from datetime import datetime

import pytest

from qc_node.ledger import NewAct
from qc_node.web.votes.calling import VoteCalls
from qc_node.web.votes.casting import GRACE_S
from tests.web.conftest import Browse, Browser, Clinic, brain, rejected


def settle(clinic: Clinic, browser: Browser) -> None:
    """Let the time to undo pass, and the follow-up look."""
    clinic.clock.forward(browser.app.state.deps.web.undo_s + GRACE_S + 1)
    VoteCalls(browser.app.state.deps, browser.app.state.board).step()


def voted_poor(clinic: Clinic, browse: Browse, role: str = "radiologist", **more: object) -> tuple[Browser, str]:
    """A reader who voted poor on a study of two series; the case."""
    _, token = clinic.reader(role=role)
    browser = browse()
    browser.sign_in(token)
    clinic.receive("1.1", "1.1.1", scanner="ARCHIVE", station="MR750-ROOM1")
    clinic.judge("1.1.1", brain())
    case = browser.get("/panel", params={"StudyInstanceUID": "1.1"}).headers["location"].rsplit("/", 1)[1]
    answer = browser.vote(browser.show(case), "poor", "key-of-vote-0001", reasons=["motion"], **more)
    assert answer.status_code in (200, 201), answer.text
    return browser, case


def alarms(browser: Browser) -> list[dict[str, object]]:
    return [alarm for card in browser.get("/api/board").json()["cards"] for alarm in card["alarms"]]


def test_a_poor_vote_calls_the_technologists_and_their_answer_comes_back(clinic: Clinic, browse: Browse) -> None:
    browser, _ = voted_poor(clinic, browse)
    assert alarms(browser) == [], "it may still be undone"
    assert browser.get("/api/votes/key-of-vote-0001/answer").status_code == 404
    settle(clinic, browser)
    settle(clinic, browser)
    (alarm,) = alarms(browser)
    assert (alarm["kind"], alarm["sentence"]) == ("vote", "Voted poor: motion.")
    board = browser.get("/api/board").text
    assert "Bode" not in board and "mbh" not in board and "Bode" not in repr(clinic.told)
    assert [(n.event, n.scanner) for n in clinic.told] == [("poor_vote", "MR750-ROOM1")]
    waiting = browser.get("/api/votes/key-of-vote-0001/answer").json()
    assert waiting["answer"] is None and waiting["scanner"] == "MR750-ROOM1"
    at = clinic.clock()
    assert (
        browser.post(f"/api/alarms/{alarm['id']}/acknowledge", json={"answer": "patient_moved"}).status_code == 200
    )
    (answer,) = browser.get("/api/votes/answers").json()["answers"]
    assert answer == {
        "vote": "key-of-vote-0001",
        "scanner": "MR750-ROOM1",
        "called_at": alarm["at"],
        "answered_at": at,
        "answer": "patient_moved",
        "sentence": "The patient moved.",
    }
    settle(clinic, browser)
    assert alarms(browser) == [], "what was answered calls no more"


def test_who_did_not_vote_gets_no_answer(clinic: Clinic, browse: Browse) -> None:
    browser, _ = voted_poor(clinic, browse)
    settle(clinic, browser)
    _, token = clinic.reader("abc", name="Another")
    other = browse()
    assert other.get("/api/votes/answers").status_code == 401
    other.sign_in(token)
    assert other.get("/api/votes/answers").json() == {"answers": []}
    assert other.get("/api/votes/key-of-vote-0001/answer").status_code == 404


@pytest.mark.parametrize("then", ["good", "withdrawn"])
def test_a_vote_that_stands_no_more_calls_nobody(clinic: Clinic, browse: Browse, then: str) -> None:
    browser, case = voted_poor(clinic, browse)
    settle(clinic, browser)
    assert len(alarms(browser)) == 1
    if then == "good":
        assert browser.vote(browser.show(case), "good", "key-of-vote-0002").status_code in (200, 201)
    else:
        vote = clinic.ledger.votes.after(0)[0]
        act = NewAct(
            "key-of-act-0001", vote["id"], "withdrawal", vote["reader_id"], "radiologist", 1.0, 1.0, "panel"
        )
        clinic.ledger.votes.act(act)
    settle(clinic, browser)
    assert alarms(browser) == []
    assert browser.get("/api/votes/answers").json() == {"answers": []}


def test_a_poor_vote_that_stands_again_calls_again(clinic: Clinic, browse: Browse) -> None:
    browser, case = voted_poor(clinic, browse)
    settle(clinic, browser)
    shown = browser.show(case)
    assert browser.vote(shown, "good", "key-of-vote-0002").status_code in (200, 201)
    VoteCalls(browser.app.state.deps, browser.app.state.board).step()
    assert alarms(browser) == []
    clinic.ledger.series.judge_again(clinic.number("1.1.1"), clinic.clock())
    undone = browser.vote(shown, "withdrawn", "key-of-vote-0003", withdraws="key-of-vote-0002")
    assert undone.status_code in (200, 201), undone.text
    settle(clinic, browser)
    (alarm,) = alarms(browser)
    assert (alarm["kind"], alarm["sentence"]) == ("vote", "Voted poor: motion.")
    (answer,) = browser.get("/api/votes/answers").json()["answers"]
    assert answer["answer"] is None


def test_a_step_that_fails_is_taken_again(clinic: Clinic, browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, _ = voted_poor(clinic, browse)
    calls = VoteCalls(browser.app.state.deps, browser.app.state.board)
    calls.step()
    clinic.clock.forward(browser.app.state.deps.web.undo_s + GRACE_S + 1)
    with monkeypatch.context() as broken:
        broken.setattr(browser.app.state.board, "voted_poor", None)
        with pytest.raises(TypeError):
            calls.step()
    calls.step()
    assert len(alarms(browser)) == 1


def test_an_old_vote_is_called_on_the_board_and_told_to_nobody_else(clinic: Clinic, browse: Browse) -> None:
    browser, _ = voted_poor(clinic, browse)
    clinic.clock.forward(2 * 3600.0)
    settle(clinic, browser)
    assert len(alarms(browser)) == 1 and clinic.told == []


def test_a_technologist_calls_no_technologist(clinic: Clinic, browse: Browse) -> None:
    browser, _ = voted_poor(clinic, browse, role="technologist")
    settle(clinic, browser)
    assert alarms(browser) == [] and clinic.told == []


def test_a_vote_on_a_study_that_never_came_calls_nobody(clinic: Clinic, browse: Browse) -> None:
    _, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    case = browser.get("/panel", params={"StudyInstanceUID": "1.7"}).headers["location"].rsplit("/", 1)[1]
    assert browser.vote(browser.show(case), "poor", "key-of-vote-0001").status_code in (200, 201)
    settle(clinic, browser)
    assert clinic.ledger.alarms.open_ones() == []


def test_calls_are_counted_and_the_budget_is_said(clinic: Clinic, browse: Browse) -> None:
    browser = browse(calls_per_day=2)
    for n, answer in enumerate(("repeated", "noted", None, None)):
        if n == 3:
            clinic.clock.forward(86_400)
        clinic.receive(f"1.{n}", f"1.{n}.1")
        clinic.judge(f"1.{n}.1", rejected())
        browser.app.state.board.publish(clinic.number(f"1.{n}.1"))
        number = clinic.ledger.alarms.open_ones()[-1]["id"]
        if n < 3:
            browser.post(f"/api/alarms/{number}/acknowledge", json={"answer": answer})
    found = browser.get("/api/calls?days=3").json()
    assert found["budget"] == 2
    today, before = found["calls"]
    days = [datetime.fromtimestamp(clinic.clock() - s).date().isoformat() for s in (0, 86_400)]
    assert [today["day"], before["day"]] == days and today["scanner"] == "MR_EAST"
    assert (before["raised"], before["acted"], before["share"], before["over_budget"]) == (3, 1, 1 / 3, True)
    assert before["answered"] == {"repeated": 1, "noted": 1, "seen": 1}
    assert (today["raised"], today["acted"], today["over_budget"]) == (1, 0, False)
    assert browser.get("/api/calls?days=1").json()["calls"] == [today]
    assert browser.get("/api/board").json()["cards"][0]["calls"]["raised"] == 1
    counted = [("verdict", "raised"), ("verdict", "repeated"), ("verdict", "raised"), ("verdict", "noted")]
    assert clinic.called == [*counted, ("verdict", "raised"), ("verdict", "seen"), ("verdict", "raised")]


def test_an_answer_that_nobody_knows_is_refused(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", rejected())
    browser.app.state.board.publish(clinic.number("1.1.1"))
    number = clinic.ledger.alarms.open_ones()[0]["id"]
    assert browser.post(f"/api/alarms/{number}/acknowledge", json={"answer": "whatever"}).status_code == 422
    assert len(alarms(browser)) == 1
