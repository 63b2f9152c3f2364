"""Exposure: the arithmetic of IEC 62494-1, and faults planted in real images in both directions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from qc_node.domain.measurable import Radiograph
from qc_node.domain.measure import Measured
from qc_node.domain.technique import Technique
from qc_node.measures.collimation import irradiated, of_field
from qc_node.measures.exposure import deviation_index, of_greys, of_statement
from qc_node.measures.findings import of as findings_of
from qc_node.measures.radiographs import measure_radiographs
from tests.measures.xray_faults import overexposed, read_images, underexposed

DX = Technique("DX")
LARGE = ("chest", "leg", "hip")
"""Images that are large enough to tell noise from structure."""


def measured(image: Radiograph) -> dict[str, Any]:
    found = irradiated(image)
    return of_field(found) | of_greys(image, found)


def numbers(found: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in found.items() if not isinstance(value, str)}


def test_deviation_index_is_ten_logarithms() -> None:
    assert deviation_index(100, 100) == 0
    assert deviation_index(1000, 100) == pytest.approx(10)
    assert deviation_index(50, 100) == pytest.approx(-3.01, abs=0.01)


def test_stated_indices_are_measures_and_their_arithmetic_is_checked() -> None:
    stated = {"exposure_index": 176.0, "target_exposure_index": 876.0, "deviation_index": -7.0}
    assert of_statement(stated) == stated | {
        "deviation_index_error": pytest.approx(0.03, abs=0.01),
        "target_miss": 7.0,
    }


def test_contradiction_is_measured() -> None:
    stated = {"exposure_index": 400.0, "target_exposure_index": 200.0, "deviation_index": -3.0}
    assert of_statement(stated)["deviation_index_error"] == pytest.approx(6.01, abs=0.01)


def test_deviation_index_follows_from_its_parts_where_it_is_not_stated() -> None:
    values = of_statement({"exposure_index": 400.0, "target_exposure_index": 200.0})
    assert values["deviation_index"] == pytest.approx(3.01, abs=0.01)
    assert isinstance(values["deviation_index_error"], str)


def test_a_number_that_is_no_deviation_index_is_not_stated() -> None:
    assert isinstance(of_statement({"deviation_index": 1790.0})["deviation_index"], str)
    both = of_statement({"deviation_index": 1790.0, "exposure_index": 200.0, "target_exposure_index": 200.0})
    assert both["deviation_index"] == 0.0


@pytest.mark.parametrize("bad", [0.0, -5.0, float("nan"), float("inf")])
def test_nonsense_is_not_stated(bad: float) -> None:
    values = of_statement({"exposure_index": bad, "target_exposure_index": 200.0, "deviation_index": 1.0})
    assert isinstance(values["exposure_index"], str)
    assert values["deviation_index"] == 1.0


@pytest.mark.parametrize("name", (*LARGE, "dog"))
@pytest.mark.parametrize(
    ("times", "kinds"),
    [(1 / 4.1, ["underexposure"]), (1 / 2, []), (1, []), (2, []), (4.1, ["overexposure"])],
)
def test_stated_exposure_is_found_both_ways(shared_data: Path, name: str, times: float, kinds: list[str]) -> None:
    """The indices that a detector states when the exposure is planted: these are certain for every image."""
    image = read_images(shared_data)[name]
    planted = overexposed(image, times) if times >= 1 else underexposed(image, 1 / times)
    technique = Technique("DX", stated={"exposure_index": 300.0 * times, "target_exposure_index": 300.0})
    found = Measured({**numbers(measured(planted)), **numbers(of_statement(technique.stated))})
    assert {finding.kind for finding in findings_of(found, technique, ())} == set(kinds)


@pytest.mark.parametrize("name", LARGE)
def test_fewer_quanta_are_more_grain_in_order(shared_data: Path, name: str) -> None:
    """Simulated: counts of quanta redrawn at 1 to 1/16 of the exposure, shown as bright as before."""
    image = read_images(shared_data)[name]
    grain = [measured(underexposed(image, times))["grain"] for times in (1, 2, 4, 8, 16)]
    assert measured(image)["grain"] < grain[0]
    assert all(later > 1.2 * earlier for earlier, later in pairwise(grain))


@pytest.mark.parametrize("name", LARGE)
def test_fewer_quanta_leave_field_and_clipping(shared_data: Path, name: str) -> None:
    image = read_images(shared_data)[name]
    before, after = measured(image), measured(underexposed(image, 8))
    for measure, bound in {"field_share": 2, "direct_share": 2, "field_level": 2, "black_clipped": 0.5}.items():
        assert after[measure] == pytest.approx(before[measure], abs=bound), measure


@pytest.mark.parametrize("name", (*LARGE, "dog"))
def test_exposure_moves_the_level_in_order_both_ways(shared_data: Path, name: str) -> None:
    """Simulated with two decades on the range of greys: twice the exposure is 15 % of it, until all is white."""
    image = read_images(shared_data)[name]
    darker = [measured(overexposed(image, times))["field_level"] for times in (8, 4, 2, 1)]
    brighter = [measured(underexposed(image, times, 0, False))["field_level"] for times in (2, 4)]
    levels = darker + brighter
    assert all(later > earlier for earlier, later in pairwise(levels)), levels


def test_lungs_lost_in_black_are_found(shared_data: Path) -> None:
    chest = read_images(shared_data)["chest"]
    assert measured(chest)["black_clipped"] == 0
    lost = [measured(overexposed(chest, times))["black_clipped"] for times in (8, 16, 32)]
    assert lost[0] < 2 < 8 < lost[1] < lost[2]
    found = findings_of(measure_radiographs([overexposed(chest, 16)], DX), DX, ())
    assert [finding.kind for finding in found] == ["overexposure"]


@pytest.mark.parametrize(("name", "times"), [("chest", 4), ("hip", 4), ("leg", 16)])
def test_strong_underexposure_is_found_by_itself(shared_data: Path, name: str, times: float) -> None:
    found = findings_of(measure_radiographs([underexposed(read_images(shared_data)[name], times)], DX), DX, ())
    assert [finding.kind for finding in found] == ["underexposure"]


def test_white_inside_the_body_is_clipped_and_a_white_border_is_not(shared_data: Path) -> None:
    chest = read_images(shared_data)["chest"]
    heart = np.zeros(chest.pixels.shape, bool)
    heart[1000:1400, 700:1300] = True
    inside = replace(chest, pixels=np.where(heart, chest.highest, chest.pixels).astype(np.uint16))
    assert measured(inside)["white_clipped"] == pytest.approx(100 * heart.mean(), abs=1)
    edge = np.roll(heart, -1000, axis=0)
    border = replace(chest, pixels=np.where(edge, chest.highest, chest.pixels).astype(np.uint16))
    assert measured(border)["white_clipped"] < 0.5


@pytest.mark.parametrize("name", LARGE)
def test_planted_noise_adds_in_quadrature(shared_data: Path, name: str) -> None:
    """White noise of known sigma on real images; grain times the range of the body is its sigma."""
    image = replace(read_images(shared_data)[name], spacing_mm=(0.2, 0.2))
    base = measured(image)["grain"]
    span = float(np.ptp(np.percentile(image.pixels, (5, 95))))
    random = np.random.default_rng(1)
    ratios = []
    for sigma in (0.02 * span, 0.04 * span):
        noisy = (image.pixels + random.normal(0, sigma, image.pixels.shape)).clip(0, 65535)
        grain = measured(replace(image, pixels=np.rint(noisy).astype(np.uint16)))["grain"]
        ratios.append(np.sqrt(grain**2 - base**2) / (sigma / span))
    assert ratios[1] == pytest.approx(ratios[0], rel=0.1)


def test_smoothing_lowers_grain(shared_data: Path) -> None:
    image = read_images(shared_data)["chest"]
    smooth = replace(
        image, pixels=np.rint(ndimage.gaussian_filter(image.pixels.astype(float), 1)).astype(np.uint16)
    )
    assert measured(smooth)["grain"] < 0.5 * measured(image)["grain"]


@pytest.mark.parametrize("name", ["chest", "hip"])  # the leg has a collimator that such a shutter would cut
@pytest.mark.parametrize("value", [0, 60_000])
def test_padding_of_a_shutter_is_no_evidence_of_exposure(shared_data: Path, name: str, value: int) -> None:
    image = read_images(shared_data)[name]
    shown = image.pixels.astype(np.uint16) + np.uint16(100)
    rows, columns = (side // 8 for side in shown.shape)
    inner = shown[rows:-rows, columns:-columns].copy()
    padded = np.full_like(shown, value)
    padded[rows:-rows, columns:-columns] = inner
    whole = replace(image, pixels=padded, lowest=0, highest=image.highest + 100, padding=(value, value))
    alone = replace(image, pixels=inner, lowest=0, highest=image.highest + 100)
    with_padding, without = (numbers(measured(one)) for one in (whole, alone))
    for key, within in (
        ("field_level", 1.0),
        ("direct_share", 3.0),
        ("black_clipped", 0.1),
        ("white_clipped", 0.1),
    ):
        assert with_padding[key] == pytest.approx(without[key], abs=within), key
    assert with_padding["field_share"] == pytest.approx(100 * inner.size / padded.size, abs=8)
