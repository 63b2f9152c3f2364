"""Artefacts obey the physics they claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from qc_node.training.brain_mri.simulation import artefacts


@pytest.fixture
def head() -> np.ndarray:
    """A blob with structure, away from the borders."""
    rng = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(rng.random((40, 44, 48)).astype(np.float32), 1.5)
    k, j, i = np.indices(volume.shape)
    inside = ((k - 20) / 13.0) ** 2 + ((j - 22) / 14.0) ** 2 + ((i - 24) / 15.0) ** 2 < 1
    return np.where(inside, 0.5 + 3 * (volume - volume.mean()), 0).clip(0).astype(np.float32)


def _still(n_lines: int, poses: int = 1) -> artefacts.Trajectory:
    return artefacts.Trajectory(np.zeros((poses, 3)), np.zeros((poses, 3)), np.zeros(n_lines, dtype=np.int64))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_no_motion_changes_nothing(head: np.ndarray, axis: int) -> None:
    moved = artefacts.move(head, (1, 1, 1), axis, _still(head.shape[axis]))
    assert np.abs(moved - head).max() < 1e-5


def test_a_shift_of_the_whole_scan_is_a_shift(head: np.ndarray) -> None:
    trajectory = artefacts.Trajectory(np.zeros((1, 3)), np.array([[3.0, 0, 0]]), np.zeros(44, dtype=np.int64))
    moved = artefacts.move(head, (1, 1, 1), 1, trajectory)
    assert np.abs(moved[3:] - head[:-3]).max() < 1e-4


def test_millimetres_respect_the_spacing(head: np.ndarray) -> None:
    shifted = artefacts.posed(head, (1.0, 2.0, 0.5), (0, 0, 0), (0, 4.0, 2.0))
    assert np.abs(shifted[:, 2:, 4:] - head[:, :-2, :-4]).max() < 1e-4


def test_a_quarter_turn_turns_the_array() -> None:
    volume = np.zeros((9, 9, 9), np.float32)
    volume[4, 4, 7] = 1
    turned = artefacts.posed(volume, (1, 1, 1), (90, 0, 0), (0, 0, 0))
    where = tuple(int(i) for i in np.unravel_index(turned.argmax(), turned.shape))
    assert where in [(4, 7, 4), (4, 1, 4)] and turned.max() > 0.99


def test_motion_ghosts_run_along_the_slow_axis_only(head: np.ndarray) -> None:
    # The head jumps back and forth between two positions along k, lines alternate: ghosts along j.
    line_pose = (np.arange(44) % 2).astype(np.int64)
    trajectory = artefacts.Trajectory(np.zeros((2, 3)), np.array([[1.5, 0, 0], [-1.5, 0, 0]]), line_pose)
    moved = artefacts.move(head, (1, 1, 1), 1, trajectory)
    assert moved[:, :6].max() > 0.02  # air beside the head along j now has signal
    assert moved[:, 22, :5].max() < 0.01 * head.max()  # not along i


def test_motion_near_the_centre_of_k_space_is_worse(head: np.ndarray) -> None:
    n = head.shape[1]
    frequency = np.abs(np.fft.fftfreq(n) * n)
    poses = (np.zeros((2, 3)), np.array([[0, 0, 0], [3.0, 0, 0]]))
    centre = artefacts.move(
        head, (1, 1, 1), 1, artefacts.Trajectory(*poses, ((frequency > 0) & (frequency < 5)).astype(int))
    )
    edge = artefacts.move(head, (1, 1, 1), 1, artefacts.Trajectory(*poses, (frequency > n / 2 - 4).astype(int)))
    assert np.square(centre - head).sum() > 5 * np.square(edge - head).sum()


def test_trajectories_are_demeaned_so_that_position_is_no_cue() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        t = artefacts.draw_trajectory(64, 0.8, rng)
        energy = 1 / (1 + np.abs(np.fft.fftfreq(64) * 64)) ** 2
        weight = np.bincount(t.line_pose, energy, minlength=len(t.rotations_deg))
        assert np.abs(weight @ t.rotations_deg).max() < 1e-9
        assert np.abs(weight @ t.translations_mm).max() < 1e-9


def test_rician_noise_in_air_and_in_tissue() -> None:
    rng = np.random.default_rng(5)
    air = artefacts.add_noise(np.zeros((50, 50, 50), np.float32), 0.1, rng)
    assert air.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)
    tissue = artefacts.add_noise(np.ones((50, 50, 50), np.float32), 0.1, rng)
    assert tissue.std() == pytest.approx(0.1, rel=0.02)
    assert np.square(tissue).mean() == pytest.approx(1 + 2 * 0.01, rel=0.01)


def test_noise_follows_the_g_factor() -> None:
    rng = np.random.default_rng(6)
    g = np.ones((40, 40, 40), np.float32)
    g[:20] = 3
    noisy = artefacts.add_noise(np.full_like(g, 5.0), 0.1, rng, g)
    assert noisy[:20].std() / noisy[20:].std() == pytest.approx(3, rel=0.05)


def test_ghosts_lie_a_fraction_of_the_field_of_view_away(head: np.ndarray) -> None:
    ghosted = artefacts.ghost(head, 1, 2, 0.3)
    far = np.roll(head, 22, axis=1)  # period 2: half a field of view
    air = (head == 0) & (far > 0.2)
    assert np.corrcoef(ghosted[air], far[air])[0, 1] > 0.9


def test_wrap_folds_what_is_cut_off() -> None:
    volume = np.zeros((4, 10, 4), np.float32)
    volume[:, 0] = 1
    folded = artefacts.wrap(volume, 1, 2)
    assert folded.shape == (4, 6, 4)
    assert folded[:, 4].tolist() == volume[:, 0].tolist()
    assert folded.sum() == volume.sum()


def test_a_spike_is_one_line_in_k_space(head: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    spectrum = np.abs(np.fft.fftn(artefacts.spike(head + 1, rng, 0.05) - (head + 1)))
    top = np.sort(spectrum.ravel())[::-1]
    assert top[:64].sum() > 20 * top[2000:2064].sum()


def test_gibbs_overshoots_at_an_edge_by_nine_per_cent() -> None:
    step = np.zeros((4, 4, 256), np.float32)
    step[..., 64:192] = 1
    ringing = artefacts.truncate_k_space(step, 2, 0.25)
    assert ringing.max() == pytest.approx(1.09, abs=0.02)


def test_bias_is_smooth_and_positive(head: np.ndarray) -> None:
    rng = np.random.default_rng(8)
    gain = artefacts.bias(np.ones_like(head), rng, 0.2)
    assert gain.min() > 0
    assert np.abs(np.diff(gain, axis=0)).max() < 0.15
    assert np.log(gain).std() == pytest.approx(0.2, rel=0.05)


def test_thick_slices_keep_the_mean() -> None:
    volume = np.random.default_rng(9).random((12, 5, 5)).astype(np.float32)
    thick = artefacts.thick_slices(volume, 0, 4)
    assert thick.shape == (3, 5, 5)
    assert thick.mean() == pytest.approx(volume.mean())
