"""What may be said for certain: the table of measurements and answers of networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qc_node.classifiers.brain_mri import evidence
from qc_node.classifiers.brain_mri.brain_mask import BrainFound
from qc_node.classifiers.brain_mri.checks import AtPlace, Measures
from qc_node.classifiers.brain_mri.evidence import Place, Ruling, accepted, measured, place_of, rejected
from qc_node.classifiers.brain_mri.tissue_order import Order
from qc_node.domain import Reason

STRAIGHT = AtPlace(0.0, 0.99, -12.0, 3.0, (0.9, 0.92, 0.95))
BRAIN = BrainFound(1450.0, 1.14, 0.92, np.eye(4), (0.9, 0.95, 1.0))
NO_BRAIN = BrainFound(1200.0, 0.75, 0.45, np.eye(4))
T1, T2, FLAIR, UNCLEAR = Order(1.0, 0.1), Order(-0.8, 0.9), Order(-0.5, 0.05), Order(0.3, 0.1)
WHOLE = Measures((180, 220, 220), n_values=900, flat_share=0.01, ncc=0.88, at=STRAIGHT, order=T1)
COIL = replace(WHOLE, ncc=-0.3, evened_ncc=0.57, mask=BRAIN, by_mask=STRAIGHT)
CUT = replace(STRAIGHT, lost_brain=0.3)
BARE = replace(STRAIGHT, shell_share=0.02)
TILTED = replace(STRAIGHT, turn_deg=40.0)


@pytest.mark.parametrize(
    ("measures", "place"),
    [
        (WHOLE, Place.AS_IS),
        (COIL, Place.EVENED),
        (replace(COIL, evened_ncc=0.3), Place.MASK),
        (replace(COIL, evened_ncc=0.1, mask=NO_BRAIN), Place.NOWHERE),
        (replace(COIL, evened_ncc=0.3, mask=NO_BRAIN), Place.UNCLEAR),
        (replace(COIL, evened_ncc=0.1, mask=replace(BRAIN, fit=0.83)), Place.UNCLEAR),
        (replace(COIL, evened_ncc=0.1, mask=replace(BRAIN, compact=0.9)), Place.UNCLEAR),
        (replace(COIL, ncc=0.6, evened_ncc=0.1, mask=NO_BRAIN), Place.UNCLEAR),
        (replace(COIL, evened_ncc=0.1, mask=None), Place.UNCLEAR),
    ],
)
def test_a_low_correlation_alone_is_no_other_body_part(measures: Measures, place: Place) -> None:
    """Only where all means find nothing is there nothing; without a second opinion nobody can say so."""
    assert place_of(measures) is place
    ruling = measured(measures)
    assert (ruling.reason is Reason.NOT_BRAIN) == (place is Place.NOWHERE)
    assert (ruling.doubt is not None) == (place is Place.UNCLEAR)


@pytest.mark.parametrize(
    ("at", "reason"),
    [(CUT, Reason.COVERAGE), (BARE, Reason.SKULL_STRIPPED), (TILTED, Reason.ORIENTATION)],
)
@pytest.mark.parametrize("base", [WHOLE, COIL])
def test_what_is_missing_or_turned_needs_two_means(base: Measures, at: AtPlace, reason: Reason) -> None:
    assert measured(replace(base, at=at, mask=BRAIN, by_mask=at)) == Ruling(reason)
    against = measured(replace(base, at=at, mask=BRAIN, by_mask=STRAIGHT))
    assert against.reason is None and against.doubt is not None


def test_a_head_cut_off_is_coverage_whatever_else_is_odd() -> None:
    nothing = replace(COIL, evened_ncc=0.1, mask=NO_BRAIN, at=replace(CUT, turn_deg=60.0))
    assert measured(replace(nothing, cut_above=True)) == Ruling(Reason.COVERAGE)
    part = replace(BRAIN, fit=0.83, edge_cm2=80.0)
    assert measured(replace(nothing, mask=part)) == Ruling(Reason.COVERAGE)
    blanked = replace(nothing, mask=replace(BRAIN, fit=0.83), by_mask=replace(STRAIGHT, lost_brain=0.09))
    assert measured(blanked) == Ruling(Reason.COVERAGE)
    assert measured(replace(COIL, at=replace(STRAIGHT, lost_brain=0.02), cut_above=True)) == Ruling(
        Reason.COVERAGE
    )
    assert measured(replace(COIL, cut_above=True)) == Ruling(), (
        "noise, or scalp at the edge, and the brain complete"
    )


def test_the_order_of_the_tissues_says_what_is_not_t1() -> None:
    for order in (T2, FLAIR):
        assert measured(replace(WHOLE, order=order)) == Ruling(Reason.NOT_T1W)
        assert measured(replace(COIL, order=order)) == Ruling(Reason.NOT_T1W)
    assert measured(replace(WHOLE, order=UNCLEAR)) == Ruling()
    assert accepted(replace(WHOLE, order=UNCLEAR), 0.3).doubt is not None
    assert accepted(replace(WHOLE, order=UNCLEAR), 0.05) == Ruling(), "poor contrast is a grade"
    assert accepted(replace(WHOLE, order=UNCLEAR, ncc=0.5), 0.05).doubt is not None, "so may a FLAIR look"
    assert accepted(WHOLE, 0.3) == Ruling()
    assert measured(replace(WHOLE, at=BARE, order=T2, mask=BRAIN, by_mask=BARE)).reason is Reason.SKULL_STRIPPED


@pytest.mark.parametrize("reason", list(evidence.AGAINST))
@pytest.mark.parametrize("base", [WHOLE, COIL])
def test_a_network_alone_against_all_measurements_rejects_nothing(base: Measures, reason: Reason) -> None:
    """The gadolinium head that was "turned" with 0.996."""
    ruling = rejected(reason, base)
    assert ruling.reason is None and ruling.doubt == evidence.CONTRADICTED[reason]


@pytest.mark.parametrize(
    ("reason", "measures"),
    [
        (Reason.COVERAGE, replace(COIL, at=replace(STRAIGHT, lost_brain=0.04))),
        (Reason.COVERAGE, replace(COIL, mask=replace(BRAIN, edge_cm2=40.0))),
        (Reason.SKULL_STRIPPED, replace(WHOLE, at=replace(STRAIGHT, shell_share=0.45))),
        (Reason.ORIENTATION, replace(WHOLE, at=TILTED)),
        (Reason.SEGMENTED, replace(WHOLE, flat_share=0.4)),
        (Reason.NOT_T1W, replace(WHOLE, order=UNCLEAR)),
        (Reason.NOT_T1W, replace(WHOLE, order=None)),
    ],
)
def test_a_network_that_nothing_contradicts_is_believed(reason: Reason, measures: Measures) -> None:
    assert rejected(reason, measures) == Ruling(reason)


def test_the_second_opinion_is_asked_only_where_the_cheap_evidence_is_unclear() -> None:
    assert not evidence.unplain(WHOLE)
    for at in (CUT, BARE, TILTED):
        assert evidence.unplain(replace(WHOLE, at=at))
    assert evidence.unplain(replace(WHOLE, ncc=0.6))


def test_sentences_are_short_and_plain() -> None:
    for sentence in (evidence.NOT_LOCATED, evidence.NOT_SURELY_T1W, *evidence.CONTRADICTED.values()):
        assert sentence.endswith(".") and len(sentence) < 120
