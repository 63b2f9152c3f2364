"""Every report follows the order of its templates, which PS3.16 calls significant; no validator looks at it.

The tables are transcribed from PS3.16: TID 1500 (Measurement Report), 1204 (Language), 1001 to 1004 (Observer
Context), 1501 (Measurement and Qualitative Evaluation Group), 4019 (Algorithm Identification), 300 (Measurement).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from pydicom.dataset import Dataset

from qc_node.domain import BodyPart, HeaderClaims, Reason, Region
from qc_node.report.items import children, name_of
from qc_node.report.structured_report import SR_CLASSES
from tests.report.measured import BLOCK, measured_report
from tests.report.sources import (
    ct_verdict,
    mri_verdict,
    of_0_1_0,
    rejected,
    report,
    source,
    undecided_reject,
    written,
)
from tests.report.test_valid import every_kind
from tests.report.test_vote_report import vote


class Row(NamedTuple):
    """A row of a template: its number, relationship, value type, and concept name; None: any."""

    number: str
    relationship: str
    value_type: str
    concept: str | None


TID_1204 = [Row("1204/1", "HAS CONCEPT MOD", "CODE", "121049")]
TID_1003 = [
    Row("1003/1", "HAS OBS CONTEXT", "PNAME", "121008"),
    Row("1003/1a", "HAS OBS CONTEXT", "TEXT", "128774"),
    Row("1003/2", "HAS OBS CONTEXT", "TEXT", "121009"),
    Row("1003/3", "HAS OBS CONTEXT", "CODE", "121010"),
    Row("1003/4", "HAS OBS CONTEXT", "CODE", "121011"),
]
TID_1004 = [
    Row("1004/1", "HAS OBS CONTEXT", "UIDREF", "121012"),
    Row("1004/2", "HAS OBS CONTEXT", "TEXT", "121013"),
    Row("1004/3", "HAS OBS CONTEXT", "TEXT", "121014"),
    Row("1004/4", "HAS OBS CONTEXT", "TEXT", "121015"),
    Row("1004/5", "HAS OBS CONTEXT", "TEXT", "121016"),
    Row("1004/6", "HAS OBS CONTEXT", "TEXT", "121017"),
    Row("1004/7", "HAS OBS CONTEXT", "CODE", "113876"),
]
TID_1002 = [Row("1002/1", "HAS OBS CONTEXT", "CODE", "121005"), *TID_1003, *TID_1004]
TID_1001 = TID_1002  # and what is not about an observer, which no report of ours has
TID_1500 = [
    *TID_1204,
    *TID_1001,
    Row("1500/4", "HAS CONCEPT MOD", "CODE", "121058"),
    Row("1500/5", "CONTAINS", "CONTAINER", "111028"),
    Row("1500/6", "CONTAINS", "CONTAINER", "126010"),
    Row("1500/10", "CONTAINS", "CONTAINER", "126011"),
    Row("1500/12", "CONTAINS", "CONTAINER", "C0034375"),
]
TID_4019 = [
    Row("4019/1", "HAS CONCEPT MOD", "TEXT", "111001"),
    Row("4019/1b", "HAS CONCEPT MOD", "CODE", "111001"),
    Row("4019/2", "HAS CONCEPT MOD", "TEXT", "111003"),
    Row("4019/2b", "HAS CONCEPT MOD", "TEXT", "122405"),
    Row("4019/3", "HAS CONCEPT MOD", "TEXT", "111002"),
    Row("4019/4", "HAS CONCEPT MOD", "CODE", "111000"),
]
BELOW_IMAGING_MEASUREMENTS = [*TID_4019, Row("1500/9", "CONTAINS", "CONTAINER", "125007")]
BELOW_QUALITATIVE_EVALUATIONS = [
    *TID_4019,
    Row("1500/13", "CONTAINS", "CODE", None),
    Row("1500/14", "CONTAINS", "TEXT", None),
]
TID_1501 = [
    Row("1501/1b", "HAS OBS CONTEXT", "TEXT", "C67447"),
    Row("1501/2", "HAS OBS CONTEXT", "TEXT", "112039"),
    Row("1501/3", "HAS OBS CONTEXT", "UIDREF", "112040"),
    Row("1501/3a", "CONTAINS", "CODE", "276214006"),
    Row("1501/3b", "CONTAINS", "CODE", "121071"),
    Row("1501/5", "HAS CONCEPT MOD", "CODE", "370129005"),
    Row("1501/6", "HAS CONCEPT MOD", "CODE", "363698007"),
    Row("1501/9", "CONTAINS", "COMPOSITE", "126100"),
    *TID_4019,
    Row("1501/9c", "CONTAINS", "IMAGE", "121200"),
    Row("300/1", "CONTAINS", "NUM", None),
    Row("1501/10b", "CONTAINS", "IMAGE", None),
    Row("1501/11", "CONTAINS", "CODE", None),
    Row("1501/12", "CONTAINS", "TEXT", None),
]
BELOW = {
    "126000": TID_1500,
    "126010": BELOW_IMAGING_MEASUREMENTS,
    "125007": TID_1501,
    "C0034375": BELOW_QUALITATIVE_EVALUATIONS,
}
ONCE = {
    "121049", "121012", "121013", "121014", "121015", "121016", "126010", "C0034375", "112039", "112040",
    "121071", "111001", "111003", "121008", "128774", "121009",
}  # fmt: skip
"""Concepts of rows with VM 1 that our reports use."""


def row_of(item: Dataset, rows: Sequence[Row]) -> int:
    """Which row an item is; the first one that fits, a row with a name before one without."""
    name = name_of(item)
    assert name is not None
    fitting = [
        (row.concept is None, n)
        for n, row in enumerate(rows)
        if (row.relationship, row.value_type) == (item.RelationshipType, item.ValueType)
        and row.concept in (name.value, None)
    ]
    assert fitting, f"{item.ValueType} ({name.value}, {name.meaning}) is in no row"
    return min(fitting)[1]


def disorder(item: Dataset) -> Iterator[str]:
    """Every item that comes after one of a later row, every one there too often, at any depth."""
    name = name_of(item)
    assert name is not None
    rows = BELOW[name.value]
    found = [row_of(child, rows) for child in children(item)]
    for before, after in pairwise(found):
        if after < before:
            yield f"{name.meaning}: row {rows[after].number} after row {rows[before].number}"
    concepts = [str(child.ConceptNameCodeSequence[0].CodeValue) for child in children(item)]
    for concept in ONCE & {c for c in concepts if concepts.count(c) > 1}:
        yield f"{name.meaning}: {concept} more than once"
    for child in children(item):
        if child.ValueType == "CONTAINER":
            yield from disorder(child)


def test_every_report_that_the_node_writes_follows_the_order_of_its_templates() -> None:
    kinds = {name: ds for name, ds in every_kind().items() if ds.Modality == "SR"}
    assert len(kinds) > 170
    assert {name: found for name, ds in kinds.items() if (found := [*disorder(written(ds))])} == {}


@pytest.mark.parametrize("sr_class", SR_CLASSES)
def test_so_do_a_report_with_everything_and_one_of_several_classifiers(sr_class: str) -> None:
    claims = HeaderClaims(modality="MR", contrast_agent="Gadovist 1.0", contrast_words=True)
    coverage = ct_verdict(BodyPart.ABDOMEN, None, [Region.CHEST, Region.ABDOMEN], truncated=True)
    for made in (
        report(
            mri_verdict(1, None, 2),
            claims=claims,
            warnings=["W."],
            also=[coverage],
            summary="S.",
            sr_class=sr_class,
        ),
        report(coverage, source("CT"), summary="S.", sr_class=sr_class),
        report(rejected(Reason.BLANK), summary="S.", sr_class=sr_class),
        report(undecided_reject(), sr_class=sr_class),
        report(mri_verdict(), summary="S.", sr_class=sr_class, measures=BLOCK),
        measured_report(sr_class=sr_class),
        vote("poor", reasons=[Reason.MOTION, Reason.SEGMENTED], sr_class=sr_class),
    ):
        assert [*disorder(written(made))] == []


@pytest.mark.parametrize("name", ["brain-mri", "ct"])
def test_the_reports_of_0_1_0_did_not(name: str) -> None:
    """They had answers before probabilities, and landmarks before codes: what this test is for."""
    found = [*disorder(of_0_1_0(name))]
    assert "Measurement Group: row 300/1 after row 1501/11" in found
    assert ("Measurement Group: row 1501/11 after row 1501/12" in found) == (name == "ct")
