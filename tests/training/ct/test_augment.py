"""Small fields of view and heads without a skull: what the position network is taught to expect."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qc_node.classifiers.ct.body import TISSUE
from qc_node.training.ct.simulation.augment import AIR, FIELD_MM, aerated, augment, small_field, stripped

N = 60


def trunks() -> torch.Tensor:
    """Elliptic trunks of 320 x 240 mm with lungs: ``(N, 3, 96, 96)`` HU."""
    y, x = np.mgrid[:96, :96].astype(np.float32)
    hu = np.full((96, 96), AIR, np.float32)
    hu[((x - 48) / 40) ** 2 + ((y - 48) / 30) ** 2 <= 1] = 40
    hu[((np.abs(x - 48) - 18) / 12) ** 2 + ((y - 48) / 20) ** 2 <= 1] = -850
    return torch.from_numpy(np.tile(hu, (N, 3, 1, 1)))


def test_a_small_field_cuts_the_body_straight_and_keeps_what_is_inside() -> None:
    whole = trunks()
    cut, centre = small_field(whole, torch.ones(N, dtype=torch.bool), np.random.default_rng(0))
    kept = cut == whole
    assert ((cut == AIR) | kept).all()
    tissue = cut[:, 1] > TISSUE
    assert (tissue.sum((1, 2)) >= 156).all() and (tissue.sum((1, 2)) < 0.95 * (whole[0, 1] > TISSUE).sum()).any()
    widths = 4 * tissue.any(1).sum(1)
    assert (widths <= FIELD_MM[1] + 4).sum() > N * 0.9, "nearly every trunk is wider than a small field"
    assert (cut[:, 1] == -850).any((1, 2)).sum() > N / 2, "lung stays lung where the border opens it"
    offsets = centre.abs().max(1).values
    assert offsets.max() > 8 and offsets.max() < 48
    for n in range(5):
        rows, columns = torch.nonzero(tissue[n], as_tuple=True)
        middle = torch.stack([columns.float().mean(), rows.float().mean()]) - 47.5
        torch.testing.assert_close(centre[n], middle, atol=1e-3, rtol=0)


def test_what_is_not_chosen_or_would_be_empty_stays() -> None:
    whole = trunks()
    same, centre = small_field(whole, torch.zeros(N, dtype=torch.bool), np.random.default_rng(0))
    assert torch.equal(same, whole) and not centre.any()
    wrist = torch.full((N, 3, 96, 96), AIR)
    wrist[:, :, 44:50, 44:50] = 40.0
    same, _ = small_field(wrist, torch.ones(N, dtype=torch.bool), np.random.default_rng(0))
    assert torch.equal(same, wrist)


def test_a_cut_body_is_centred_again() -> None:
    out = augment(trunks(), np.random.default_rng(1))
    tissue = (out[:, 1] > TISSUE).float()
    pixel = torch.arange(96.0)
    x = (tissue.sum(1) * pixel).sum(1) / tissue.sum((1, 2))
    # A shift of up to 15 % of half the grid is wanted; without centring, cut trunks lie up to 25 pixels aside.
    assert ((x - 47.5).abs() < 12).all()


def test_a_stripped_head_is_brain_only_and_a_trunk_is_left_alone() -> None:
    y, x = np.mgrid[:96, :96]
    r = np.hypot(y - 48, x - 48)
    head = np.full((3, 96, 96), AIR, np.float32)
    head[:, r < 22], head[:, r < 20], head[:, r < 17] = 40, 900, 33
    out = stripped(head)
    assert (
        set(np.unique(out)) == {np.float32(AIR), np.float32(33)} and (out == 33).sum() > 0.8 * (head == 33).sum()
    )
    trunk = trunks()[0].numpy()
    assert stripped(trunk) is trunk


def test_more_air_changes_lung_only() -> None:
    whole = trunks()[:3]
    out = aerated(whole, torch.tensor([-0.3, 0.0, 1.0]))
    lung = whole == -850
    assert torch.equal(out[~lung], whole[~lung])
    levels = [float(out[n][lung[n]].mean()) for n in range(3)]
    assert levels == pytest.approx([-795, -850, -981], abs=1)
    ramp = aerated(torch.linspace(-1024, 100, 96).expand(1, 3, 96, 96), torch.tensor([0.8]))[0, 0, 0]
    assert (ramp.diff() >= 0).all(), "what was denser stays denser"
