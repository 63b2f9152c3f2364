"""What people read about measures."""

from __future__ import annotations

import doctest

import pytest

from qc_node.domain import measure_words
from qc_node.domain.measure import Baseline, Departure, Unit, Unusual
from qc_node.domain.measure_words import departure_sentence, number, unit_words, unusual_sentence
from qc_node.measures.catalogue import MEASURES

NORMAL = Baseline(centre=20.0, spread=2.0, series=60)


def test_its_examples_are_true() -> None:
    ran = doctest.testmod(measure_words)
    assert ran.attempted >= 10 and ran.failed == 0


def test_an_amount_that_fell_far_is_not_told_as_less_than_nothing() -> None:
    normal = Baseline(20.0, 8.0, 60, logarithmic=True)
    said = unusual_sentence(Unusual("snr", 6.0, -3.0, normal, "drift", 12), "signal to noise", "MR2")
    assert said == "Signal to noise has drifted: 70 % below normal for the last 12 series of MR2."
    assert Baseline(**normal.as_dict()) == normal and Baseline(**Baseline(1, 2, 3).as_dict()) == Baseline(1, 2, 3)


def test_a_drift_around_nothing_is_told_in_spreads() -> None:
    drift = Unusual("ghost", 0.3, 2.5, Baseline(0.0, 0.1, 60), "drift", 12)
    assert unusual_sentence(drift, "ghosts") == (
        "Ghosts have drifted: 2.5 times the usual spread above normal for the last 12 series."
    )


def test_verbs_go_with_the_titles_of_all_measures() -> None:
    said = {name: unusual_sentence(Unusual(name, 1.0, 9.0, NORMAL), one.title) for name, one in MEASURES.items()}
    assert said["noise_air_percent"].startswith("Noise in air is ")
    for name in ("ghost_along_rows", "line_level", "missing_slices", "metal_streaks", "grid_lines"):
        assert " are 9.0 times" in said[name], name
    for name in ("slice_count", "snr_object", "clipped_share", "edge_width_mm", "kvp", "white_clipped"):
        assert " is 9.0 times" in said[name], name


@pytest.mark.parametrize("z, word", [(3.3, "above"), (-3.3, "below")])
def test_the_side_is_said(z: float, word: str) -> None:
    one = Unusual("noise_air", 5.0, z, NORMAL)
    assert word in unusual_sentence(one, "noise in air")


@pytest.mark.parametrize("secret", ["DOE^JANE", "Head 32 of Dr. Roe", "B30f", "256 of Doe", "95\nDOE"])
def test_words_of_a_header_are_not_quoted_unless_asked_for(secret: str) -> None:
    said = [
        departure_sentence(Departure("coil", values[0], values[1], 0.9))
        for values in ((secret, "1"), ("1", secret))
    ]
    assert not any("DOE" in one or "Doe" in one or "Roe" in one or "B30f" in one for one in said)


def test_a_value_that_is_missing_now_is_said() -> None:
    said = departure_sentence(Departure("inversion_time", "", "900", 1.0), quote=True)
    assert said == "The inversion time is not stated; this protocol usually has 900 ms."


def test_a_parameter_of_a_newer_version_is_said_by_its_name() -> None:
    assert departure_sentence(Departure("voxel_volume", "2", "1", 1.0)).startswith("Voxel volume is 2;")


@pytest.mark.parametrize("unit", Unit)
def test_units_are_words_without_ucum_brackets(unit: Unit) -> None:
    assert not set("[]{}") & set(unit_words(unit))


@pytest.mark.parametrize("value", [0.0, -0.00012, 99.99, 1e6, -3.5])
def test_a_number_is_read_back_to_three_digits(value: float) -> None:
    assert float(number(value)) == pytest.approx(value, rel=6e-3)
