"""The CT classifier as the node calls it: any volume in, one honest verdict out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from qc_node.classifiers import catalogue
from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.classifier import MAX_INPUT_BYTES, CtClassifier, PreparedBody, load
from qc_node.classifiers.ct.networks import SliceNet
from qc_node.domain import BodyPart, QcNodeError, Question, Reason, Stage, Volume, results_json
from qc_node.networks import weights
from tests.classifiers.ct.phantoms import body, volume, with_markers

SHIPPED = Path(__file__).resolve().parents[3] / "models" / "ct"
FILES = ["position.safetensors", "contrast.safetensors"]


def write_model(folder: Path, stage: str = "ct") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    weights.save_tensors(folder / FILES[0], SliceNet(4, anatomy.CLASSES).state_dict())
    weights.save_tensors(folder / FILES[1], SliceNet(4, 1).state_dict())
    weights.write_card(folder, "test", "1", stage, FILES, {"networks": {"width": 16}, "rules": {}})
    return folder


@pytest.fixture(scope="module")
def classifier() -> CtClassifier:
    return load(SHIPPED)


@pytest.fixture
def untrained(tmp_path: Path) -> CtClassifier:
    return load(write_model(tmp_path / "ct"))


def absurd() -> dict[str, Volume]:
    rng = np.random.default_rng(0)
    shape = (24, 96, 96)
    return {
        "blank": volume(np.zeros(shape, np.int16)),
        "air": volume(np.full(shape, -1000, np.int16)),
        "noise": volume(rng.normal(0, 400, shape).astype(np.int16)),
        "nan": volume(np.full(shape, np.nan, np.float32)),
        "infinite slope": volume(body(shape), slope=float("inf")),
        "one slice": volume(with_markers(body())[:1]),
        "one voxel": volume(np.full((1, 1, 1), 40, np.int16)),
        "thousands": volume(np.repeat(body((1, 32, 32)), 3000, 0), (0.1, 10.0, 10.0)),
        "screenshot": volume(rng.integers(0, 255, (1, 200, 300)).astype(np.uint8)),
        "water box": volume(body((60, 120, 140))),
        "singular affine": volume(with_markers(body()), affine=np.zeros((4, 4))),
        "label map": volume(rng.integers(0, 5, shape).astype(np.uint8)),
        "everything bright": volume(np.full(shape, 3000, np.int16)),
    }


@pytest.mark.parametrize("name", sorted(absurd()))
def test_absurd_input_gets_a_verdict_and_no_body_part(classifier: CtClassifier, name: str) -> None:
    prepared = classifier.prepare(absurd()[name])
    (verdict,) = classifier.judge([prepared])
    part, contrast = verdict.finding(Question.BODY_PART), verdict.finding(Question.CONTRAST_ENHANCED)
    assert part is not None and contrast is not None
    assert part.value in (None, BodyPart.OTHER.value), part
    assert contrast.value is None and contrast.abstained
    assert all(t.dtype == np.uint8 and max(t.shape) <= 256 for t in prepared.thumbnails.values())
    json.dumps(results_json(verdict, catalogue.questions_of(verdict)))


def test_blank_has_its_reason(classifier: CtClassifier) -> None:
    (verdict,) = classifier.judge([classifier.prepare(absurd()["blank"])])
    part = verdict.finding(Question.BODY_PART)
    assert part is not None and part.reason is Reason.BLANK and part.abstained


def test_a_single_slice_is_too_little_to_name_a_body_part(classifier: CtClassifier) -> None:
    (verdict,) = classifier.judge([classifier.prepare(absurd()["one slice"])])
    part = verdict.finding(Question.BODY_PART)
    assert part is not None and part.abstained == "The series shows only 4 mm of the body."


def test_probabilities_cover_every_answer(untrained: CtClassifier) -> None:
    prepared = [untrained.prepare(volume(with_markers(body()))) for _ in range(2)]
    first, second = untrained.judge(prepared)
    assert first.stage == Stage.CT and first.model == untrained.identity
    part = first.finding(Question.BODY_PART)
    assert part is not None and set(part.probabilities) == {p.value for p in BodyPart}
    assert sum(part.probabilities.values()) == pytest.approx(1)
    assert part == second.finding(Question.BODY_PART)
    assert first.coverage is not None and first.coverage.truncated is False


def test_truncated_field_of_view_is_reported(untrained: CtClassifier) -> None:
    voxels = np.ascontiguousarray(with_markers(body())[:, :, 45:95])
    (verdict,) = untrained.judge([untrained.prepare(volume(voxels))])
    assert verdict.coverage is not None and verdict.coverage.truncated


@pytest.mark.slow
def test_prepare_is_small_and_deterministic(untrained: CtClassifier) -> None:
    long = np.repeat(body((4, 40, 40)), 900, 0)
    prepared = untrained.prepare(volume(long, (2.0, 4.0, 4.0)))
    assert prepared.network_input.dtype == np.float16 and prepared.network_input.nbytes <= MAX_INPUT_BYTES
    again = untrained.prepare(volume(long, (2.0, 4.0, 4.0)))
    np.testing.assert_array_equal(prepared.network_input, again.network_input)
    assert set(prepared.thumbnails) == {"axial", "coronal", "sagittal", "mip_coronal", "mip_sagittal"}


def test_lost_intercept_is_repaired_and_said(untrained: CtClassifier) -> None:
    voxels = with_markers(body())
    stored = (voxels.astype(np.int32) + 1024).astype(np.uint16)
    prepared = untrained.prepare(volume(stored))
    assert any("intercept" in w for w in prepared.warnings)
    np.testing.assert_array_equal(prepared.network_input, untrained.prepare(volume(voxels)).network_input)
    assert isinstance(prepared, PreparedBody)


def test_damaged_model_folder_names_the_file(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "ct")
    path = folder / "contrast.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(QcNodeError, match=r"contrast\.safetensors"):
        load(folder)


def test_wrong_network_or_card_is_a_sentence(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "a")
    weights.save_tensors(folder / FILES[1], SliceNet(4, 3).state_dict())
    weights.write_card(folder, "test", "1", "ct", FILES, {"networks": {"width": 16}, "rules": {}})
    with pytest.raises(QcNodeError, match=r"contrast\.safetensors"):
        load(folder)
    weights.write_card(folder, "test", "1", "ct", FILES, {"networks": {"width": 16}, "rules": {"nonsense": 1}})
    with pytest.raises(QcNodeError, match=r"card\.json"):
        load(folder)
    with pytest.raises(QcNodeError, match="brain_mri"):
        load(write_model(tmp_path / "b", "brain_mri"))
