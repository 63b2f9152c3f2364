"""Scores against hand calculations, scikit-learn's definitions and planted effects."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.training import scores


def test_binary_scores_of_a_small_table() -> None:
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


def test_scores_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    score = truth + rng.normal(0, 1.2, 200)
    said = (score > 0.4).astype(int)
    s = scores.binary_scores(truth, said, score)
    assert s.score_auc == pytest.approx(metrics.roc_auc_score(truth, score))
    assert s.f1 == pytest.approx(metrics.f1_score(truth, said, average="weighted"))
    assert s.mcc == pytest.approx(metrics.matthews_corrcoef(truth, said))
    assert scores.balanced_accuracy_of_both(truth, said) == pytest.approx(s.balanced_accuracy)
    assert s.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    grades, other = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    for weights in (None, "linear", "quadratic"):
        expected = metrics.cohen_kappa_score(grades, other, weights=weights)
        assert scores.weighted_kappa(grades, other, 3, weights) == pytest.approx(expected)
    assert scores.balanced_accuracy(grades, other) == pytest.approx(metrics.balanced_accuracy_score(grades, other))


def test_an_empty_class_is_nan_and_not_a_number_out_of_thin_air() -> None:
    s = scores.binary_scores([0, 0], [0, 1])
    assert np.isnan(s.sensitivity) and np.isnan(s.balanced_accuracy)
    assert np.isnan(s.mcc) and s.npv == 1 and s.f1_positive == 0
    assert np.isnan(scores.auc([1, 1], [0.2, 0.3]))
    assert np.isnan(scores.balanced_accuracy_of_both([1, 1], [1, 0]))
    nobody = scores.binary_scores([], [], [])
    assert nobody.n == 0 and np.isnan(nobody.sensitivity) and np.isnan(nobody.score_auc)
    assert np.isnan(scores.balanced_accuracy([], [])) and np.isnan(scores.macro_f1([], []))
    assert scores.confusion([], [], 2).tolist() == [[0, 0], [0, 0]]


def test_auc_counts_ties_as_half() -> None:
    assert scores.auc([0, 1], [0.5, 0.5]) == 0.5
    fpr, tpr, _ = scores.roc_curve([0, 1, 1, 0], [0.1, 0.9, 0.4, 0.4])
    assert np.trapezoid(tpr, fpr) == pytest.approx(scores.auc([0, 1, 1, 0], [0.1, 0.9, 0.4, 0.4]))


def test_bootstrap_resamples_people_and_not_images() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(6), 50)
    right = np.repeat([1, 1, 1, 0, 1, 0], 50)  # everything about a person is the same
    low, high = scores.bootstrap_ci(lambda x: float(x.mean()), people, [right], rng, 500)
    by_image = scores.bootstrap_ci(lambda x: float(x.mean()), np.arange(300), [right], rng, 500)
    assert high - low > 3 * (by_image[1] - by_image[0])
    assert all(np.isnan(scores.bootstrap_ci(lambda x: float(x.mean()), [1, 1], [[1, 0]], rng)))


def test_mcnemar_looks_at_disagreements_only() -> None:
    a = np.array([1] * 10 + [0] * 0 + [1] * 100, bool)
    b = np.array([0] * 10 + [1] * 100, bool)
    assert scores.mcnemar(a, b) == pytest.approx(2 * 0.5**10)
    assert scores.mcnemar(a, a) == 1.0


def test_mann_whitney_finds_a_planted_effect_and_no_other() -> None:
    rng = np.random.default_rng(2)
    field = np.array(["1.5 T", "3 T"] * 100)
    sex = rng.choice(["F", "M"], 200)
    values = rng.normal(0, 1, 200) + (field == "3 T")
    rows = {r["factor"]: r for r in scores.mann_whitney_bonferroni(values, {"field": field, "sex": sex})}
    assert rows["field"]["p_corrected"] < 0.001
    assert rows["sex"]["p_corrected"] > 0.05
    assert rows["field"]["p_corrected"] == pytest.approx(2 * rows["field"]["p"])


FACTORS = {
    "scanner": ["A", "B", "C"],
    "field": ["1.5 T", "3 T"],
    "sex": ["F", "M"],
    "age": ["18-40", "41-65", "66-"],
}


def _planted(rng: np.random.Generator, runs: int, harmed: str | None) -> tuple[dict[str, float], float]:
    """Share of `runs` in which each factor is found, and in which any is found without correction.

    120 images are judged right with probability 0.85, and 0.45 at the first level of the `harmed` factor.
    """
    found, uncorrected = dict.fromkeys(FACTORS, 0), 0
    for _ in range(runs):
        levels = {name: rng.choice(several, 120) for name, several in FACTORS.items()}
        chance = np.full(120, 0.85)
        if harmed is not None:
            chance[levels[harmed] == FACTORS[harmed][0]] = 0.45
        rows = scores.mann_whitney_bonferroni(rng.random(120) < chance, levels)
        assert len(rows) == 8  # 3 + 1 + 1 + 3 pairs of levels
        for name in {r["factor"] for r in rows if r["p_corrected"] < 0.05}:
            found[name] += 1
        uncorrected += any(r["p"] < 0.05 for r in rows)
    return {name: n / runs for name, n in found.items()}, uncorrected / runs


@pytest.mark.slow
def test_mann_whitney_keeps_its_error_rate_where_nothing_is_planted() -> None:
    runs = 150
    found, uncorrected = _planted(np.random.default_rng(5), runs, None)
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert sum(found.values()) <= most, "the chance of any false find in a table is to stay at 5 %"
    assert uncorrected > 2 * most, "without correction a quarter of all tables would show something"


@pytest.mark.parametrize("harmed", ["scanner", "field", "sex", "age"])
def test_mann_whitney_finds_the_planted_factor_and_leaves_the_others_alone(harmed: str) -> None:
    found, _ = _planted(np.random.default_rng(6), 25, harmed)
    assert found.pop(harmed) >= 0.8
    assert sum(found.values()) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 25)


def test_mann_whitney_leaves_out_what_is_unknown_or_rare() -> None:
    values = np.r_[np.zeros(20), np.ones(20), np.ones(3), np.zeros(7)]
    sex = ["F"] * 20 + ["M"] * 20 + ["O"] * 3 + [None] * 7
    (row,) = scores.mann_whitney_bonferroni(values, {"sex": sex})
    assert (row["levels"], row["n"], row["means"]) == (["F", "M"], [20, 20], [0.0, 1.0])


def test_temperature_undoes_a_planted_overconfidence() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (4000, 3))
    truth = np.array([rng.choice(3, p=p) for p in scores.softmax(logits)])
    assert scores.fit_temperature(3 * logits, truth) == pytest.approx(3, rel=0.1)
    before = scores.expected_calibration_error(scores.softmax(3 * logits), truth)
    after = scores.expected_calibration_error(scores.softmax(3 * logits, 3.0), truth)
    assert after < 0.03 < before


def test_ppv_falls_with_the_prior() -> None:
    assert scores.ppv_at_prior(0.9, 0.95, 0.5) == pytest.approx(0.9 / (0.9 + 0.05))
    assert scores.ppv_at_prior(0.9, 0.95, 0.002) < 0.04
