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
