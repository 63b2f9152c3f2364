"""Both recipes put the average head where it belongs, on the paper's grid."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node import domain
from qc_node.brain_mri import linear, reader


@pytest.mark.parametrize("recipe", ["fast", "linear"])
def test_the_average_head_on_the_papers_grid(room: reader.BrainMriReader, average: domain.Volume, recipe: str):
    out = linear.volume_in_template(average, room.head, recipe, spacing_mm=2.0)
    assert out.shape == (85, 104, 90) and out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 1
    # The midplane divides the head evenly.
    left, right = out[:40].sum(), out[-40:].sum()
    assert left == pytest.approx(right, rel=0.05)
    assert out[42, 52, 50] > 0.1


def test_full_resolution_has_the_papers_shape(room: reader.BrainMriReader, average: domain.Volume):
    assert linear.volume_in_template(average, room.head).shape == (169, 208, 179)


def test_an_unknown_recipe_is_named(room: reader.BrainMriReader, average: domain.Volume):
    with pytest.raises(domain.QcNodeError, match="slow"):
        linear.volume_in_template(average, room.head, "slow")
