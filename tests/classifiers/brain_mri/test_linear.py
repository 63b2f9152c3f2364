"""Both recipes put the average head where it belongs, on the paper's grid."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node import domain
from qc_node.classifiers.brain_mri import linear
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier
from qc_node.training.brain_mri.evaluation import recipes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("recipe", ["fast", "linear"])
def test_the_average_head_on_the_papers_grid(
    classifier: BrainMriClassifier, average: domain.Volume, recipe: str
) -> None:
    out = linear.volume_in_template(average, classifier.head, recipe, spacing_mm=2.0)
    assert out.shape == (85, 104, 90) and out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 1
    # The midplane divides the head evenly.
    left, right = out[:40].sum(), out[-40:].sum()
    assert left == pytest.approx(right, rel=0.05)
    assert out[42, 52, 50] > 0.1


def test_full_resolution_has_the_papers_shape(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    assert linear.volume_in_template(average, classifier.head).shape == (169, 208, 179)


def test_an_unknown_recipe_is_named(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    with pytest.raises(domain.QcNodeError, match="slow"):
        linear.volume_in_template(average, classifier.head, "slow")


def shaded(average: domain.Volume) -> np.ndarray:
    """The average head, twice as bright on one side as on the other."""
    voxels: np.ndarray = (average.voxels * np.exp(ramp(average))).astype(np.float32)
    return voxels


def ramp(average: domain.Volume) -> np.ndarray:
    return np.broadcast_to(
        np.linspace(-0.35, 0.35, average.voxels.shape[2], dtype=np.float32), average.voxels.shape
    )


def test_n4_takes_part_of_a_planted_field_out_and_adds_none(average: domain.Volume) -> None:
    inside = average.voxels > 250

    def slope(image: np.ndarray) -> float:
        """How much of the planted field is in an image: 1 all of it, 0 nothing."""
        ratio = np.log(image[inside] / average.voxels[inside])
        return float(np.polyfit(ramp(average)[inside], ratio, 1)[0])

    image = shaded(average)
    assert slope(image) == pytest.approx(1.0, abs=0.01)
    assert slope(linear.bias_corrected(image, average.affine)) < 0.75
    clean = average.voxels.astype(np.float32)
    assert abs(slope(linear.bias_corrected(clean, average.affine))) < 0.05


def test_both_recipes_say_the_same_of_a_good_head(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    image = shaded(average)
    way = recipes.both_ways(classifier, domain.Volume(image, average.affine, modality="MR"))
    assert way["apart_mm"] < 2.0
    assert way["said"][0]["straight_reject"] == way["said"][1]["straight_reject"]
    assert all(s > 0 for s in way["seconds"])
