"""When series and studies close: once per run, never too early, and across restarts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.completion.asking import AskPacsFor, PacsQuestions
from qc_node.completion.closing import Completion
from qc_node.completion.decide import CompletionPolicy
from qc_node.domain import ClosedBy
from qc_node.ledger import Ledger, Received
from qc_node.ledger.rows import SeriesRow
from qc_node.series.headers import expected
from tests.completion.test_decide import NO_PACS, T0
from tests.ledger.makers import number_of
from tests.part_settings import completion_policy


# -- what acts ------------------------------------------------------------------------------------------
class Bench:
    """A ledger, a clock, and the closings seen."""

    def __init__(
        self, path: Path, settings: CompletionPolicy = NO_PACS, ask_pacs: AskPacsFor | None = None
    ) -> None:
        self.path, self.settings, self.ask_pacs = path, settings, ask_pacs
        self.closed: list[tuple[str, str]] = []
        self._uids = itertools.count(1)
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(self.path)
        self.ledger.db.conn.execute("PRAGMA synchronous=OFF")  # thousands of steps; the disk is not the subject
        ask = self.ask_pacs
        self.questions = PacsQuestions(self.ledger, ask, self.settings.pacs_rest_s) if ask else None
        self.completion = Completion(
            self.settings,
            self.ledger,
            questions=self.questions,
            on_closed=lambda kind, uid: self.closed.append((kind, uid)),
        )

    def step(self, now: float, steady: float | None = None) -> float | None:
        """One step, with the questions of that step answered at once; returns when the next timer runs out."""
        due = self.completion.step(now, steady)
        if self.questions is None:
            return due
        while (more := self.questions.step(now)) is not None and more <= now:
            pass
        return self.completion.step(now, steady)

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

    def series(self, uid: str = "1.1") -> SeriesRow:
        found = self.ledger.series.get(uid)
        assert found is not None
        return found

    def closings(self, uid: str = "1.1") -> list[tuple[int, float, str]]:
        events = self.ledger.series.events(number_of(self.ledger, uid))
        found = []
        for event in events:
            if event["event"] == "closed":
                assert event["detail"] is not None
                found.append((event["run"], event["at"], event["detail"]))
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *args, **options: Bench(tmp_path / "ledger.sqlite", *args, **options)


def test_a_count_in_the_header_closes_at_once(bench: Callable[..., Bench]) -> None:
    b = bench()
    for n in range(3):
        b.arrive(T0 + n, expected=3, expected_rule=expected.ACQUISITION)
        b.step(T0 + n)
    assert b.closings() == [(1, T0 + 2, f"header: {expected.ACQUISITION}")]
    assert b.closed == [("series", "1.1")] and b.series()["state"] == "queued"


def test_a_timer_survives_a_restart(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.arrive(T0)
    assert b.step(T0 + 1) == T0 + 5
    b.restart()
    assert b.ledger.series.next_due() == T0 + 5
    b.step(T0 + 4.9)
    assert not b.closings()
    b.restart()
    b.step(T0 + 5)
    assert b.closings() == [(1, T0 + 5, "quiet: nothing new for 5 s")]


def test_no_timer_is_written_between_two_images(bench: Callable[..., Bench]) -> None:
    b = bench()
    for n in range(20):
        b.arrive(T0 + n / 10)
        changes = b.ledger.db.conn.total_changes
        due = b.step(T0 + n / 10 + 0.05)
        assert b.ledger.db.conn.total_changes == changes
        assert due is not None and T0 + n / 10 + 0.05 < due <= T0 + n / 10 + 0.5
    assert b.step(T0 + 3) == b.ledger.series.next_due() == T0 + 1.9 + 5


def test_a_late_instance_opens_the_series_again_with_a_cap_of_its_own(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.arrive(T0)
    b.step(T0 + 5)
    late = T0 + 5000
    b.arrive(late)
    b.step(late)
    assert b.series()["run"] == 2 and b.series()["state"] == "receiving"
    for n in range(1, 70):
        b.arrive(late + n)
        b.step(late + n)
    runs = b.closings()
    assert runs[1] == (2, late + 60, "hard_cap: open for 60 s") and [r for r, _, _ in runs] == [1, 2]
    b.step(late + 69 + 5)
    assert b.closings()[2] == (3, late + 74, "quiet: nothing new for 5 s")


def test_a_study_closes_after_its_last_series(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.arrive(T0, series="1.1")
    b.arrive(T0 + 3, series="1.2")
    b.arrive(T0 + 3, series="1.3", opens_series=False)
    for n in range(40):
        b.step(T0 + n)
    study = b.ledger.studies.get("1.0")
    settings = completion_policy(study_quiet_s=300)
    assert settings.study_quiet_s == 300 and study is not None and study["state"] == "open"
    due = b.ledger.studies.next_due()
    assert due == T0 + 3 + NO_PACS.study_quiet_s
    b.step(due)
    assert b.closed == [("series", "1.1"), ("series", "1.2"), ("study", "1.0")]
    b.arrive(due + 10, series="1.4")
    study = b.ledger.studies.get("1.0")
    assert study is not None and study["state"] == "open"


def test_a_study_with_an_open_series_stays_open(bench: Callable[..., Bench]) -> None:
    b = bench(completion_policy(quiet_s=100, study_quiet_s=2, hard_cap_s=1000, ask_pacs=False))
    b.arrive(T0)
    for n in range(0, 99, 3):
        b.step(T0 + n)
    assert b.closed == []
    b.step(T0 + 100)
    b.step(T0 + 102)
    assert b.closed == [("series", "1.1"), ("study", "1.0")]


class Pacs:
    """Answers with the counts of a script, then with the last of them."""

    def __init__(self, *counts: int | None) -> None:
        self.counts, self.asked = list(counts), 0

    def __call__(self, study_uid: str, series_uid: str) -> int | None:
        assert (study_uid, series_uid) == ("1.0", "1.1")
        self.asked += 1
        return self.counts[min(self.asked, len(self.counts)) - 1]


LONG_QUIET = completion_policy(quiet_s=60, hard_cap_s=600)


def run(b: Bench, until: float, start: float = 0.0, every: float = 0.25) -> None:
    t = start
    while t <= until:
        b.step(T0 + t)
        t += every


def test_the_pacs_closes_a_series_that_it_counts_twice(bench: Callable[..., Bench]) -> None:
    pacs = Pacs(1)
    b = bench(LONG_QUIET, ask_pacs=pacs)
    b.arrive(T0)
    run(b, 10)
    assert b.closings() == [(1, T0 + 3.5, "pacs: 1 instances, unchanged for 3 s")] and pacs.asked == 2


def test_a_pacs_that_still_receives_does_not_close_it(bench: Callable[..., Bench]) -> None:
    pacs = Pacs(1, 2, 3, 3)
    b = bench(LONG_QUIET, ask_pacs=pacs)
    b.arrive(T0)
    run(b, 2)
    b.arrive(T0 + 2)
    run(b, 5, 2)
    b.arrive(T0 + 5)
    run(b, 30, 5)
    ((_, at, rule),) = b.closings()
    assert rule.startswith("pacs: 3") and at >= T0 + 5 + 3


def test_an_answer_from_before_our_last_instance_does_not_count(bench: Callable[..., Bench]) -> None:
    b = bench(LONG_QUIET, ask_pacs=Pacs(2))  # the PACS is ahead of us
    b.arrive(T0)
    run(b, 20)
    assert not b.closings()
    b.arrive(T0 + 20)
    run(b, 22.75, 20)
    assert not b.closings(), "the two queries after the last instance are not three seconds apart yet"
    run(b, 27, 22.75)
    assert len(b.closings()) == 1


def test_a_silent_pacs_is_left_alone_and_the_quiet_time_closes(bench: Callable[..., Bench]) -> None:
    pacs = Pacs(None)
    b = bench(LONG_QUIET, ask_pacs=pacs)
    b.arrive(T0)
    run(b, 70)
    assert [rule for _, _, rule in b.closings()] == ["quiet: nothing new for 60 s"]
    assert 2 <= pacs.asked <= 3


def test_a_step_never_asks_to_be_called_again_at_once(bench: Callable[..., Bench]) -> None:
    b = bench(LONG_QUIET, ask_pacs=Pacs(None, None, 7))
    b.arrive(T0)
    t = T0
    for _ in range(200):
        due = b.step(t)
        if due is None or b.closings():
            break
        assert due > t
        t = due
    assert len(b.closings()) == 1 and t == T0 + 60


def test_a_series_closes_while_a_question_about_it_has_no_answer(bench: Callable[..., Bench]) -> None:
    """Nobody takes the questions: a PACS that streams for ever, or a thread that hangs."""
    b = bench(completion_policy(quiet_s=5, hard_cap_s=600), ask_pacs=Pacs(None))
    b.arrive(T0)
    for n in range(21):
        b.completion.step(T0 + n / 4)
    assert b.closings() == [(1, T0 + 5, "quiet: nothing new for 5 s")]


def test_the_cap_acts_while_a_question_has_no_answer(bench: Callable[..., Bench]) -> None:
    b = bench(completion_policy(quiet_s=5, hard_cap_s=12), ask_pacs=Pacs(None))
    for n in range(49):
        if n % 12 == 0:
            b.arrive(T0 + n / 4)
        b.completion.step(T0 + n / 4)
    assert b.closings() == [(1, T0 + 12, "hard_cap: open for 12 s")]


def test_a_series_stands_in_the_line_of_questions_once(bench: Callable[..., Bench]) -> None:
    pacs = Pacs(3)
    b = bench(LONG_QUIET, ask_pacs=pacs)
    b.arrive(T0)
    for n in range(8):
        b.completion.step(T0 + 0.5 + n / 8)
    assert b.questions is not None and b.questions.step(T0 + 1.5) is None and pacs.asked == 1
    assert b.series()["pacs_count"] == 3 and b.series()["pacs_asked_at"] == T0 + 1.5


def test_a_series_that_closed_meanwhile_is_not_asked_about(bench: Callable[..., Bench]) -> None:
    pacs = Pacs(1)
    b = bench(completion_policy(quiet_s=5), ask_pacs=pacs)
    b.arrive(T0)
    b.completion.step(T0 + 1)
    b.completion.step(T0 + 5)
    assert b.questions is not None and b.questions.step(T0 + 5) is None
    assert pacs.asked == 0 and len(b.closings()) == 1


def test_other_quiet_times_hold_at_once_for_what_is_open(bench: Callable[..., Bench]) -> None:
    b = bench(completion_policy(quiet_s=60, ask_pacs=False))
    b.arrive(T0)
    b.step(T0 + 1)
    assert b.ledger.series.next_due() == T0 + 60
    b.completion.apply(completion_policy(quiet_s=5, ask_pacs=False))
    assert b.step(T0 + 2) == T0 + 5
    b.step(T0 + 5)
    assert b.closings() == [(1, T0 + 5, "quiet: nothing new for 5 s")]


# -- a clock that is set -----------------------------------------------------------------------------
JUMPS = [-7200.0, -300.0, -20.0, -2.0, 2.0, 20.0, 300.0, 7200.0, 365 * 86400.0]


def play(
    b: Bench, images: dict[float, str], jump_at: float, jump_s: float, until: float
) -> dict[str, list[float]]:
    """Images arrive while the wall clock is set once; when each series closed, by a clock that nobody sets."""
    closed: dict[str, list[float]] = {}
    seen = 0
    for tick in range(int(until * 4)):
        steady = tick / 4
        wall = T0 + steady + (jump_s if steady >= jump_at else 0.0)
        if steady in images:
            b.arrive(wall, images[steady])
        b.step(wall, steady)
        for kind, uid in b.closed[seen:]:
            if kind == "series":
                closed.setdefault(uid, []).append(steady)
        seen = len(b.closed)
    return closed


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_clock_that_is_set_holds_no_quiet_series_and_closes_none_early(
    bench: Callable[..., Bench], jump_s: float
) -> None:
    closed = play(bench(), {0.0: "1.1"}, jump_at=3.0, jump_s=jump_s, until=20)
    assert closed == {"1.1": [pytest.approx(5.0, abs=1.25)]}


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_series_that_arrives_while_the_clock_is_set_is_closed_once(
    bench: Callable[..., Bench], jump_s: float
) -> None:
    images = dict.fromkeys([n * 0.75 for n in range(20)], "1.1")
    closed = play(bench(), images, jump_at=6.0, jump_s=jump_s, until=40)
    assert closed == {"1.1": [pytest.approx(14.25 + 5.0, abs=1.25)]}
    assert len(bench().closings()) == 1, "it was never re-opened by its own images"


@pytest.mark.parametrize("jump_s", JUMPS)
def test_the_cap_is_not_moved_by_a_clock_that_is_set(bench: Callable[..., Bench], jump_s: float) -> None:
    images = dict.fromkeys([float(n) for n in range(65)], "1.1")
    closed = play(bench(), images, jump_at=30.0, jump_s=jump_s, until=64)
    assert closed == {"1.1": [pytest.approx(60.0, abs=1.25)]}


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_study_closes_although_the_clock_is_set(bench: Callable[..., Bench], jump_s: float) -> None:
    b = bench(completion_policy(quiet_s=5, study_quiet_s=20, ask_pacs=False))
    play(b, {0.0: "1.1"}, jump_at=8.0, jump_s=jump_s, until=24)
    assert b.closed == [("series", "1.1"), ("study", "1.0")]
    row = b.ledger.studies.get("1.0")
    assert row is not None and row["closed_at"] is not None
    assert row["closed_at"] == pytest.approx(T0 + jump_s + 20, abs=1.25)


def test_a_row_of_a_wrong_clock_is_closed_by_the_next_process(bench: Callable[..., Bench]) -> None:
    """The clock was a year ahead before the restart: nothing in memory tells how old the row is."""
    b = bench()
    b.arrive(T0 + 365 * 86400)
    b.step(T0 + 365 * 86400 + 1)
    b.restart()
    b.step(T0)
    assert b.closings() == [], "it might still be arriving"
    b.step(T0 + 1)
    changes = b.ledger.db.conn.total_changes
    b.step(T0 + 4)
    assert b.ledger.db.conn.total_changes == changes, "its timer is written once"
    b.step(T0 + 5)
    assert [rule for _, _, rule in b.closings()] == ["quiet: nothing new for 5 s"]


def test_a_timer_beyond_every_wait_is_due_at_once(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.arrive(T0)
    number = number_of(b.ledger, "1.1")
    b.ledger.series.set_due(number, T0, T0 + 7200)
    b.ledger.studies.set_due("1.0", T0, T0 + 7200)
    longest_s = NO_PACS.longest_s
    assert longest_s == 300.0, "quiet 5 s, 30 s for one sender, cap 60 s, study 300 s"
    assert [r["series_uid"] for r in b.ledger.series.due(T0 + 1, longest_s)] == ["1.1"]
    assert [r["study_uid"] for r in b.ledger.studies.due(T0 + 1, longest_s)] == ["1.0"]
    b.step(T0 + 5)
    assert len(b.closings()) == 1


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
    b = Bench(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    seen: dict[str, list[tuple[float, int | None, str, str]]] = {"1.1": [], "1.2": []}
    events, t = [], T0
    for pause, series, count, rule, ae in pattern:
        t += pause
        events.append((t, series, count, rule, ae))
    end, now, tick = t + 40, T0, 0
    while now < end:
        while events and events[0][0] <= now:
            at, series, count, rule, ae = events.pop(0)
            b.arrive(at, series, expected=count, expected_rule=rule if count else None, calling_ae=ae)
            seen[series].append((at, count, rule, ae))
        b.step(now)
        if tick in restarts:
            b.ledger.close()
            b.restart()
        now, tick = now + every, tick + 1

    for series, came in seen.items():
        if not came:
            continue
        closings = b.closings(series)
        assert b.series(series)["state"] == "queued", "everything is closed in the end"
        assert [r for r, _, _ in closings] == list(range(1, len(closings) + 1)), "each run exactly once"
        assert b.series(series)["run"] == len(closings)
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
    b.ledger.close()
