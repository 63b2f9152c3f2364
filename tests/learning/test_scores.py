"""Scores against hand calculations, scikit-learn's definitions and planted effects."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.learning import scores


def test_binary_scores_of_a_small_table():
    truth = [1] * 8 + [0] * 12
    said = [1] * 6 + [0] * 2 + [1] * 3 + [0] * 9
    s = scores.binary_scores(truth, said)
    assert (s.n, s.positives) == (20, 8)
    assert s.sensitivity == pytest.approx(6 / 8)
    assert s.specificity == pytest.approx(9 / 12)
    assert s.ppv == pytest.approx(6 / 9)
    assert s.npv == pytest.approx(9 / 11)
    assert s.balanced_accuracy == pytest.approx(0.75)
    assert s.label_auc == s.balanced_accuracy
    assert s.mcc == pytest.approx((6 * 9 - 3 * 2) / np.sqrt(9 * 8 * 12 * 11))


def test_scores_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    score = truth + rng.normal(0, 1.2, 200)
    said = (score > 0.4).astype(int)
    s = scores.binary_scores(truth, said, score)
    assert s.score_auc == pytest.approx(metrics.roc_auc_score(truth, score))
    assert s.f1 == pytest.approx(metrics.f1_score(truth, said, average="weighted"))
    assert s.mcc == pytest.approx(metrics.matthews_corrcoef(truth, said))
    grades, other = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    for weights in (None, "linear", "quadratic"):
        expected = metrics.cohen_kappa_score(grades, other, weights=weights)
        assert scores.weighted_kappa(grades, other, 3, weights) == pytest.approx(expected)
    assert scores.balanced_accuracy(grades, other, 3) == pytest.approx(
        metrics.balanced_accuracy_score(grades, other)
    )


def test_an_empty_class_is_nan_and_not_a_number_out_of_thin_air():
    s = scores.binary_scores([0, 0], [0, 1])
    assert np.isnan(s.sensitivity) and np.isnan(s.balanced_accuracy)
    assert np.isnan(scores.auc([1, 1], [0.2, 0.3]))


def test_auc_counts_ties_as_half():
    assert scores.auc([0, 1], [0.5, 0.5]) == 0.5
    fpr, tpr, _ = scores.roc_curve([0, 1, 1, 0], [0.1, 0.9, 0.4, 0.4])
    assert np.trapezoid(tpr, fpr) == pytest.approx(scores.auc([0, 1, 1, 0], [0.1, 0.9, 0.4, 0.4]))


def test_bootstrap_resamples_people_and_not_images():
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(6), 50)
    right = np.repeat([1, 1, 1, 0, 1, 0], 50)  # everything about a person is the same
    low, high = scores.bootstrap_ci(lambda x: float(x.mean()), people, [right], rng, 500)
    by_image = scores.bootstrap_ci(lambda x: float(x.mean()), np.arange(300), [right], rng, 500)
    assert high - low > 3 * (by_image[1] - by_image[0])
    assert all(np.isnan(scores.bootstrap_ci(lambda x: float(x.mean()), [1, 1], [[1, 0]], rng)))


def test_mcnemar_looks_at_disagreements_only():
    a = np.array([1] * 10 + [0] * 0 + [1] * 100, bool)
    b = np.array([0] * 10 + [1] * 100, bool)
    assert scores.mcnemar(a, b) == pytest.approx(2 * 0.5**10)
    assert scores.mcnemar(a, a) == 1.0


def test_mann_whitney_finds_a_planted_effect_and_no_other():
    rng = np.random.default_rng(2)
    field = np.array(["1.5 T", "3 T"] * 100)
    sex = rng.choice(["F", "M"], 200)
    values = rng.normal(0, 1, 200) + (field == "3 T")
    rows = {r["factor"]: r for r in scores.mann_whitney_bonferroni(values, {"field": field, "sex": sex})}
    assert rows["field"]["p_corrected"] < 0.001
    assert rows["sex"]["p_corrected"] > 0.05
    assert rows["field"]["p_corrected"] == pytest.approx(2 * rows["field"]["p"])


def test_temperature_undoes_a_planted_overconfidence():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (4000, 3))
    truth = np.array([rng.choice(3, p=p) for p in scores.softmax(logits)])
    assert scores.fit_temperature(3 * logits, truth) == pytest.approx(3, rel=0.1)
    before = scores.expected_calibration_error(scores.softmax(3 * logits), truth)
    after = scores.expected_calibration_error(scores.softmax(3 * logits, 3.0), truth)
    assert after < 0.03 < before


def test_ppv_falls_with_the_prior():
    assert scores.ppv_at_prior(0.9, 0.95, 0.5) == pytest.approx(0.9 / (0.9 + 0.05))
    assert scores.ppv_at_prior(0.9, 0.95, 0.002) < 0.04
