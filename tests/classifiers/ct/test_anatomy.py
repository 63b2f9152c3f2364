"""The body axis: landmarks to positions, slices to a line, a line to a body part."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.anatomy import CLASSES, LANDMARKS, LIMB, NOTHING, SECTION_MM, SECTIONS
from qc_node.classifiers.ct.projections import COARSE_MM
from qc_node.domain import BodyPart, Region

PARTS = list(BodyPart)


def part_of(low: float, high: float) -> BodyPart:
    return PARTS[int(anatomy.body_part(np.array([low]), np.array([high]))[0])]


@pytest.mark.parametrize(
    ("low", "high", "part"),
    [
        (-5, 150, BodyPart.BRAIN),  # vertex to the foramen magnum
        (0, 70, BodyPart.BRAIN),
        (60, 330, BodyPart.NECK),  # orbit to the aortic arch
        (130, 280, BodyPart.NECK),
        (0, 345, BodyPart.NECK),  # CT angiography of head and neck
        (235, 520, BodyPart.CHEST),  # apex to the adrenals
        (255, 609, BodyPart.CHEST),  # apex to the kidneys
        (240, 640, BodyPart.CHEST),  # apex to their lower pole
        (300, 440, BodyPart.CHEST),
        (440, 690, BodyPart.ABDOMEN),
        (380, 683, BodyPart.ABDOMEN),  # heart to the iliac crest
        (360, 720, BodyPart.ABDOMEN),
        (80, 115, BodyPart.BRAIN),  # orbits or petrous bones
        (500, 580, BodyPart.ABDOMEN),
        (445, 860, BodyPart.ABDOMEN_PELVIS),
        (430, 800, BodyPart.ABDOMEN_PELVIS),
        (690, 860, BodyPart.OTHER),  # pelvis alone
        (240, 860, BodyPart.OTHER),  # chest, abdomen and pelvis
        (240, 690, BodyPart.OTHER),  # chest and abdomen
        (140, 520, BodyPart.OTHER),  # neck and chest
        (-10, 900, BodyPart.OTHER),  # whole body
        (900, 1000, BodyPart.OTHER),
    ],
)
def test_rules_for_usual_protocols(low: float, high: float, part: BodyPart) -> None:
    assert part_of(low, high) is part


def slices(low: float, high: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Slice distributions of a scan from `low` to `high` mm as a good network would give them."""
    count = max(1, round(abs(high - low) / COARSE_MM))
    at = np.linspace(low, high, count) + np.random.default_rng(seed).normal(0, noise, count)
    p = np.full((count, CLASSES), 0.002)
    p[:, :SECTIONS] += np.exp(-0.5 * ((at[:, None] - anatomy.CENTRES) / 25) ** 2)
    rows: np.ndarray = p / p.sum(1, keepdims=True)
    return rows


@pytest.mark.parametrize("ends", [(0, 150), (60, 330), (240, 510), (440, 690), (440, 850)])
def test_line_through_noisy_slices_finds_the_ends(ends: tuple[float, float]) -> None:
    p = slices(*ends, noise=25)
    alignment = anatomy.align(p, np.ones(len(p), bool))
    top, bottom = alignment.best
    assert abs(top - ends[0]) < 25 and abs(bottom - ends[1]) < 25
    assert not alignment.upside_down and alignment.anatomy > 0.9 and alignment.fit > 0.5
    assert max(
        anatomy.part_probabilities(alignment), key=anatomy.part_probabilities(alignment).__getitem__
    ) is part_of(*ends)


@pytest.mark.parametrize("ends", [(240, 560), (430, 690), (440, 850)])
def test_a_child_of_half_the_length_is_measured_by_its_own_scale(ends: tuple[float, float]) -> None:
    p = slices(*ends, noise=15)[::2]
    alignment = anatomy.align(p, np.ones(len(p), bool))
    top, bottom = alignment.best
    assert abs(top - ends[0]) < 40 and abs(bottom - ends[1]) < 40
    shares = anatomy.part_probabilities(alignment)
    assert shares[part_of(*ends)] > 0.6


def test_outlier_slices_do_not_move_the_line() -> None:
    p = slices(440, 850, noise=15)
    p[10:20] = slices(20, 60)[0]
    alignment = anatomy.align(p, np.ones(len(p), bool))
    assert abs(alignment.best[0] - 440) < 30 and abs(alignment.best[1] - 850) < 30


def test_feet_first_without_header_is_told() -> None:
    p = slices(240, 510, noise=10)[::-1]
    alignment = anatomy.align(p, np.ones(len(p), bool))
    assert alignment.upside_down
    assert anatomy.part_probabilities(alignment)[BodyPart.CHEST] > 0.5


def test_limb_and_nothing_are_other() -> None:
    for kind in (LIMB, NOTHING):
        p = np.full((30, CLASSES), 0.001)
        p[:, kind] = 1.0
        alignment = anatomy.align(p / p.sum(1, keepdims=True), np.ones(30, bool))
        assert anatomy.part_probabilities(alignment)[BodyPart.OTHER] > 0.9
        assert anatomy.regions_seen(alignment) == ((Region.LIMB,) if kind == LIMB else ())
        assert anatomy.outermost(alignment) == (None, None)


def test_nothing_readable_is_other_with_certainty() -> None:
    alignment = anatomy.align(np.zeros((5, CLASSES)), np.zeros(5, bool))
    assert anatomy.part_probabilities(alignment)[BodyPart.OTHER] == 1.0


def test_shuffled_slices_fit_worse_than_ordered_ones() -> None:
    p = slices(240, 510, noise=10)
    used = np.ones(len(p), bool)
    shuffled = p[np.random.default_rng(3).permutation(len(p))]
    assert anatomy.align(shuffled, used).fit < anatomy.align(p, used).fit - 0.5


def test_border_cases_are_not_certain() -> None:
    p = slices(440, 745)  # ends 62 mm below the iliac crest: 35 % of the pelvis
    shares = anatomy.part_probabilities(anatomy.align(p, np.ones(len(p), bool)))
    assert (
        0.1 < shares[BodyPart.ABDOMEN] < 0.9 and shares[BodyPart.ABDOMEN] + shares[BodyPart.ABDOMEN_PELVIS] > 0.95
    )


def test_coverage_and_landmarks_of_a_chest() -> None:
    p = slices(240, 520)
    alignment = anatomy.align(p, np.ones(len(p), bool))
    assert anatomy.regions_seen(alignment) == (Region.CHEST,), "47 mm of the liver are not an abdomen"
    short = slices(520, 560)
    assert anatomy.regions_seen(anatomy.align(short, np.ones(len(short), bool))) == (Region.ABDOMEN,)
    assert anatomy.outermost(alignment) == ("lung apex", "dome of the diaphragm")


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (-5, 75, ("vertex", None)),  # the upper half of a head
        (70, 150, (None, "skull base")),
        (445, 600, ("dome of the diaphragm", None)),
        (300, 470, (None, "dome of the diaphragm")),
        (300, 420, (None, None)),
        (-5, 150, ("vertex", "skull base")),
    ],
)
def test_one_landmark_is_one_end(low: float, high: float, ends: tuple[str | None, str | None]) -> None:
    p = slices(low, high)
    assert anatomy.outermost(anatomy.align(p, np.ones(len(p), bool))) == ends


def shares_of(low: float, high: float) -> dict[BodyPart, float]:
    p = slices(low, high)
    return anatomy.part_probabilities(anatomy.align(p, np.ones(len(p), bool)))


@pytest.mark.parametrize("part", [BodyPart.CHEST, BodyPart.ABDOMEN])
@pytest.mark.parametrize("upper", [-40, 0, 40])
@pytest.mark.parametrize("lower", [-40, 0, 40])
def test_forty_millimetres_make_no_other_of_chest_or_abdomen(part: BodyPart, upper: int, lower: int) -> None:
    top, bottom = {BodyPart.CHEST: (235, 570), BodyPart.ABDOMEN: (425, 690)}[part]
    shares = shares_of(top + upper, bottom + lower)
    assert shares[part] > 0.6 and shares[BodyPart.OTHER] < 0.35


def test_whole_chest_with_whole_abdomen_is_not_called_either() -> None:
    assert shares_of(240, 700)[BodyPart.OTHER] > 0.6
    between = shares_of(240, 655)  # between the kidneys and the iliac crest
    assert max(between.values()) < 0.6 and between[BodyPart.CHEST] + between[BodyPart.OTHER] > 0.95


def test_parts_that_a_scan_shows_alike_are_equally_likely() -> None:
    slab = shares_of(437, 477)  # lung bases and the dome of the liver
    assert slab[BodyPart.CHEST] == pytest.approx(0.5, abs=0.05) == slab[BodyPart.ABDOMEN]
    head_and_neck = shares_of(-40, 225)
    assert head_and_neck[BodyPart.BRAIN] == pytest.approx(0.5, abs=0.1) == head_and_neck[BodyPart.NECK]
    head_to_chest = shares_of(-40, 400)
    assert head_to_chest[BodyPart.NECK] == pytest.approx(0.5, abs=0.1) == head_to_chest[BodyPart.OTHER]


def test_positions_from_landmarks() -> None:
    marks = {"apex": 30.0, "dome": 220.0}
    at = anatomy.axis_position(np.array([0.0, 30.0, 125.0, 220.0, 240.0]), marks)
    expected = [
        LANDMARKS["apex"] - 30,
        LANDMARKS["apex"],
        (268 + 458) / 2,
        LANDMARKS["dome"],
        LANDMARKS["dome"] + 20,
    ]
    np.testing.assert_allclose(at, expected)
    assert LANDMARKS["hip"] < SECTION_MM * SECTIONS
