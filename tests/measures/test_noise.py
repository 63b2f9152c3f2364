"""Noise that is planted is measured, in whatever image."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from qc_node.domain.measurable import Slices
from qc_node.measures import noise
from qc_node.measures.regions import Regions, regions_of
from tests.measures.heads import REAL, made, planted, real, with_voxels

LEVELS = (1, 4, 12, 30)
"""Planted noise, in units of what is there."""


def measured(slices: Slices) -> dict[str, float | str]:
    return noise.of_noise(slices, regions_of(slices))


def number(slices: Slices, name: str) -> float:
    value = measured(slices)[name]
    assert isinstance(value, float), (name, value)
    return value


def regions(slices: Slices) -> Regions:
    found = regions_of(slices)
    assert isinstance(found, Regions), found
    return found


def obeys_the_law(slices: Slices, name: str, levels: tuple[int, ...], bound: float = 0.10) -> int:
    """Whether planted noise is measured as sqrt(sigma^2 + sigma0^2); how many levels could be asked.

    A level is not asked where it leaves a signal below the noise: then no body is seen, which the measure may say.
    """
    own = measured(slices)[name]
    if isinstance(own, str):
        return 0
    signal = own * number(slices, "snr_object") if name == "noise_object" else np.inf
    body_signal = number(slices, "snr_object") * number(slices, "noise_object")
    asked = 0
    for level in levels:
        if level * own > min(signal, body_signal):
            continue
        got = number(planted(slices, level * own), name)
        assert got == pytest.approx(own * np.hypot(1, level), rel=bound), (name, level)
        asked += 1
    return asked


@pytest.mark.parametrize("name", ["noise_air", "noise_object"])
@pytest.mark.parametrize("sigma", [2.0, 8.0, 40.0, 150.0])
def test_noise_of_a_made_head(name: str, sigma: float) -> None:
    assert number(made(sigma), name) == pytest.approx(sigma, rel=0.06)


@pytest.mark.data
@pytest.mark.parametrize("name", ["noise_air", "noise_object"])
def test_noise_planted_in_a_real_head(name: str, shared_data: Path) -> None:
    assert obeys_the_law(real(shared_data, REAL[1]), name, (1, 4, 12)) >= 2


@pytest.mark.data
@pytest.mark.nightly
@pytest.mark.parametrize("image", REAL)
def test_noise_planted_in_each_real_image(image: str, shared_data: Path) -> None:
    slices = real(shared_data, image)
    asked = [obeys_the_law(slices, name, (1, 2, *LEVELS[1:])) for name in ("noise_air", "noise_object")]
    assert asked[1] >= 3, "the body is measured in every one"
    assert asked[0] or isinstance(measured(slices)["noise_air"], str)


@pytest.mark.parametrize("sigma", [4.0, 20.0, 80.0])
def test_signal_does_not_grow_with_noise(sigma: float) -> None:
    """Noise lifts magnitudes; the signal is what is behind."""
    calm, slices = made(1.0), made(sigma)
    signal = number(slices, "snr_object") * number(slices, "noise_object")
    assert signal == pytest.approx(number(calm, "snr_object") * number(calm, "noise_object"), rel=0.03)


def test_percents_and_ratio_tell_the_same() -> None:
    found = measured(made(8.0))
    assert isinstance(found["noise_percent"], float) and isinstance(found["snr_object"], float)
    assert found["noise_percent"] * found["snr_object"] == pytest.approx(100.0)


# -- invariance ------------------------------------------------------------------------------------------
def rescaled(slices: Slices, gain: float) -> Slices:
    return replace(slices, volume=replace(slices.volume, slope=gain))


def amplified(slices: Slices, gain: float) -> Slices:
    return with_voxels(slices, slices.volume.voxels.astype(np.float32) * gain)


def turned(slices: Slices, axes: tuple[int, int, int]) -> Slices:
    return with_voxels(slices, np.ascontiguousarray(slices.volume.voxels.transpose(axes)))


def flipped(slices: Slices, axis: int) -> Slices:
    return with_voxels(slices, np.ascontiguousarray(np.flip(slices.volume.voxels, axis)))


def cropped(slices: Slices) -> Slices:
    """Without half of the air on each side."""
    k, j, i = (n // 14 for n in slices.volume.shape)
    return with_voxels(slices, np.ascontiguousarray(slices.volume.voxels[k:-k, j:-j, i:-i]))


@pytest.mark.parametrize("change", [rescaled, amplified])
def test_a_gain_scales_grey_values_and_no_ratio(change: object) -> None:
    assert callable(change)
    slices = made(8.0)
    before, after = measured(slices), measured(change(slices, 12.5))
    for name, value in before.items():
        assert isinstance(value, float)
        assert after[name] == pytest.approx(
            value * (12.5 if name in ("noise_air", "noise_object") else 1), rel=1e-3
        )


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        *((partial(flipped, axis=n), 0.05) for n in range(3)),
        (partial(turned, axes=(0, 2, 1)), 0.05),
        (partial(turned, axes=(2, 1, 0)), 0.05),
        (cropped, 0.05),
    ],
    ids=["flip k", "flip j", "flip i", "rows and columns", "other slices", "crop"],
)
def test_orientation_and_a_crop_of_air_change_little(change: object, bound: float) -> None:
    assert callable(change)
    slices = made(8.0, shape=(51, 97, 83))
    before, after = measured(slices), measured(change(slices))
    for name, value in before.items():
        assert after[name] == pytest.approx(value, rel=bound), name


# -- what has no noise -----------------------------------------------------------------------------------
def without_air(slices: Slices, keep: float = 0.0) -> Slices:
    voxels = slices.volume.voxels.copy()
    air = ~np.kron(regions(slices).body, np.ones((2, 2, 2), dtype=bool))
    voxels[air & (np.random.default_rng(3).random(voxels.shape) >= keep)] = 0
    return with_voxels(slices, voxels)


@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5])
def test_blanked_air_has_no_noise_and_the_body_has(keep: float) -> None:
    found = measured(without_air(made(8.0), keep))
    assert found["noise_air"] == found["noise_air_percent"] == noise.ZEROED
    assert found["noise_object"] == pytest.approx(8.0, rel=0.06)


def test_padding_around_air_is_no_air() -> None:
    slices = made(8.0)
    voxels = np.pad(slices.volume.voxels, ((0, 0), (40, 40), (40, 40)))
    assert number(with_voxels(slices, voxels), "noise_air") == pytest.approx(8.0, rel=0.06)


def test_signed_values_are_no_magnitudes() -> None:
    slices = made(1.0)
    signed = slices.volume.voxels + np.random.default_rng(0).normal(0, 8, slices.volume.shape)
    found = measured(with_voxels(slices, signed.astype(np.float32)))
    assert found["noise_air"] == noise.NOT_MAGNITUDES
    assert found["noise_object"] == pytest.approx(8.0, rel=0.06)


def test_noise_below_one_grey_value_of_air_is_still_measured() -> None:
    """Rounded to 0 and 1: zeros are what noise makes, not what a mask leaves."""
    assert number(made(0.5), "noise_air") == pytest.approx(0.5, rel=0.25)


def test_an_image_filled_with_zeros_in_k_space_reads_too_low_in_the_body_alone() -> None:
    """As the docs say: the finest detail is not there."""
    slices = made(8.0, shape=(48, 96, 96))
    spectrum = np.fft.fftshift(np.fft.fftn(slices.volume.voxels, axes=(1, 2)), axes=(1, 2))
    filled = np.abs(
        np.fft.ifftn(np.fft.ifftshift(np.pad(spectrum, ((0, 0), (48, 48), (48, 48))), axes=(1, 2)), axes=(1, 2))
    )
    wide = replace(slices.volume, affine=np.diag([1.0, 1.0, 2.0, 1.0]))
    found = measured(with_voxels(replace(slices, volume=wide), (filled * 4).astype(np.float32)))
    assert isinstance(found["noise_object"], float) and found["noise_object"] < 0.5 * 8.0
    assert found["noise_air"] == pytest.approx(8.0, rel=0.15)


# -- its parts -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [4, 16, 32, 128])
def test_the_median_of_squares_is_that_of_chi_squared(n: int) -> None:
    assert noise.chi2_median(n) == pytest.approx(stats.chi2.median(n) / n, rel=5e-3)


@pytest.mark.parametrize("signal", [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0])
def test_the_share_of_variance_that_magnitudes_keep(signal: float) -> None:
    """Against the Rice distribution of scipy."""
    mean, variance = stats.rice.stats(signal, moments="mv")
    assert noise.rician_share(float(mean) / float(variance) ** 0.5) == pytest.approx(float(variance), rel=0.015)
