"""The shipped classifier, and the average head as an image to judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qc_node import domain
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, load

MODELS = Path(__file__).resolve().parents[3] / "models" / "brain-mri"


@pytest.fixture(scope="session")
def models() -> Path:
    return MODELS


@pytest.fixture(scope="session")
def classifier() -> BrainMriClassifier:
    return load(MODELS)


@pytest.fixture(scope="session")
def average(classifier: BrainMriClassifier) -> domain.Volume:
    """The average head as somebody might send it: 2 mm, int16."""
    voxels = np.clip(classifier.head.channels[0] * 500, 0, None).astype(np.int16)
    return domain.Volume(voxels, classifier.head.affine.copy(), modality="MR")
