"""Where an image lies in its array, its unit, and the air around it change next to nothing of its measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qc_node.domain.measurable import Slices
from qc_node.measures import noise, uniformity
from qc_node.measures.regions import Regions, regions_of
from tests.measures.heads import REAL, real, with_voxels

pytestmark = pytest.mark.data

Values = dict[str, float | str]
BOUNDS = {"nonuniformity": 0.08}
NOISE_BOUND = 0.09
"""Relative; reached at 2 mm, where few groups of pixels lie in tissue.  At 1 mm it is 2 %."""


def measured(slices: Slices) -> Values:
    regions = regions_of(slices)
    return noise.of_noise(slices, regions) | uniformity.of_uniformity(regions)


def with_half_the_air(slices: Slices) -> Slices:
    regions = regions_of(slices)
    assert isinstance(regions, Regions)
    at = np.argwhere(regions.body)
    cut = []
    for axis, (first, last) in enumerate(zip(at.min(0), at.max(0) + 1, strict=True)):
        n, f, s = slices.volume.shape[axis], regions.factors[axis], regions.starts[axis]
        cut.append(slice((first * f + s) // 2, last * f + s + (n - last * f - s + 1) // 2))
    return with_voxels(slices, np.ascontiguousarray(slices.volume.voxels[tuple(cut)]))


CHANGES: dict[str, Callable[[Slices], Slices]] = {
    "slices turned round": lambda s: with_voxels(s, np.ascontiguousarray(s.volume.voxels[::-1])),
    "upside down": lambda s: with_voxels(s, np.ascontiguousarray(s.volume.voxels[:, ::-1])),
    "mirrored": lambda s: with_voxels(s, np.ascontiguousarray(s.volume.voxels[:, :, ::-1])),
    "half the air": with_half_the_air,
}


def plain(folder: Path, name: str) -> Slices:
    """With a slope of 1, so that only the change is one."""
    slices = real(folder, name)
    return with_voxels(slices, slices.volume.voxels.astype(np.float32) * np.float32(slices.volume.slope))


def stays(before: Values, after: Values) -> list[str]:
    """What changed by more than its bound."""
    wrong = []
    for name, value in before.items():
        now = after[name]
        if isinstance(value, str) or isinstance(now, str):
            if value != now:
                wrong.append(f"{name}: {value} became {now}")
        elif abs(now - value) > BOUNDS.get(name, NOISE_BOUND) * abs(value):
            wrong.append(f"{name}: {value:.4g} became {now:.4g}")
    return wrong


@pytest.mark.parametrize("change", CHANGES)
def test_place_in_the_array_and_air_change_little(shared_data: Path, change: str) -> None:
    slices = plain(shared_data, REAL[3])
    assert stays(measured(slices), measured(CHANGES[change](slices))) == []


@pytest.mark.nightly
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("image", REAL)
def test_place_in_the_array_and_air_change_little_in_each_image(
    shared_data: Path, image: str, change: str
) -> None:
    slices = plain(shared_data, image)
    assert stays(measured(slices), measured(CHANGES[change](slices))) == []


@pytest.mark.parametrize("slope", [1e-4, 37.5])
def test_the_rescale_slope_is_a_unit(shared_data: Path, slope: float) -> None:
    slices = plain(shared_data, REAL[3])
    before = measured(slices)
    after = measured(replace(slices, volume=replace(slices.volume, slope=slope)))
    for name, value in before.items():
        assert isinstance(value, float)
        assert after[name] == pytest.approx(value * (slope if name in ("noise_air", "noise_object") else 1))
