"""The measures of structure on made images whose values are known, and on images that are none."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Measure
from qc_node.measures import between_slices, coverage, edges, ghosts, patterns, planes, spectrum

MODULES = (edges, spectrum, patterns, ghosts, between_slices, coverage)
MEASURES: dict[str, Measure] = {measure.name: measure for module in MODULES for measure in module.MEASURES}


def head(count: int = 12, seed: int = 3) -> npt.NDArray[np.float32]:
    """An ellipsoid with texture in air, ``(count, 160, 140)``: like a thick stack of a head."""
    k, j, i = np.ogrid[:count, :160, :140]
    inside = ((j - 80) / 52) ** 2 + ((i - 70) / 40) ** 2 + ((k - count / 2) / count) ** 2 < 1
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=inside.shape), (3, 2, 2))
    values = inside * (500 + 300 * texture / texture.std() * 0.3)
    return np.asarray(ndimage.gaussian_filter(values, (0, 1, 1)), np.float32)


def stack(
    voxels: npt.NDArray[Any], spacing: tuple[float, float, float] = (1.0, 1.0, 4.0), **volume: Any
) -> Slices:
    return Slices(Volume(voxels, np.diag([*spacing, 1.0]), modality="MR", **volume), thickness_mm=spacing[2])


def test_names_units_and_ranges_are_in_order() -> None:
    assert len(MEASURES) == sum(len(module.MEASURES) for module in MODULES)
    assert all(measure.low < measure.high and measure.source for measure in MEASURES.values())


# -- entropy and spectrum --------------------------------------------------------------------------------
def test_entropy_focus_is_atkinsons_for_an_object_of_that_size() -> None:
    values = np.random.default_rng(0).gamma(2, 100, spectrum.PIXELS)
    most = np.sqrt(len(values)) * np.log(np.sqrt(len(values)))
    share = values / np.sqrt((values**2).sum())
    assert spectrum.entropy_focus(values) == pytest.approx(-(share * np.log(share)).sum() / most, rel=1e-9)


def test_entropy_focus_does_not_know_the_size_or_the_gain() -> None:
    values = np.random.default_rng(0).gamma(2, 100, 2000)
    assert spectrum.entropy_focus(np.tile(values, 30) * 7) == pytest.approx(spectrum.entropy_focus(values))
    assert spectrum.entropy_focus(np.full(50, 3.0)) == pytest.approx(1)


@pytest.mark.parametrize("exponent", [0.0, -2.0, -3.0])
def test_the_slope_of_made_spectra_is_found(exponent: float) -> None:
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    frequency[0, 0] = 1
    noise = np.fft.rfft2(np.random.default_rng(2).normal(size=(256, 256)))
    image = np.fft.irfft2(noise * frequency ** (exponent / 2))
    found = spectrum.of_image(image, (1.0, 1.0))["spectrum_slope"]
    assert found == pytest.approx(exponent, abs=0.15)


# -- patterns and ghosts ---------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.03, 0.06, 0.12])
def test_a_wave_is_measured_as_its_amplitude(share: float) -> None:
    voxels = head()
    plane = planes.planes_of(stack(voxels))[0]
    j, i = np.ogrid[:160, :140]
    waved = voxels + np.float32(share * plane.signal) * np.cos(2 * np.pi * (0.31 * j + 0.23 * i))
    assert patterns.of_slices(stack(waved))["wave_level"] == pytest.approx(100 * share, rel=0.15)
    assert patterns.of_slices(stack(voxels))["wave_level"] == 0


def test_noise_is_no_wave_and_no_stripe() -> None:
    noise = np.random.default_rng(4).normal(0, 100, (300, 300))
    found = patterns.of_image(noise)
    assert found["wave_level"] == 0
    assert float(found["line_level"]) < 4


@pytest.mark.parametrize("axis", [1, 2])
def test_a_stripe_is_measured_as_its_height_in_either_direction(axis: int) -> None:
    voxels = head()
    signal = planes.planes_of(stack(voxels))[0].signal
    middle = [slice(None)] * 3
    middle[axis] = slice(75, 76)
    voxels[tuple(middle)] -= 0.5 * signal
    assert patterns.of_slices(stack(voxels))["line_level"] == pytest.approx(50, rel=0.2)


@pytest.mark.parametrize(("axis", "name"), [(1, "ghost_along_columns"), (2, "ghost_along_rows")])
def test_a_ghost_is_measured_along_its_axis(axis: int, name: str) -> None:
    voxels = head() + np.float32(2)
    voxels += np.abs(np.random.default_rng(1).normal(0, 4, voxels.shape)).astype(np.float32)
    ghost = voxels + 0.08 * np.roll(voxels, voxels.shape[axis] // 2, axis)
    found, clean = ghosts.of_slices(stack(ghost)), ghosts.of_slices(stack(voxels))
    other = ({"ghost_along_rows", "ghost_along_columns"} - {name}).pop()
    assert found[name] == pytest.approx(8, rel=0.15)
    assert float(found[other]) == pytest.approx(float(clean[other]), abs=0.5)


def test_where_no_ghost_can_be_seen_it_is_said() -> None:
    masked = np.where(head() > 20, head(), 0)
    assert set(ghosts.of_slices(stack(masked)).values()) == {ghosts.EMPTY_AIR}
    everywhere = np.random.default_rng(1).normal(500, 20, (6, 64, 64)).astype(np.float32)
    assert set(ghosts.of_slices(stack(everywhere)).values()) == {ghosts.NO_AIR}


# -- between slices --------------------------------------------------------------------------------------
@pytest.mark.parametrize("mm", [1.0, 3.0, 5.0])
def test_a_slice_that_lies_aside_is_measured_in_millimetres(mm: float) -> None:
    voxels = head()
    voxels[6] = ndimage.shift(voxels[6], (mm / 0.5 / np.sqrt(2),) * 2, order=1)
    found = between_slices.of_slices(stack(voxels, (0.5, 0.5, 4.0)))
    assert found["slice_shift"] == pytest.approx(mm, rel=0.15, abs=0.2)


@pytest.mark.parametrize("share", [-0.5, -0.1, 0.1, 0.5])
def test_a_slice_of_other_brightness_is_a_jump(share: float) -> None:
    voxels = head()
    voxels[6] *= 1 + share
    assert between_slices.of_slices(stack(voxels))["slice_jump"] == pytest.approx(100 * abs(share), abs=4)


def test_anatomy_that_changes_steadily_is_no_motion() -> None:
    voxels = np.stack([ndimage.shift(head()[0], (0.7 * k, 0)) * (1 + 0.05 * k) for k in range(12)])
    found = between_slices.of_slices(stack(voxels))
    assert float(found["slice_jump"]) < 2
    assert float(found["slice_shift"]) < 0.3


def test_volumes_are_not_asked_about_motion_between_slices() -> None:
    volume = stack(head()).volume
    assert set(between_slices.of_slices(Slices(volume, is_3d=True)).values()) == {between_slices.NOT_IN_TURN}
    assert set(between_slices.of_slices(stack(head(4))).values()) == {between_slices.TOO_FEW}
    many = stack(np.zeros((between_slices.MOST + 1, 20, 20), np.int16))
    assert set(between_slices.of_slices(many).values()) == {between_slices.TOO_MANY}


# -- coverage --------------------------------------------------------------------------------------------
def test_coverage_follows_the_axes_of_the_patient() -> None:
    sagittal = np.array([[0, 0, 5.0, 0], [0.9, 0, 0, 0], [0, -0.8, 0, 0], [0, 0, 0, 1]])
    slices = Slices(Volume(np.ones((20, 200, 100), np.int16), sagittal, modality="MR"), thickness_mm=4.0)
    found = coverage.of_slices(slices)
    assert found["coverage_lr_mm"] == pytest.approx(100)
    assert found["coverage_ap_mm"] == pytest.approx(90)
    assert found["coverage_hf_mm"] == pytest.approx(160)
    assert found["slice_gap_mm"] == pytest.approx(1)
    assert found["slice_count"] == 20
    thicker = replace(slices, thickness_mm=5.0000001)
    assert str(coverage.of_slices(thicker)["slice_gap_mm"]) == "0.0", "no gap has no sign"


def test_slices_without_content_between_others_are_missing() -> None:
    voxels = head(10)
    voxels[[0, 4, 5]] = 0
    assert coverage.of_slices(stack(voxels))["missing_slices"] == pytest.approx(100 * 2 / 9)
    assert coverage.of_slices(stack(head(10)))["missing_slices"] == 0
    assert coverage.of_slices(stack(np.zeros((4, 20, 20), np.int16)))["missing_slices"] == 100


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_slices_that_were_interpolated_where_some_were_missing_are_counted(kind: type[np.generic]) -> None:
    voxels = head(20).astype(kind)
    voxels[5] = (voxels[4].astype(float) + voxels[6]) / 2
    for k in (12, 13):
        voxels[k] = voxels[11] + (k - 11) / 3 * (voxels[14].astype(float) - voxels[11])
    assert coverage.of_slices(stack(voxels))["missing_slices"] == pytest.approx(15)
    assert coverage.of_slices(stack(head(20).astype(kind)))["missing_slices"] == 0


def test_what_the_geometry_does_not_say_has_no_number() -> None:
    one = Slices(Volume(np.ones((1, 20, 20), np.int16), np.zeros((4, 4)), modality="MR"))
    found = coverage.of_slices(one)
    assert found["coverage_lr_mm"] == coverage.NO_GEOMETRY
    assert found["slice_gap_mm"] == coverage.ONE_SLICE
    two = Slices(Volume(np.ones((2, 20, 20), np.int16), np.eye(4), modality="MR"))
    assert coverage.of_slices(two)["slice_gap_mm"] == coverage.NO_THICKNESS


# -- absurd images ---------------------------------------------------------------------------------------
SHAPES = ((1, 3, 3), (0, 5, 5), (5, 0, 0), (40, 17, 60), (5, 64, 64), (33, 40, 36), (64, 2, 64))
SPACINGS = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (np.nan, np.nan, np.nan), (1e9, 1.0, 1.0), (0.5, 0.5, 5.0))


def absurd(shape: tuple[int, int, int]) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=shape).astype(np.float32)
    return {
        "zero": np.zeros(shape, np.int16),
        "one value": np.full(shape, 65535, np.uint16),
        "not a number": np.full(shape, np.nan, np.float32),
        "infinite": np.full(shape, np.inf, np.float32),
        "noise": noise,
        "huge": noise * np.float32(1e30),
        "tiny": noise * np.float32(1e-30),
        "holes": np.where(noise > 0, np.nan, noise),
        "two values": (noise > 0).astype(np.uint8),
        "few points": (noise > 3).astype(np.int16) * 3000,
        "signed bytes": rng.integers(-128, 127, shape, np.int8),
    }


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_absurd_images_raise_nothing_and_every_value_is_within_its_range(shape: tuple[int, int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for (what, voxels), spacing in product(absurd(shape).items(), SPACINGS):
            for slope in (1.0, np.nan) if what == "noise" else (1.0,):
                in_range(voxels, spacing, slope)


def in_range(voxels: npt.NDArray[Any], spacing: tuple[float, float, float], slope: float) -> None:
    slices = stack(voxels, spacing, slope=slope)
    found: dict[str, float | str] = {}
    for module in MODULES:
        found |= module.of_slices(slices)
    assert found.keys() == MEASURES.keys()
    for module in (edges, spectrum, patterns):
        if len(voxels):
            found |= module.of_image(voxels[0], spacing[:2])
    for name, value in found.items():
        if not isinstance(value, str):
            assert type(value) is float, name
            assert MEASURES[name].low <= value <= MEASURES[name].high, name
