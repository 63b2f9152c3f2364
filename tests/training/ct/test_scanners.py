"""Simulated scanners change what they say they change, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.projections import project
from qc_node.domain import Volume
from qc_node.training.ct.simulation import scanners
from qc_node.training.ct.simulation.scanners import Source

AFFINE = np.diag([2.0, 2.0, -2.0, 1.0])


@pytest.fixture
def trunk() -> Source:
    """An ellipse of muscle with bone, bright blood and a bright kidney; 60 slices of 2 mm."""
    y, x = np.mgrid[:110, :160].astype(np.float32)
    hu = np.full((60, 110, 160), -1000, np.float32)
    inside = ((x - 80) / 70) ** 2 + ((y - 55) / 48) ** 2 <= 1
    hu[:, inside] = 50
    hu[:, 75:92, 72:90] = 600  # vertebra with marrow
    hu[:, 79:88, 76:86] = 180
    hu[:, 50:60, 76:84] = 160  # aorta
    hu[20:40, 60:80, 30:45] = 200
    return Source(hu, (2.0, 2.0, 2.0))


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_every_orientation_comes_out_the_same() -> None:
    voxels = np.random.default_rng(0).integers(-1000, 400, (4, 5, 6)).astype(np.int16)
    first = Source.of(Volume(voxels, AFFINE, modality="CT"))
    turned = Source.of(Volume(voxels[::-1, ::-1, ::-1].copy(), -AFFINE @ np.diag([1, 1, 1, -1]), modality="CT"))
    np.testing.assert_array_equal(first.hu, voxels)
    np.testing.assert_array_equal(turned.hu, voxels)
    oblique = AFFINE.copy()
    oblique[0, 1] = 0.7
    with pytest.raises(ValueError, match="the axes of the volume"):
        Source.of(Volume(voxels, oblique, modality="CT"))


def test_a_tilted_gantry_is_set_upright() -> None:
    voxels = np.full((20, 40, 40), -1000, np.int16)
    for k in range(20):
        voxels[k, 20 - k // 2 : 25 - k // 2, 15:25] = 100  # a bar along z, sheared as the gantry sees it
    sheared = np.array([[2.0, 0, 0, 0], [0, 2, 1, 0], [0, 0, -4, 0], [0, 0, 0, 1]])
    bar = Source.upright(Volume(voxels, sheared, modality="CT"))
    assert bar.spacing == (2.0, 2.0, 2.0)
    rows = [np.argwhere(plane > 0)[:, 0].mean() for plane in bar.hu[4:-4]]
    assert np.ptp(rows) < 1.5, "straight again"
    assert bar.hu.shape[0] == 39


@pytest.mark.parametrize("sigma", [10.0, 40.0])
def test_noise_has_the_height_and_the_correlation_of_its_kernel(trunk: Source, sigma: float) -> None:
    muscle = (trunk.hu[0] == 50) & (np.abs(np.mgrid[:110, :160][1] - 110) < 20)
    lag = {}
    for kind in ("soft", "standard", "sharp"):
        noise = (scanners.dose(trunk, sigma, kind, rng()).hu - trunk.hu)[:, muscle]
        assert noise.std() == pytest.approx(sigma, rel=0.35) and abs(noise.mean()) < sigma / 10
        lag[kind] = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    assert lag["sharp"] < 0 < lag["standard"] < lag["soft"], "blotchy when soft, grainy when sharp"


def test_noise_is_more_where_the_path_is_long_and_none_where_the_picture_was_erased(trunk: Source) -> None:
    noise = scanners.dose(trunk, 20.0, "standard", rng()).hu - trunk.hu
    middle, rim = noise[:, 50:60, 60:70].std(), noise[:, 12:16, 75:85].std()
    assert middle > 1.1 * rim
    erased = scanners.dose(Source(trunk.hu, trunk.spacing, masked=True), 20.0, "standard", rng())
    assert (erased.hu[trunk.hu == -1000] == -1000).all()


def test_phase_scales_the_excess_of_blood_and_leaves_bone_muscle_and_noise(trunk: Source) -> None:
    late, early = scanners.phase(trunk, 0.42), scanners.phase(trunk, 2.0)
    blood = np.s_[10, 53:57, 78:82]
    assert late.hu[blood].mean() == pytest.approx(60 + 100 * 0.42, abs=4)
    assert early.hu[blood].mean() == pytest.approx(60 + 100 * 2, abs=4)
    for changed in (late, early):
        np.testing.assert_array_equal(changed.hu[:, 79:88, 76:86], 180, "marrow inside its cortex")
        np.testing.assert_array_equal(changed.hu[10, 40:70, 100:120], 50)


def test_coverage_and_thickness_keep_the_place_on_the_body(trunk: Source) -> None:
    part = scanners.coverage(trunk, 0.25, 0.75)
    assert len(part.hu) == 30 and part.top_mm == 30
    thick = scanners.thick(trunk, 5.0)
    assert len(thick.hu) == 24 and thick.spacing[0] == 5
    assert thick.hu[9, 70, 37] == pytest.approx(200), "a kidney of 40 mm is whole in its middle slice"
    assert thick.hu.mean() == pytest.approx(trunk.hu.mean(), abs=2)
    assert scanners.thick(thick, 5.0) is thick


def test_a_small_field_cuts_the_body_and_a_circle_leaves_empty_corners(trunk: Source) -> None:
    square = scanners.field_of_view(trunk, 0.7, rng(), circle=False)
    assert square.hu.shape == (60, 77, 112)
    circle = scanners.field_of_view(trunk, 0.7, rng(), circle=True)
    assert (circle.hu[:, 0, 0] == -1024).all() and circle.hu.shape == square.hu.shape


def test_the_couch_is_taken_for_no_patient(trunk: Source) -> None:
    lying = scanners.table(trunk, rng())
    assert (lying.hu > -900).sum() > (trunk.hu > -900).sum() * 1.05, "there is a couch"
    before, after = (project(s.volume()).coarse for s in (trunk, lying))
    # The couch touches the back: the body may grow by a rim, not by a slab.
    assert (after > -350).sum() < 1.1 * (before > -350).sum()


def test_kernels_blur_and_overshoot(trunk: Source) -> None:
    def edge(source: Source) -> float:
        return float(np.abs(np.diff(source.hu[10, 55], axis=0)).max())

    smooth, sharp = scanners.kernel(trunk, "smooth", rng()), scanners.kernel(trunk, "lung", rng())
    assert edge(smooth) < edge(trunk) < edge(sharp)


def test_the_same_seed_makes_the_same_scanner(trunk: Source) -> None:
    first, again = (scanners.dose(trunk, 20.0, "soft", rng()).hu for _ in range(2))
    np.testing.assert_array_equal(first, again)
