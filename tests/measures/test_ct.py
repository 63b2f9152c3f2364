"""Measures of CT on real volumes: laws of planted noise, metal and truncation; what stays as it was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Measured
from qc_node.domain.technique import Technique
from qc_node.measures.ct import MEASURES, of_ct
from qc_node.measures.findings import of as findings_of
from tests.measures.ct_faults import Floats, cropped, read_archive, read_nifti, slices_of, with_metal

CT = Technique("CT")
Values = dict[str, float]
Series = tuple[Floats, tuple[float, float, float]]
BOUNDS = {"noise_hu": 0.7, "fat_hu": 4.0, "muscle_hu": 4.0, "air_hu": 3.0}
"""How far a fault of another kind may move these, in HU."""


@pytest.fixture(scope="module")
def abdomen(shared_data: Path) -> Series:
    """Every fourth slice of a GE abdomen as stored: 11 slices of 512 x 512, 0.8 mm."""
    hu, spacing = read_archive(shared_data / "dicom" / "ct_crlm1004_2.tar.xz")
    return hu[::4], spacing


@pytest.fixture(scope="module")
def chest(shared_data: Path) -> Series:
    """30 slices of a Philips chest at 2 mm."""
    hu, spacing = read_nifti(shared_data / "ct" / "volumes" / "lidc0314_30026.nii.gz")
    return hu[60:90], spacing


def values(hu: npt.NDArray[np.floating], spacing: tuple[float, float, float]) -> dict[str, float]:
    return {name: value for name, value in of_ct(slices_of(hu, spacing), CT).items() if not isinstance(value, str)}


def kept(before: Values, after: Values, without: tuple[str, ...] = ()) -> None:
    for name, bound in BOUNDS.items():
        if name not in without:
            assert after[name] == pytest.approx(before[name], abs=bound), name


def test_tissues_have_the_hu_of_textbooks(abdomen: Series, chest: Series) -> None:
    for hu, spacing in (abdomen, chest):
        found = values(hu, spacing)
        assert -1005 < found["air_hu"] < -990
        assert -115 < found["fat_hu"] < -85
        assert 45 < found["muscle_hu"] < 75
        assert found["cut_outline"] == 0
        assert found["metal_share"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 3, 10, 30])
def test_planted_noise_adds_in_quadrature(abdomen: Series, times: int) -> None:
    hu, spacing = abdomen
    base = values(hu, spacing)["noise_hu"]
    noisy = hu + np.random.default_rng(times).normal(0, times * base, hu.shape)
    assert values(noisy, spacing)["noise_hu"] == pytest.approx(base * np.hypot(1, times), rel=0.1)


def test_planted_noise_adds_at_two_millimetres(chest: Series) -> None:
    """Within 12 %: a window has nine voxels, and resampling left little noise of its own to start from."""
    hu, spacing = chest
    base = values(hu, spacing)["noise_hu"]
    for times in (1, 3, 10):
        noisy = hu + np.random.default_rng(times).normal(0, times * base, hu.shape)
        assert values(noisy, spacing)["noise_hu"] == pytest.approx(base * np.hypot(1, times), rel=0.12)


def test_noise_leaves_the_rest(abdomen: Series) -> None:
    hu, spacing = abdomen
    before = values(hu, spacing)
    after = values(hu + np.random.default_rng(0).normal(0, 2 * before["noise_hu"], hu.shape), spacing)
    kept(before, after, without=("noise_hu", "fat_hu"))
    assert after["fat_hu"] == pytest.approx(before["fat_hu"], abs=8)
    assert after["cut_outline"] == pytest.approx(before["cut_outline"], abs=0.5)
    assert after["metal_share"] == 0


@pytest.fixture(scope="module")
def metal(abdomen: Series) -> tuple[Values, list[Values]]:
    """Two slices at 3.2 mm with a rod of 2 to 8 mm radius: (before, [after, …])."""
    hu, spacing = abdomen
    small, spacing = hu[:, ::4, ::4], (spacing[0] * 4, spacing[1] * 4, spacing[2] * 4)
    after: list[Values] = []
    for radius in (4.0, 8.0):
        rod = small.copy()
        for k in (4, 6):
            rod[k] = with_metal(small[k], spacing[0], (70, 64), radius, seed=k)
        after.append(values(rod, spacing))
    return values(small, spacing), after


@pytest.mark.slow
def test_metal_and_its_streaks_are_measured_in_order(metal: tuple[Values, list[Values]]) -> None:
    before, after = metal
    shares = [before["metal_share"], *(one["metal_share"] for one in after)]
    assert shares[0] == 0
    assert shares == sorted(set(shares))
    assert min(one["metal_streaks"] for one in after) > 15


@pytest.mark.slow
def test_metal_leaves_the_rest(metal: tuple[Values, list[Values]]) -> None:
    before, after = metal
    for one in after:
        kept(before, one, without=("noise_hu",))
        assert one["noise_hu"] == pytest.approx(before["noise_hu"], rel=0.1)
        assert one["cut_outline"] == pytest.approx(before["cut_outline"], abs=1)


def test_metal_without_streaks_is_no_finding(abdomen: Series) -> None:
    hu, spacing = abdomen
    clip = hu.copy()
    clip[:, 280:284, 256:260] = 3071
    found = values(clip, spacing)
    assert found["metal_share"] > 0
    assert found["metal_streaks"] < 15
    assert findings_of(Measured(found), CT, ()) == ()


def test_a_body_beyond_the_field_is_measured_in_order(chest: Series) -> None:
    hu, spacing = chest
    before = values(hu, spacing)
    after = [values(cropped(hu, columns), spacing) for columns in (10, 20, 30)]
    cut = [before["cut_outline"], *(one["cut_outline"] for one in after)]
    assert cut == sorted(set(cut))
    kept(before, after[0])
    assert [finding.kind for finding in findings_of(Measured(after[1]), CT, ())] == ["truncation"]


def test_a_body_beyond_the_circle_is_cut(abdomen: Series) -> None:
    hu, spacing = abdomen
    y, x = np.indices(hu.shape[1:]) - 255.5
    for outside in (-2000, -1024, -3024):
        narrow = hu[:, 106:406, 106:406].copy()
        narrow[:, np.hypot(y, x)[106:406, 106:406] > 150] = outside
        assert values(narrow, spacing)["cut_outline"] > 15, outside


def test_air_around_and_offset_of_the_header_change_nothing(abdomen: Series) -> None:
    hu, spacing = abdomen
    before = values(hu, spacing)
    wider = values(np.pad(hu, ((0, 0), (40, 40), (40, 40)), constant_values=-997), spacing)
    kept(before, wider)
    stored = Volume((np.rint(hu) + 4000).astype(np.uint16), np.diag([*spacing, 1.0]), 1.0, -4000.0, "CT")
    assert of_ct(Slices(stored), CT) == of_ct(slices_of(hu, spacing), CT)


def test_mirrored_and_turned_slices_measure_the_same(abdomen: Series) -> None:
    hu, spacing = abdomen
    before = values(hu, spacing)
    for other in (hu[:, ::-1], hu[:, :, ::-1], hu[::-1], np.rot90(hu, 1, (1, 2))):
        kept(before, values(np.ascontiguousarray(other), spacing))


@pytest.mark.parametrize("diameter", [150, 300])
def test_diameter_is_that_of_a_cylinder(diameter: int) -> None:
    y, x = np.indices((400, 400)) - 199.5
    plane = np.where(np.hypot(y, x) * 0.9 < diameter / 2, 40.0, -1000.0)
    found = values(np.stack([plane] * 3), (0.9, 0.9, 3.0))
    assert found["body_diameter"] == pytest.approx(diameter, rel=0.03)


def test_numbers_of_the_header_are_measures() -> None:
    hu = np.zeros((3, 32, 32))
    technique = Technique("CT", parameters={"kvp": 100.0, "slice_mm": 3.0}, stated={"ctdi_vol": 7.5, "mas": 0.0})
    found = of_ct(slices_of(hu, (1, 1, 1), thickness_mm=2.5), technique)
    assert (found["ctdi_vol"], found["kvp"], found["slice_thickness"]) == (7.5, 100.0, 2.5)
    assert found["mas"] == "The header does not state it."


def test_clean_series_have_no_finding(shared_data: Path) -> None:
    """The three series as stored by their scanners; cropped or resampled ones are in docs/measures.md."""
    for name in ("ct_crlm1004_2", "ct_dcmqa_ph_201", "ct_ts_dicom_0"):
        hu, spacing = read_archive(shared_data / "dicom" / f"{name}.tar.xz")
        assert findings_of(Measured(values(hu[::3], spacing)), CT, ()) == (), name


def is_sound(found: dict[str, float | str]) -> bool:
    measures = {measure.name: measure for measure in MEASURES}
    numbers = {name: value for name, value in found.items() if not isinstance(value, str)}
    inside = all(measures[name].low <= value <= measures[name].high for name, value in numbers.items())
    return set(found) == set(measures) and inside and all(type(value) is float for value in numbers.values())


RANDOM = np.random.default_rng(0)
ABSURD: dict[str, npt.NDArray[Any]] = {
    "zero": np.zeros((4, 64, 64), np.int16),
    "one slice": RANDOM.normal(0, 500, (1, 64, 64)).astype(np.float32),
    "tiny": np.ones((3, 3, 3), np.uint8),
    "empty": np.ones((0, 16, 16), np.int16),
    "thin": np.ones((5, 1, 400), np.int16),
    "noise": RANDOM.integers(-32768, 32767, (6, 80, 70)).astype(np.int16),
    "not a number": np.full((3, 40, 40), np.nan, np.float32),
    "infinite": np.where(RANDOM.random((3, 40, 40)) > 0.5, np.inf, -np.inf).astype(np.float32),
    "all metal": np.full((3, 64, 64), 4000, np.int16),
    "all padding": np.full((3, 64, 64), -2000, np.int16),
    "box": np.pad(np.full((4, 40, 40), 50, np.int16), ((0, 0), (20, 20), (20, 20)), constant_values=-1000),
}


@pytest.mark.parametrize("name", ABSURD)
@pytest.mark.parametrize("spacing", [(1, 1, 1), (0, 0, 0), (float("nan"), 1, 1), (1e9, 1e-9, 1)])
@pytest.mark.parametrize("slope", [1.0, 0.0, -1.0, float("nan"), 1e30])
def test_absurd_volumes_are_measured_or_say_why_not(
    name: str, spacing: tuple[float, float, float], slope: float
) -> None:
    volume = Volume(ABSURD[name], np.diag([*spacing, 1.0]).astype(float), slope, -5.0, "CT", padding_value=-2000.0)
    assert is_sound(of_ct(Slices(volume), CT))


@settings(max_examples=30)
@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))), st.floats())
def test_nothing_raises(voxels: npt.NDArray[np.float32], stated: float) -> None:
    technique = Technique("CT", stated={"ctdi_vol": stated, "kvp": stated})
    assert is_sound(of_ct(Slices(Volume(voxels, np.eye(4), modality="CT")), technique))


def test_a_series_takes_a_second(abdomen: Series) -> None:
    """A series of 300 slices of 512 x 512 on one core."""
    hu, spacing = abdomen
    long = slices_of(np.concatenate([hu] * 28), spacing)
    begun = time.process_time()
    of_ct(long, CT)
    assert time.process_time() - begun < 2.5
