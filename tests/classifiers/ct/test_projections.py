"""Every projection against a phantom whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.calibration import AIR
from qc_node.classifiers.ct.pictures import network_image, square, thumbnails, windowed
from qc_node.classifiers.ct.projections import COARSE_MM, CONVERSIONS, GRID, area_weights, project
from qc_node.domain import Volume
from tests.classifiers.ct.phantoms import SHAPE, SPACING, body, volume, with_markers


def test_mip_aip_and_mid_plane_of_the_phantom() -> None:
    voxels = with_markers(body())
    p = project(volume(voxels))
    up = voxels[::-1].astype(np.float32)  # display: head first
    assert set(p.images) == set(CONVERSIONS)
    inside = body() == 0
    assert p.images["mip_axial"][84, 70] == 800 and p.images["mip_axial"][60, 70] == 0
    assert p.images["mip_axial"][0, 0] == AIR
    # Bone along the whole length: 10 of 60 slices hold the air pocket where x is in it.
    np.testing.assert_allclose(p.images["aip_axial"][50, 100], -1000 * 10 / 60, atol=1)
    np.testing.assert_allclose(p.images["aip_axial"][84, 70], 800, atol=1)
    np.testing.assert_array_equal(p.images["mid_axial"][50:70, 40:100], voxels[30, 50:70, 40:100])
    np.testing.assert_array_equal(p.images["mip_coronal"][:, 66:74], np.full((60, 8), 800))
    assert p.images["mip_coronal"][7, 42] == 400, "the ball is cranial (row 7) and on the right (column 42)"
    assert p.images["mip_sagittal"][7, 37] == 400, "and anterior (column 37)"
    np.testing.assert_array_equal(p.images["mid_coronal"][:, 40:100], up[:, 60, 40:100])
    np.testing.assert_array_equal(p.images["mid_sagittal"][:, 40:80], up[:, 40:80, 70])
    tissue_rows = inside[0, :, 70].sum()
    expected = (800 * 8) / tissue_rows
    np.testing.assert_allclose(p.images["aip_coronal"][5, 70], expected, rtol=0.06)
    assert p.spacing_mm["coronal"] == (2.0, 1.0) and p.spacing_mm["axial"] == (1.0, 1.0)


def test_feet_first_and_mirrored_storage_give_the_same_pictures() -> None:
    voxels = with_markers(body())
    reference = project(volume(voxels))
    affine = np.diag([-1.0, -1.0, -2.0, 1.0])
    turned = project(volume(voxels[::-1, ::-1, ::-1], affine=affine))
    for name in CONVERSIONS:
        if not name.startswith("mid"):  # the middle of an even count is the other neighbour
            np.testing.assert_allclose(turned.images[name], reference.images[name], atol=1)
    np.testing.assert_array_equal(turned.coarse, reference.coarse)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1), (2, 1, 0)])
def test_reformatted_acquisition_gives_the_same_pictures(order: tuple[int, int, int]) -> None:
    voxels = with_markers(body())
    reference = project(volume(voxels))
    columns = {0: [0, 0, 2.0], 1: [0, 1.0, 0], 2: [1.0, 0, 0]}  # world direction of the axes k, j, i
    affine = np.eye(4)
    for array_axis, source in enumerate(order):
        affine[:3, 2 - array_axis] = columns[source]
    p = project(volume(voxels.transpose(order), affine=affine))
    for plane in ("axial", "coronal", "sagittal"):
        assert p.images[f"mip_{plane}"].shape == reference.images[f"mip_{plane}"].shape
        assert p.spacing_mm[plane] == reference.spacing_mm[plane]
        same = np.mean(p.images[f"mip_{plane}"] == reference.images[f"mip_{plane}"])
        assert same > 0.97, "only the mask's edge may differ, because slabs are cut in another direction"
    assert p.coarse.shape == reference.coarse.shape
    assert np.mean(np.abs(p.coarse.astype(int) - reference.coarse) < 60) > 0.97


def test_gantry_tilt_is_undone() -> None:
    straight = with_markers(body())
    tilted = straight.copy()
    step = 0.5  # mm along the rows per slice: 14 degrees at 2 mm
    for k in range(SHAPE[0]):
        tilted[k] = np.roll(straight[k], -round((k - (SHAPE[0] - 1) / 2) * step), axis=0)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[1, 2] = step
    p, reference = project(volume(tilted, affine=affine)), project(volume(straight))
    np.testing.assert_allclose(p.images["mip_sagittal"], reference.images["mip_sagittal"], atol=1)
    assert np.mean(np.abs(p.coarse.astype(int) - reference.coarse) < 60) > 0.98
    blurred = project(volume(tilted))
    assert np.mean(blurred.images["mip_axial"] == reference.images["mip_axial"]) < 0.99, "the test can fail"


def test_couch_wire_and_blanket_are_removed_and_arms_stay() -> None:
    bare = with_markers(body())
    dressed = bare.copy()
    dressed[:, 108:111, :] = 300  # couch shell
    dressed[:, 112, 20:120] = -100
    dressed[:, 8:10, 30:110] = 150  # blanket
    dressed[:, 20:24, 4:6] = 2000  # wire
    clean, worn = project(volume(bare)), project(volume(dressed))
    for name in CONVERSIONS:
        np.testing.assert_allclose(worn.images[name], clean.images[name], atol=1)
    np.testing.assert_array_equal(worn.coarse, clean.coarse)
    wide = np.full((20, 120, 300), -1000, np.int16)
    wide[:, :, 80:220] = bare[:20]
    wide[:, 45:85, 20:60] = 40  # an arm
    p = project(volume(wide))
    assert p.images["mip_axial"][65, 40] == 40


def test_padding_clipped_and_float_values_are_air_or_clipped() -> None:
    voxels = with_markers(body())
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    outside = (y - 59.5) ** 2 + (x - 69.5) ** 2 > 58**2
    padded = voxels.copy()
    padded[:, outside] = -2000
    low = project(volume(padded))
    np.testing.assert_array_equal(low.coarse, project(volume(voxels)).coarse)
    padded[:, outside] = 3000
    marked = project(volume(padded, padding_value=3000.0))
    np.testing.assert_array_equal(marked.coarse, low.coarse)
    as_float = voxels.astype(np.float32)
    as_float[:, 0, 0], as_float[:, 1, 1], as_float[0, 2, 2] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(project(volume(as_float)).coarse, low.coarse)
    metal = voxels.copy()
    metal[30, 60, 60] = 32767
    assert project(volume(metal)).images["mip_axial"][60, 60] == 3071


def test_stored_values_with_slope_and_missing_intercept() -> None:
    voxels = with_markers(body())
    reference = project(volume(voxels))
    stored = (voxels.astype(np.int32) + 1024).astype(np.uint16)
    rescaled = project(volume(stored, intercept=-1024.0))
    np.testing.assert_array_equal(rescaled.coarse, reference.coarse)
    lost = project(volume(stored))
    assert "intercept" in lost.warnings[0] and lost.calibration.problem is None
    np.testing.assert_array_equal(lost.coarse, reference.coarse)
    halved = project(volume(((voxels + 1024) // 2).astype(np.int16), slope=2.0, intercept=-1024.0))
    assert np.abs(halved.coarse.astype(int) - reference.coarse).max() <= 2


def test_anisotropic_voxels_keep_their_shape_in_the_square() -> None:
    p = project(volume(with_markers(body())))
    picture = square(p.images["mip_coronal"], p.spacing_mm["coronal"], 280)
    assert picture.shape == (280, 280)
    bone = np.argwhere(picture > 700)
    height, width = np.ptp(bone, axis=0) + 1
    # 60 slices of 2 mm = 120 mm of 140 mm across; the bone is 8 mm wide.
    assert height == pytest.approx(240, abs=2) and width == pytest.approx(16, abs=2)


def test_window_and_network_image() -> None:
    np.testing.assert_allclose(windowed(np.array([[-450.0, 50.0, 550.0, 3000.0]])), [[0, 0.5, 1, 1]])
    image = network_image(project(volume(with_markers(body()))), "mid_axial")
    assert image.shape == (512, 512) and image.dtype == np.float32
    assert image.min() == 0.0 and image[256, 200] == pytest.approx(0.45, abs=0.01)


def test_coarse_volume_is_the_mean_in_hounsfield_units() -> None:
    voxels = body((64, 160, 160))
    rng = np.random.default_rng(1)
    voxels[voxels == 0] = rng.normal(40, 30, (voxels == 0).sum()).astype(np.int16)
    p = project(volume(voxels, (1.0, 1.0, 1.0)))
    assert p.coarse.shape == (16, GRID, GRID) and COARSE_MM == 4.0
    middle = p.coarse[2:14, 44:52, 44:52]
    assert abs(middle.mean() - 40) < 1 and middle.std() < 30 / 8 * 1.2


@pytest.mark.parametrize(("count", "spacing"), [(512, 0.7), (128, 4.88), (128, 4.0), (7, 0.5), (1, 0.3)])
def test_area_weights_average(count: int, spacing: float) -> None:
    weights = area_weights(count, spacing)
    np.testing.assert_allclose(np.asarray(weights.sum(1)).ravel(), 1, rtol=1e-5)
    assert weights.shape == (max(1, round(count * spacing / COARSE_MM)), count)
    centres = (np.arange(count) + 0.5) * spacing
    along = weights @ centres
    expected = count * spacing / 2 + (np.arange(len(along)) - (len(along) - 1) / 2) * COARSE_MM
    np.testing.assert_allclose(along[1:-1], expected[1:-1], atol=max(0.6, spacing / 2 + 0.1))


def test_truncated_field_of_view_is_measured() -> None:
    whole = project(volume(body()))
    cut = project(volume(np.ascontiguousarray(body()[:, :, 45:95])))
    assert whole.edge_fraction.max() == 0 and cut.edge_fraction.min() > 0.4


@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 1, 1), (3, 2, 5), (3000, 16, 16)])
def test_absurd_shapes_do_not_raise(shape: tuple[int, int, int]) -> None:
    voxels = np.full(shape, -1000, np.int16)
    voxels[:, shape[1] // 4 : -shape[1] // 4 or None, shape[2] // 4 : -shape[2] // 4 or None] = 30
    p = project(volume(voxels, (1.0, 4.0, 4.0)))
    assert p.coarse.shape[1:] == (GRID, GRID)
    assert all(np.isfinite(image).all() for image in p.images.values())
    assert {t.shape for t in thumbnails(p).values()} == {(256, 256)}


def test_degenerate_affine_does_not_raise() -> None:
    for affine in (np.zeros((4, 4)), np.full((4, 4), np.nan)):
        p = project(Volume(with_markers(body()), affine))
        assert np.isfinite(p.images["mip_axial"]).all()


def test_thumbnails_are_small_pictures_of_all_planes() -> None:
    pictures = thumbnails(project(volume(with_markers(body()))))
    assert set(pictures) == {"axial", "coronal", "sagittal", "mip_coronal", "mip_sagittal"}
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and max(picture.shape) <= 256 and np.ptp(picture) > 80
    assert SPACING == (2.0, 1.0, 1.0)
