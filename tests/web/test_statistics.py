"""Figures of a site: exact counts, rates, curves, kappa."""

from __future__ import annotations

import io
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.domain import QcNodeError, vote_level
from qc_node.ledger import Ledger
from qc_node.web.statistics.figures import VoteFact, compute, quartiles, standing
from qc_node.web.statistics.overview import overview, plots_of
from qc_node.web.statistics.plots import bars, lines, ticks
from qc_node.web.votes import cases, exchange
from tests.web.conftest import Browse, Clinic, brain, rejected
from tests.web.seventy_days import PRESENTED, VOTES, make_log


def bring_in(ledger: Ledger, text: str, **more: Any) -> exchange.Imported:
    rows = exchange.read_rows(io.StringIO(text), "log.csv")
    return exchange.import_rows(ledger, rows, now=1.8e9, **more)


@pytest.mark.slow
def test_seventy_days_give_exactly_what_was_put_in(clinic: Clinic) -> None:
    text, expected = make_log()
    done = bring_in(clinic.ledger, text, add_readers=True)
    assert (done.votes, done.presented) == (1527, sum(PRESENTED.values()))
    found = overview(clinic.ledger).all
    names = {r["pseudonym"]: r["login"] for r in clinic.ledger.readers.all()}
    assert (found.votes, found.studies, found.days) == (1527, 1527, 70)
    assert found.by_modality == expected.by_modality and found.by_site == expected.by_site
    assert found.by_vote == expected.by_vote and found.reasons == expected.reasons
    assert {names[p]: n for p, n in found.by_reader.items()} == VOTES
    for pseudonym, row in found.acceptance.items():
        login = names[pseudonym]
        assert (row["presented"], row["voted"]) == (PRESENTED[login], VOTES[login])
        assert row["rate"] == VOTES[login] / PRESENTED[login]
    total, curve = 0, []
    for day in range(70):
        total += expected.by_day[day]
        curve.append((day, total))
    assert found.cumulative == curve
    assert found.seconds_to_vote == (4.0, 4.0, 4.0)
    for pseudonym, weeks in found.acceptance_weeks.items():
        assert sum(w[1] for w in weeks) == PRESENTED[names[pseudonym]]
        assert sum(w[2] for w in weeks) == VOTES[names[pseudonym]]
    assert bring_in(clinic.ledger, text).known_before == 1527
    assert overview(clinic.ledger).all == found, "a second import changes nothing"


def test_export_of_the_log_and_import_elsewhere_is_the_same(clinic: Clinic, tmp_path: Path) -> None:
    from qc_node.ledger import Ledger

    text, _ = make_log()
    bring_in(clinic.ledger, text, add_readers=True)
    logged = list(exchange.export_rows(clinic.ledger, whole_log=True))
    other = Ledger(tmp_path / "other.db")
    bring_in(other, exchange.csv_text(logged, exchange.COLUMNS), add_readers=True)
    a, b = overview(clinic.ledger).all, overview(other).all
    for name in ("votes", "by_modality", "by_site", "by_vote", "cumulative", "reasons", "start", "end"):
        assert getattr(a, name) == getattr(b, name)
    assert sorted(a.by_reader.values()) == sorted(b.by_reader.values())


def test_export_is_pseudonymous_with_soft_labels(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.2.3", "1.2.3.1")
    for n, vote in enumerate(("good", "good", "poor")):
        _, token = clinic.reader(f"login{n}", name=f"Person {n}")
        browser = browse()
        browser.sign_in(token)
        browser.vote(browser.show(cases.open_study(clinic.deps(), "1.2.3")), vote, "key-00000001")
    clinic.ledger.votes.mark("9.9", "1.2.3", None, "poor", [], "no known reader", 1.0)
    rows = list(exchange.export_rows(clinic.ledger))
    assert len(rows) == 3, "a mark without author is no vote"
    assert [rows[0][name] for name in exchange.SOFT] == [0.6667, 0.0, 0.3333]
    assert "login" not in str(rows) and "Person" not in str(rows)
    assert len({row["reader"] for row in rows}) == 3


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("nobody,MR,1.2,good,2020-01-01T00:00:00+00:00", "unknown reader"),
        ("anna,MR,1..2,good,2020-01-01T00:00:00+00:00", "UID"),
        ("anna,MR,,good,2020-01-01T00:00:00+00:00", "study_instance_uid"),
        ("anna,MR,1.2,great,2020-01-01T00:00:00+00:00", "unknown vote"),
        ("anna,MR,1.2,good,2020-01-01T00:00:00", "time zone"),
        ("anna,MR,1.2,good,yesterday", "ISO 8601"),
        ("anna,MR,1.2,good,", "voted_at"),
        ("anna,MR,1.2,,", "presented_at"),
    ],
)
def test_a_bad_row_is_named_and_nothing_comes_in(clinic: Clinic, row: str, sentence: str) -> None:
    clinic.reader("anna", name="Anna")
    good = "anna,MR,1.9,good,2020-01-01T00:00:00+00:00"
    text = f"reader,modality,study_instance_uid,vote,voted_at\n{good}\n{row}\n"
    with pytest.raises(QcNodeError, match=f"log.csv line 3.*{sentence}"):
        bring_in(clinic.ledger, text)
    assert clinic.ledger.votes.count() == 0


def test_json_lines_and_unknown_columns(clinic: Clinic) -> None:
    clinic.reader("anna", name="Anna")
    line = '{"reader": "Anna", "study_instance_uid": "1.2", "vote": "red", "voted_at": 1e9, "reasons": ["motion"]}'
    assert bring_in(clinic.ledger, line).votes == 1
    with pytest.raises(QcNodeError, match="unknown column 'votr'"):
        bring_in(clinic.ledger, "reader,votr\n")


def test_a_spreadsheet_runs_nothing() -> None:
    assert (
        exchange.csv_text([{"a": "=HYPERLINK(1)"}, {"a": "@x"}, {"a": 3}], ["a"]) == "a\n'=HYPERLINK(1)\n'@x\n3\n"
    )


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_quartiles_are_those_of_numpy(values: list[float]) -> None:
    assert quartiles(values) == pytest.approx(tuple(np.percentile(values, [25, 50, 75])), rel=1e-9, abs=1e-9)


def test_agreement_between_readers_and_with_the_machine(clinic: Clinic, browse: Browse) -> None:
    tokens = [clinic.reader(f"r{n}", name=f"R {n}")[1] for n in range(2)]
    plan = [
        ("1.1", brain(), "good", "good"),
        ("1.2", brain(motion=1), "acceptable", "good"),
        ("1.3", brain(noise=2), "poor", "poor"),
        ("1.4", rejected(), "poor", "acceptable"),
    ]
    for study, verdict, *_ in plan:
        clinic.receive(study, f"{study}.1")
        clinic.judge(f"{study}.1", verdict)
    for who, token in enumerate(tokens):
        browser = browse()
        browser.sign_in(token)
        for n, (study, _, *said) in enumerate(plan):
            browser.vote(browser.show(cases.open_study(clinic.deps(), study)), said[who], f"key-{n:08}")
    first = clinic.ledger.readers.by_login("r0")
    assert first is not None
    found = overview(clinic.ledger, first["reader_id"])
    assert found.all.between_readers is not None and found.all.with_model is not None
    assert found.own is not None and found.own.with_model is not None and found.own_with_others is not None
    assert (found.all.between_readers.studies, found.all.between_readers.same) == (4, 2)
    assert (found.all.with_model.studies, found.all.with_model.same) == (8, 6)
    assert found.own.votes == 4 and found.own.with_model.same == 4
    assert found.own_with_others.same == 2
    assert [vote_level(v) for _, v, *_ in plan] == [0, 1, 2, 2]


def test_a_withdrawn_change_lets_the_vote_before_it_stand() -> None:
    def fact(number: int, reader: str, vote: str, at: float, replaces: int | None = None) -> VoteFact:
        return VoteFact(number, reader, "s", "", "x", "MR", vote, "[]", at, None, "panel", 0, replaces)

    log = [
        fact(1, "r", "good", 10.0),
        fact(2, "r", "poor", 20.0, 1),
        fact(3, "r", "withdrawn", 21.0, 2),
        fact(4, "q", "poor", 5.0),
    ]
    assert [f.id for f in standing(log)] == [1, 4]
    assert [f.id for f in standing([*log, fact(5, "r", "withdrawn", 22.0, 1)])] == [4]


def test_no_votes_no_figures(clinic: Clinic, browse: Browse) -> None:
    assert overview(clinic.ledger).all.votes == 0
    assert "No votes yet" in browse().get("/stats").text


def test_statistics_pages(clinic: Clinic, browse: Browse) -> None:
    text, _ = make_log()
    bring_in(clinic.ledger, text, add_readers=True)
    _, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    page = browser.get("/stats?period=all").text
    votes, weeks = page.split("Week by week")
    assert "1,527" in votes and votes.count("<svg") == 2 * 6, "each plot for wide and for narrow windows"
    assert weeks.count("<svg") == 2 * 3 and "style=" not in page
    assert "r1" not in [cell.strip() for cell in page.replace("<", ">").split(">")], "no login is shown"
    assert browser.get("/api/stats").json()["votes"] == 1527
    assert browser.get("/stats/cumulative.svg").headers["content-type"] == "image/svg+xml"
    assert browser.get("/stats/nothing.svg").status_code == 404
    assert browser.get("/stats/votes.csv").text.count("\n") == 1528


def test_plots_are_well_formed_whatever_the_names(clinic: Clinic) -> None:
    text, _ = make_log()
    bring_in(clinic.ledger, text, add_readers=True)
    for svg in plots_of(overview(clinic.ledger).all).values():
        ET.fromstring(svg)
    ET.fromstring(bars({"<script>&'": 3.0, "": 0.0}, title="<&>"))
    ET.fromstring(lines({"<a>": [(0, 0)], "b": []}, title="&", x_label="<", y_label=">"))
    assert ticks(0) == [0.0, 1.0] and ticks(1527)[-1] >= 1527 and ticks(0.4)[-1] >= 0.4


@pytest.mark.slow
def test_hundred_thousand_votes_are_counted_exactly() -> None:
    rng = random.Random(3)
    facts = [
        VoteFact(
            n,
            f"r{n % 40}",
            f"1.2.{n % 60000}",
            "",
            f"site{n % 5}",
            "MR",
            rng.choice(["good", "poor"]),
            "[]",
            1e9 + n,
            3000,
            "panel",
            0,
            None,
        )
        for n in range(100_000)
    ]
    found = compute(facts)
    pairs = {(f.reader, f.subject) for f in facts}
    assert found.votes == len(pairs) and found.rows == 100_000
