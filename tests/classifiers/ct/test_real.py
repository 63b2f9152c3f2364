"""The shipped weights on real series.

A check that the whole chain still works, not a measurement: these people taught the shipped networks.
The measurement is ``qc-node evaluate ct``, where each person is judged by networks that never saw them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qc_node.classifiers.ct.classifier import CtClassifier, load
from qc_node.domain import BodyPart, Question, Region, Volume
from qc_node.series.files.nifti import read_nifti
from qc_node.series.files.sources import find_series

pytestmark = pytest.mark.data
SHIPPED = Path(__file__).resolve().parents[3] / "models" / "ct"

SERIES = {
    "lidc0314_30026": (BodyPart.CHEST, False),
    "cmbcrc01068_3": (BodyPart.CHEST, True),
    "crlm1004_2": (BodyPart.ABDOMEN, True),
    "tcgabca10x_000004": (BodyPart.ABDOMEN, True),
    "c3l00189_302": (BodyPart.ABDOMEN, True),
    "acrinflt001_2_5941": (BodyPart.ABDOMEN_PELVIS, False),
    "openkbp_pt_7": (BodyPart.NECK, True),
    "openkbp_pt_28": (BodyPart.NECK, False),
    "dcmqa_ph_201": (BodyPart.OTHER, None),
    "matrad_export_06056": (BodyPart.OTHER, None),
    "ibsi_STS_013": (BodyPart.OTHER, None),
}


@pytest.fixture(scope="module")
def classifier() -> CtClassifier:
    return load(SHIPPED)


def volume_of(shared_data: Path, name: str) -> Volume:
    return read_nifti(shared_data / "ct" / "volumes" / f"{name}.nii.gz", "CT")


@pytest.mark.parametrize("name", sorted(SERIES))
def test_real_series(classifier: CtClassifier, shared_data: Path, name: str) -> None:
    (verdict,) = classifier.judge([classifier.prepare(volume_of(shared_data, name))])
    part, contrast = SERIES[name]
    found = verdict.finding(Question.BODY_PART)
    assert found is not None and found.value == part.value
    enhanced = verdict.finding(Question.CONTRAST_ENHANCED)
    assert enhanced is not None and enhanced.value is contrast


def test_storage_order_does_not_change_the_answer(classifier: CtClassifier, shared_data: Path) -> None:
    volume = volume_of(shared_data, "acrinflt001_2_5941")
    flip = np.diag([1.0, 1.0, -1.0, 1.0])
    flip[2, 3] = volume.shape[0] - 1
    turned = Volume(np.ascontiguousarray(volume.voxels[::-1]), volume.affine @ flip, modality="CT")
    first, second = classifier.judge([classifier.prepare(volume), classifier.prepare(turned)])
    assert first.findings[0].value == second.findings[0].value == BodyPart.ABDOMEN_PELVIS.value
    assert first.coverage is not None and Region.PELVIS in first.coverage.regions
    assert first.coverage == second.coverage


def test_head_of_a_pet_ct_is_a_plain_brain(classifier: CtClassifier, shared_data: Path) -> None:
    volume = volume_of(shared_data, "acrinflt001_2")
    head = Volume(np.ascontiguousarray(volume.voxels[112:192]), volume.affine, modality="CT")
    (verdict,) = classifier.judge([classifier.prepare(head)])
    part, contrast = verdict.findings
    assert part.value == BodyPart.BRAIN.value and contrast.value is False


@pytest.mark.parametrize(
    ("name", "part", "regions"),
    [
        ("lidc0001_3000566", BodyPart.CHEST, {Region.CHEST, Region.ABDOMEN}),  # apex to the kidneys
        ("crlm1006_100", BodyPart.ABDOMEN, {Region.CHEST, Region.ABDOMEN}),  # base of the heart to L4
    ],
)
def test_trunks_that_the_networks_never_saw(
    classifier: CtClassifier, shared_data: Path, name: str, part: BodyPart, regions: set[Region]
) -> None:
    volume = read_nifti(shared_data / "ct" / "further" / f"{name}.nii.gz", "CT")
    (verdict,) = classifier.judge([classifier.prepare(volume)])
    found = verdict.finding(Question.BODY_PART)
    assert found is not None and found.value == part.value
    assert verdict.coverage is not None and set(verdict.coverage.regions) <= regions


def test_a_head_with_two_spacings_and_tilt_is_whole(classifier: CtClassifier, shared_data: Path) -> None:
    unpacked = find_series([shared_data / "ct" / "further" / "ct_dcmqa_ge_2.tar.xz"], None)
    volume = next(iter(unpacked)).volume()
    assert "Slices lie 4 and 7 mm apart; they were interpolated to 4 mm." in volume.warnings
    (verdict,) = classifier.judge([classifier.prepare(volume)])
    found = verdict.finding(Question.BODY_PART)
    assert found is not None and found.value == BodyPart.BRAIN.value
    assert verdict.coverage is not None
    assert (verdict.coverage.top, verdict.coverage.bottom) == ("vertex", "skull base")
    upper = Volume(
        np.ascontiguousarray(volume.voxels[15:]), volume.affine, modality="CT", intercept=volume.intercept
    )
    (half,) = classifier.judge([classifier.prepare(upper)])
    assert half.coverage is not None and half.coverage.top == "vertex" and half.coverage.bottom is None
