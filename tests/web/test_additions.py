"""What is added to a vote, taken back, withdrawn: rows of their own that leave the vote as it was."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import httpx
import pytest

from qc_node.ledger import Ledger
from qc_node.ledger.deliveries import WrittenObject
from qc_node.web.access.readers import Reader
from qc_node.web.votes import cases
from qc_node.web.votes.additions import clean, in_words
from qc_node.web.votes.exchange import COLUMNS, COMMENT, csv_text, export_rows, import_rows, read_rows
from tests.web.conftest import Browse, Browser, Clinic, brain

STUDY, SERIES = "1.2.3.4", "1.2.3.4.1"
VOTE = "key-00000001"

Cast = tuple[Browser, Reader, dict[str, Any]]
"""A browser, whose it is, and the study on the screen, on which a blind vote was cast."""


@pytest.fixture
def cast(clinic: Clinic, browse: Browse) -> Cast:
    clinic.receive(STUDY, SERIES, accession="A-1001", description="Head")
    clinic.judge(SERIES, brain(motion=1))
    reader, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    shown = browser.show(cases.open_study(clinic.deps(), STUDY))
    assert browser.vote(shown, "poor", VOTE, ms_to_vote=1900).status_code == 201
    clinic.clock.forward(60)
    return browser, reader, shown


def add(browser: Browser, number: int, kind: str, of: str = VOTE, **more: Any) -> httpx.Response:
    body = {"key": f"act-{number:06}", "of": of, "kind": kind, **more}
    answer: httpx.Response = browser.post("/api/votes/acts", json=body)
    return answer


def report(clinic: Clinic, uid: str, run: int = 1) -> None:
    """The report of the series, as the writer posts it."""
    series = clinic.number(SERIES)
    row = WrittenObject(uid, "1.2.840.10008.5.1.4.1.1.88.33", series, STUDY, run, "sr", f"reports/{uid}")
    assert clinic.ledger.deliveries.post([row], ["PACS"], clinic.clock.now)


def test_every_fact_is_a_row_with_its_own_time_and_the_vote_stays_as_it_was(clinic: Clinic, cast: Cast) -> None:
    browser, _, shown = cast
    before = clinic.ledger.votes.all()
    said: dict[str, dict[str, Any]] = {
        "reasons": {"reasons": ["motion", "noise"]},
        "confidence": {"confidence": "fairly"},
        "comment": {"comment": "moved\ttwice "},
        "agreement": {"agrees": False},
    }
    for number, (kind, what) in enumerate(said.items()):
        answer = add(browser, number, kind, **what, case=shown["case"], presentation=shown["presentation"])
        assert answer.status_code == 201, answer.text
        clinic.clock.forward(10)
    mine = answer.json()["mine"]
    assert (mine["vote"], mine["reasons"]) == ("poor", ["motion", "noise"])
    assert (mine["confidence"], mine["comment"], mine["agrees"]) == ("fairly", "moved twice", False)
    acts = clinic.ledger.votes.acts_of(1)
    assert [act["kind"] for act in acts] == ["reasons", "confidence", "comment", "agreement"]
    assert [act["at"] for act in acts] == [clinic.clock.now - 40 + 10 * n for n in range(4)]
    assert all(act["verdict_visible"] for act in acts), "the verdict had been shown by then"
    (after,) = clinic.ledger.votes.all()
    assert {**after, "reasons": "[]"} == before[0] and not after["verdict_visible"]
    assert len(list(export_rows(clinic.ledger, blind_only=True))) == 1
    assert len(clinic.counted) == 1, "an addition is no vote"


def test_the_same_key_again_changes_nothing(clinic: Clinic, cast: Cast) -> None:
    browser, *_ = cast
    first, again = (add(browser, 1, "comment", comment="blurred") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["duplicate"] and len(clinic.ledger.votes.acts_of(1)) == 1
    assert add(browser, 1, "confidence", confidence="sure").status_code == 409


def test_a_vote_may_bring_comment_and_confidence_along(clinic: Clinic, cast: Cast) -> None:
    browser, _, shown = cast
    for _ in range(2):
        answer = browser.vote(shown, "good", "key-00000002", comment="better", confidence="sure")
    assert (answer.json()["mine"]["comment"], answer.json()["mine"]["confidence"]) == ("better", "sure")
    vote = clinic.ledger.votes.by_key(cast[1].reader_id, "key-00000002")
    assert vote is not None
    assert [act["kind"] for act in clinic.ledger.votes.acts_of(vote["id"])] == ["comment", "confidence"]


def test_additions_are_taken_back_one_by_one(clinic: Clinic, cast: Cast) -> None:
    browser, *_ = cast
    add(browser, 1, "confidence", confidence="sure")
    clinic.clock.forward(1)
    add(browser, 2, "confidence", confidence="unsure")
    assert add(browser, 3, "withdrawal", of="act-000002").json()["mine"]["confidence"] == "sure"
    twice = add(browser, 4, "withdrawal", of="act-000002")
    assert twice.status_code == 409 and "already" in twice.json()["detail"]
    assert add(browser, 5, "withdrawal", of="act-000001").json()["mine"]["confidence"] is None
    assert add(browser, 6, "comment", of="act-000001", comment="x").status_code == 409, "an addition is no vote"


def test_a_vote_is_withdrawn_a_month_later_by_a_row(clinic: Clinic, cast: Cast) -> None:
    browser, _, shown = cast
    clinic.clock.forward(30 * 86_400)
    answer = add(browser, 1, "withdrawal", case=shown["case"])
    assert answer.status_code == 201 and answer.json()["mine"] is None
    assert [row["vote"] for row in clinic.ledger.votes.all()] == ["poor", "withdrawn"]
    assert list(export_rows(clinic.ledger)) == []
    assert add(browser, 2, "withdrawal").status_code == 409
    assert browser.show(shown["case"])["mine"] is None


def test_only_the_own_vote(clinic: Clinic, cast: Cast, browse: Browse) -> None:
    browser, reader, _ = cast
    _, token = clinic.reader("other")
    other = browse()
    other.sign_in(token)
    for kind, what in (("withdrawal", {}), ("comment", {"comment": "x"})):
        assert add(other, 1, kind, **what).status_code == 404
    assert add(browser, 1, "comment", comment="x", reader="somebody-else").status_code == 409
    assert add(browser, 1, "comment").status_code == 422 and add(browser, 1, "agreement").status_code == 422
    assert add(browser, 1, "comment", comment="x" * 501).status_code == 422
    anybody = browse()
    assert add(anybody, 1, "withdrawal").status_code == 401
    assert clinic.ledger.votes.acts_of(1) == [] and reader.reader_id


def test_agreement_names_the_report_that_was_seen(clinic: Clinic, cast: Cast) -> None:
    browser, *_ = cast
    report(clinic, "1.2.840.1")
    answer = browser.post(
        "/api/votes/acts", json={"key": "act-000001", "of": VOTE, "kind": "agreement", "agrees": True}
    )
    assert [o["report"] for o in answer.json()["opinions"]] == ["1.2.840.1"]
    clinic.clock.forward(5)
    changed = add(browser, 2, "agreement", agrees=False, reports=["1.2.840.1"])
    assert changed.json()["mine"]["agrees"] is False
    said = [json.loads(act["value"] or "") for act in clinic.ledger.votes.acts_of(1)]
    assert said == [
        {"agrees": True, "reports": ["1.2.840.1"]},
        {"agrees": False, "reports": ["1.2.840.1"]},
    ]
    foreign = add(browser, 3, "agreement", agrees=True, reports=["1.2.840.2"])
    assert foreign.status_code == 409


def test_nobody_agrees_with_what_was_not_shown(clinic: Clinic, cast: Cast) -> None:
    browser, reader, _ = cast
    clinic.receive("1.2.9", "1.2.9.1")
    other = browser.show(cases.open_study(clinic.deps(), "1.2.9"))
    browser.vote(other, "good", "key-00000009")
    refused = add(browser, 1, "agreement", of="key-00000009", agrees=True)
    assert refused.status_code == 409 and "verdict" in refused.json()["detail"]
    assert reader.reader_id


def test_comments_leave_only_when_asked_for_and_are_never_logged(
    clinic: Clinic, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    browser, *_ = cast
    caplog.set_level(logging.DEBUG)
    add(browser, 1, "comment", comment="=Mr Doe moved")
    assert "Doe" not in caplog.text
    assert "Doe" not in csv_text(export_rows(clinic.ledger), COLUMNS)
    assert not any("comment" in row for row in export_rows(clinic.ledger, whole_log=True))
    asked = csv_text(export_rows(clinic.ledger, comments=True), [*COLUMNS, *COMMENT])
    assert "'=Mr Doe moved" in asked, "and no spreadsheet runs it"
    assert "Doe" not in browser.get("/stats/votes.csv").text + browser.get("/metrics").text


def test_exported_facts_come_back_with_their_own_times(clinic: Clinic, cast: Cast, tmp_path: Any) -> None:
    browser, *_ = cast
    report(clinic, "1.2.840.1")
    said: dict[str, dict[str, Any]] = {
        "reasons": {"reasons": ["motion"]},
        "confidence": {"confidence": "unsure"},
        "comment": {"comment": "moved"},
        "agreement": {"agrees": True},
    }
    for number, (kind, what) in enumerate(said.items()):
        clinic.clock.forward(7)
        add(browser, number, kind, **what)
    logged = list(export_rows(clinic.ledger, whole_log=True, comments=True))
    (row,) = logged
    assert (row["role"], row["reasons"], row["confidence"]) == ("radiologist", "motion", "unsure")
    assert (row["agreement"], row["agreed_reports"], row["comment"]) == ("agree", "1.2.840.1", "moved")
    assert row["voted_at"] < row["reasons_at"] < row["confidence_at"] < row["comment_at"] < row["agreement_at"]
    other = Ledger(tmp_path / "other.sqlite")
    text = csv_text(logged, [*COLUMNS, *COMMENT])
    for known in (0, 1):
        rows = read_rows(io.StringIO(text), "log.csv")
        assert import_rows(other, rows, now=2e9, add_readers=True).known_before == known
    (again,) = export_rows(other, whole_log=True, comments=True)
    ours = {"reader", "source", "received_at"}
    assert {k: v for k, v in again.items() if k not in ours} == {k: v for k, v in row.items() if k not in ours}


def test_technologists_have_soft_labels_of_their_own(clinic: Clinic, cast: Cast, browse: Browse) -> None:
    _, _, shown = cast
    _, token = clinic.reader("tech", role="technologist")
    technologist = browse()
    technologist.sign_in(token)
    technologist.vote(technologist.show(shown["case"]), "good", "key-00000001")
    rows = {row["role"]: row for row in export_rows(clinic.ledger)}
    assert (rows["radiologist"]["p_poor"], rows["technologist"]["p_poor"]) == (1.0, 0.0)
    assert [row["vote"] for row in export_rows(clinic.ledger, roles=["technologist"])] == ["good"]


def test_words_and_numbers_of_confidence() -> None:
    assert [in_words(x) for x in (1.0, 0.8, 0.5, 0.3, 0.0)] == ["sure", "sure", "fairly", "fairly", "unsure"]
    assert clean("  a\x00b\n c\u202e ") == "a b c"


def test_nothing_is_added_by_the_presentation_of_another_study(clinic: Clinic, browse: Browse) -> None:
    _, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    voted, other = (browser.show(cases.open_study(clinic.deps(), uid)) for uid in ("1.2.7", "1.2.8"))
    assert browser.vote(voted, "poor", "key-of-vote").status_code == 201
    added = {"of": "key-of-vote", "kind": "confidence", "confidence": "sure"}
    for shown, key, status in ((other, "key-forged", 409), (voted, "key-right", 201)):
        act = {**added, "key": key, "presentation": shown["presentation"]}
        assert browser.post("/api/votes/acts", json=act).status_code == status
