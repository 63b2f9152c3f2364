"""Moments stay as long ago as they are, whatever is done to the wall clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qc_node.domain import SteadyTimes
from qc_node.domain.steady import AHEAD_S, JUMP_S

times = st.floats(0, 1e6, allow_nan=False)


@given(age=times, first_age=times, jump=st.floats(-1e6, 1e6, allow_nan=False))
def test_a_moment_ages_by_the_steady_clock(age: float, first_age: float, jump: float) -> None:
    steady = SteadyTimes()
    steady.of("x", 1e9, now=1e9 + first_age, steady=0.0)
    now = 1e9 + first_age + age + jump
    assert abs((now - steady.of("x", 1e9, now, steady=age)) - (first_age + age)) <= JUMP_S + 1e-3


@given(ahead=st.floats(AHEAD_S + 1, 1e9))
def test_a_moment_of_the_future_is_now(ahead: float) -> None:
    assert SteadyTimes().of("x", 1e9 + ahead, now=1e9, steady=7.0) == 1e9


def test_another_moment_of_the_same_name_begins_anew() -> None:
    steady = SteadyTimes()
    steady.of("x", 100.0, now=100.0, steady=0.0)
    assert steady.of("x", 160.0, now=160.0, steady=60.0) == 160.0
    steady.keep(())
    assert steady.of("x", 100.0, now=100.0, steady=90.0) == 100.0
