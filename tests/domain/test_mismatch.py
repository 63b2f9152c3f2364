"""What order, rule and header promise otherwise is told apart, and can be said without quoting the header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_node.domain import BodyPart, HeaderClaims
from qc_node.domain.mismatch import is_mismatch, without_quotation
from qc_node.engine.orders import check
from tests.part_settings import make_rule
from tests.report.sources import ct_verdict, mri_verdict

SECRET = "DOE^JANE"
SPACING = (1.0, 1.0, 5.0)


def claims(before: str, after: str) -> HeaderClaims:
    """Everything wrong, and a name beside each claim."""
    chest, brain = f"{before}chest {SECRET} contrast{after}", f"{before}BRAIN {SECRET}{after}"
    return HeaderClaims(
        modality="CT",
        body_part_examined=brain,
        series_description=chest,
        protocol_name=f"neck plain {SECRET}{before}",
        study_description=f"CT {chest}",
        contrast_agent=f"Ultravist {SECRET}{after}",
        ordered=(chest,),
        slice_thickness_mm=2.0,
    )


@given(before=st.text(max_size=8), after=st.text(max_size=8))
def test_no_warning_says_what_the_header_says_once_its_quotation_is_left_out(before: str, after: str) -> None:
    verdict = ct_verdict(BodyPart.ABDOMEN, False)
    rules = [make_rule("chest", body_part=BodyPart.CHEST, contrast=True, max_slice_thickness_mm=1.0)]
    found = check(claims(before, after), verdict, SPACING, rules)
    assert not any(SECRET in without_quotation(sentence) for sentence in found)


def test_every_kind_of_mismatch_is_one_and_most_quote_the_header() -> None:
    verdict = ct_verdict(BodyPart.ABDOMEN, False)
    rules = [make_rule("chest", body_part=BodyPart.CHEST, contrast=True, max_slice_thickness_mm=1.0)]
    found = check(claims("", ""), verdict, SPACING, rules)
    gap = [s for s in found if s.startswith("Slice Thickness (0018,0050) is")]
    assert len(found) >= 7 and len(gap) == 1
    assert all(is_mismatch(sentence) for sentence in found if sentence not in gap)
    assert not is_mismatch(gap[0]), "that one is about the images alone"
    assert sum(SECRET in sentence for sentence in found) >= 3, "or the test above proves nothing"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ('A (0008,103E) says "x"; found: y.', "A (0008,103E) says …; found: y."),
        ('A (0008,103E) says "x"; found: "z"; found: y.', "A (0008,103E) says …; found: y."),
        ('A (0008,103E) says "two\nlines"; found: y.', "A (0008,103E) says …; found: y."),
        ("Ordered: chest; found: abdomen.", "Ordered: chest; found: abdomen."),
    ],
)
def test_the_whole_quotation_goes(said: str, left: str) -> None:
    assert without_quotation(said) == left


def test_a_straight_reject_or_a_remark_on_reading_is_no_mismatch() -> None:
    assert not any(map(is_mismatch, mri_verdict().warnings))
    assert not is_mismatch("3 images of 100 missing (Image Position (0020,0032) leaves gaps); interpolated.")
    assert not is_mismatch('Rescale Type (0028,1054) is "US", not HU.')
