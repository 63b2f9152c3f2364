"""The decision alone, as a table: every rule that closes a series or a study, and every wait."""

from __future__ import annotations

from typing import Any

import pytest

from qc_node.completion.decide import (
    AskPacs,
    Close,
    OpenSeries,
    Wait,
    decide,
    decide_study,
)
from qc_node.domain import ClosedBy
from qc_node.series.headers import expected
from tests.part_settings import completion_policy

T0 = 1_800_000_000.0

SETTINGS = completion_policy(quiet_s=5, hard_cap_s=60, study_quiet_s=20, quiet_s_by_ae={"SLOW": 30})
NO_PACS = completion_policy(quiet_s=5, hard_cap_s=60, ask_pacs=False, quiet_s_by_ae={"SLOW": 30})


def row(**changes: Any) -> OpenSeries:
    base: dict[str, Any] = {"calling_ae": "MRI", "instances": 10, "opened_at": T0 - 10, "last_received": T0}
    return OpenSeries(**(base | changes))


ASKED = {"pacs_count": 10, "pacs_count_since": T0 + 1, "pacs_asked_at": T0 + 4}
ASKED_ONCE = ASKED | {"pacs_asked_at": T0 + 1}

CASES = [
    ("the header's count is reached", row(expected=10, expected_rule=expected.ACQUISITION), 0, "header"),
    ("the header's count is not reached", row(expected=11, expected_rule=expected.ACQUISITION), 1, Wait(T0 + 5)),
    ("a count too large does not hang the series", row(expected=11, expected_rule=expected.GE), 5, "quiet"),
    ("a count too small is no count", row(expected=9, expected_rule=expected.ACQUISITION), 1, Wait(T0 + 5)),
    ("a weak count settles", row(expected=10, expected_rule=expected.CARDIAC), 0.5, Wait(T0 + 1)),
    ("a weak count has settled", row(expected=10, expected_rule=expected.CARDIAC), 1, "header"),
    ("quiet", row(), 5, "quiet"),
    ("not yet quiet", row(), 4.9, Wait(T0 + 5)),
    ("quiet by sender, not yet", row(calling_ae="SLOW"), 29, Wait(T0 + 30)),
    ("quiet by sender", row(calling_ae="SLOW"), 30, "quiet"),
    ("hard cap while images arrive", row(opened_at=T0 - 60), 0, "hard_cap"),
    ("the timer of the cap", row(opened_at=T0 - 58), 0, Wait(T0 + 2)),
    ("a clock that went back", row(), -100, "quiet"),
    ("a clock that went back a little", row(), -1, Wait(T0 + 5)),
]


@pytest.mark.parametrize(("name", "series", "after", "answer"), CASES, ids=[c[0] for c in CASES])
def test_without_a_pacs(name: str, series: OpenSeries, after: float, answer: Any) -> None:
    decision = decide(series, T0 + after, NO_PACS)
    if isinstance(answer, str):
        assert isinstance(decision, Close) and decision.rule.startswith(answer), name
    else:
        assert decision == answer


UNSAID = {"pacs_count": None, "pacs_count_since": T0 + 0.5, "pacs_asked_at": T0 + 0.5}
REST = T0 + 4.5

PACS_CASES = [
    ("asked after a moment", row(), 0.1, 0, Wait(T0 + 0.5)),
    ("asked, and quiet acts without an answer", row(), 0.5, 0, AskPacs(T0 + 5)),
    ("asked, and the cap acts without an answer", row(opened_at=T0 - 58), 0.5, 0, AskPacs(T0 + 2)),
    ("asked again three seconds later", row(**ASKED_ONCE), 2, 0, Wait(T0 + 4)),
    ("the second question", row(**ASKED_ONCE), 4, 0, AskPacs(T0 + 5)),
    ("never twice in a row", row(**UNSAID), 0.5, 0, Wait(T0 + 5)),
    ("a PACS that did not say is left alone", row(**UNSAID), 4.5, 0, Wait(T0 + 5)),
    ("a PACS that did not answer another is left alone", row(), 0.5, REST, Wait(REST)),
    ("a PACS that has rested", row(), 4.5, REST, AskPacs(T0 + 5)),
    ("two answers agree", row(**ASKED), 4, 0, "pacs"),
    ("two answers too close", row(**ASKED | {"pacs_asked_at": T0 + 3.9}), 3.9, 0, Wait(T0 + 5)),
    ("two answers agree on another count", row(**ASKED | {"pacs_count": 9}), 4, 0, Wait(T0 + 5)),
    ("the first answer is older than our last", row(**ASKED | {"pacs_count_since": T0 - 1}), 4, 0, Wait(T0 + 5)),
    ("quiet goes before a question", row(), 5, 0, "quiet"),
]


@pytest.mark.parametrize(
    ("name", "series", "after", "rests_until", "answer"), PACS_CASES, ids=[c[0] for c in PACS_CASES]
)
def test_with_a_pacs(name: str, series: OpenSeries, after: float, rests_until: float, answer: Any) -> None:
    decision = decide(series, T0 + after, SETTINGS, rests_until)
    if isinstance(answer, str):
        assert isinstance(decision, Close) and decision.rule.startswith(answer), name
    else:
        assert decision == answer


STUDY_CASES = [
    ("quiet", [], 20, Close("quiet: nothing new for 20 s")),
    ("not yet quiet", [], 19, Wait(T0 + 20)),
    ("a series is open", [T0 + 40, T0 + 30], 25, Wait(T0 + 30)),
    ("a series is open whose timer has run out", [T0], 25, Wait(T0 + 26)),
    ("a clock that went back", [], -100, Close("quiet: nothing new for 20 s")),
    ("a clock that went back a little", [], -1, Wait(T0 + 20)),
]


@pytest.mark.parametrize(("name", "timers", "after", "answer"), STUDY_CASES, ids=[c[0] for c in STUDY_CASES])
def test_studies(name: str, timers: list[float], after: float, answer: Any) -> None:
    assert decide_study(T0, timers, T0 + after, SETTINGS) == answer, name


def test_every_rule_that_closes_a_series_stands_in_the_table() -> None:
    """A member of ClosedBy that no case produces has no rule, or no test."""
    produced = {case[-1] for case in (*CASES, *PACS_CASES) if isinstance(case[-1], str)}
    assert produced == set(ClosedBy)
