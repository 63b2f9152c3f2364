"""From the place along the body to a body part, or to a sentence why there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.classifier import Reading, Rules
from qc_node.classifiers.ct.part import part_finding
from qc_node.domain import BodyPart, Finding
from tests.classifiers.ct.test_anatomy import slices


def reading_of(sections: np.ndarray, air: float = 1.0) -> Reading:
    return Reading(sections, np.zeros(len(sections)), np.ones(len(sections), bool), air=air)


def finding_of(reading: Reading) -> Finding:
    finding = part_finding(reading, anatomy.align(reading.sections, reading.used), Rules())
    assert sum(finding.probabilities.values()) == pytest.approx(1)
    return finding


def limb_like(sections: np.ndarray, limb: float) -> np.ndarray:
    """`sections` with so much probability of a limb in every slice."""
    mixed: np.ndarray = sections * (1 - limb)
    mixed[:, anatomy.LIMB] += limb
    return mixed


@pytest.mark.parametrize(
    ("ends", "part"),
    [((255, 609), BodyPart.CHEST), ((394, 690), BodyPart.ABDOMEN), ((240, 860), BodyPart.OTHER)],
)
def test_dominating_part_and_other_only_for_several(ends: tuple[float, float], part: BodyPart) -> None:
    assert finding_of(reading_of(slices(*ends, noise=15))).value == part.value


def test_two_parts_alike_are_named_and_none_is_said() -> None:
    finding = finding_of(reading_of(slices(437, 477)))
    assert finding.value is None
    assert finding.abstained and "chest or abdomen" in finding.abstained.replace(
        "abdomen or chest", "chest or abdomen"
    )


def test_a_chest_that_goes_on_is_called_other_only_when_several_parts_are_nearly_certain() -> None:
    said = [finding_of(reading_of(slices(240, low, noise=15))) for low in range(560, 760, 10)]
    others = [f.probabilities["other"] for f in said if f.value == BodyPart.OTHER.value]
    assert others and min(others) >= 0.8
    withheld = [f for f in said if f.value is None]
    assert withheld and all("several parts" in (f.abstained or "") for f in withheld)


@pytest.mark.parametrize("ends", [(60, 330), (240, 520), (440, 690), (440, 850), (0, 140)])
def test_a_body_without_air_is_doubted_and_not_called_a_limb(ends: tuple[float, float]) -> None:
    finding = finding_of(reading_of(slices(*ends), air=0.0))
    assert finding.value is None and finding.abstained and "air or the skull" in finding.abstained


def test_a_limb_that_resembles_a_neck_is_other() -> None:
    finding = finding_of(reading_of(limb_like(slices(150, 250), 0.45), air=0.0))
    assert finding.value == BodyPart.OTHER.value
    with_airway = finding_of(reading_of(limb_like(slices(150, 250), 0.2), air=0.8))
    assert with_airway.value == BodyPart.NECK.value


def test_slices_in_no_order_are_doubted() -> None:
    reading = reading_of(slices(240, 510, noise=10))
    shuffled = replace(reading, sections=reading.sections[np.random.default_rng(3).permutation(len(reading.used))])
    finding = finding_of(shuffled)
    assert finding.value is None and finding.abstained and "do not follow each other" in finding.abstained


def test_too_few_slices_state_nothing() -> None:
    finding = finding_of(reading_of(slices(500, 508)))
    assert finding.value is None and finding.abstained == "The series shows only 8 mm of the body."
