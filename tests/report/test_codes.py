"""Every code against the dictionaries that pydicom generates from PS3.16, and every noun against its code."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from qc_node.classifiers import catalogue
from qc_node.domain import BodyPart, Grade, Question, Reason, Region, Tier
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.catalogue import MEASURES
from qc_node.report import codes
from qc_node.report.codes import Code
from tests.report.sources import every_region_set

OUTSIDE = {
    ("LN", "25056-3"): "MRI unspecified body region",
    ("LN", "25045-6"): "CT unspecified body region",
    ("RFC5646", "en-US"): "English (United States)",
    ("SCT", "74964007"): "Other",
    ("UMLS", "C0034375"): "Qualitative Evaluations",
}
"""As in the standard (CID 100, CID 5000, TID 1500); pydicom has no dictionary of these schemes."""


def _all_codes() -> list[Code]:
    found: dict[Code, None] = {}

    def collect(value: object) -> None:
        if isinstance(value, Code):
            found[value] = None
        elif isinstance(value, dict):
            for v in value.values():
                collect(v)
        elif isinstance(value, tuple):
            for v in value:
                collect(v)

    for value in vars(codes).values():
        collect(value)
    return list(found)


def _meanings(code: Code) -> set[str]:
    entries: dict[str, Any] = concepts.get(code.scheme, {})
    return {v[code.value][0] for v in entries.values() if code.value in v}


@pytest.mark.parametrize("code", _all_codes(), ids=lambda c: f"{c.scheme}-{c.value}")
def test_every_standard_code_exists_with_this_meaning(code: Code) -> None:
    assert 0 < len(code.value) <= 16 and 0 < len(code.meaning) <= 64
    if code.scheme == codes.PRIVATE_SCHEME:
        return
    if code in codes.UNITS.values() and code.meaning == code.value:
        return  # UCUM has more units than words for them; its parser is the test below
    if (code.scheme, code.value) in OUTSIDE:
        assert code.meaning == OUTSIDE[code.scheme, code.value]
        return
    assert code.meaning in _meanings(code)


def _in_cid(code: Code, cid: int) -> bool:
    keywords = cid_concepts[cid].get(code.scheme, [])
    entries: dict[str, Any] = concepts[code.scheme]
    return any(code.value in entries[keyword] for keyword in keywords)


@pytest.mark.parametrize(
    ("cid", "members"),
    [
        (230, [codes.YES, codes.NO, codes.UNDETERMINED]),
        (3114, [codes.GOOD_QUALITY, codes.POOR_QUALITY, codes.UNUSABLE_QUALITY]),
        (6044, [codes.USABLE_QUALITY, codes.UNUSABLE_QUALITY]),
        (4031, [*codes.REGIONS.values(), *(c for c in codes.BODY_PARTS.values() if c != codes.OTHER)]),
        (7005, [codes.PROCESSING_EQUIPMENT]),
        (7010, [codes.QUALITY_ISSUE, codes.REJECTED_FOR_QUALITY, codes.BEST_IN_SET]),
        (270, [codes.DEVICE, codes.PERSON]),
        (6316, [codes.REASONS[Reason.MOTION][0]]),
        (6315, [codes.REASONS[r][0] for r in (Reason.NOISE, Reason.COVERAGE, Reason.FIELD_OF_VIEW)]),
        (6135, [codes.NO_IMAGE, codes.WRONG_PROCESSING, codes.REASONS[Reason.ORIENTATION][0]]),
        (6135, [codes.FINDINGS[kind][0] for kind in ("metal", "underexposure", "overexposure")]),
        (6041, [codes.FINDINGS[kind][0] for kind in ("metal", "underexposure", "overexposure")]),
        (6315, [codes.FINDINGS[kind][0] for kind in ("noise", "truncation")]),
        (10050, [codes.MEASURES["ctdi_vol"]]),
        (4, [codes.BRAIN]),
    ],
)
def test_codes_belong_to_the_context_groups_that_they_are_used_for(cid: int, members: list[Code]) -> None:
    assert [c for c in members if not _in_cid(c, cid)] == []


def test_every_noun_has_a_code() -> None:
    assert set(codes.QUESTIONS) == set(catalogue.questions())
    assert set(codes.REASONS) == set(Reason)
    assert set(codes.GRADES) == set(Grade)
    assert set(codes.TIERS) == set(codes.TIER_QUALITY) == set(Tier)
    assert set(codes.BODY_PARTS) == set(BodyPart)
    assert {(r,) for r in Region} <= set(codes.REGIONS)
    assert set(codes.VOTES) == {"good", "acceptable", "poor"}


def test_private_codes_are_distinct_and_say_what_no_standard_code_says() -> None:
    private = [c for c in _all_codes() if c.scheme == codes.PRIVATE_SCHEME]
    assert set(private) == set(codes.private_codes())
    assert len({c.meaning for c in private}) == len(private)
    standard = {c.meaning for c in _all_codes() if c.scheme != codes.PRIVATE_SCHEME}
    assert not standard & {c.meaning for c in private}


UCUM = r"(\[hnsf'U\]|m?Gy|cm|mm|kV|mA|ms?|s|deg|%|1|\{[a-z ]+\})"


def test_units_are_spelt_as_ucum_spells_them() -> None:
    assert set(codes.UNITS) == set(Unit)
    for unit, code in codes.UNITS.items():
        assert re.fullmatch(rf"/?{UCUM}([./]{UCUM})*", code.value), unit
        assert code.value == unit.value


def test_a_measure_has_the_code_of_the_standard_where_there_is_one_and_else_its_own() -> None:
    def one(name: str, title: str) -> Measure:
        return Measure(name, title, Unit.ONE, Better.NEITHER, 0, 1, frozenset({"MR"}), "own")

    assert codes.measure_code(one("snr_object", "the signal to noise ratio")).value == "111787"
    own = codes.measure_code(one("noise_air", "the noise in air"))
    assert (own.value, own.scheme, own.meaning) == ("NOISE-AIR", codes.PRIVATE_SCHEME, "Noise in air")
    long = [codes.measure_code(one(f"a_very_long_name_{n}", "x" * 99)) for n in range(50)]
    assert len({c.value for c in long}) == 50
    assert all(len(c.value) <= 16 and len(c.meaning) <= 64 for c in long)


def test_every_measure_has_a_code_of_its_own() -> None:
    found = {name: codes.measure_code(measure) for name, measure in MEASURES.items()}
    assert len(set(found.values())) == len(found)
    assert not set(found.values()) & set(codes.private_codes())
    assert set(codes.MEASURES) <= set(found), "renamed: then it has no standard code any more"
    assert {measure.unit for measure in MEASURES.values()} <= set(codes.UNITS)


def test_findings_and_their_codes_are_inverses() -> None:
    assert set(codes.FINDINGS) == {"noise", "metal", "truncation", "underexposure", "overexposure", "clipping"}
    for kind, spelt in codes.FINDINGS.items():
        assert codes.findings_of(spelt) == (kind,)
    everything = [code for spelt in codes.FINDINGS.values() for code in spelt]
    assert codes.findings_of(everything) == tuple(codes.FINDINGS) and codes.findings_of([]) == ()


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_told_by_its_last_code(reason: Reason) -> None:
    assert codes.reason_of(codes.REASONS[reason]) is reason


def test_no_two_reasons_share_their_own_code() -> None:
    own = [spelt[-1] for spelt in codes.REASONS.values()]
    assert len(set(own)) == len(own)
    assert codes.reason_of([]) is None


@pytest.mark.parametrize("question", catalogue.questions(), ids=str)
def test_answers_and_their_codes_are_inverses(question: Question) -> None:
    answers = (*map(question.answer, question.answers), None)
    spelt = [codes.answer_code(question, a) for a in answers]
    assert len(set(spelt)) == len(answers)
    assert [codes.answer_value(question, c) for c in spelt] == list(answers)
    with pytest.raises(ValueError, match="no answer"):
        codes.answer_value(question, codes.QUALITY_ISSUE)


@pytest.mark.parametrize("regions", every_region_set(), ids=lambda r: "+".join(r))
def test_coverage_and_its_target_regions_are_inverses(regions: tuple[Region, ...]) -> None:
    targets = codes.target_regions(regions)
    assert codes.regions_of(targets) == regions
    if regions in codes.REGIONS:
        assert targets == (codes.REGIONS[regions],)
    assert codes.target_regions(tuple(reversed(regions))) == targets


def test_combined_coverage_has_a_combined_code() -> None:
    chest_to_pelvis = codes.target_regions([Region.CHEST, Region.ABDOMEN, Region.PELVIS])
    assert [(c.value, c.meaning) for c in chest_to_pelvis] == [("416775004", "Chest, Abdomen and Pelvis")]
    assert [c.value for c in codes.target_regions([Region.HEAD, Region.NECK, Region.CHEST])] == [
        "774007",
        "816094009",
    ]


def test_procedure_follows_the_modality() -> None:
    assert codes.procedure("MR").value == "25056-3"
    assert codes.procedure("CT").value == "25045-6"
    assert codes.procedure("US") == codes.procedure("") == codes.PROCEDURE_OTHER
