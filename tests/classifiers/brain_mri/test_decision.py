"""Probabilities under temperatures and priors, and how the prior is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.brain_mri.decision import (
    REJECT_REASONS,
    Decision,
    decision_of,
    posterior,
    reject_probability,
)
from qc_node.training import scores
from qc_node.training.brain_mri.training import decision_fit

LOGITS = np.array([[2.0, 0.0, -1.0], [0.1, 0.0, 0.2]])


def test_without_a_prior_it_is_a_softmax_at_the_temperature() -> None:
    decision = Decision(temperatures={"motion": 2.0})
    expected = scores.softmax(LOGITS, 2.0)
    assert np.allclose(posterior(LOGITS, decision, "motion"), expected)


def test_a_prior_follows_bayes_rule() -> None:
    decision = Decision(prior={"motion": (1.0, 0.5, 0.25)})
    p = scores.softmax(LOGITS) * np.array([1.0, 0.5, 0.25])
    assert np.allclose(posterior(LOGITS, decision, "motion"), p / p.sum(1, keepdims=True))
    # The undecided image is no longer "severe"; other questions are untouched.
    assert posterior(LOGITS, decision, "motion").argmax(1).tolist() == [0, 0]
    assert posterior(LOGITS, decision, "noise").argmax(1).tolist() == [0, 2]


def test_the_card_carries_the_prior() -> None:
    decision = decision_of({"prior": {"motion": [1, 0.5, 0.25]}, "reject_at": 0.4})
    assert decision.prior == {"motion": (1.0, 0.5, 0.25)}
    assert decision.reject_at == 0.4


def test_thick_slices_alone_do_not_reject() -> None:
    p = np.zeros((1, len(REJECT_REASONS)))
    p[0, REJECT_REASONS.index("thick_slices")] = 0.9
    p[0, 0] = 0.1
    assert reject_probability(p)[0] == pytest.approx(0.0)


def test_the_prior_that_is_fitted_undoes_an_even_one() -> None:
    """Planted: answers as if grades were even, on images of which nine in ten are good."""
    rng = np.random.default_rng(3)
    truth = rng.choice(3, 6000, p=[0.9, 0.06, 0.04])
    evidence = 1.2 * np.eye(3)[truth] + rng.normal(0, 1.0, (6000, 3))
    p = scores.softmax(evidence * 1.2)
    prior = decision_fit.fit_prior(p, truth)
    assert prior[0] == 1.0 and max(prior[1:]) < 1.0
    even = scores.weighted_kappa(truth, p.argmax(1), 3)
    assert scores.weighted_kappa(truth, (p * np.array(prior)).argmax(1), 3) > even + 0.05


def test_an_even_prior_stays_where_nothing_is_gained() -> None:
    truth = np.array([0, 1, 2] * 50)
    assert decision_fit.fit_prior(np.eye(3)[truth] * 0.98 + 0.01, truth) == [1.0, 1.0, 1.0]
