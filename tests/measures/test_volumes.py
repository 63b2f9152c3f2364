"""Every volume is measured or says why not; one part's failure is its own; it takes no time and no memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices, TissueLevels
from qc_node.domain.measure import ALL, Measured
from qc_node.domain.technique import Technique
from qc_node.measures import noise, uniformity, volumes
from qc_node.measures.catalogue import MEASURES
from qc_node.measures.volumes import measure_volume
from tests.measures.heads import made, with_voxels

MR, CT = Technique("MR"), Technique("CT")
RNG = np.random.default_rng(0)


def complete(measured: Measured, modality: str) -> None:
    """Each measure of the modality has a value in its range or a sentence, and none has both."""
    assert not measured.values.keys() & measured.unmeasured.keys()
    expected = {m.name for part in volumes.PARTS for m in part.measures if modality in m.modalities}
    tissues = {"grey_white_ratio", "csf_white_ratio", "white_grey_cnr", "tissue_overlap"}
    assert measured.values.keys() | measured.unmeasured.keys() == expected - tissues
    for name, value in measured.values.items():
        assert type(value) is float and np.isfinite(value), name
        assert MEASURES[name].low <= value <= MEASURES[name].high, (name, value)
    for name, sentence in measured.unmeasured.items():
        assert sentence.endswith(".") and sentence[0].isupper(), (name, sentence)


def test_a_made_head_has_all_measures_of_its_body() -> None:
    measured = measure_volume(made(8.0), MR)
    complete(measured, "MR")
    assert measured.values["noise_object"] == pytest.approx(8.0, rel=0.06)
    assert measured.values.keys() >= {
        "noise_air",
        "snr_object",
        "nonuniformity",
        "clipped_share",
        "coverage_hf_mm",
    }


def absurd() -> Iterator[tuple[str, npt.NDArray[Any]]]:
    shapes = [(1, 1, 1), (3, 3, 3), (1, 64, 64), (2, 5, 7), (40, 1, 1), (12, 40, 40), (64, 2, 90)]
    fills: list[tuple[str, Any]] = [
        ("zero", lambda s: np.zeros(s, np.int16)),
        ("one value", lambda s: np.full(s, 1234, np.uint16)),
        ("highest", lambda s: np.full(s, 65535, np.uint16)),
        ("negative", lambda s: RNG.integers(-32768, -1, s).astype(np.int16)),
        ("anything", lambda s: RNG.integers(0, 65536, s).astype(np.uint16)),
        ("two values", lambda s: RNG.integers(0, 2, s).astype(np.uint8)),
        ("NaN", lambda s: np.full(s, np.nan, np.float32)),
        ("infinite", lambda s: np.full(s, np.inf, np.float32)),
        ("half NaN", lambda s: np.where(RNG.random(s) < 0.5, np.nan, RNG.random(s)).astype(np.float32)),
        ("some infinite", lambda s: np.where(RNG.random(s) < 0.01, -np.inf, RNG.random(s)).astype(np.float32)),
        ("huge", lambda s: np.float32(3e38) * RNG.random(s, np.float32)),
        ("tiny", lambda s: np.float32(1e-38) * RNG.random(s, np.float32)),
        ("one pixel", lambda s: np.eye(1, int(np.prod(s)), dtype=np.uint16).reshape(s) * 60000),
        ("ramp", lambda s: np.arange(int(np.prod(s)), dtype=np.int32).astype(np.int16).reshape(s)),
    ]
    for shape in shapes:
        for name, fill in fills:
            yield f"{name} {shape}", fill(shape)


ABSURD = dict(absurd())


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("name", ABSURD)
def test_absurd_volumes_raise_nothing(name: str, modality: str) -> None:
    volume = Volume(ABSURD[name], np.diag([1.0, 1.0, 3.0, 1.0]), modality=modality)
    complete(measure_volume(Slices(volume, 3.0), Technique(modality)), modality)


@pytest.mark.parametrize(
    "change",
    [
        {"slope": 0.0},
        {"slope": np.nan},
        {"slope": -1.0},
        {"slope": 1e30, "intercept": -1e30},
        {"affine": np.zeros((4, 4))},
        {"affine": np.full((4, 4), np.nan)},
        {"affine": np.diag([1e-9, 1e9, 1.0, 1.0])},
    ],
)
def test_absurd_geometry_and_rescale_raise_nothing(change: dict[str, Any]) -> None:
    for modality in ("MR", "CT"):
        slices = made(8.0)
        volume = replace(slices.volume, modality=modality, **change)
        complete(measure_volume(replace(slices, volume=volume), Technique(modality)), modality)


def test_other_modalities_say_that_they_are_kept() -> None:
    assert measure_volume(made(), Technique("NM")).unmeasured == {ALL: volumes.NOT_MEASURED}


def broken(look: volumes.VolumeLook) -> dict[str, float | str]:
    raise FloatingPointError("secret")


def test_a_part_that_fails_leaves_a_sentence_and_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tuple(replace(p, take=broken) if p.measures is noise.MEASURES else p for p in volumes.PARTS)
    monkeypatch.setattr(volumes, "PARTS", parts)
    measured = measure_volume(made(), MR)
    assert {measured.unmeasured[m.name] for m in noise.MEASURES} == {
        "It could not be measured (FloatingPointError)."
    }
    assert "nonuniformity" in measured.values


def test_regions_that_fail_are_the_failure_of_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError

    monkeypatch.setattr(volumes, "regions_of", fails)
    measured = measure_volume(made(), MR)
    assert "noise_air" in measured.unmeasured and "edge_width_mm" in measured.values


def test_too_little_memory_is_the_machine_s_fault_not_the_image_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(uniformity, "of_uniformity", fails)
    with pytest.raises(MemoryError):
        measure_volume(made(), MR)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_an_impossible_value_is_a_sentence(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(uniformity, "of_uniformity", lambda regions: {"nonuniformity": value})
    measured = measure_volume(made(), MR)
    assert measured.unmeasured["nonuniformity"] == volumes.OUT_OF_RANGE


def test_tissues_are_measured_where_a_classifier_found_them() -> None:
    measured = measure_volume(made(8.0), MR, TissueLevels(600.0, 400.0, 100.0, 20.0, 30.0))
    assert measured.values["grey_white_ratio"] == pytest.approx(2 / 3)
    assert measured.values["white_grey_cnr"] == pytest.approx(200 / measured.values["noise_object"])


@pytest.mark.slow
def test_a_whole_head_takes_a_second_of_one_core_and_little_memory() -> None:
    slices = made(8.0, (176, 256, 256), 1.0)
    measure_volume(slices, MR)
    begun = time.thread_time()
    measure_volume(slices, MR)
    seconds = time.thread_time() - begun
    tracemalloc.start()
    measure_volume(slices, MR)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1.0
    assert peak < 40e6, "less than one copy of the volume as float32"


def test_the_voxels_are_left_as_they_are() -> None:
    slices = made(8.0)
    before = slices.volume.voxels.copy()
    slices.volume.voxels.setflags(write=False)
    measure_volume(slices, MR)
    measure_volume(replace(with_voxels(slices, before.astype(np.float32))), CT)
    assert (slices.volume.voxels == before).all()
