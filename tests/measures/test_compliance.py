"""Parameters that were set otherwise than usual are named, and those that vary by themselves are not."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.domain.measure_words import departure_sentence
from qc_node.domain.technique import PARAMETERS
from qc_node.measures.compliance import ENOUGH_STATED, departures

USUAL: dict[str, float | str] = {
    "repetition_time": 5000.0,
    "echo_time": 30.0,
    "matrix": "256x256",
    "coil": "HeadNeck_20",
    "averages": 1.0,
}


def earlier(count: int = 40, **changed: float | str) -> list[dict[str, float | str]]:
    return [{**USUAL, **changed} for _ in range(count)]


def test_an_echo_time_set_by_hand_is_named_with_the_series_that_tell_so() -> None:
    history = [*earlier(2, echo_time=90.0), *earlier(38)]
    (found,) = departures({**USUAL, "echo_time": 95.0}, history)
    assert departure_sentence(found) == "The echo time is 95 ms; this protocol usually has 30 ms."
    assert (found.share, found.series) == (0.95, 40)


def test_what_is_as_usual_is_not_named() -> None:
    assert departures(USUAL, earlier()) == ()


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("echo_time", 30.5, False),  # within 2 %
        ("echo_time", 31.0, True),
        ("matrix", "256x192", True),
        ("coil", "HEADNECK_20", False),
        ("coil", "Body", True),
        ("averages", 2.0, True),
    ],
)
def test_a_difference_counts_beyond_the_tolerance(name: str, value: float | str, named: bool) -> None:
    assert bool(departures({**USUAL, name: value}, earlier())) is named


def test_too_few_series_say_nothing() -> None:
    assert departures({**USUAL, "echo_time": 95.0}, earlier(ENOUGH_STATED - 1)) == ()
    assert departures({**USUAL, "echo_time": 95.0}, earlier(ENOUGH_STATED)) != ()


def test_what_follows_the_patient_never_calls() -> None:
    rng = np.random.default_rng(3)
    history = [
        {"mas": float(rng.lognormal(4, 0.4)), "repetition_time": float(rng.normal(900, 120))} for _ in range(300)
    ]
    calls = [departures(history[n], history[max(0, n - 100) : n]) for n in range(30, 300)]
    assert not any(calls)


def test_a_repetition_time_that_is_stretched_for_some_patients_never_calls() -> None:
    rng = np.random.default_rng(3)
    history = [{"repetition_time": 5000.0 if rng.random() < 0.85 else rng.uniform(5200, 7000)} for _ in range(300)]
    calls = [departures(history[n], history[max(0, n - 100) : n]) for n in range(30, 300)]
    assert sum(map(bool, calls)) <= 5


def test_a_second_habit_is_no_departure() -> None:
    history = [*earlier(35), *earlier(5, echo_time=60.0)]
    assert departures({**USUAL, "echo_time": 60.0}, history) == ()
    assert departures({**USUAL, "echo_time": 95.0}, history) != ()


def test_a_fixed_exposure_that_is_trebled_calls() -> None:
    history = [{"mas": 100.0 + n % 5} for n in range(50)]
    assert [one.parameter for one in departures({"mas": 320.0}, history)] == ["mas"]


def test_two_habits_are_none() -> None:
    history = [*earlier(20), *earlier(20, echo_time=60.0)]
    assert departures({**USUAL, "echo_time": 95.0}, history) == ()


def test_a_contrast_agent_counts_as_given_or_not_whatever_its_name() -> None:
    agents = [{**USUAL, "contrast": f"agent {n} {n} ml"} for n in range(40)]
    assert departures({**USUAL, "contrast": "another"}, agents) == ()
    assert departures({}, agents) == ()
    (without,) = departures(USUAL, agents)
    assert (without.parameter, without.value, without.usual) == ("contrast", "none", "given")
    assert departures({**USUAL, "contrast": "another"}, earlier())[0].usual == "none"


def test_words_of_a_header_are_quoted_only_where_asked() -> None:
    (found,) = departures({**USUAL, "coil": "Body"}, earlier())
    assert "Body" not in departure_sentence(found)
    assert "Body" in departure_sentence(found, quote=True)


def test_what_a_header_leaves_out_or_has_as_nonsense_says_nothing() -> None:
    assert departures({}, earlier()) == ()
    assert departures({**USUAL, "echo_time": float("nan"), "coil": "  "}, earlier()) == ()


def test_a_protocol_changed_on_purpose_becomes_usual() -> None:
    history = [*earlier(100), *earlier(95, echo_time=60.0)]
    assert departures({**USUAL, "echo_time": 60.0}, history) == ()
    assert departures(USUAL, history) != ()


def test_departures_stand_in_the_order_of_the_parameters() -> None:
    found = [one.parameter for one in departures({**USUAL, "coil": "Body", "echo_time": 95.0}, earlier())]
    assert found == [name for name in PARAMETERS if name in ("echo_time", "coil")]
