"""Soft labels from votes."""

from __future__ import annotations

import pytest

from qc_node.training.raters.labels import soft_labels


def test_soft_labels_follow_the_votes_and_know_their_severity() -> None:
    ratings = [(f"study-{n}", rater, level) for n in range(30) for rater, level in (("a", n % 3), ("b", n % 3))]
    labels = soft_labels([*ratings, ("alone", "a", 2)])
    assert set(labels) == {*(f"study-{n}" for n in range(30)), "alone"}
    for n in range(30):
        assert sum(labels[f"study-{n}"]) == pytest.approx(1.0)
        assert labels[f"study-{n}"][n % 3] > 0.9
    assert max(labels["alone"]) == labels["alone"][2]


def test_no_votes_have_no_labels() -> None:
    assert soft_labels([]) == {}
