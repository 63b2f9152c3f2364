"""A stack that is no body in order is called unlike, a body and a limb are not."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.anatomy import CENTRES, CLASSES, LIMB, SECTIONS, Array, align
from qc_node.classifiers.ct.unlike import unlike

LEAST = 0.5


def sections(position: Array) -> Array:
    """Slices that know their place as well as a network does: a spread of 30 mm over the sections."""
    p = np.zeros((len(position), CLASSES))
    p[:, :SECTIONS] = np.exp(-0.5 * ((position[:, None] - CENTRES) / 30) ** 2)
    return np.asarray(p / p.sum(1, keepdims=True))


def told(p: Array) -> str | None:
    return unlike(align(p, np.ones(len(p), bool)), LEAST)


def test_a_body_in_order_is_known_in_either_direction_and_when_short() -> None:
    whole = np.arange(250.0, 700.0, 4.0)
    for position in (whole, whole[::-1], whole[:12]):
        assert told(sections(position)) is None


@pytest.mark.parametrize("wrong", ["shuffled", "distance", "standing still"])
def test_slices_of_a_body_that_do_not_follow_each_other_are_unlike(wrong: str) -> None:
    whole = np.arange(250.0, 700.0, 4.0)
    position = {
        "shuffled": np.random.default_rng(0).permutation(whole),
        "distance": np.repeat(whole, 3),
        "standing still": np.full(100, 500.0),
    }[wrong]
    sentence = told(sections(position))
    assert sentence is not None and sentence.endswith(".")


def test_limbs_and_objects_are_not_judged_here() -> None:
    limb = np.zeros((40, CLASSES))
    limb[:, LIMB] = 1.0
    assert told(limb) is None
