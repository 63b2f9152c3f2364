"""Unlike the training images: undetermined with a sentence, whatever the networks say; never a reject."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from qc_node.classifiers.brain_mri import checks, novelty
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, PreparedHead, load
from qc_node.classifiers.brain_mri.decision import HEADS, decision_of
from qc_node.classifiers.brain_mri.features import N_FEATURES
from qc_node.domain import QcNodeError, Question, Reason
from qc_node.networks import weights
from qc_node.training.brain_mri.training import unlike
from tests.training.brain_mri import made

pytestmark = pytest.mark.slow


def test_training_images_lie_at_one_and_strange_ones_far_away() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((20, N_FEATURES))
    seen = rng.standard_normal((3000, 20)) @ mixing + 0.3 * rng.standard_normal((3000, N_FEATURES)) + 5.0
    measure = unlike.fit(seen)
    # Shrinking takes directions of little spread for wider than they are, so it is below 1.
    assert 0.5 < np.median(measure.distance(seen)) < 1.1
    # As large as the others in every number, but not going together as those do.
    strange = np.stack([rng.permutation(column) for column in seen.T], 1)[:200]
    assert np.quantile(measure.distance(strange), 0.01) > 3 * np.quantile(measure.distance(seen), 0.99)


def test_one_absurd_number_alone_does_not_decide() -> None:
    rng = np.random.default_rng(1)
    seen = rng.standard_normal((3000, N_FEATURES))
    measure = unlike.fit(seen)
    one = seen[:1].copy()
    one[0, 7] = 1e6
    assert measure.distance(one)[0] < 1.3 * np.quantile(measure.distance(seen), 0.99)


def test_a_new_scanner_alone_is_not_unlike() -> None:
    """The limit lies above nearly all proper images of each protocol, measured without it."""
    pack = made.pack(shift=0.5)
    at = unlike.limit(pack)
    for distances in unlike.distances(pack).values():
        assert (distances <= at + 1e-3).mean() >= unlike.KEPT - 0.01
    # Without a protocol nothing of it takes part.
    assert "protocol A" not in unlike.distances(pack, ("protocol A",))
    rows = unlike.familiar_rows(pack, ("protocol A",))
    assert not np.char.startswith(pack.people[rows], "ds000011").any()


def test_an_unlike_image_is_undetermined_and_never_a_reject_for_that(
    classifier: BrainMriClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = novelty.Novelty(np.zeros(N_FEATURES), np.ones(N_FEATURES), np.eye(N_FEATURES))
    decision = dataclasses.replace(classifier.decision, unlike_at=0.5)
    strict = BrainMriClassifier(classifier.identity, classifier.head, classifier.members, decision, known=known)
    measures = checks.Measures((1, 1, 1), ncc=0.9)
    numbers = np.zeros(N_FEATURES, np.float32)
    near, far = (PreparedHead(np.zeros(0, np.float16), {}, measures, numbers + x) for x in (0.1, 2.0))
    certain = dataclasses.replace(far, certain=Reason.COVERAGE)

    def says(reason: int) -> None:
        answers = {k: np.tile(np.eye(n)[0], (2, 1)) for k, n in HEADS.items() if k != "damage"}
        answers["reject"] = np.tile(np.eye(HEADS["reject"])[reason], (2, 1))
        monkeypatch.setattr(strict, "probabilities", lambda prepared: answers)

    says(0)
    proper, unlike_proper, still_certain = strict.judge([near, far, certain])
    assert proper.findings[0].value is False
    assert {f.abstained for f in unlike_proper.findings[:5]} == {novelty.UNLIKE}
    # What is certain without the networks stays so, and so does their reject.
    assert still_certain.findings[0].reason is Reason.COVERAGE
    says(1)
    assert [v.findings[0].value for v in strict.judge([near, far])] == [True, True]


def test_severe_needs_more_than_another_grade(classifier: BrainMriClassifier) -> None:
    decision = dataclasses.replace(
        classifier.decision, unsure={"motion": 0.45}, unsure_severe={"motion": 0.7, "noise": 0.8}
    )
    careful = BrainMriClassifier(classifier.identity, classifier.head, [], decision)
    for p, expected in (
        ((0.0, 0.4, 0.6), None),
        ((0.0, 0.25, 0.75), 2),
        ((0.4, 0.6, 0.0), 1),
        ((0.42, 0.30, 0.28), None),
    ):
        assert careful._grade(Question.MOTION, np.array(p)).value == expected
    assert careful._grade(Question.CONTRAST, np.array((0.0, 0.4, 0.6))).value == 2
    assert decision_of({"unsure_severe": {"noise": 0.8}}).unsure_severe == {"noise": 0.8}


def test_a_card_without_a_limit_has_none() -> None:
    assert decision_of({}).unlike_at == np.inf and decision_of({"unlike_at": 1.5}).unlike_at == 1.5


def test_the_measure_is_shipped_and_loaded(models: Path, tmp_path: Path) -> None:
    measure = unlike.fit(np.random.default_rng(2).standard_normal((500, N_FEATURES)))
    weights.save_tensors(tmp_path / novelty.FILE, measure.tensors())
    again = novelty.of_tensors(weights.load_tensors(tmp_path, novelty.FILE), N_FEATURES)
    some = np.random.default_rng(3).standard_normal((20, N_FEATURES))
    # Half precision moves a distance by less than a hundredth.
    assert np.allclose(again.distance(some), measure.distance(some), rtol=0.01)
    with pytest.raises(ValueError, match="shapes"):
        novelty.of_tensors(measure.tensors(), N_FEATURES + 1)
    with pytest.raises(ValueError, match="whiten"):
        novelty.of_tensors({k: v for k, v in measure.tensors().items() if k != "whiten"}, N_FEATURES)


def test_a_measure_of_other_numbers_is_refused(models: Path, tmp_path: Path) -> None:
    from qc_node.training.brain_mri.training import card

    copy = tmp_path / "brain-mri"
    shutil.copytree(models, copy)
    measure = unlike.fit(np.random.default_rng(2).standard_normal((50, 7)))
    weights.save_tensors(copy / novelty.FILE, measure.tensors())
    card.write(copy, "0", {}, {}, {})
    with pytest.raises(QcNodeError, match=novelty.FILE):
        load(copy)
