"""A CT whose slices do not lie evenly is judged at their true places, and what was done is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from qc_node.domain import Volume
from qc_node.series.volume.places import GAP_MM, places
from qc_node.series.volume.stack import SeriesRefused, open_series
from tests.series.makers import make_series, voxels

HEAD = [4.0 * k for k in range(14)] + [53.2 + 7.0 * k for k in range(14)]
"""Two spacings of a head protocol, which overlap by a slice where they meet (dcm_qa_ct, GE HiSpeed)."""


def at(
    depths: Sequence[float], also: Callable[[int, Dataset], None] | None = None
) -> Callable[[int, Dataset], None]:
    """A change that puts slice k at ``depths[k]`` mm."""

    def change(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [-10, -20, round(float(depths[k]), 4)]
        if also:
            also(k, ds)

    return change


def ramp(depths: Sequence[float], shape: tuple[int, int] = (8, 10)) -> np.ndarray:
    """Slices whose value is ten times their depth, so that linear interpolation is exact."""
    values = np.round(np.array(depths) * 10).astype("<i2")
    return np.broadcast_to(values[:, None, None], (len(values), *shape)).copy()


def ct(folder: Path, depths: Sequence[float], modality: str = "CT", **kinds: object) -> list[Path]:
    return make_series(folder, ramp(depths), modality=modality, change=at(depths, **kinds))  # type: ignore[arg-type]


def volume_of(paths: list[Path]) -> Volume:
    return open_series(paths).volume()


def check_ramp(volume: Volume, first: float = 0.0, left_empty: tuple[float, float] = (0.0, 0.0)) -> None:
    """Every slice has the value of its depth, but for those in a gap; the last may lie half a step off."""
    step = volume.affine[2, 2]
    for k, picture in enumerate(volume.voxels):
        depth = first + k * step
        if k == len(volume.voxels) - 1:
            assert abs(float(picture.mean()) - 10 * depth) <= 5 * step
        elif not left_empty[0] < depth < left_empty[1]:
            assert abs(float(picture.mean()) - 10 * depth) < 0.15 * 10 * step + 1, k


def test_two_spacings_of_a_head_are_one_volume_of_the_finer_one(tmp_path: Path) -> None:
    volume = volume_of(ct(tmp_path, HEAD))
    assert volume.spacing_mm[2] == pytest.approx(4.0, abs=0.02)
    assert volume.shape[0] == 37 and volume.voxels.dtype == np.int16
    check_ramp(volume)
    assert "Slices lie 4 and 7 mm apart; they were interpolated to 4 mm." in volume.warnings


def test_thin_and_thick_slices_of_an_old_protocol(tmp_path: Path) -> None:
    depths = [2.5 * k for k in range(16)] + [37.5 + 7.5 * k for k in range(1, 13)]
    volume = volume_of(ct(tmp_path, depths))
    assert volume.shape[0] == 52 and volume.spacing_mm[2] == pytest.approx(2.5)
    check_ramp(volume)
    assert "Slices lie 2.5 and 7.5 mm apart; they were interpolated to 2.5 mm." in volume.warnings


@pytest.mark.parametrize("missing", [1, 6, 12])
def test_one_missing_slice_refuses_no_ct(tmp_path: Path, missing: int) -> None:
    depths = [5.0 * k for k in range(14) if k != missing]
    volume = volume_of(ct(tmp_path, depths))
    assert volume.shape[0] == 14
    check_ramp(volume)
    (said,) = volume.warnings
    assert "(0020,0032) leaves a gap of 10.00 mm" in said and "interpolated" in said
    assert f"between slices {missing} and {missing + 1} " in said


def test_a_gap_too_wide_to_interpolate_is_left_empty_and_named(tmp_path: Path) -> None:
    depths = [5.0 * k for k in range(30) if not 12 <= k < 18]
    volume = volume_of(ct(tmp_path, depths))
    assert volume.shape[0] == 30
    check_ramp(volume, left_empty=(55, 90))
    assert np.all(volume.voxels[12:18] == volume.voxels[11].min()), "the darkest value of the neighbours: air"
    assert any("gap of 35.00 mm between slices 12 and 13" in w and "left empty" in w for w in volume.warnings)


def test_an_uneven_table_is_taken_as_it_went(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    depths = np.cumsum(rng.uniform(4.2, 5.8, 40)).round(2).tolist()
    volume = volume_of(ct(tmp_path, depths))
    check_ramp(volume, depths[0])
    assert any(w.startswith("Slices lie between 4.2") and w.endswith("mm.") for w in volume.warnings)


def test_alternating_distances_need_no_word(tmp_path: Path) -> None:
    depths = np.cumsum([4.8, 5.2] * 12).round(2).tolist()
    volume = volume_of(ct(tmp_path, depths))
    assert volume.shape[0] == 24 and volume.warnings == ()


def test_mr_with_uneven_slices_is_refused_as_before(tmp_path: Path) -> None:
    with pytest.raises(SeriesRefused, match="is not evenly spaced"):
        volume_of(ct(tmp_path, HEAD, modality="MR"))


def test_a_tilted_head_with_two_spacings_keeps_its_shear(tmp_path: Path) -> None:
    data = ramp(HEAD)

    def tilt(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [-10, round(-20 + 0.3 * HEAD[k], 4), round(HEAD[k], 4)]

    volume = volume_of(make_series(tmp_path, data, modality="CT", change=tilt))
    assert volume.affine[:3, 2] == pytest.approx((0.0, 1.2, 4.0), abs=0.01)
    assert any("tilted gantry" in w for w in volume.warnings)


def test_slices_far_away_are_left_out_and_said(tmp_path: Path) -> None:
    depths = [3.0 * k for k in range(40)] + [900.0, 903.0]
    volume = volume_of(ct(tmp_path, depths))
    assert volume.shape[0] == 40
    assert any("reach over 117 of 903 mm" in w for w in volume.warnings)


def test_a_slice_at_the_place_of_another_where_two_protocols_meet(tmp_path: Path) -> None:
    depths = [4.0 * k for k in range(14)] + [52.0 + 7.0 * k for k in range(14)]
    data = ramp(depths)
    data[14] += 7  # the thick slice shows something else
    volume = volume_of(make_series(tmp_path, data, modality="CT", change=at(depths)))
    assert volume.voxels[13].max() == 520, "the first by Instance Number"
    assert any("1 image left out" in w for w in volume.warnings)


def test_two_acquisitions_that_interleave_are_told_apart_as_before(tmp_path: Path) -> None:
    depths = sorted([5.0 * k for k in range(15)] + [5.0 * k + 1.3 for k in range(15)])

    def number(k: int, ds: Dataset) -> None:
        ds.AcquisitionNumber = 1 + k % 2

    volume = volume_of(ct(tmp_path, depths, also=number))
    assert volume.shape[0] == 15
    assert any("Acquisition Number (0020,0012) takes 2 values" in w for w in volume.warnings)
    with pytest.raises(SeriesRefused, match="leaves a gap"):
        volume_of(ct(tmp_path / "untold", depths))


def test_half_of_a_series_does_not_stand_for_the_whole(tmp_path: Path) -> None:
    depths = HEAD

    def half(k: int, ds: Dataset) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "THIN" if k < 14 else "THICK"]

    volume = volume_of(ct(tmp_path, depths, also=half))
    assert volume.shape[0] == 37, "each half is regular, and the series reaches twice as far"
    assert not any("Image Type" in w for w in volume.warnings)


def test_two_tilts_judge_one_and_say_how_far_it_reaches(tmp_path: Path) -> None:
    depths = [5.0 * k for k in range(28)]

    def tilt(k: int, ds: Dataset) -> None:
        if k >= 14:
            ds.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 0.97, -0.2431]

    volume = volume_of(ct(tmp_path, depths, also=tilt))
    assert volume.shape[0] == 14
    assert any("(0020,0037) takes 2 values" in w for w in volume.warnings)
    assert any("reach over 65 of" in w for w in volume.warnings)


def test_padding_is_not_mixed_with_tissue(tmp_path: Path) -> None:
    depths = HEAD
    data = np.full((28, 8, 10), 1064, "<i2")
    data[::2, :, :5] = -2000

    def pad(k: int, ds: Dataset) -> None:
        ds.PixelPaddingValue = -2000

    volume = volume_of(make_series(tmp_path, data, modality="CT", change=at(depths, pad)))
    assert set(np.unique(volume.voxels)) == {-2000, 1064}


def test_slopes_of_their_own_are_applied_before_interpolating(tmp_path: Path) -> None:
    def slope(k: int, ds: Dataset) -> None:
        ds.RescaleSlope = 1 + k % 2
        ds.RescaleIntercept = -10.0 * HEAD[k] * (k % 2)  # twice the value less the value

    volume = volume_of(ct(tmp_path, HEAD, also=slope))
    assert volume.voxels.dtype == np.float32
    check_ramp(volume)


def test_the_first_and_the_last_slice_are_there(tmp_path: Path) -> None:
    data = voxels((28, 8, 10))
    depths = [2.5 * k for k in range(16)] + [37.5 + 7.5 * k for k in range(1, 13)]
    volume = volume_of(make_series(tmp_path, data, modality="CT", change=at(depths)))
    assert np.array_equal(volume.voxels[0], data[0]) and np.array_equal(volume.voxels[-1], data[-1])


# -- the grid ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "depth",
    [
        [0.0, 5.0, 11.0],  # too few
        [0.0, 0.4, 5.0, 5.4, 10.0, 10.4, 15.0, 15.4],  # two acquisitions
        [0.0, 5.0, 10.0, 200.0, 205.0, 210.0],  # two ranges, and nothing between
    ],
)
def test_slices_that_fit_no_grid(depth: list[float]) -> None:
    assert places(np.array(depth), "P") is None


def test_a_few_thin_slices_do_not_blow_a_series_up() -> None:
    depth = np.cumsum([0.5] * 20 + [5.0] * 100)
    found = places(depth, "P")
    assert found is not None and found.slots <= 3 * len(depth) + 1


def test_thick_slices_are_no_gaps() -> None:
    depth = np.cumsum([5.0] * 10 + [20.0] * 10)
    found = places(depth, "P")
    assert found is not None and not found.empty and GAP_MM < 20.0
