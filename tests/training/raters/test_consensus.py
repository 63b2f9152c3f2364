"""Rater tools: on made-up raters with known habits, and on the real ABIDE votes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from qc_node.training.raters import consensus


def test_consensus_follows_the_paper() -> None:
    votes = [[0, 2], [1, 1], [consensus.MISSING, 1], [consensus.MISSING, consensus.MISSING]]
    assert consensus.consensus_grade(votes).tolist() == [2, 1, 1, consensus.MISSING]
    label, review = consensus.consensus_reject([[0, 1], [1, 1], [consensus.MISSING, 0]])
    assert label.tolist() == [consensus.MISSING, 1, 0]
    assert review.tolist() == [True, False, False]


def test_dawid_skene_recovers_strict_and_lenient_raters() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 800, p=[0.5, 0.3, 0.2])
    habits = np.array(
        [
            [[0.9, 0.08, 0.02], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9]],
            [[0.6, 0.35, 0.05], [0.05, 0.6, 0.35], [0.01, 0.04, 0.95]],
            [[0.97, 0.02, 0.01], [0.5, 0.45, 0.05], [0.2, 0.4, 0.4]],
        ]
    )
    votes = np.array([[rng.choice(3, p=habits[r, t]) for r in range(3)] for t in truth])
    votes[rng.random(votes.shape) < 0.2] = consensus.MISSING
    votes = votes[(votes != consensus.MISSING).any(1)]
    result = consensus.dawid_skene(votes, 3)
    assert result.severity[1] > 0.1 > -0.1 > result.severity[2]
    assert np.abs(result.confusion[0] - habits[0]).max() < 0.15
    assert result.labels.sum(1) == pytest.approx(1)


def test_dawid_skene_beats_the_highest_grade_with_unequal_raters() -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(2, 600, p=[0.75, 0.25])
    habits = np.array([[[0.95, 0.05], [0.1, 0.9]], [[0.6, 0.4], [0.05, 0.95]], [[0.9, 0.1], [0.2, 0.8]]])
    votes = np.array([[rng.choice(2, p=habits[r, t]) for r in range(3)] for t in truth])
    soft = consensus.dawid_skene(votes, 2).labels.argmax(1)
    assert (soft == truth).mean() > (consensus.consensus_grade(votes) == truth).mean() + 0.1


@pytest.mark.data
def test_agreement_of_the_abide_raters(shared_data: Path) -> None:
    votes = _abide(shared_data)
    rows = {tuple(r["raters"]): r for r in consensus.agreement(votes, ["1", "2", "3"], 3)}
    expected = {
        ("1", "2"): (99, 0.39, 0.57, 0.53),
        ("1", "3"): (600, 0.17, 0.31, 0.44),
        ("2", "3"): (600, 0.29, 0.41, 0.47),
    }
    for pair, (n, plain, quadratic, worst) in expected.items():
        row = rows[pair]
        assert row["n"] == n
        assert row["kappa"] == pytest.approx(plain, abs=0.006)
        assert row["quadratic"] == pytest.approx(quadratic, abs=0.006)
        assert row["worst_vs_rest"] == pytest.approx(worst, abs=0.006)


@pytest.mark.data
def test_severity_of_the_abide_raters(shared_data: Path) -> None:
    votes = _abide(shared_data)
    result = consensus.dawid_skene(votes, 3)
    assert result.severity[0] > 0.2 > -0.2 > result.severity[2]
    assert result.confusion[2, 2, 0] == pytest.approx(0.34, abs=0.02)  # calls a third of "exclude" acceptable
    assert result.confusion[0, 0, 0] == pytest.approx(0.53, abs=0.02)  # downgrades half of "accept"
    assert (consensus.consensus_grade(votes) == 2).mean() == pytest.approx(0.327, abs=0.001)
    assert result.labels[:, 2].mean() == pytest.approx(0.220, abs=0.005)


def _abide(shared: Path) -> np.ndarray:
    levels = {"1": 0, "0": 1, "-1": 2}
    with (shared / "votes" / "abide.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return np.array(
        [[levels.get(r[f"rater_{k}"].removesuffix(".0"), consensus.MISSING) for k in (1, 2, 3)] for r in rows]
    )
