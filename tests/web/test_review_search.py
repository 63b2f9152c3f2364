"""Any series is found by any name: identifiers, words, filters, pages, tables; skipped and failed ones too."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from qc_node.domain import Reason
from qc_node.ledger.search import NEWEST
from qc_node.web.review import csv_tables, searching
from qc_node.web.review.csv_tables import series_columns
from qc_node.web.review.searching import ReviewFilter, Worklist
from tests.web.conftest import Browse, Browser, Clinic, brain, ct, rejected, undecided


@pytest.fixture
def department(clinic: Clinic) -> Clinic:
    """Seven series: two brains, a reject, a CT that does not fit, an undetermined, a skipped and a failed one."""
    clinic.receive("1.2.10", "1.2.10.1", accession="MR-204417", description="MRI head")
    clinic.judge("1.2.10.1", brain(), description="t1_mprage")
    clinic.receive("1.2.11", "1.2.11.1", accession="MR-204418", scanner="MR_WEST")
    clinic.judge("1.2.11.1", brain(motion=2), description="t1 space")
    clinic.receive("1.2.12", "1.2.12.1", accession="MR-204419")
    clinic.judge("1.2.12.1", rejected(Reason.COVERAGE, measured=True))
    clinic.receive("1.2.13", "1.2.13.1", accession="CT-88120", scanner="CT_1", modality="CT")
    clinic.judge(
        "1.2.13.1", ct("chest"), warnings=("Ordered: abdomen; found: chest.",), claims={"protocol_name": "Thorax"}
    )
    clinic.receive("1.2.14", "1.2.14.1")
    clinic.judge("1.2.14.1", undecided())
    for number, state, sentence in (("15", "skipped", "A scout."), ("16", "failed", "The pixels cannot be read.")):
        clinic.receive(f"1.2.{number}", f"1.2.{number}.1", accession=f"MR-3{number}", scanner="MR_WEST")
        row = clinic.ledger.series.get(f"1.2.{number}.1")
        assert row is not None
        clinic.ledger.series.close(row["series_id"], row["last_received"], "test", clinic.clock.now)
        clinic.ledger.series.finish(row["series_id"], 1, state, clinic.clock.now, sentence=sentence)
    return clinic


def search(browser: Browser, **wanted: Any) -> dict[str, Any]:
    answer = browser.post("/api/review/search", json=wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def uids(browser: Browser, **wanted: Any) -> list[str]:
    return [row["series_uid"].split(".")[2] for row in search(browser, **wanted)["rows"]]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "16 15 14 13 12 11 10"),
        ({"text": "MR-204418"}, "11"),
        ({"text": "MR-2044"}, "12 11 10"),
        ({"text": "mr-204418"}, "11"),
        ({"text": "1.2.12"}, "12"),
        ({"text": "1.2.13.1"}, "13"),
        ({"text": "9.9.9.9"}, ""),
        ({"text": "MR-204 space"}, "11"),
        ({"text": "mprage"}, "14 13 12 10"),
        ({"text": "thorax"}, "13"),
        ({"text": "MR_WEST"}, "16 15 11"),
        ({"text": "scout"}, "15"),
        ({"text": "nothing of the kind"}, ""),
        ({"show": "skipped"}, "15"),
        ({"show": "failed"}, "16"),
        ({"show": "mismatches"}, "13"),
        ({"show": "undetermined"}, "14"),
        ({"show": "not_reviewed"}, "14 13 12 11 10"),
        ({"modality": "CT"}, "13"),
        ({"stage": "brain_mri"}, "14 12 11 10"),
        ({"scanner": "MR_WEST"}, "16 15 11"),
        ({"verdict": "good"}, "10"),
        ({"verdict": "usable"}, "13"),
        ({"verdict": "poor"}, "12 11"),
        ({"verdict": "tier1"}, "10"),
        ({"verdict": "tier3"}, "11"),
        ({"verdict": "reject"}, "12"),
        ({"modality": "MR", "verdict": "tier3", "text": "space"}, "11"),
        ({"numbers": [1, 4], "modality": "CT"}, "13"),
    ],
)
def test_series_are_found_by_any_name_and_filter(
    department: Clinic, browse: Browse, wanted: dict[str, Any], found: str
) -> None:
    answer = search(browse(), **wanted)
    assert [row["series_uid"].split(".")[2] for row in answer["rows"]] == found.split()
    assert (answer["total"], answer["more_than"], answer["next"]) == (len(found.split()), False, None)


def test_a_period_has_two_ends(department: Clinic, browse: Browse) -> None:
    browser = browse()
    at = {row["series_uid"]: row["last_received"] for row in department.ledger.series.recent()}
    wanted = {"since": at["1.2.11.1"], "until": at["1.2.14.1"]}
    assert uids(browser, **wanted) == ["13", "12", "11"]
    assert uids(browser, **wanted, show="mismatches") == ["13"]
    assert uids(browser, **wanted, text="MR-20441") == ["12", "11"]


@pytest.mark.parametrize("wanted", [{}, {"modality": "MR"}, {"text": "mr"}])
def test_pages_follow_each_other_and_say_how_many_are_left(
    department: Clinic, browse: Browse, wanted: dict[str, Any]
) -> None:
    browser, seen, left = browse(), [], []
    after = None
    while True:
        answer = search(browser, **wanted, limit=2, after=after)
        seen += [row["series"] for row in answer["rows"]]
        left.append(answer["total"])
        after = answer["next"]
        if after is None:
            break
    assert seen == [row["series"] for row in search(browser, **wanted)["rows"]]
    assert left == list(range(len(seen), 0, -2))


@pytest.mark.parametrize("asked", [ReviewFilter(text="mprage"), ReviewFilter(modality="MR")])
def test_an_answer_that_runs_out_of_time_says_how_far_it_came_and_goes_on(
    department: Clinic, monkeypatch: pytest.MonkeyPatch, asked: ReviewFilter
) -> None:
    monkeypatch.setattr(searching, "LOOKED_THROUGH", 2)
    monkeypatch.setattr(searching, "PASSED_OVER", 2)
    deps, after, seen, rounds = department.deps(), NEWEST, [], 0
    while True:
        answer, _ = searching.find(deps, asked, limit=10, steady=lambda: 0.0, after=after, budget_s=0.0)
        seen += [row["series"] for row in answer["rows"]]
        rounds += 1
        if answer["next"] is None:
            break
        assert answer["more_than"] and answer["back_to"] == answer["next"][0]
        after = tuple(answer["next"])
    in_time, _ = searching.find(deps, asked, limit=10, steady=lambda: 0.0, budget_s=1.0)
    assert rounds == 4 and seen == [row["series"] for row in in_time["rows"]]


def test_skipped_and_failed_series_have_their_sentence(department: Clinic, browse: Browse) -> None:
    failed, skipped, *_ = search(browse())["rows"]
    assert failed["words"]["headline"] == "Could not be judged"
    assert failed["words"]["detail"] == "The pixels cannot be read." and failed["id"] is None
    assert (skipped["words"]["headline"], skipped["words"]["detail"]) == ("Not judged", "A scout.")
    number = department.number("1.2.10.1")
    department.ledger.series.fail_report(number, 1, department.clock.now, "The report cannot be written.")
    (row,) = search(browse(), text="MR-204417")["rows"]
    assert row["warnings"] == ["The report cannot be written."] and row["words"]["tone"] == "good"


def test_a_series_that_is_judged_anew_says_so(department: Clinic, browse: Browse) -> None:
    department.ledger.series.judge_again(department.number("1.2.10.1"), department.clock.now)
    (row,) = search(browse(), text="MR-204417")["rows"]
    assert row["words"]["headline"] == "Waiting to be judged" and row["answers"] == []


def test_what_was_searched_is_seen_and_what_was_not_is_not(department: Clinic, browse: Browse) -> None:
    reader, token = department.reader()
    browser = browse()
    browser.sign_in(token)
    search(browser, text="MR-204417")
    seen = department.ledger.readers.has_seen_verdict
    assert seen(reader.reader_id, "1.2.10", department.clock()) and not seen(
        reader.reader_id, "1.2.11", department.clock()
    )
    browser.post("/review/series.csv", data={"search": json.dumps({"text": "MR-204418"})})
    assert seen(reader.reader_id, "1.2.11", department.clock())


def test_the_scanner_is_the_station_where_one_is_known(department: Clinic, browse: Browse) -> None:
    conn = department.ledger.db.conn
    conn.execute("UPDATE series SET station = 'Room 3' WHERE series_uid = '1.2.10.1'")
    department.receive("1.2.17", "1.2.17.1", scanner="PACS")
    department.judge("1.2.17.1", brain(), claims={"station_name": "AWP12345"})
    browser = browse()
    conn.execute("UPDATE series SET station = NULL WHERE series_uid = '1.2.17.1'")  # as 0.2 left them
    assert [row["scanner"] for row in search(browser)["rows"]][:1] == ["AWP12345"]
    assert uids(browser, scanner="Room 3") == ["10"] and uids(browser, scanner="AWP12345") == ["17"]
    assert browser.get("/api/review/filters").json()["scanners"] == [
        "CT_1",
        "MR_EAST",
        "MR_WEST",
        "PACS",
        "Room 3",
    ]


def table(browser: Browser, **wanted: Any) -> list[dict[str, str]]:
    answer = browser.post("/review/series.csv", data={"search": json.dumps(wanted)})
    assert answer.status_code == 200 and "series.csv" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_the_table_has_a_line_per_series_and_every_answer(department: Clinic, browse: Browse) -> None:
    lines = table(browse())
    assert tuple(lines[0]) == series_columns() and len(lines) == 7
    (good,) = table(browse(), verdict="tier1")
    assert (good["series_instance_uid"], good["tier"], good["motion"], good["gadolinium"]) == (
        *("1.2.10.1", "1", "0", "no"),
    )
    assert (good["motion_probability_0"], good["straight_reject_probability_no"]) == ("0.9", "0.98")
    assert (good["model_name"], good["model_sha256"], good["tone"]) == ("phantom", "ab" * 32, "good")
    assert good["summary"].startswith("tier 1") and good["judged_at"].startswith("2026-")
    (reject,) = table(browse(), verdict="reject")
    assert (reject["straight_reject"], reject["straight_reject_reason"]) == ("yes", "coverage")
    (open_,) = table(browse(), show="undetermined")
    assert "motion: The image fits" in open_["abstained"] and open_["motion"] == ""
    (skipped,) = table(browse(), show="skipped")
    assert (skipped["state"], skipped["not_judged_because"], skipped["tier"]) == ("skipped", "A scout.", "")
    (body,) = table(browse(), text="CT-88120")
    assert (body["body_part"], body["contrast_enhanced"], body["stage"]) == ("chest", "no", "ct")


def test_labels_are_in_the_table_and_no_cell_is_a_formula(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.3", "1.3.1")
    clinic.judge("1.3.1", brain(), description='=HYPERLINK("http://x")')
    reader, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    number = clinic.verdict("1.3.1")["id"]
    browser.post(f"/api/verdicts/{number}/labels", json={"labels": {"motion": "2"}})
    (line,) = table(browser)
    assert (line["motion"], line["motion_label"], line["labelled_by"]) == ("0", "2", reader.pseudonym)
    assert line["series_description"].startswith("'=")
    assert browser.post("/review/series.csv", data={"search": "{"}).status_code == 422


def test_tables_are_whole_however_many_stretches_they_take(
    clinic: Clinic, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "LOOKED_THROUGH", 4)
    monkeypatch.setattr(csv_tables, "LINES", 3)
    for n in range(15):
        clinic.receive(f"1.4.{n}", f"1.4.{n}.1", images=1)
        if n % 3 == 0:
            clinic.judge(f"1.4.{n}.1", ct())
    browser = browse()
    assert len(table(browser)) == 15 and len(table(browser, stage="ct")) == 5
    assert browser.get("/review.csv").text.count("\n") == 1 + 2 * 5


def test_a_search_that_makes_no_sense_is_refused(clinic: Clinic, browse: Browse) -> None:
    for body in ({"show": "everything"}, {"text": "x" * 201}, {"limit": 0}, {"after": "x"}, {"colour": "red"}):
        assert browse().post("/api/review/search", json=body).status_code == 422


@pytest.mark.parametrize(
    ("template", "address"),
    [
        ("https://ohif/viewer?StudyInstanceUIDs={study_uid}", "https://ohif/viewer?StudyInstanceUIDs=1.2.10"),
        ("weasis://x?a={accession_number}&s={series_uid}", "weasis://x?a=MR%2F1%20%262&s=1.2.10.1"),
    ],
)
def test_a_series_opens_in_the_viewer_of_the_department(
    clinic: Clinic, browse: Browse, template: str, address: str
) -> None:
    clinic.receive("1.2.10", "1.2.10.1", accession="MR/1 &2")
    clinic.receive("1.2.11", "1.2.11.1")
    plain = browse()
    assert [row["viewer"] for row in search(plain)["rows"]] == [None, None]
    unnamed, named = search(browse(viewer_url=template))["rows"]
    assert named["viewer"] == address
    assert (unnamed["viewer"] is None) == ("accession" in template)


def test_who_hears_of_a_change_hears_a_number_only(department: Clinic, browse: Browse) -> None:
    browser = browse()
    told: list[Any] = []
    browser.app.state.broadcaster.publish = lambda *said: told.append(said)
    browser.app.state.board.publish(4)
    assert ("review", "series", {"series": 4}) in told


def test_enum_of_what_is_shown_is_what_the_page_offers() -> None:
    from qc_node.web.pages.rendering import HERE

    page = (HERE / "templates" / "review.html").read_text(encoding="utf-8")
    assert all(f"'{shown}'" in page for shown in Worklist)
    assert all(f"'{found}'" in page for found in searching.VerdictWanted)
