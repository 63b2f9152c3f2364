"""When series and studies close: once per run, never too early, and across restarts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.completion.closing import AskPacs, Close, Completion, CompletionPolicy, PacsAnswer, Wait, decide
from qc_node.domain import ClosedBy
from qc_node.ledger import Ledger, Received
from qc_node.series.headers import expected
from tests.ledger.makers import number_of

T0 = 1_800_000_000.0
SETTINGS = CompletionPolicy(quiet_s=5, hard_cap_s=60, study_quiet_s=20, quiet_s_by_ae={"SLOW": 30})


def row(**changes: Any) -> dict[str, Any]:
    base = {
        "instances": 10,
        "expected": None,
        "expected_rule": None,
        "opened_at": T0 - 10,
        "last_received": T0,
        "pacs_count": None,
        "pacs_count_since": None,
        "pacs_asked_at": None,
        "calling_ae": "MRI",
    }
    return base | changes


NO_PACS = CompletionPolicy(quiet_s=5, hard_cap_s=60, ask_pacs=False, quiet_s_by_ae={"SLOW": 30})
ASKED = {"pacs_count": 10, "pacs_count_since": T0 + 1, "pacs_asked_at": T0 + 4}

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
def test_without_a_pacs(name: str, series: dict[str, Any], after: float, answer: Any) -> None:
    decision = decide(series, T0 + after, NO_PACS)
    if isinstance(answer, str):
        assert isinstance(decision, Close) and decision.rule.startswith(answer), name
    else:
        assert decision == answer


PACS_CASES = [
    ("asked after a moment", row(), 0.1, None, Wait(T0 + 0.5)),
    ("asked", row(), 0.5, None, AskPacs()),
    ("asked again three seconds later", row(pacs_count=10, pacs_count_since=T0 + 1, pacs_asked_at=T0 + 1), 2, None,
     Wait(T0 + 4)),
    ("the second question", row(pacs_count=10, pacs_count_since=T0 + 1, pacs_asked_at=T0 + 1), 4, None, AskPacs()),
    ("never twice in a row", row(), 0.5, PacsAnswer(None), Wait(T0 + 5)),
    ("two answers agree", row(**ASKED), 4, PacsAnswer(10), "pacs"),
    ("two answers too close", row(**ASKED | {"pacs_asked_at": T0 + 3.9}), 3.9, PacsAnswer(10), Wait(T0 + 5)),
    ("two answers agree on another count", row(**ASKED | {"pacs_count": 9}), 4, PacsAnswer(9), Wait(T0 + 5)),
    ("the first answer is older than our last", row(**ASKED | {"pacs_count_since": T0 - 1}), 4, PacsAnswer(10),
     Wait(T0 + 5)),
    ("quiet goes before a question", row(), 5, None, "quiet"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "series", "after", "given_answer", "answer"), PACS_CASES, ids=[c[0] for c in PACS_CASES]
)
def test_with_a_pacs(
    name: str, series: dict[str, Any], after: float, given_answer: PacsAnswer | None, answer: Any
) -> None:
    decision = decide(series, T0 + after, SETTINGS, given_answer)
    if isinstance(answer, str):
        assert isinstance(decision, Close) and decision.rule.startswith(answer), name
    else:
        assert decision == answer


# -- the driver ------------------------------------------------------------------------------------------
class House:
    """A ledger, a clock, and the closings seen."""

    def __init__(self, path: Path, settings: CompletionPolicy = NO_PACS, **options: Any) -> None:
        self.path, self.settings, self.options = path, settings, options
        self.closed: list[tuple[str, str]] = []
        self._uids = itertools.count(1)
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(self.path)
        self.ledger.db.conn.execute("PRAGMA synchronous=OFF")  # thousands of steps; the disk is not the subject
        self.completion = Completion(
            self.settings, self.ledger, on_closed=lambda kind, uid: self.closed.append((kind, uid)), **self.options
        )

    def arrive(self, at: float, series: str = "1.1", **changes: Any) -> None:
        uid = f"2.{next(self._uids)}"
        base: dict[str, Any] = {
            "sop_instance_uid": uid,
            "sop_class_uid": "1.2",
            "series_uid": series,
            "study_uid": "1.0",
            "transfer_syntax_uid": "1.2",
            "modality": "MR",
            "calling_ae": "MRI",
            "path": uid,
            "bytes": 1,
            "received_at": at,
        }
        self.ledger.instances.add([Received(**(base | changes))])

    def series(self, uid: str = "1.1") -> dict[str, Any]:
        found = self.ledger.series.get(uid)
        assert found is not None
        return found

    def closings(self, uid: str = "1.1") -> list[tuple[int, float, str]]:
        events = self.ledger.series.events(number_of(self.ledger, uid))
        return [(e["run"], e["at"], e["detail"]) for e in events if e["event"] == "closed"]


@pytest.fixture
def house(tmp_path: Path) -> Callable[..., House]:
    return lambda *args, **options: House(tmp_path / "ledger.sqlite", *args, **options)


def test_a_count_in_the_header_closes_at_once(house: Callable[..., House]) -> None:
    h = house()
    for n in range(3):
        h.arrive(T0 + n, expected=3, expected_rule=expected.ACQUISITION)
        h.completion.step(T0 + n)
    assert h.closings() == [(1, T0 + 2, f"header: {expected.ACQUISITION}")]
    assert h.closed == [("series", "1.1")] and h.series()["state"] == "queued"


def test_a_timer_survives_a_restart(house: Callable[..., House]) -> None:
    h = house()
    h.arrive(T0)
    assert h.completion.step(T0 + 1) == T0 + 5
    h.restart()
    assert h.ledger.series.next_due() == T0 + 5
    h.completion.step(T0 + 4.9)
    assert not h.closings()
    h.restart()
    h.completion.step(T0 + 5)
    assert h.closings() == [(1, T0 + 5, "quiet: nothing new for 5 s")]


def test_no_timer_is_written_between_two_images(house: Callable[..., House]) -> None:
    h = house()
    for n in range(20):
        h.arrive(T0 + n / 10)
        changes = h.ledger.db.conn.total_changes
        due = h.completion.step(T0 + n / 10 + 0.05)
        assert h.ledger.db.conn.total_changes == changes
        assert due is not None and T0 + n / 10 + 0.05 < due <= T0 + n / 10 + 0.5
    assert h.completion.step(T0 + 3) == h.ledger.series.next_due() == T0 + 1.9 + 5


def test_a_late_instance_opens_the_series_again_with_a_cap_of_its_own(house: Callable[..., House]) -> None:
    h = house()
    h.arrive(T0)
    h.completion.step(T0 + 5)
    late = T0 + 5000
    h.arrive(late)
    h.completion.step(late)
    assert h.series()["run"] == 2 and h.series()["state"] == "receiving"
    for n in range(1, 70):
        h.arrive(late + n)
        h.completion.step(late + n)
    runs = h.closings()
    assert runs[1] == (2, late + 60, "hard_cap: open for 60 s") and [r for r, _, _ in runs] == [1, 2]
    h.completion.step(late + 69 + 5)
    assert h.closings()[2] == (3, late + 74, "quiet: nothing new for 5 s")


def test_a_study_closes_after_its_last_series(house: Callable[..., House]) -> None:
    h = house()
    h.arrive(T0, series="1.1")
    h.arrive(T0 + 3, series="1.2")
    h.arrive(T0 + 3, series="1.3", opens_series=False)
    for n in range(40):
        h.completion.step(T0 + n)
    study = h.ledger.studies.get("1.0")
    settings = CompletionPolicy(study_quiet_s=300)
    assert settings.study_quiet_s == 300 and study is not None and study["state"] == "open"
    due = h.ledger.studies.next_due()
    assert due == T0 + 3 + NO_PACS.study_quiet_s
    h.completion.step(due)
    assert h.closed == [("series", "1.1"), ("series", "1.2"), ("study", "1.0")]
    h.arrive(due + 10, series="1.4")
    study = h.ledger.studies.get("1.0")
    assert study is not None and study["state"] == "open"


def test_a_study_with_an_open_series_stays_open(house: Callable[..., House]) -> None:
    h = house(CompletionPolicy(quiet_s=100, study_quiet_s=2, hard_cap_s=1000, ask_pacs=False))
    h.arrive(T0)
    for n in range(0, 99, 3):
        h.completion.step(T0 + n)
    assert h.closed == []
    h.completion.step(T0 + 100)
    h.completion.step(T0 + 102)
    assert h.closed == [("series", "1.1"), ("study", "1.0")]


class Pacs:
    """Answers with the counts of a script, then with the last of them."""

    def __init__(self, *counts: int | None) -> None:
        self.counts, self.asked = list(counts), 0

    def __call__(self, study_uid: str, series_uid: str) -> int | None:
        assert (study_uid, series_uid) == ("1.0", "1.1")
        self.asked += 1
        return self.counts[min(self.asked, len(self.counts)) - 1]


LONG_QUIET = CompletionPolicy(quiet_s=60, hard_cap_s=600)


def run(h: House, until: float, start: float = 0.0, every: float = 0.25) -> None:
    t = start
    while t <= until:
        h.completion.step(T0 + t)
        t += every


def test_the_pacs_closes_a_series_that_it_counts_twice(house: Callable[..., House]) -> None:
    pacs = Pacs(1)
    h = house(LONG_QUIET, ask_pacs=pacs)
    h.arrive(T0)
    run(h, 10)
    assert h.closings() == [(1, T0 + 3.5, "pacs: 1 instances, unchanged for 3 s")] and pacs.asked == 2


def test_a_pacs_that_still_receives_does_not_close_it(house: Callable[..., House]) -> None:
    pacs = Pacs(1, 2, 3, 3)
    h = house(LONG_QUIET, ask_pacs=pacs)
    h.arrive(T0)
    run(h, 2)
    h.arrive(T0 + 2)
    run(h, 5, 2)
    h.arrive(T0 + 5)
    run(h, 30, 5)
    ((_, at, rule),) = h.closings()
    assert rule.startswith("pacs: 3") and at >= T0 + 5 + 3


def test_an_answer_from_before_our_last_instance_does_not_count(house: Callable[..., House]) -> None:
    h = house(LONG_QUIET, ask_pacs=Pacs(2))  # the PACS is ahead of us
    h.arrive(T0)
    run(h, 20)
    assert not h.closings()
    h.arrive(T0 + 20)
    run(h, 22.75, 20)
    assert not h.closings(), "the two queries after the last instance are not three seconds apart yet"
    run(h, 27, 22.75)
    assert len(h.closings()) == 1


def test_a_silent_pacs_is_left_alone_and_the_quiet_time_closes(house: Callable[..., House]) -> None:
    pacs = Pacs(None)
    h = house(LONG_QUIET, ask_pacs=pacs)
    h.arrive(T0)
    run(h, 70)
    assert [rule for _, _, rule in h.closings()] == ["quiet: nothing new for 60 s"]
    assert 2 <= pacs.asked <= 3


def test_a_step_never_asks_to_be_called_again_at_once(house: Callable[..., House]) -> None:
    h = house(LONG_QUIET, ask_pacs=Pacs(None, None, 7))
    h.arrive(T0)
    t = T0
    for _ in range(200):
        due = h.completion.step(t)
        if due is None or h.closings():
            break
        assert due > t
        t = due
    assert len(h.closings()) == 1 and t == T0 + 60


# -- whatever happens ------------------------------------------------------------------------------------
arrivals = st.lists(
    st.tuples(
        st.floats(0, 12),  # pause before it
        st.sampled_from(["1.1", "1.2"]),
        st.sampled_from([None, None, 1, 2, 3, 8]),  # the header's count
        st.sampled_from([expected.ACQUISITION, expected.CARDIAC]),
        st.sampled_from(["MRI", "SLOW"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(pattern=arrivals, every=st.sampled_from([0.7, 2.5]), restarts=st.sets(st.integers(0, 60), max_size=3))
def test_each_run_is_closed_once_and_never_before_its_rule_holds(
    pattern: list[Any], every: float, restarts: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    h = House(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    seen: dict[str, list[tuple[float, int | None, str, str]]] = {"1.1": [], "1.2": []}
    events, t = [], T0
    for pause, series, count, rule, ae in pattern:
        t += pause
        events.append((t, series, count, rule, ae))
    end, now, tick = t + 40, T0, 0
    while now < end:
        while events and events[0][0] <= now:
            at, series, count, rule, ae = events.pop(0)
            h.arrive(at, series, expected=count, expected_rule=rule if count else None, calling_ae=ae)
            seen[series].append((at, count, rule, ae))
        h.completion.step(now)
        if tick in restarts:
            h.ledger.close()
            h.restart()
        now, tick = now + every, tick + 1

    for series, came in seen.items():
        if not came:
            continue
        closings = h.closings(series)
        assert h.series(series)["state"] == "queued", "everything is closed in the end"
        assert [r for r, _, _ in closings] == list(range(1, len(closings) + 1)), "each run exactly once"
        assert h.series(series)["run"] == len(closings)
        previous = T0 - 1
        for _, at, rule in closings:
            mine = [c for c in came if c[0] <= at]
            last, quiet = mine[-1][0], NO_PACS.quiet_of(came[0][3])
            first = next(c[0] for c in mine if c[0] > previous) if previous >= T0 else mine[0][0]
            if rule.startswith(ClosedBy.HEADER):
                counts = [(c, name) for _, c, name, _ in mine if c]
                assert counts[-1][0] == len(mine)
                assert at >= last + (1.0 if counts[-1][1] in expected.WEAK else 0.0)
            elif rule.startswith(ClosedBy.QUIET):
                assert at >= last + quiet
            else:
                assert at >= first + NO_PACS.hard_cap_s
            previous = at
    h.ledger.close()
