"""Body, air and what was blanked are told apart, whatever the contrast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices
from qc_node.measures import regions
from qc_node.measures.regions import Regions, regions_of
from tests.measures.heads import made, planted, with_voxels


def seen(slices: Slices, hounsfield: bool = False) -> Regions:
    found = regions_of(slices, hounsfield)
    assert isinstance(found, Regions), found
    return found


def truth(found: Regions, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Where the ellipsoid of a made head is, in blocks."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = np.sum([(x / r) ** 2 for x, r in zip(axes, (0.8, 0.7, 0.65), strict=True)], axis=0) < 1
    k, j, i = (n // f for n, f in zip(shape, found.factors, strict=True))
    fk, fj, fi = found.factors
    blocks = inside[: k * fk, : j * fj, : i * fi].reshape(k, fk, j, fj, i, fi)
    return np.asarray(blocks.mean((1, 3, 5)) > 0.5)


@pytest.mark.parametrize("noise", [1.0, 20.0, 60.0, 150.0])
def test_the_body_is_found_in_much_noise(noise: float) -> None:
    slices = made(noise)
    found = seen(slices)
    there = truth(found, slices.volume.shape)
    overlap = 2 * (found.body & there).sum() / (found.body.sum() + there.sum())
    assert overlap > 0.95
    assert not (found.air & there).any()


def test_more_noise_does_not_move_the_body() -> None:
    slices = made(4.0)
    before, after = seen(slices).body, seen(planted(slices, 60.0)).body
    assert (before != after).mean() < 0.02


def test_a_very_long_series_is_looked_at_in_part_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = made(20.0)
    whole = seen(slices)
    monkeypatch.setattr(regions, "MOST_LOOKED_AT", slices.volume.voxels.size // 2)
    part = seen(slices)
    assert whole.factors[0] > 1, "a block has several slices, so that some may be left out"
    assert part.body.shape == whole.body.shape and (part.body != whole.body).mean() < 0.02
    assert not np.array_equal(part.mean, whole.mean)
    assert np.median(part.mean[part.tissue]) == pytest.approx(np.median(whole.mean[whole.tissue]), rel=0.02)


def test_blanked_corners_are_no_air() -> None:
    slices = made(8.0)
    voxels = slices.volume.voxels.copy()
    voxels[:, :20, :20] = 0
    found = seen(with_voxels(slices, voxels))
    assert found.blanked[:, :9, :9].all() and not found.air[:, :10, :10].any()
    assert found.air.any()


@pytest.mark.parametrize("noise", [8.0, 100.0])
def test_noise_beside_a_blanked_corner_is_no_body(noise: float) -> None:
    slices = made(noise)
    voxels = slices.volume.voxels.copy()
    voxels[:, :20, :20] = 0
    found = seen(with_voxels(slices, voxels))
    there = truth(found, slices.volume.shape)
    assert 2 * (found.body & there).sum() / (found.body.sum() + there.sum()) > 0.93


def test_a_body_without_air_is_all_body() -> None:
    slices = made(4.0)
    voxels = slices.volume.voxels.copy()
    voxels[~np.kron(seen(slices).body, np.ones((2, 2, 2), dtype=bool))] = 0
    found = seen(with_voxels(slices, voxels))
    assert (found.body == seen(slices).body).mean() > 0.98


def test_padding_is_no_air_although_it_is_not_the_lowest_value() -> None:
    slices = made(8.0)
    voxels = slices.volume.voxels.copy()
    voxels[:, :20] = 5
    found = seen(replace(slices, volume=replace(slices.volume, voxels=voxels, padding_value=5.0)))
    assert found.blanked[:, :9].all()


def test_a_cavity_belongs_to_the_body_and_is_no_tissue() -> None:
    slices = made(4.0)
    voxels = slices.volume.voxels.copy()
    voxels[20:28, 44:52, 36:44] = 0
    found = seen(with_voxels(slices, voxels))
    inside = (slice(11, 13), slice(23, 25), slice(19, 21))
    assert found.body[inside].all() and not found.tissue[inside].any()


def test_hounsfield_units_need_no_classes() -> None:
    rng = np.random.default_rng(0)
    hu = rng.normal(-1000, 15, (12, 64, 64))
    hu[:, 16:48, 16:48] = rng.normal(40, 15, (12, 32, 32))
    volume = Volume((hu + 1024).round().astype(np.int16), np.diag([1.0, 1.0, 5.0, 1.0]), 1.0, -1024.0, "CT")
    found = seen(Slices(volume), hounsfield=True)
    assert found.body[:, 4:12, 4:12].all() and found.body.sum() == 12 * 8 * 8
    assert found.factors == (1, 4, 4)


def test_each_block_has_its_mean_and_mean_square() -> None:
    slices = made(8.0, (9, 21, 23))
    found = seen(slices)
    k, j, i = found.starts
    block = slices.volume.voxels[k : k + 2, j : j + 2, i : i + 2].astype(float)
    assert found.factors == (2, 2, 2) and found.starts == (0, 0, 0)
    assert found.mean[0, 0, 0] == pytest.approx(block.mean())
    assert found.square[0, 0, 0] == pytest.approx((block**2).mean())


@pytest.mark.parametrize(
    ("voxels", "sentence"),
    [
        (np.zeros((3, 3, 3), np.int16), regions.ALL_ONE_VALUE),
        (np.full((3, 3, 3), np.nan, np.float32), regions.NO_NUMBERS),
        (np.zeros((0, 3, 3), np.int16), regions.NO_NUMBERS),
        (np.random.default_rng(0).normal(900, 1, (12, 40, 40)).astype(np.float32), regions.NOTHING_SEEN),
    ],
)
def test_what_has_no_regions_says_why(voxels: npt.NDArray[np.generic], sentence: str) -> None:
    assert regions_of(Slices(Volume(voxels, np.eye(4), modality="MR"))) == sentence


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_a_slope_that_is_none_says_so(slope: float) -> None:
    slices = made()
    assert regions_of(replace(slices, volume=replace(slices.volume, slope=slope))) == regions.BAD_SLOPE


def test_otsu_parts_two_humps() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1, 0.2, 3000), rng.normal(5, 0.5, 500)]).astype(np.float32)
    assert 1.5 < regions.otsu(values) < 4.0
