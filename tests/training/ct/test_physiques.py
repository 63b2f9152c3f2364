"""Patients are varied in what is theirs: phase, bone, fat, arms, oral contrast, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qc_node.training.ct.simulation.augment import AIR, augment, couched, quantum_noise
from qc_node.training.ct.simulation.physiques import (
    boned,
    fattened,
    phased,
    vary_patients,
    with_arms,
    with_oral_contrast,
)


def trunk(n: int = 1) -> torch.Tensor:
    y, x = np.mgrid[:96, :96]
    hu = np.full((96, 96), AIR, np.float32)
    hu[((x - 48) / 34) ** 2 + ((y - 48) / 26) ** 2 <= 1] = 50
    hu[56:66, 42:54] = 500  # a vertebra, cortex
    hu[59:63, 45:51] = 180  # and marrow
    hu[40:46, 44:50] = 200  # aorta
    return torch.from_numpy(np.tile(hu, (n, 3, 1, 1)))


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_a_phase_scales_blood_and_leaves_muscle_and_cortex() -> None:
    late = phased(trunk(2), torch.tensor([0.5, 2.0]))
    assert late[0, 1, 43, 47] == 130 and late[1, 1, 43, 47] == 340
    assert (late[:, 1, 60, 30] == 50).all() and (late[:, 1, 57, 44] == 500).all()


def test_old_bone_is_less_dense_and_blood_is_not() -> None:
    old = boned(trunk(2), torch.tensor([0.6, 1.4]))
    assert old[0, 1, 60, 46] == pytest.approx(130 + 50 * 0.6) and old[1, 1, 57, 44] == pytest.approx(
        130 + 370 * 1.4
    )
    assert (old[:, 1, 43, 47] == 200).all()


def test_fat_fills_what_the_shrunken_body_leaves_of_its_outline() -> None:
    whole = trunk()
    out = fattened(whole, torch.tensor([0.8]), torch.tensor([-100.0]))
    assert torch.equal(out == AIR, whole == AIR), "the outline is the old one"
    assert out[0, 1, 48, 48 - 33] == -100 and out[0, 1, 48, 48 + 33] == -100
    assert (out[0, 1] == 500).sum() < (whole[0, 1] == 500).sum()


def test_arms_and_couch_cover_nothing_of_the_body() -> None:
    whole = trunk()[0]
    for changed in (with_arms(whole, rng()), couched(whole, rng())):
        body = whole > -950
        assert torch.equal(changed[body], whole[body]) and (changed > -950).sum() > body.sum()


def test_swallowed_contrast_is_bright_and_spares_bone() -> None:
    whole = trunk()[0]
    fed = with_oral_contrast(whole, rng())
    assert (fed[1] >= 120).sum() > (whole[1] >= 120).sum()
    assert torch.equal(fed[:, 56:66, 42:54], whole[:, 56:66, 42:54])


def test_only_enhanced_slices_change_their_phase() -> None:
    n = 64
    places, enhanced = torch.full((n,), float("nan")), torch.arange(n) % 2 == 0
    soft = trunk(n)
    soft[:, :, 56:66, 42:54] = 50  # without bone nothing but the aorta is bright
    brightest = vary_patients(soft, rng(), places, enhanced).flatten(1).max(1).values
    assert (brightest[~enhanced] < 200.01).all() and (brightest[~enhanced] > 190).all()
    assert ((brightest[enhanced] - 200).abs() > 10).sum() > n / 8


def test_noise_follows_path_and_kernel_and_streaks_run_along_rows() -> None:
    whole = trunk(40)
    zero = torch.zeros(40)
    flat = quantum_noise(whole, zero + 20, zero, zero, rng())
    assert float(flat[:, :, 45:51, 60:70].std()) == pytest.approx(20, rel=0.25)
    assert flat[:, :, 45:51, 40:56].std() > 1.2 * flat[:, :, 23:26, 45:51].std()

    def neighbours(noise: torch.Tensor) -> float:
        part = noise[:, :, 40:56, 30:66]
        return float(np.corrcoef(part[..., :-1].ravel(), part[..., 1:].ravel())[0, 1])

    soft, sharp = (quantum_noise(whole, zero + 20, zero + k, zero, rng()) for k in (-1, 1))
    assert neighbours(sharp) < 0 < neighbours(soft)
    streaks = quantum_noise(whole, zero, zero, zero + 30, rng())
    assert neighbours(streaks) > 0.9 and streaks[:, :, 48].std() > 3 * streaks[:, :, 23].std()


def test_variation_of_scanner_and_patient_can_be_repeated() -> None:
    places, enhanced = torch.linspace(200, 900, 30), torch.ones(30, dtype=torch.bool)
    first, again = (augment(trunk(30), rng(), 8.0, places, enhanced) for _ in range(2))
    torch.testing.assert_close(first, again)
    assert torch.isfinite(first).all()
