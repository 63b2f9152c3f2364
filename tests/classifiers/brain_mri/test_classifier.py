"""The classifier: golden self-test, verdict rules, bad images, and weights that are not what the card says."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from qc_node import domain
from qc_node.classifiers.brain_mri import checks, decision, preprocess, registration
from qc_node.classifiers.brain_mri.classifier import SLICE_SHAPE, BrainMriClassifier, PreparedHead, load
from qc_node.domain import Question, Reason

pytestmark = pytest.mark.slow


def _turned(volume: domain.Volume, degrees: tuple[float, float, float]) -> domain.Volume:
    turn = np.eye(4)
    turn[:3, :3] = registration.rotation(np.radians(degrees))
    return dataclasses.replace(volume, affine=turn @ volume.affine)


def test_the_average_head_passes_the_checks(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    prepared = classifier.prepare(average)
    assert prepared.certain is None and prepared.failed is None
    ncc, at = prepared.measures.ncc, prepared.measures.at
    assert ncc is not None and at is not None
    assert ncc > 0.95
    assert abs(at.pitch_deg) < 2 and at.turn_deg < 2
    assert prepared.network_input.shape == SLICE_SHAPE
    assert prepared.network_input.dtype == np.float16 and prepared.network_input.nbytes < 10_000_000
    assert {k: v.shape for k, v in prepared.thumbnails.items()} == dict.fromkeys(
        ("axial", "coronal", "sagittal"), (208, 208)
    )


@pytest.mark.parametrize("degrees", [(30, 0, 0), (0, 30, 0), (0, 0, 30), (0, 0, -30), (180, 0, 0)])
def test_turned_by_thirty_degrees_it_does_not(
    classifier: BrainMriClassifier, average: domain.Volume, degrees: tuple[float, float, float]
) -> None:
    verdict = classifier.judge([classifier.prepare(_turned(average, degrees))])[0]
    assert verdict.findings[0].value is True


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("blank", [False, True])
def test_cut_in_half_it_does_not(
    classifier: BrainMriClassifier, average: domain.Volume, axis: int, blank: bool
) -> None:
    half = average.voxels.shape[axis] // 2
    part = [slice(None)] * 3
    part[axis] = slice(0, half)
    if blank:
        voxels = average.voxels.copy()
        voxels[tuple(part)] = 0
    else:
        voxels = np.ascontiguousarray(average.voxels[tuple(part)])
    verdict = classifier.judge([classifier.prepare(dataclasses.replace(average, voxels=voxels))])[0]
    assert [f.question for f in verdict.findings] == [Question.STRAIGHT_REJECT]
    assert verdict.findings[0].value is True


def test_gain_and_storage_type_do_not_matter(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    first = classifier.prepare(average)
    for voxels in (average.voxels.astype(np.float32) * 37.5, np.round(average.voxels / 4).astype(np.uint8)):
        other = classifier.prepare(dataclasses.replace(average, voxels=voxels))
        difference = np.abs(other.network_input.astype(float) - first.network_input.astype(float))
        assert difference.mean() < 0.004 and difference.max() < 0.15


def test_the_brain_alone_is_a_straight_reject(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    voxels = np.where(classifier.head.channels[1] > 0.3, average.voxels, 0).astype(np.int16)
    verdict = classifier.judge([classifier.prepare(dataclasses.replace(average, voxels=voxels))])[0]
    assert verdict.findings[0].reason is Reason.SKULL_STRIPPED


def test_a_label_map_is_a_straight_reject(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    c = classifier.head.channels
    voxels = (3 * (c[2] > 0.4) + 2 * (c[3] > 0.4) + (c[6] > 0.5)).astype(np.uint8)
    verdict = classifier.judge([classifier.prepare(dataclasses.replace(average, voxels=voxels))])[0]
    assert verdict.findings[0].reason is Reason.SEGMENTED


@pytest.mark.parametrize(
    ("shape", "spacing", "reason"),
    [
        ((30, 200, 200), (1, 1, 1), Reason.TOO_FEW_SLICES),
        ((60, 200, 200), (1, 1, 3), Reason.THICK_SLICES),
        ((200, 200, 200), (0.2, 0.2, 0.2), Reason.FIELD_OF_VIEW),
    ],
)
def test_geometry_that_no_3d_head_has(
    classifier: BrainMriClassifier, shape: tuple[int, ...], spacing: tuple[float, ...], reason: Reason
) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    prepared = classifier.prepare(domain.Volume(voxels, np.diag([*spacing, 1.0])))
    assert prepared.certain is reason


def test_a_verdict_is_never_half_given(classifier: BrainMriClassifier) -> None:
    """Whatever the probabilities: rejects carry one finding, others six, and the tier follows the grades."""
    rng = np.random.default_rng(1)
    measures = checks.Measures((1, 1, 1), ncc=0.9)
    empty = PreparedHead(np.zeros((1,), np.float16), {}, measures, np.zeros(1, np.float32))
    for _ in range(200):
        answers = {name: rng.dirichlet(np.full(n, 0.4)) for name, n in decision.HEADS.items()}
        findings = classifier._findings(empty, answers)
        if findings[0].value is True:
            assert len(findings) == 1 and findings[0].reason is not None
            continue
        assert [f.question for f in findings] == [
            Question.STRAIGHT_REJECT,
            Question.GADOLINIUM,
            *domain.GRADED,
            Question.TIER,
        ]
        assert findings[5] == domain.tier_finding(findings[2:5])
        for f in findings[:5]:
            if f.probabilities:
                assert sum(f.probabilities.values()) == pytest.approx(1)


def _absurd(rng: np.random.Generator, average: domain.Volume, n: int) -> domain.Volume:
    """One of many ways in which an image can be wrong."""
    voxels, affine = average.voxels.astype(np.float32), average.affine.copy()
    small = voxels[::3, ::3, ::3].copy()
    wide = affine @ np.diag([3, 3, 3, 1.0])
    kind = n % 20
    if kind == 0:
        return domain.Volume(np.full((60, 60, 60), rng.normal()), wide)
    if kind == 1:
        return domain.Volume(np.full((60, 60, 60), np.nan), wide)
    if kind == 2:
        small[rng.random(small.shape) < rng.random()] = np.nan
        return domain.Volume(small, wide)
    if kind == 3:
        return domain.Volume(voxels[:1], affine)
    if kind == 4:
        return domain.Volume(voxels[None], affine)
    if kind == 5:
        return domain.Volume(-voxels, affine)
    if kind == 6:
        return domain.Volume(voxels[::5], affine @ np.diag([1, 1, 5, 1.0]))
    if kind == 7:
        return domain.Volume(voxels, affine @ np.diag([0.1, 0.1, 0.1, 1.0]))
    if kind == 8:
        return domain.Volume(np.ascontiguousarray(voxels[::-1]), affine)
    if kind == 9:
        return domain.Volume(voxels * 1e30, affine)
    if kind == 10:
        return domain.Volume(voxels, np.zeros((4, 4)))
    if kind == 11:
        return domain.Volume(voxels, affine * np.nan)
    if kind == 12:
        return domain.Volume(np.zeros((0, 10, 10), np.int16), affine)
    if kind == 13:
        spiky = np.zeros((80, 80, 80), np.int16)
        spiky[tuple(rng.integers(0, 80, 3))] = 30_000
        return domain.Volume(spiky, np.diag([2, 2, 2, 1.0]))
    if kind == 14:
        return domain.Volume(rng.integers(0, 2, (90, 90, 90)).astype(bool), np.diag([2, 2, 2, 1.0]))
    if kind == 15:
        return domain.Volume(rng.normal(0, 1, (90, 90, 90)), np.diag([2, 2, 2, 1.0]))
    if kind == 16:
        shear = np.eye(4)
        shear[0, 2] = rng.uniform(-2, 2)
        return domain.Volume(voxels, shear @ affine)
    if kind == 17:
        infinite = voxels.copy()
        infinite[rng.random(voxels.shape) < 0.05] = np.inf
        return domain.Volume(infinite, affine)
    if kind == 18:
        return domain.Volume(np.roll(voxels, int(rng.integers(20, 80)), int(rng.integers(0, 3))), affine)
    return domain.Volume((voxels * 60).astype(np.uint16), affine @ np.diag([*rng.uniform(0.2, 4, 3), 1.0]))


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_absurd_volumes_each_get_a_verdict_or_a_named_abstention(
    count: int, classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    """Twenty are one of each kind."""
    rng = np.random.default_rng(2)
    prepared = [classifier.prepare(_absurd(rng, average, n)) for n in range(count)]
    verdicts = classifier.judge(prepared)
    assert len(verdicts) == count
    for verdict in verdicts:
        first = verdict.findings[0]
        assert first.question is Question.STRAIGHT_REJECT
        assert first.value is not None or first.abstained
        json.dumps(domain.verdict_to_json(verdict), allow_nan=False)
        assert all(np.isfinite(p) for f in verdict.findings for p in f.probabilities.values())


def test_absurd_volumes_are_mostly_certain_rejects(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    rng = np.random.default_rng(3)
    for kind in (0, 1, 3, 4, 6, 7, 10, 11, 12, 14):
        assert classifier.prepare(_absurd(rng, average, kind)).certain is not None, kind


def test_the_input_volume_is_not_written_to(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    voxels = average.voxels.astype(np.float32)
    voxels[3, 3, 3] = np.nan
    before = voxels.copy()
    voxels.setflags(write=False)
    classifier.prepare(domain.Volume(voxels, average.affine))
    assert np.array_equal(voxels, before, equal_nan=True)


def test_load_names_the_file_at_fault(models: Path, tmp_path: Path) -> None:
    copy = tmp_path / "brain-mri"
    shutil.copytree(models, copy)
    assert load(copy).identity == load(models).identity
    (copy / preprocess.AVERAGE_HEAD).write_bytes(b"no")
    with pytest.raises(domain.QcNodeError, match=preprocess.AVERAGE_HEAD):
        load(copy)
    (copy / preprocess.AVERAGE_HEAD).unlink()
    with pytest.raises(domain.QcNodeError, match=preprocess.AVERAGE_HEAD):
        load(copy)
    (copy / "card.json").unlink()
    with pytest.raises(domain.QcNodeError, match=r"card\.json"):
        load(copy)


def test_load_refuses_weights_made_with_another_preprocessing(models: Path, tmp_path: Path) -> None:
    copy = tmp_path / "brain-mri"
    shutil.copytree(models, copy)
    card = json.loads((copy / "card.json").read_text())
    card["preprocessing"]["sha256"] = "0" * 64
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(domain.QcNodeError, match="preprocessing"):
        load(copy)
