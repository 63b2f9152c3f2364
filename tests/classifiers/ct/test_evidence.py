"""How measured blood and the network's vote are joined: neither may be confidently wrong alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.abdomen import Organs
from qc_node.classifiers.ct.anatomy import CLASSES
from qc_node.classifiers.ct.classifier import (
    CtClassifier,
    PreparedBody,
    Reading,
    Rules,
    contrast_evidence,
    contrast_finding,
)
from qc_node.domain import Finding, ModelIdentity
from tests.classifiers.ct.test_chest import chest

Z = 40
FIRST = 7
"""Section of the body axis (280-320 mm) where the first slice lies."""


def reading(logit: float, blood: float | None) -> Reading:
    sections = np.zeros((Z, CLASSES))
    sections[np.arange(Z), FIRST + np.arange(Z) // 10] = 1.0
    return Reading(sections, np.full(Z, logit), np.ones(Z, bool), chest=blood)


def finding(logit: float, blood: float | None, rules: Rules = Rules()) -> Finding:  # noqa: B008
    r = reading(logit, blood)
    return contrast_finding(r, anatomy.align(r.sections, r.used), rules)


@pytest.mark.parametrize("logit", [-6.0, -1.0, 0.0, 2.0])
def test_much_bright_blood_outweighs_the_network_but_not_its_doubt(logit: float) -> None:
    found = finding(logit, 300.0)
    assert found.value is True
    if logit < -2:
        assert found.probabilities["yes"] < 0.9


@pytest.mark.parametrize(("logit", "blood"), [(-6.0, 55.0), (6.0, 14.0), (-6.0, 52.0), (6.0, 18.0)])
def test_strong_disagreement_is_withheld(logit: float, blood: float) -> None:
    found = finding(logit, blood)
    assert found.value is None and found.abstained and "contradict" in found.abstained


@pytest.mark.parametrize("logit", [-9.0, 9.0])
def test_the_network_alone_does_not_decide(logit: float) -> None:
    found = finding(logit, None)
    assert found.value is None and found.abstained and "measured" in found.abstained
    assert max(found.probabilities.values()) < 0.96


def told(logit: float, **measures: object) -> Finding:
    r = replace(reading(logit, None), **measures)  # type: ignore[arg-type]
    return contrast_finding(r, anatomy.align(r.sections, r.used), Rules())


@pytest.mark.parametrize(
    ("measures", "enhanced"),
    [
        ({"aorta": -8.0, "organs": Organs(-10.0, 14.0)}, False),
        ({"aorta": 6.0, "organs": Organs(2.0, 18.0)}, False),  # much haemoglobin, little muscle
        ({"aorta": 95.0, "organs": Organs(105.0, 120.0)}, True),  # portal venous
        ({"aorta": 250.0, "organs": Organs(8.0, 70.0)}, True),  # early arterial: one kidney in view
        ({"aorta": 32.0, "organs": Organs(54.0, 58.0)}, True),  # minutes later
        ({"aorta": 80.0, "aorta_low": -30.0, "organs": Organs(120.0, 135.0)}, True),  # above a pale pelvis
        ({"aorta": -8.0, "aorta_low": 300.0, "organs": Organs(-5.0, 15.0)}, False),  # bowel at the promontory
        ({"organs": Organs(60.0, 80.0)}, True),
        ({"femoral": 45.0}, True),
    ],
)
@pytest.mark.parametrize("logit", [-0.5, 0.5])
def test_what_was_measured_decides(measures: dict[str, object], enhanced: bool, logit: float) -> None:
    assert told(logit, **measures).value is enhanced


@pytest.mark.parametrize(
    "measures",
    [
        {"aorta": -8.0, "organs": Organs(60.0, 90.0)},  # oral contrast in both colons, or a late excretory phase
        {"aorta": -8.0, "chest": 90.0},
        {"organs": Organs(5.0, 150.0)},  # one side only
    ],
)
def test_contradicting_measures_are_withheld(measures: dict[str, object]) -> None:
    assert told(0.0, **measures).value is None


def test_a_pale_groin_says_little() -> None:
    assert told(0.0, femoral=-5.0).probabilities["no"] < 0.75


@pytest.mark.parametrize(("logit", "blood", "enhanced"), [(-6.0, -10.0, False), (6.0, 90.0, True)])
def test_agreement_is_surer_than_either_alone(logit: float, blood: float, enhanced: bool) -> None:
    found = finding(logit, blood)
    assert found.value is enhanced
    assert max(found.probabilities.values()) > 0.99


def test_each_evidence_has_its_limit() -> None:
    rules = Rules()
    both = contrast_evidence(reading(-9.0, 3000.0), rules)
    assert both == {"body": -rules.most_network_chest, "chest": 5.0}
    assert contrast_evidence(reading(-9.0, None), rules) == {"body": -rules.most_network}
    far = replace(reading(9.0, None), aorta=900.0, organs=Organs(900.0, 900.0), femoral=900.0, aorta_low=900.0)
    assert contrast_evidence(far, rules) == {"aorta": 5.0, "organs": 5.0, "femoral": 3.0, "body": 3.0}
    low = contrast_evidence(replace(far, aorta=None), rules)
    assert low["aorta"] == 3.0


class Places(nn.Module):
    """Puts every slice into the chest."""

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), CLASSES)
        out[:, 9] = 20.0
        return out


class Brightness(nn.Module):
    """The mean of the middle slice, as the contrast network is given it."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 1].mean((1, 2))[:, None]


@pytest.mark.parametrize("shift", [-35, 30])
def test_the_contrast_network_is_shown_the_scale_that_fat_tells(shift: int) -> None:
    # Position and contrast are replaced, because only what the contrast network is given matters here.
    classifier = CtClassifier(ModelIdentity("t", "0", "0" * 64), Places(), Brightness())  # type: ignore[arg-type]
    logits = []
    for hu in (chest(), chest(shift=shift)):
        prepared = PreparedBody(hu.astype(np.float16), {}, np.zeros(len(hu), np.float32))
        logits.append(classifier.read(prepared).contrast)
    unmended = (0.35 * shift) / 200  # a good third of each slice is tissue that is not clamped
    assert np.abs(logits[1] - logits[0]).max() < 0.2 * abs(unmended)


@pytest.mark.parametrize(("vessels", "logit", "said"), [(7.0, 5.0, None), (90.0, -9.0, None), (90.0, 2.0, True)])
def test_the_network_does_not_overrule_measured_vessels_of_the_neck(
    vessels: float, logit: float, said: bool | None
) -> None:
    r = replace(reading(logit, None), neck=vessels)
    found = contrast_finding(r, anatomy.align(r.sections, r.used), Rules(neck_slope=12.0, neck_network=1.0))
    assert found.value is said
