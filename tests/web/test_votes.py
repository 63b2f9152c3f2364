"""One vote per key press: never lost, never doubled, never on another study."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from qc_node.web.access.readers import Reader
from qc_node.web.votes import cases
from qc_node.web.votes.exchange import export_rows
from tests.web.conftest import Browse, Browser, Clinic, brain

STUDY, SERIES = "1.2.3.4", "1.2.3.4.1"

SignedIn = tuple[Browser, Reader, str]
"""A browser, whose it is, and the case of the study."""


@pytest.fixture
def signed_in(clinic: Clinic, browse: Browse) -> SignedIn:
    clinic.receive(STUDY, SERIES, accession="A-1001", description="Head")
    clinic.judge(SERIES, brain(motion=1))
    reader, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    return browser, reader, cases.open_study(clinic.deps(), STUDY)


def test_a_vote_is_one_row_with_everything_that_the_contract_names(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, reader, case = signed_in
    shown = browser.show(case)
    assert shown["accession_number"] == "A-1001" and shown["modality"] == "MR"
    assert [p["view"] for p in shown["series"][0]["pictures"]] == ["axial", "coronal", "sagittal"]
    clinic.clock.forward(5)
    answer = browser.vote(shown, "acceptable", "key-00000001", reasons=["motion"], age_ms=1500, ms_to_vote=3400)
    assert answer.status_code == 201
    row = clinic.ledger.votes.all()[0]
    assert (row["study_uid"], row["series_uid"], row["reader_id"]) == (STUDY, SERIES, reader.reader_id)
    assert (row["site"], row["modality"], row["vote"]) == ("Potsdam", "MR", "acceptable")
    assert row["reasons"] == '["motion"]' and row["ms_to_vote"] == 3400 and row["source"] == "panel"
    assert row["received_at"] == clinic.clock.now and row["voted_at"] == clinic.clock.now - 1.5
    assert row["verdict_visible"] == 0
    assert clinic.counted == [("acceptable", "Potsdam", "MR")]


def test_the_same_key_again_changes_nothing(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, case = signed_in
    shown = browser.show(case)
    first = browser.vote(shown, "good", "key-00000001")
    again = browser.vote(shown, "good", "key-00000001")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["duplicate"] and again.json()["vote"]["id"] == first.json()["vote"]["id"]
    assert clinic.ledger.votes.count() == 1 and len(clinic.counted) == 1
    assert browser.vote(shown, "poor", "key-00000001").status_code == 409


def test_ten_threads_with_one_key_write_one_row(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, case = signed_in
    shown = browser.show(case)
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(browser.vote(shown, "good", "key-00000001").status_code))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200] * 9 + [201]
    assert clinic.ledger.votes.count() == 1


def test_a_changed_mind_and_undo_are_new_rows(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _reader, case = signed_in
    shown = browser.show(case)
    browser.vote(shown, "good", "key-00000001")
    clinic.clock.forward(60)
    changed = browser.vote(shown, "poor", "key-00000002").json()
    assert changed["vote"]["replaces"] == 1 and changed["mine"]["vote"] == "poor"
    clinic.clock.forward(5)
    undone = browser.vote(shown, "withdrawn", "key-00000003", withdraws="key-00000002").json()
    assert undone["mine"]["vote"] == "good"
    assert [row["vote"] for row in clinic.ledger.votes.all()] == ["good", "poor", "withdrawn"]


def test_undo_ends_after_ten_seconds(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, case = signed_in
    shown = browser.show(case)
    browser.vote(shown, "good", "key-00000001")
    clinic.clock.forward(13)
    late = browser.vote(shown, "withdrawn", "key-00000002", withdraws="key-00000001")
    assert late.status_code == 409 and "10 seconds" in late.json()["detail"]
    # The key went down in time, only the network was slow.
    slow = browser.vote(shown, "withdrawn", "key-00000003", withdraws="key-00000001", age_ms=8000)
    assert slow.status_code == 201


def test_a_vote_that_waited_for_the_network_keeps_its_time_and_its_place(
    clinic: Clinic, signed_in: SignedIn
) -> None:
    browser, _, case = signed_in
    shown = browser.show(case)
    clinic.clock.forward(3600)
    browser.vote(shown, "good", "key-00000002", age_ms=60_000)
    late = browser.vote(shown, "poor", "key-00000001", age_ms=1_800_000)
    assert late.json()["vote"]["voted_at"] == clinic.clock.now - 1800
    assert late.json()["mine"]["vote"] == "good", "the vote cast later stands, though it arrived first"


def test_a_vote_lands_only_on_what_was_shown(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, case = signed_in
    clinic.receive("1.2.9", "1.2.9.1")
    other = cases.open_study(clinic.deps(), "1.2.9")
    shown, elsewhere = browser.show(case), browser.show(other)
    mixed = {**shown, "case": elsewhere["case"]}
    assert browser.vote(mixed, "good", "key-00000001").status_code == 409
    assert clinic.ledger.votes.count() == 0


def test_blind_until_the_vote(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _reader, case = signed_in
    shown = browser.show(case)
    assert shown["opinions"] is None
    answer = browser.vote(shown, "good", "key-00000001").json()
    assert answer["opinions"][0]["headline"] == "Usable quality"
    clinic.clock.forward(30)
    changed = browser.vote(shown, "acceptable", "key-00000002").json()
    assert changed["vote"]["verdict_visible"], "the second vote was cast after the opinion had been shown"
    assert [r["verdict_visible"] for r in clinic.ledger.votes.all()] == [0, 1]


def test_a_reason_after_a_blind_vote_changes_neither_its_time_nor_its_blindness(
    clinic: Clinic, signed_in: SignedIn
) -> None:
    """0.1.0 wrote a new vote for it: not blind, with the time of the reason."""
    browser, _reader, case = signed_in
    shown = browser.show(case)
    first = browser.vote(shown, "good", "key-00000001", ms_to_vote=1900).json()
    clinic.clock.forward(14)
    answer = browser.vote(shown, "good", "key-00000002", reasons=["noise"], ms_to_vote=15_400)
    assert answer.status_code == 201 and not answer.json()["duplicate"]
    same = {**first["vote"], "reasons": ["noise"]}
    assert answer.json()["mine"] == same and answer.json()["vote"] == {**same, "key": "key-00000002"}
    assert not same["verdict_visible"]
    (row,) = clinic.ledger.votes.all()
    assert (row["reasons"], row["ms_to_vote"], row["verdict_visible"]) == ('["noise"]', 1900, 0)
    assert len(clinic.counted) == 1, "a reason is no vote"
    again = browser.vote(shown, "good", "key-00000002", reasons=["noise"])
    assert again.status_code == 200 and again.json()["vote"] == answer.json()["vote"]
    (exported,) = export_rows(clinic.ledger, blind_only=True)
    assert (exported["reasons"], exported["ms_to_vote"]) == ("noise", 1900)


def test_undo_takes_back_the_reasons_then_the_vote(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _reader, case = signed_in
    shown = browser.show(case)
    browser.vote(shown, "poor", "key-00000001", reasons=["motion"])
    clinic.clock.forward(2)
    browser.vote(shown, "poor", "key-00000002", reasons=["motion", "noise"])
    undone = browser.vote(shown, "withdrawn", "key-00000003", withdraws="key-00000002").json()
    assert (undone["vote"]["vote"], undone["vote"]["replaces"]) == ("withdrawn", undone["mine"]["id"])
    assert (undone["mine"]["vote"], undone["mine"]["reasons"]) == ("poor", ["motion"])
    gone = browser.vote(shown, "withdrawn", "key-00000004", withdraws="key-00000001").json()
    assert gone["mine"] is None
    assert [row["vote"] for row in clinic.ledger.votes.all()] == ["poor", "withdrawn"]


def test_the_same_level_pressed_earlier_and_come_late_adds_nothing_to_the_later_vote(
    clinic: Clinic, signed_in: SignedIn
) -> None:
    browser, _, case = signed_in
    shown = browser.show(case)
    clinic.clock.forward(3600)
    browser.vote(shown, "good", "key-00000002", reasons=["noise"], age_ms=60_000)
    late = browser.vote(shown, "good", "key-00000001", reasons=["motion"], age_ms=1_800_000).json()
    assert late["mine"]["key"] == "key-00000002" and late["mine"]["reasons"] == ["noise"]
    assert clinic.ledger.votes.count() == 2


def test_a_vote_says_in_which_role_it_was_cast(clinic: Clinic, browse: Browse) -> None:
    clinic.receive(STUDY, SERIES)
    _, token = clinic.reader("tech", role="technologist")
    browser = browse()
    browser.sign_in(token)
    browser.vote(browser.show(cases.open_study(clinic.deps(), STUDY)), "good", "key-00000001")
    clinic.ledger.db.conn.execute("UPDATE readers SET role = 'expert'")
    assert clinic.ledger.votes.all()[0]["role"] == "technologist"


def test_not_blind_when_so_configured(clinic: Clinic, browse: Browse) -> None:
    clinic.receive(STUDY, SERIES)
    clinic.judge(SERIES, brain())
    _, token = clinic.reader()
    browser = browse(blind=False)
    browser.sign_in(token)
    shown = browser.show(cases.open_study(clinic.deps(), STUDY))
    assert shown["opinions"][0]["headline"] == "Good quality"
    assert browser.vote(shown, "good", "key-00000001").json()["vote"]["verdict_visible"]


def test_who_looked_at_the_verdict_elsewhere_does_not_vote_blind(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, case = signed_in
    assert browser.get(f"/api/series/{SERIES}").json()["results"]["tier"]["value"] == 2
    clinic.clock.forward(5)
    assert browser.vote(browser.show(case), "good", "key-00000001").json()["vote"]["verdict_visible"]


def test_any_study_of_any_modality_can_be_voted_on(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, _ = signed_in
    body = {"key": "key-00000001", "vote": "good", "study_instance_uid": "1.9.9", "modality": "DX"}
    assert browser.post("/api/votes", json=body).status_code == 201
    body = {"key": "key-00000002", "vote": "poor", "accession_number": "X-77"}
    assert browser.post("/api/votes", json=body).status_code == 201
    first, second = clinic.ledger.votes.all()
    assert (first["study_uid"], first["modality"], first["source"]) == ("1.9.9", "DX", "api")
    assert (second["study_uid"], second["accession_number"], second["modality"]) == (None, "X-77", "OT")


def test_the_ledger_itself_refuses_to_rewrite_a_vote(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, case = signed_in
    browser.vote(browser.show(case), "good", "key-00000001")
    for sql in ("UPDATE votes SET vote = 'poor'", "DELETE FROM votes"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            clinic.ledger.db.conn.execute(sql)


def test_another_window_hears_of_a_vote(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, reader, case = signed_in
    heard = []
    broadcaster = browser.app.state.broadcaster
    broadcaster.publish = lambda channel, event, data: heard.append((channel, event, data["mine"]["vote"]))
    browser.vote(browser.show(case), "poor", "key-00000001")
    assert heard == [(f"reader:{reader.reader_id}", "vote", "poor")]
