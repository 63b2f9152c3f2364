"""Kappa against scikit-learn's, which the node itself does without."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.domain.agreement import weighted_kappa

LEVEL = st.integers(0, 2)


@settings(deadline=None)
@given(st.lists(st.tuples(LEVEL, LEVEL), min_size=2, max_size=60), st.sampled_from([0, 1, 2]))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]], power: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    ours = weighted_kappa(pairs, power=power)
    assert ours == weighted_kappa(Counter(pairs), power=power)
    if ours is None:
        assert len(set(pairs)) == 1
        return
    a, b = zip(*pairs, strict=True)
    weights = {0: None, 1: "linear", 2: "quadratic"}[power]
    theirs = metrics.cohen_kappa_score(a, b, labels=[0, 1, 2], weights=weights)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_no_pairs_have_no_kappa() -> None:
    assert weighted_kappa([]) is None
