"""Weeks by scanner and protocol, one's own page, and statistics that read only what is new."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.ledger import Ledger, NewAct, NewVote
from qc_node.web.app import create_app
from qc_node.web.statistics import figures, own
from qc_node.web.statistics.collecting import Collected
from qc_node.web.statistics.fact_table import Shown, VoteFact, fact_table
from qc_node.web.statistics.figures import standing
from qc_node.web.statistics.trends import monday, week_of
from qc_node.web.votes import cases
from tests.web.busy_department import make
from tests.web.conftest import Browse, Browser, Clinic, brain, rejected, undecided

WEEK = 7 * 86_400.0


def week_rows(browser: Browser, **chosen: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = browser.get("/api/stats/trends", params={"period": "all", **chosen}).json()[
        "rows"
    ]
    return rows


def nonzero(row: dict[str, Any]) -> dict[str, int]:
    return {name: n for name, n in row.items() if isinstance(n, int) and n}


@pytest.fixture
def year(clinic: Clinic, browse: Browse) -> Browser:
    """Three weeks: MR_EAST good, then rejected and called; MR_WEST undetermined; votes of both kinds of people."""
    _, radiologist = clinic.reader("rad", name="Rad")
    _, technologist = clinic.reader("mta", name="Tech", role="technologist")
    people = [browse(), browse()]
    for browser, token in zip(people, (radiologist, technologist), strict=True):
        browser.sign_in(token)
    plan = [
        ("1.1", "MR_EAST", brain(), "good", "poor"),
        ("1.2", "MR_EAST", rejected(), "poor", None),
        ("1.3", "MR_WEST", undecided(), "acceptable", "acceptable"),
    ]
    for n, (study, scanner, verdict, *said) in enumerate(plan):
        clinic.receive(study, f"{study}.1", scanner=scanner)
        clinic.judge(f"{study}.1", verdict, description=f"protocol {n % 2}")
        for browser, vote in zip(people, said, strict=True):
            if vote:
                browser.vote(browser.show(cases.open_study(clinic.deps(), study)), vote, f"key-{study}-000")
        clinic.clock.forward(WEEK)
    return people[0]


def test_weeks_count_votes_verdicts_and_calls_by_scanner_and_protocol(clinic: Clinic, year: Browser) -> None:
    number = clinic.number("1.2.1")
    with clinic.ledger.db.transaction() as conn:
        sql = "INSERT INTO alarms (series_id, run, calling_ae, raised_at) VALUES (?, 1, 'MR_EAST', ?)"
        conn.execute(sql, (number, clinic.clock.now - 2 * WEEK))
    rows = {(row["scanner"], row["protocol"]): nonzero(row) for row in week_rows(year)}
    assert rows["MR_EAST", "protocol 0"] == {"vote_good": 1, "technologist_poor": 1, "judged": 1, "tier_1": 1}
    assert rows["MR_EAST", "protocol 1"] == {"vote_poor": 1, "judged": 1, "reject": 1, "calls": 1}
    assert rows["MR_WEST", "protocol 0"] == {
        "vote_acceptable": 1,
        "technologist_acceptable": 1,
        "judged": 1,
        "undetermined": 1,
    }
    assert [row["scanner"] for row in week_rows(year, scanner="MR_WEST")] == ["MR_WEST"]
    assert {row["protocol"] for row in week_rows(year, protocol="protocol 1")} == {"protocol 1"}
    with clinic.ledger.db.transaction() as conn:  # the answer, as the board writes it
        conn.execute("UPDATE alarms SET answer = 'repeated', closed_at = ?", (clinic.clock.now,))
    assert sum(row["acted"] for row in week_rows(year)) == 1, "an answer shows at once"


def test_the_period_has_all_its_weeks_and_no_other(clinic: Clinic, year: Browser) -> None:
    clinic.clock.forward(-1)
    rows = year.get("/api/stats/trends", params={"period": "30"}).json()["rows"]
    assert len({row["week"] for row in rows}) == 3
    clinic.clock.forward(20 * WEEK)
    assert year.get("/api/stats/trends", params={"period": "90"}).json()["rows"] == []
    assert len(week_rows(year)) == 3
    page = year.get("/stats").text
    assert "No votes of radiologists in this period" in page and "period=all" in page


def test_the_weeks_come_as_a_table_too(year: Browser) -> None:
    answer = year.get("/stats/trends.csv", params={"period": "all"})
    assert answer.headers["content-disposition"] == 'attachment; filename="trends.csv"'
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert (
        sum(int(row["vote_good"]) for row in table) == 1
        and sum(int(row["technologist_poor"]) for row in table) == 1
    )
    assert "Rad" not in answer.text and "Tech" not in answer.text


def test_technologists_are_counted_apart(year: Browser) -> None:
    found = year.get("/api/stats").json()
    assert found["by_role"] == {
        "radiologist": {"acceptable": 1, "good": 1, "poor": 1},
        "technologist": {"acceptable": 1, "poor": 1},
    }
    theirs = year.get("/stats?period=all&who=technologists").text
    ours = year.get("/stats?period=all").text
    assert 'value="2" data-digits="0">2</data></dd></div>' in theirs.replace("\n", "")
    assert "Votes of technologists" in theirs and "2 of 2" not in ours


def test_a_week_begins_on_monday() -> None:
    assert monday(week_of(1_790_000_000.0)) == 1_789_948_800.0  # Monday, 21 September 2026, 00:00 UTC
    assert week_of(monday(7)) == 7 and week_of(monday(7) - 0.001) == 6


# -- one's own page ----------------------------------------------------------------------------------
def test_ones_own_page_shows_oneself_and_the_sum_of_the_others(clinic: Clinic, year: Browser) -> None:
    found = year.get("/api/me/figures").json()
    assert found["own"]["votes"] == 3 and found["own"]["by_vote"] == {"acceptable": 1, "good": 1, "poor": 1}
    assert found["department"] == {"votes": 5, "last_30_days": 5, "goal": 100, "share_of_goal": 0.05}
    assert set(found["own"]["by_reader"]) == {found["pseudonym"]}
    page = year.get("/me").text
    assert "Thank you" in page and "Nobody is ranked" in page
    others = [row["pseudonym"] for row in clinic.ledger.readers.all() if row["pseudonym"] != found["pseudonym"]]
    assert not any(name in page for name in others), "nobody else is on the page"
    clinic.clock.forward(31 * 86_400)
    assert year.get("/api/me/figures").json()["department"]["last_30_days"] == 0


def test_nobody_has_a_page_without_signing_in(browse: Browse) -> None:
    browser = browse()
    assert browser.get("/me").headers["location"] == "/sign-in?next=/me"
    assert browser.get("/api/me/figures").status_code == 401


def test_one_is_compared_with_people_of_the_same_work() -> None:
    log = [
        VoteFact(1, "a", "s", "", "x", "MR", "good", "[]", 1.0, None, "panel", 0, None),
        VoteFact(2, "b", "s", "", "x", "MR", "good", "[]", 2.0, None, "panel", 0, None),
        VoteFact(3, "t", "s", "", "x", "MR", "poor", "[]", 3.0, None, "panel", 0, None, "technologist"),
    ]
    found = figures.with_others(fact_table(log), "a")
    assert found is not None and (found.studies, found.same) == (1, 1)
    assert figures.with_others(fact_table(log), "t") is None


@given(st.integers(0, 10_000_000))
def test_the_goal_is_ahead_and_within_reach(votes: int) -> None:
    goal = own.next_goal(votes)
    assert votes < goal <= max(100, 2 * votes)


# -- columns -----------------------------------------------------------------------------------------
def logs() -> st.SearchStrategy[list[VoteFact]]:
    """Logs with changes, withdrawals, and times that are not those of receipt."""
    line = st.tuples(
        st.sampled_from("ab"), st.sampled_from("st"), st.sampled_from(["", "u"]),
        st.sampled_from(["good", "acceptable", "poor", "withdrawn"]), st.integers(0, 9), st.integers(0, 12),
    )  # fmt: skip

    def written(lines: list[tuple[str, str, str, str, int, int]]) -> list[VoteFact]:
        return [
            VoteFact(
                n, reader, subject, series, "x", "MR", vote, "[]", float(at), None, "panel", 0,
                replaces if 0 < replaces < n else None,
            )
            for n, (reader, subject, series, vote, at, replaces) in enumerate(lines, 1)
        ]  # fmt: skip

    return st.lists(line, max_size=12).map(written)


@settings(deadline=None)
@given(logs())
def test_columns_and_lines_agree_on_what_stands(log: list[VoteFact]) -> None:
    assert [log[n] for n in fact_table(log).standing] == standing(log)


def test_only_the_first_presentation_of_a_study_to_a_reader_counts() -> None:
    shown = [Shown("a", "s", "x", "MR", at) for at in (30.0, 10.0, 20.0)]
    found = figures.compute([], shown)
    assert found.presented == 1 and found.acceptance == {"a": {"presented": 1, "voted": 0, "rate": 0.0}}


def cast(ledger: Ledger, reader_id: str, study: str, key: str, at: float, **more: Any) -> int:
    ((row, _),) = ledger.votes.add(
        [NewVote(key, reader_id, "radiologist", "x", "MR", "good", at, at, "api", study_uid=study, **more)]
    )
    return row["id"]


def test_what_is_new_is_read_and_nothing_else(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, _ = clinic.reader()
    collected = Collected(clinic.ledger)
    first = cast(clinic.ledger, reader.reader_id, "1.1", "k1", 1.0)
    assert figures.summarise(collected.facts().table).votes == 1
    asked: list[int] = []
    votes = clinic.ledger.history.votes

    def listening(after: int = 0) -> Any:
        asked.append(after)
        return votes(after)

    monkeypatch.setattr(clinic.ledger.history, "votes", listening)
    assert collected.facts() is collected.facts() and asked == []
    cast(clinic.ledger, reader.reader_id, "1.2", "k2", 2.0)
    clinic.ledger.votes.act(
        NewAct("k3", first, "reasons", reader.reader_id, "radiologist", 3.0, 3.0, "api", value=("motion",))
    )
    found = figures.summarise(collected.facts().table)
    assert asked == [first] and found.votes == 2 and found.reasons == {"motion": 1}
    clinic.ledger.votes.act(NewAct("k4", first, "withdrawal", reader.reader_id, "radiologist", 4.0, 4.0, "api"))
    found = figures.summarise(collected.facts().table)
    assert (found.votes, found.withdrawn, found.reasons) == (1, 1, {})
    whole = figures.summarise(Collected(clinic.ledger).facts().table)
    assert whole == found, "read bit by bit or at once"


def test_a_verdict_that_is_given_anew_counts_anew(clinic: Clinic) -> None:
    collected = Collected(clinic.ledger)
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", brain())
    assert collected.facts().model == {"1.1": 0}
    assert clinic.ledger.series.judge_again(clinic.number("1.1.1"), clinic.clock.now)
    clinic.clock.forward(1)
    clinic.judge("1.1.1", brain(noise=2))
    assert collected.facts().model == {"1.1": 2} and len(collected.facts().judged) == 1


def test_what_was_forgotten_is_in_no_figure(clinic: Clinic) -> None:
    reader, _ = clinic.reader()
    collected = Collected(clinic.ledger)
    cast(clinic.ledger, reader.reader_id, "1.1", "k1", 1.0)
    before = collected.facts()
    clinic.ledger.audit.add("forgotten", "test", 2.0)
    after = collected.facts()
    assert after is not before and len(after.table) == 1


# -- speed -------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_same_department_is_made_every_time(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path / f"{n}.sqlite") for n in range(2)]
    for ledger in ledgers:
        make(ledger, series=30, stations=5, votes=200)
    assert (
        a := json.dumps([r["verdict"] for r in ledgers[0].db.rows("SELECT verdict FROM verdicts")])
    ) == json.dumps([r["verdict"] for r in ledgers[1].db.rows("SELECT verdict FROM verdicts")]) and len(a) > 1000
    counts = [figures.summarise(Collected(ledger).facts().table) for ledger in ledgers]
    assert counts[0].by_vote == counts[1].by_vote and counts[0].cumulative == counts[1].cumulative


def test_charts_of_many_readers_have_lines_that_can_be_told_apart(clinic: Clinic) -> None:
    from qc_node.web.statistics.overview import acceptance_lines, plots_of
    from qc_node.web.statistics.plots import STYLES

    def log(people: int) -> list[VoteFact]:
        return [
            VoteFact(
                n, f"r{n % people:02}", f"s{n}", "", "x", "MR", "good", "[]", n * 3600.0, None, "panel", 0, None
            )
            for n in range(1, 1 + 10 * people)
        ]

    few, many = figures.compute(log(8)), figures.compute(log(23))
    assert len(acceptance_lines(few)) == 8 == len(set(STYLES))
    said = acceptance_lines(many, "r07")
    assert list(said) == ["All readers", "A quarter of readers is below", "A quarter is above", "You"]
    assert "r07" not in plots_of(many)["acceptance"], "nobody is named"


@pytest.mark.parametrize(
    ("days", "unit"), [(1, "days"), (14, "days"), (70, "weeks"), (400, "months"), (3000, "years")]
)
def test_the_time_axis_has_whole_numbers_of_a_fitting_unit(days: int, unit: str) -> None:
    from qc_node.web.statistics.overview import plots_of

    log = [
        VoteFact(n, "r", f"s{n}", "", "x", "MR", "good", "[]", n * 86_400.0, None, "panel", 0, None)
        for n in range(1, days + 1)
    ]
    for width in (288, 520):
        svg = plots_of(figures.compute(log), width)["cumulative"]
        assert f">{unit}</text>" in svg
        labels = [text.split("<")[0] for text in svg.split("text-anchor='middle'")[1:]]
        assert all("." not in label.split(">")[1] for label in labels)


def test_letters_are_large_enough_on_a_phone() -> None:
    from qc_node.web.statistics import plots

    drawn = plots.bars({"a department with a very long name indeed": 1527.0}, title="x", width=plots.NARROW)
    assert f"viewBox='0 0 {plots.NARROW}" in drawn and plots.SIZE * (320 - 24 - 26) / plots.NARROW >= 11
    assert "…" in drawn
    assert not any(colour in drawn for colour in ("#cdd5dd", "#13181d")), "no colour of one theme alone"
    assert "var(--text" in drawn


def test_many_pages_open_at_once_get_the_same_answer(clinic: Clinic) -> None:
    from concurrent.futures import ThreadPoolExecutor

    make(clinic.ledger, now=clinic.clock.now, series=30, stations=5, votes=300)
    app = create_app(clinic.deps())
    with Browser(app, base_url="http://127.0.0.1:8080") as browser, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: browser.get("/api/stats").text, range(12)))
    assert len(set(answers)) == 1
