"""Asking well: shares by stratum, uncertain verdicts, conflicts, double reads, and what nobody answered."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.domain import Finding, Question, Stage, Verdict
from qc_node.web.access.readers import Reader
from qc_node.web.votes import cases
from qc_node.web.votes.follow_up import FollowUp
from qc_node.web.votes.prompts import Prompter, Stratified, Why, in_conflict, is_uncertain
from tests.part_settings import prompt_policy
from tests.web.conftest import MODEL, Browse, Browser, Clinic, brain, ct


@settings(deadline=None)
@given(st.floats(0.01, 1.0), st.integers(1, 300), st.integers(0, 1000))
def test_every_stratum_gets_its_share_to_within_one(share: float, n: int, seed: int) -> None:
    take = Stratified(share, random.Random(seed))
    busy = sum(take.take("MR_EAST", "t1") for _ in range(n))
    rare = sum(take.take("CT_1", "chest") for _ in range(n))
    assert abs(busy - share * n) < 1 + 1e-6 and abs(rare - share * n) < 1 + 1e-6


def test_uncertain_and_conflict() -> None:
    unsure = Verdict(Stage.CT, MODEL, (Finding(Question.BODY_PART, "chest", {"chest": 0.5, "neck": 0.5}),))
    silent = Verdict(Stage.CT, MODEL, (Finding(Question.BODY_PART, None, {}, abstained="No idea."),))
    assert is_uncertain(unsure, 0.7) and is_uncertain(silent, 0.7) and not is_uncertain(ct(), 0.7)
    assert in_conflict("poor", 0) and in_conflict("good", 2) and not in_conflict("acceptable", 0)


def prompter(clinic: Clinic, **policy: Any) -> Prompter:
    policy = {"enabled": True, "random_share": 1e-9, "double_share": 1e-9, **policy}
    return Prompter(replace(clinic.deps(prompts=prompt_policy(**policy)), rng=random.Random(1)))


@pytest.fixture
def two(clinic: Clinic) -> list[tuple[Reader, str]]:
    clinic.receive("1.2", "1.2.1")
    clinic.judge("1.2.1", brain())
    return [clinic.reader(f"r{n}", name=f"R {n}") for n in range(2)]


def cast(clinic: Clinic, browse: Browse, token: str, vote: str, key: str = "key-00000001") -> Browser:
    browser = browse()
    browser.sign_in(token)
    browser.vote(browser.show(cases.open_study(clinic.deps(), "1.2")), vote, key)
    return browser


def test_a_random_study_is_asked_of_one_reader_who_is_not_told_why(
    clinic: Clinic, two: list[tuple[Reader, str]], browse: Browse
) -> None:
    asked = prompter(clinic, random_share=1.0)
    row, verdict = clinic.ledger.series.get("1.2.1"), clinic.verdict("1.2.1")
    assert row is not None
    assert asked.after_verdict(row, verdict) is Why.RANDOM
    (prompt,) = clinic.ledger.prompts.all()
    token = next(t for r, t in two if r.reader_id == prompt["reader_id"])
    browser = browse()
    browser.sign_in(token)
    listed = browser.get("/api/recent").json()["asked"]
    assert len(listed) == 1 and "random" not in str(listed)
    cast(clinic, browse, token, "good")
    assert clinic.ledger.prompts.all()[0]["outcome"] == "answered"
    assert browser.get("/api/recent").json()["asked"] == []


def test_a_conflict_is_asked_of_somebody_else(
    clinic: Clinic, two: list[tuple[Reader, str]], browse: Browse
) -> None:
    asked = prompter(clinic)
    cast(clinic, browse, two[0][1], "poor")
    vote = clinic.ledger.votes.after(0)[0]
    assert asked.after_vote(vote) is Why.CONFLICT
    assert clinic.ledger.prompts.all()[0]["reader_id"] == two[1][0].reader_id


def test_double_reads_reach_their_share(clinic: Clinic, browse: Browse) -> None:
    reader, token = clinic.reader("r0", name="R 0")
    clinic.reader("r1", name="R 1")
    browser = browse(votes_per_minute=1000)
    browser.sign_in(token)
    asked = prompter(clinic, double_share=0.25, conflicts=False)
    for n in range(60):
        body = {"key": f"key-{n:08}", "vote": "good", "study_instance_uid": f"1.2.{n}"}
        assert browser.post("/api/votes", json=body).status_code == 201
        vote = clinic.ledger.votes.by_key(reader.reader_id, body["key"])
        assert vote is not None
        asked.after_vote(vote)
    doubles = [p for p in clinic.ledger.prompts.all() if p["reason"] == Why.DOUBLE]
    assert 14 <= len(doubles) <= 16
    assert {p["reader_id"] for p in doubles} != {reader.reader_id}


def test_prompts_that_nobody_answers_are_recorded(clinic: Clinic, two: list[tuple[Reader, str]]) -> None:
    asked = prompter(clinic, random_share=1.0)
    row = clinic.ledger.series.get("1.2.1")
    assert row is not None
    asked.after_verdict(row, clinic.verdict("1.2.1"))
    clinic.clock.forward(73 * 3600)
    assert asked.expire() == 1
    assert clinic.ledger.prompts.all()[0]["outcome"] == "not answered"


def test_housekeeping_asks_after_new_verdicts_only_when_wished(
    clinic: Clinic, two: list[tuple[Reader, str]]
) -> None:
    for enabled in (False, True):
        policy = prompt_policy(enabled=enabled, random_share=1.0)
        keeper = FollowUp(clinic.deps(prompts=policy))
        clinic.receive(f"1.{int(enabled)}.9", f"1.{int(enabled)}.9.1")
        clinic.judge(f"1.{int(enabled)}.9.1", brain())
        keeper.step()
        keeper.step()
        assert len(clinic.ledger.prompts.all()) == int(enabled)
