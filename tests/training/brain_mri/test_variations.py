"""What clinics vary: coil, agent, age, implants, cropping, sender; on a small head made of balls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri.simulation import (
    age,
    agent,
    artefacts,
    coil,
    implants,
    other_contrasts,
    scanner,
    tissues,
)

SIDE = 64


@pytest.fixture(scope="module")
def person() -> tissues.Anatomy:
    """Skin, soft tissue, bone, fluid, cortex, white matter, ventricle and a sinus; 3 mm, in the average frame."""
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -3.0 * (SIDE - 1) / 2 + np.array([0.0, 18.0, 8.0])
    z, y, x = np.meshgrid(*[(np.arange(SIDE) - (SIDE - 1) / 2) * 3.0] * 3, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    labels = np.zeros((SIDE,) * 3, np.int16)
    for radius, label in ((90, 511), (86, 507), (80, 515), (72, 24), (66, 3), (58, 2), (14, 4)):
        labels[r < radius] = label
    labels[(np.abs(x) < 4) & (y > 0) & (r > 66) & (r < 75)] = 514
    white = (labels == 2).astype(np.float16)
    grey = (labels == 3).astype(np.float16)
    return tissues.Anatomy("ball", "map", None, labels, white, grey, affine, np.eye(4))


def test_a_coil_falls_with_depth(person: tissues.Anatomy) -> None:
    depth = coil.depth_of_person(person)
    assert depth.mm.max() == pytest.approx(88, abs=3)
    flat = coil.over(np.ones(person.labels.shape, np.float32), person.affine, coil.Coil(3.0, 10.0), depth)
    middle = SIDE // 2
    for mm in (9, 21, 45):
        at = flat[middle, middle, round(middle + (90 - mm) / 3)]
        assert at == pytest.approx(1 + 3 * np.exp(-mm / 10), rel=0.15)
    assert flat[middle, middle, middle] == pytest.approx(1, abs=0.01)


def test_points_and_volumes_see_the_same_coil(person: tissues.Anatomy) -> None:
    depth = coil.depth_of_person(person)
    receiver = coil.Coil(4.0, 20.0, (0.0, 0.0, 1.0), 10.0, 20.0)
    field = coil.over(np.ones(person.labels.shape, np.float32), person.affine, receiver, depth)
    points = torch.tensor([[0.0, 18.0, 80.0], [0.0, 18.0, -60.0], [60.0, 18.0, 8.0]])[None, None]
    values, _ = reg.sample(torch.from_numpy(field)[None], person.affine, points.reshape(-1, 3))
    assert coil.at_points(receiver, depth, points, np.eye(4)).ravel() == pytest.approx(values[0].numpy(), rel=0.02)
    # The coil lies above: the top is bright, the bottom is not.
    assert values[0, 0] > 2.5 and values[0, 1] < 1.2


def test_coils_are_drawn_over_the_whole_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [c for c in (coil.draw(rng) for _ in range(2000)) if c is not None]
    assert len(drawn) == pytest.approx(1200, abs=80)
    around = [c for c in drawn if c.direction is None and c.gain > 0]
    assert max(c.gain for c in around) > 4.8 and min(c.length for c in around) < 9 < 24 < max(
        c.length for c in around
    )
    assert 0.15 < np.mean([c.direction is not None for c in drawn]) < 0.3


def test_agent_brightens_vessels_and_darkens_nothing(person: tissues.Anatomy) -> None:
    image = np.where(person.labels > 0, np.float32(0.5), 0).astype(np.float32)
    out = agent.enhance(person, image, 2.0, np.random.default_rng(1))
    vein = person.labels == 514
    assert (out >= image - 1e-6).all()
    assert np.median(out[vein]) > 1.2 and abs(np.median(out[person.labels == 2]) - 0.5) < 0.01
    where = agent.sites(person)
    assert (where[vein] & agent.VEIN).all() and (where & agent.GLAND).any()
    assert not (where[person.labels == 2] & (agent.DURA | agent.FLUID)).any()


def test_doses_go_down_to_faint() -> None:
    rng = np.random.default_rng(2)
    doses = np.array([agent.draw_dose(rng) for _ in range(500)])
    assert doses.min() < 1.0 and doses.max() > 2.5 and 0.15 < (doses < 1.25).mean() < 0.35


def test_age_trades_brain_for_fluid(person: tissues.Anatomy) -> None:
    old = age.aged(person, np.random.default_rng(3))
    for label, more in ((4, True), (24, True), (3, False)):
        assert ((old.labels == label).sum() > (person.labels == label).sum()) == more
    assert float(old.white.sum()) < float(person.white.sum())
    # Skull and scalp stay, shares and labels agree.
    outside = np.isin(person.labels, (0, 511, 507, 515))
    assert np.array_equal(old.labels[outside], person.labels[outside])
    assert not old.white[old.labels == 4].any() and not old.grey[old.labels == 24].any()
    spots = age.hyperintensities(old, np.random.default_rng(4))
    assert spots.max() > 0.5 and not spots[old.white == 0].any()


def test_an_implant_is_a_void_with_a_rim() -> None:
    points = torch.stack(torch.meshgrid(*[torch.arange(-40.0, 41.0)] * 3, indexing="ij"), -1)[40:41]
    metal = implants.Implant("teeth", (0.0, 0.0, 0.0), 12.0, (1.0, 1.0, 1.0), 1.5)
    out = metal.on(np.ones((1, 81, 81), np.float32), points, 1.0)
    assert out[0, 40, 40] < 0.01 and out[0, 40, 0] == pytest.approx(1, abs=0.01)
    assert out.max() > 1.8


def test_faces_are_cut_and_brains_are_not() -> None:
    brain = torch.from_numpy(np.random.default_rng(0).normal(0, 30, (500, 3)).astype(np.float32))
    rng = np.random.default_rng(5)
    for _ in range(50):
        cut = implants.draw_defacing(rng, brain, share=1.0)
        assert cut is not None
        assert cut.on(np.ones(500, np.float32), brain).all()
        assert not cut.on(np.ones(1, np.float32), torch.tensor([[0.0, -300.0, -300.0]])).any()


def test_cropping_loses_no_brain_and_moves_nothing(person: tissues.Anatomy) -> None:
    index = np.argwhere(person.labels == 3)[:, ::-1]
    brain = torch.from_numpy((index @ person.affine[:3, :3].T + person.affine[:3, 3]).astype(np.float32))
    image = np.random.default_rng(0).random(person.labels.shape).astype(np.float32)
    scan = scanner.Acquisition(image, person.affine, np.eye(4), np.eye(4))
    rng, smaller = np.random.default_rng(6), 0
    for _ in range(30):
        made = scanner.cropped(scan, brain, rng)
        smaller += made.image.size < image.size
        values, inside = reg.sample(torch.from_numpy(made.image)[None], made.affine, brain)
        assert inside.all()
        before, _ = reg.sample(torch.from_numpy(image)[None], person.affine, brain)
        # What folds in touches one end only.
        assert (torch.abs(values - before) < 1e-3).float().mean() > 0.5
    assert smaller > 20


def test_zero_filling_keeps_the_samples() -> None:
    rng = np.random.default_rng(7)
    smooth = 2 + np.stack([np.sin(np.arange(32) * 2 * np.pi * n / 32) for n in (1, 2, 3)])[None]
    wide = artefacts.zero_filled(smooth.astype(np.float32), 2, 64)
    assert wide[..., ::2] == pytest.approx(smooth, abs=1e-4)
    image = rng.random((4, 20, 20)).astype(np.float32) + 2
    for how in ("doubled", "zero-filled"):
        grid = scanner.Sender(how).on(reg.Grid(image, np.diag([1.0, 1.0, 2.0, 1.0])))
        # The head stays where it is: the middle of the field of view is the middle of the new grid (to a voxel).
        size = np.array(grid.values.shape[::-1])
        middle = grid.affine[:3, :3] @ ((size - 1) / 2) + grid.affine[:3, 3]
        assert middle == pytest.approx([9.5, 9.5, 3.0], abs=0.51)


def test_resampled_thick_slices_hide_their_thickness(person: tissues.Anatomy) -> None:
    image = np.random.default_rng(8).random((60, 60, 60)).astype(np.float32)
    grid = reg.Grid(image, np.eye(4))
    seen = set()
    for seed in range(12):
        made = other_contrasts.rethickened(grid, np.random.default_rng(seed))
        assert made.values.std() < 0.7 * image.std()
        same = (np.diff(made.values, axis=0) == 0).mean()
        seen.add("nearest" if same > 0.5 else "smooth")
        assert made.values.mean() == pytest.approx(image.mean(), rel=0.02)
    assert seen == {"nearest", "smooth"}
