"""Protocols left out: nobody of them takes part, and the decision is chosen on them, each protocol alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qc_node.classifiers.brain_mri.decision import THICK
from qc_node.training import scores
from qc_node.training.brain_mri.training import decision_fit, left_out, packed
from qc_node.training.brain_mri.training.measured import MeasuredSettings
from tests.training.brain_mri import made


@pytest.fixture(scope="module")
def pack() -> packed.Pack:
    return made.pack()


@pytest.fixture(scope="module")
def out(pack: packed.Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left-out")
    left_out.train(pack, folder, MeasuredSettings(epochs=12, patience=12, lr=5e-3), (0, 1), log=lambda line: None)
    return folder


def test_label_maps_are_one_protocol() -> None:
    assert left_out.group_of("synthseg-03") == left_out.group_of("synthseg-11") == left_out.PAINTED
    assert left_out.group_of("ds000011-sub-01") == left_out.group_of("ds000011-sub-02") == "protocol A"


def test_nothing_of_the_protocol_takes_part(pack: packed.Pack) -> None:
    groups = left_out.groups_of(pack)
    assert len(groups) == 3
    for group in groups:
        held = left_out.rows_of(pack, group)
        rest = np.setdiff1d(np.arange(len(pack.people)), held)
        for member in range(5):
            rows, watched = left_out.split(pack, rest, member)
            assert not set(pack.people[rows]) & set(pack.people[watched])
            assert not set(pack.people[held]) & (set(pack.people[rows]) | set(pack.people[watched]))
            # Real heads say when to stop.
            assert set(pack.kinds[watched]) == {"head"}


def test_every_row_is_answered_by_networks_that_never_saw_its_protocol(pack: packed.Pack, out: Path) -> None:
    cross = left_out.cross_fitted(pack, out)
    assert sorted(cross.rows.tolist()) == list(range(len(pack.people)))
    assert all(left_out.group_of(p) == g for p, g in zip(pack.people[cross.rows], cross.groups, strict=True))
    truth = pack.targets["gadolinium"][cross.rows]
    known = truth >= 0
    assert scores.balanced_accuracy(truth[known], cross.logits["gadolinium"][known].argmax(1)) > 0.75
    # Members are averaged, as the classifier does it.
    first = left_out.groups_of(pack)[0]
    parts = [np.load(left_out.folder_of(out, first, m) / "held.npz")["logits_motion"] for m in (0, 1)]
    assert np.allclose(cross.logits["motion"][cross.groups == first], np.mean(parts, 0))
    assert set(cross.without(first).groups) == set(left_out.groups_of(pack)) - {first}


def test_a_decision_comes_of_it(pack: packed.Pack, out: Path) -> None:
    cross = left_out.cross_fitted(pack, out)
    targets = {k: v[cross.rows] for k, v in pack.targets.items()}
    found = decision_fit.fit(decision_fit.answered_of(cross.logits, targets, cross.groups))
    assert set(found["temperatures"]) == set(found["unsure"]) == set(decision_fit.QUESTIONS)
    assert 0.0 <= found["unsure"]["reject"] < 0.5 <= found["unsure"]["gadolinium"] < 1.0


def _planted(
    rng: np.random.Generator, n: int, sharp: float, spread: float = 2.0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Logits and truth; the probabilities are true once the logits are divided by `sharp`."""
    z = rng.normal(0, spread, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.int64)
    return np.stack([np.zeros(n), sharp * z], 1), truth


def test_every_protocol_weighs_the_same() -> None:
    """Nine tenths of the images are of a protocol on which the network is as sure as it ought to be."""
    rng = np.random.default_rng(0)
    z, truth = (np.concatenate(x) for x in zip(_planted(rng, 9000, 1.0), _planted(rng, 1000, 4.0), strict=True))
    groups = np.repeat(["many", "few"], [9000, 1000])
    a = decision_fit.Answered(z, None, truth, groups)
    assert a.weights.mean() == pytest.approx(1) and a.weights[:9000].sum() == pytest.approx(5000)
    fitted = decision_fit.fit({"gadolinium": a})["temperatures"]["gadolinium"]
    assert fitted > scores.fit_temperature(z, truth, 0.5, 5.0) + 0.2


def test_a_protocol_of_a_few_images_counts_less() -> None:
    groups = np.repeat(["many", "enough", "few"], [1000, decision_fit.ENOUGH, decision_fit.ENOUGH // 4])
    a = decision_fit.Answered(np.zeros((len(groups), 2)), None, np.zeros(len(groups), np.int64), groups)
    total = {g: a.weights[groups == g].sum() for g in ("many", "enough", "few")}
    assert total["many"] == pytest.approx(total["enough"]) == pytest.approx(4 * total["few"])


def test_the_limit_is_where_an_answer_costs_more_than_none() -> None:
    """With true probabilities it is one less the price (Chow 1970)."""
    rng = np.random.default_rng(1)
    z, truth = _planted(rng, 40000, 1.0, 8.0)
    groups = np.array(["a", "b"])[rng.integers(0, 2, 40000)]
    limit = decision_fit.fit_unsure("gadolinium", scores.softmax(z), truth, groups)
    assert limit == pytest.approx(1 - decision_fit.PRICE["gadolinium"], abs=0.04)
    # On surer answers nothing has to be withheld.
    sure = scores.softmax(np.stack([np.zeros(4000), np.where(rng.random(4000) < 0.5, -9.0, 9.0)], 1))
    assert decision_fit.fit_unsure("gadolinium", sure, sure.argmax(1), groups[:4000]) == 0.5


def test_not_more_than_a_share_is_withheld_of_any_protocol() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(0, 0.2, (4000, 2))
    truth = rng.integers(0, 2, 4000)
    groups = np.repeat(["a", "b"], 2000)
    p = scores.softmax(z)
    limit = decision_fit.fit_unsure("gadolinium", p, truth, groups)
    for g in ("a", "b"):
        assert (p.max(1)[groups == g] < limit).mean() <= decision_fit.MOST_WITHHELD


def test_thick_slices_do_not_count_against_the_network() -> None:
    """They are known from the geometry; the network lets them pass."""
    p = np.tile([0.98, *[0.02 / 7] * 7], (400, 1))
    truth = np.repeat([0, THICK], 200)
    assert decision_fit.fit_unsure("reject", p, truth, np.repeat("a", 400)) == 0.0


def test_severe_is_said_from_where_it_pays() -> None:
    """Planted: probabilities of severe that are true, so the limit is one less the price; surer ones stay."""
    rng = np.random.default_rng(4)
    severe = rng.uniform(0.4, 1.0, 40000)
    rest = (1 - severe) / 2
    p = np.stack([rest, rest, severe], 1)
    truth = np.where(rng.random(40000) < severe, 2, 0)
    limit = decision_fit.fit_severe(p, truth, np.ones(40000))
    assert limit == pytest.approx(1 - decision_fit.PRICE_SEVERE, abs=0.04)
    assert decision_fit.fit_severe(p, np.full(40000, 2), np.ones(40000)) <= 0.41
