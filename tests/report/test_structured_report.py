"""The tree of the outward contract, and the modules around it."""

from __future__ import annotations

import datetime
import re
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from qc_node.domain import (
    BodyPart,
    Finding,
    HeaderClaims,
    ModelIdentity,
    Question,
    Reason,
    Region,
    Stage,
    Verdict,
)
from qc_node.domain.wording import ADVICE, LOOK, LOOK_FIRST, MEASURED
from qc_node.report import codes
from qc_node.report.items import children, codes_named, name_of, named, text_named, texts_named
from qc_node.report.reading import read_report
from qc_node.report.structured_report import DISCLAIMER, SR_CLASSES, NodeIdentity
from qc_node.report.tree import as_text
from tests.report.sources import (
    CREATED,
    MODEL,
    as_bytes,
    ct_verdict,
    evidence,
    mri_verdict,
    rejected,
    report,
    source,
    undecided_reject,
    written,
)

UID_OF_FORMAT_2 = "2.25.102514566790748365760811426745050837621"
"""What this format calls `report()`; 0.1.0 said 2.25.136191878123796802824439498112116926813."""


def groups(ds: Dataset) -> dict[str, Dataset]:
    (measurements,) = named(ds, codes.IMAGING_MEASUREMENTS)
    return {str(text_named(g, codes.TRACKING_IDENTIFIER)): g for g in named(measurements, codes.MEASUREMENT_GROUP)}


def spelt(item: Dataset, name: codes.Code) -> list[str]:
    return [c.value for c in codes_named(item, name)]


def order_of(item: Dataset) -> list[str]:
    """The code values of the names of what is below `item`."""
    found = []
    for child in children(item):
        name = name_of(child)
        assert name is not None
        found.append(name.value)
    return found


# -- the tree ----------------------------------------------------------------------------------------
def test_root_is_an_imaging_measurement_report_with_language_device_and_procedure() -> None:
    ds = written(report())
    assert name_of(ds) == codes.MEASUREMENT_REPORT
    assert ds.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    order = order_of(ds)
    assert order == ["121049", "121005", "121012", "121013", "121014", "121015", "121016", "121058", "126010"]
    assert spelt(ds, codes.OBSERVER_TYPE) == ["121007"]
    assert spelt(ds, codes.PROCEDURE_REPORTED) == ["25056-3"]


def test_one_measurement_group_for_each_question_in_the_order_of_the_contract() -> None:
    ds = written(report())
    assert [k.partition("/")[2] for k in groups(ds)] == [
        "straight_reject",
        "gadolinium",
        "motion",
        "contrast",
        "noise",
        "tier",
    ]
    for group in groups(ds).values():
        order = order_of(group)
        head = ["112039", "112040", "121071", "363698007", "111001", "111003"]
        assert order[:6] == head
        assert order[-1] == "121106"
        assert text_named(group, codes.COMMENT) == DISCLAIMER
        for number in named(group, codes.PROBABILITY):
            units = number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
            assert (units.CodeValue, units.CodingSchemeDesignator) == ("1", "UCUM")


def test_the_first_group_says_it_all_in_a_sentence_before_any_other_text() -> None:
    ds = written(report(summary="tier 1 (good): motion 0, contrast 0, noise 0."))
    first, second, *_ = groups(ds).values()
    assert order_of(first) == ["112039", "112040", "121071", "121111", "121106"]
    assert text_named(first, codes.SUMMARY) == "tier 1 (good): motion 0, contrast 0, noise 0."
    assert text_named(first, codes.COMMENT) == DISCLAIMER
    assert text_named(second, codes.TRACKING_IDENTIFIER) == "brain_mri/straight_reject"


def test_nobody_reads_a_hash_before_each_answer_and_the_object_keeps_the_whole_one() -> None:
    ds = written(report(also=[ct_verdict()], summary="S."))
    said = {name: texts_named(group, codes.ALGORITHM_PARAMETERS) for name, group in groups(ds).items()}
    first = [f"sha256:{MODEL.sha256[:8]}"]
    assert {n: p for n, p in said.items() if p} == {"brain_mri/straight_reject": first, "ct/body_part": first}
    shown = as_text(ds, width=200).splitlines()
    long = [line for line in shown if re.search(r"[0-9a-f]{9,}", line)]
    assert len(long) == len(groups(ds)) + 1
    assert all(re.search(r"Unique Identifier|Device Observer UID", line) for line in long)
    assert all(len(line.split(": ")[1]) <= len("2.25.") + 24 for line in long)
    for equipment in ds.ContributingEquipmentSequence:
        assert equipment.ContributionDescription.endswith(f"weights sha256:{MODEL.sha256}; rules r0")


def test_basic_text_says_probabilities_as_text_and_reads_back() -> None:
    ds = written(report(sr_class="basic-text", summary="S."))
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.11"
    motion = groups(ds)["brain_mri/motion"]
    assert not [item for group in groups(ds).values() for item in children(group) if item.ValueType == "NUM"]
    assert texts_named(motion, codes.PROBABILITY) == [
        "0.9 (Grade 0: none)",
        "0.05 (Grade 1: moderate)",
        "0.05 (Grade 2: severe)",
    ]
    assert read_report(ds).verdict == mri_verdict()


@pytest.mark.parametrize(
    ("grades", "quality", "tier"),
    [((0, 0, 0), "122741", "TIER-1"), ((1, 0, 0), "111237", "TIER-2"), ((0, 1, 2), "122742", "TIER-3")],
)
def test_tier_is_said_as_series_quality_literally_and_with_its_grades(
    grades: tuple[int, int, int], quality: str, tier: str
) -> None:
    group = groups(written(report(mri_verdict(*grades))))["brain_mri/tier"]
    assert spelt(group, codes.SERIES_QUALITY) == [quality]
    assert spelt(group, codes.TIER) == [tier]
    said = [spelt(group, codes.QUESTIONS[q])[0] for q in (Question.MOTION, Question.CONTRAST, Question.NOISE)]
    assert said == [f"GRADE-{g}" for g in grades]


def test_what_was_not_answered_is_undetermined_with_a_sentence() -> None:
    by_question = groups(written(report(mri_verdict(motion=None, gadolinium=None))))
    for name, concept in (("motion", Question.MOTION), ("gadolinium", Question.GADOLINIUM)):
        group = by_question[f"brain_mri/{name}"]
        assert spelt(group, codes.QUESTIONS[concept]) == ["373068000"]
        disclaimer, why, advice = texts_named(group, codes.COMMENT)
        assert disclaimer == DISCLAIMER and why and advice == LOOK
    tier = by_question["brain_mri/tier"]
    assert spelt(tier, codes.SERIES_QUALITY) == spelt(tier, codes.TIER) == ["373068000"]


def test_a_reader_of_the_tree_learns_how_sure_an_answer_is_and_what_to_do() -> None:
    likely = groups(written(report(rejected(Reason.COVERAGE))))["brain_mri/straight_reject"]
    assert texts_named(likely, codes.COMMENT) == [DISCLAIMER, "Very likely (97 %).", LOOK_FIRST]
    finding = Finding(Question.STRAIGHT_REJECT, True, {}, Reason.COVERAGE)
    measured = replace(rejected(Reason.COVERAGE), findings=(finding,))
    group = groups(written(report(measured)))["brain_mri/straight_reject"]
    assert texts_named(group, codes.COMMENT) == [DISCLAIMER, f"{MEASURED}.", ADVICE[Reason.COVERAGE]]


def test_severe_grade_decides_the_tier_though_another_is_open() -> None:
    tier = groups(written(report(mri_verdict(motion=2, noise=None))))["brain_mri/tier"]
    assert spelt(tier, codes.SERIES_QUALITY) == ["122742"]
    assert spelt(tier, codes.QUESTIONS[Question.NOISE]) == ["373068000"]


@pytest.mark.parametrize("reason", Reason)
def test_a_straight_reject_says_why_and_is_unusable_only_when_blank(reason: Reason) -> None:
    ds = written(report(rejected(reason)))
    assert list(groups(ds)) == ["brain_mri/straight_reject"]
    group = groups(ds)["brain_mri/straight_reject"]
    assert spelt(group, codes.QUESTIONS[Question.STRAIGHT_REJECT]) == ["373066001"]
    assert spelt(group, codes.QUALITY_FINDING) == [c.value for c in codes.REASONS[reason]]
    assert spelt(group, codes.SERIES_QUALITY) == (["111235"] if reason is Reason.BLANK else [])
    assert ("111235" in as_bytes(ds).decode("latin-1")) == (reason is Reason.BLANK)


def test_undecided_reject_has_no_quality_finding() -> None:
    group = groups(written(report(undecided_reject())))["brain_mri/straight_reject"]
    assert spelt(group, codes.QUESTIONS[Question.STRAIGHT_REJECT]) == ["373068000"]
    assert spelt(group, codes.QUALITY_FINDING) == []


def test_agent_is_quoted_only_where_the_header_states_one() -> None:
    claims = HeaderClaims(modality="MR", contrast_agent="Gadovist 1.0", contrast_words=True)
    quoted = groups(written(report(claims=claims)))["brain_mri/gadolinium"]
    assert texts_named(quoted, codes.CONTRAST_AGENT) == ["Gadovist 1.0"]
    silent = written(report(mri_verdict(gadolinium=True)))
    assert "123011" not in as_bytes(silent).decode("latin-1")


@pytest.mark.parametrize("said", ["off", "NONE"])
def test_a_header_that_denies_an_agent_names_none(said: str) -> None:
    ds = written(report(claims=HeaderClaims(modality="MR", contrast_agent=said, contrast_words=False)))
    assert texts_named(groups(ds)["brain_mri/gadolinium"], codes.CONTRAST_AGENT) == []


def test_ct_body_part_and_combined_coverage() -> None:
    verdict = ct_verdict(BodyPart.ABDOMEN, True, [Region.CHEST, Region.ABDOMEN, Region.PELVIS], truncated=True)
    ds = written(report(verdict, source("CT")))
    body = groups(ds)["ct/body_part"]
    assert spelt(ds, codes.PROCEDURE_REPORTED) == ["25045-6"]
    assert spelt(body, codes.TARGET_REGION) == ["416775004"]
    assert spelt(body, codes.QUESTIONS[Question.BODY_PART]) == ["818981001"]
    assert spelt(body, codes.COVERAGE_INCOMPLETE) == ["373066001"]
    assert spelt(body, codes.FINDING_SITE) == ["818981001"]
    assert spelt(groups(ds)["ct/contrast_enhanced"], codes.QUESTIONS[Question.CONTRAST_ENHANCED]) == ["373066001"]


def test_warnings_are_comments_that_viewers_show_each_once() -> None:
    verdict = replace(mri_verdict(), warnings=("From the classifier.", "Twice."))
    ds = written(report(verdict, warnings=["Twice.", "Slice thickness is 5 mm, 1 mm was ordered."]))
    (remarks,) = named(ds, codes.QUALITATIVE_EVALUATIONS)
    assert texts_named(remarks, codes.COMMENT) == [
        "From the classifier.",
        "Twice.",
        "Slice thickness is 5 mm, 1 mm was ordered.",
    ]
    assert not list(named(written(report()), codes.QUALITATIVE_EVALUATIONS))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\x00b\x1b[31mc", "ab[31mc"),
        ("C:\\x\\y", "C:\\x\\y"),
        ("one\r\ntwo\x0cthree", "one\ntwo\nthree"),
        ("", "-"),
        ("\ud800 lone", "? lone"),
        ("Größe ≥ 3 mm – 脑", "Größe ≥ 3 mm – 脑"),
    ],
)
def test_any_text_is_written_without_what_breaks_readers(text: str, kept: str) -> None:
    (remarks,) = named(written(report(warnings=[text])), codes.QUALITATIVE_EVALUATIONS)
    assert texts_named(remarks, codes.COMMENT) == [kept]


def test_very_long_text_is_cut_with_an_ellipsis() -> None:
    (remarks,) = named(written(report(warnings=["x" * 100_000])), codes.QUALITATIVE_EVALUATIONS)
    (text,) = texts_named(remarks, codes.COMMENT)
    assert len(text) == 4000 and text.endswith("…")


def test_report_never_says_rejected_for_quality_reasons() -> None:
    every = [mri_verdict(2, 2, 2), *map(rejected, Reason), ct_verdict(None, None)]
    assert all("113001" not in as_bytes(report(v)).decode("latin-1") for v in every)


# -- around the tree ---------------------------------------------------------------------------------
def test_report_is_in_the_study_of_the_images_and_in_a_series_of_its_own() -> None:
    header = source()
    ds = written(report(header=header, evidence=evidence(175)))
    assert ds.StudyInstanceUID == header.StudyInstanceUID
    assert ds.SeriesInstanceUID != header.SeriesInstanceUID
    assert (ds.Modality, ds.SeriesDescription, ds.SeriesNumber) == ("SR", "QC report", 90005)
    assert (ds.CompletionFlag, ds.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert (ds.PatientName, ds.PatientID, ds.PatientSex) == ("Doe^Jane", "QC-1", "F")
    assert (ds.AccessionNumber, ds.StudyID, ds.StudyDescription) == ("A7", "7", "Head")
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == header.SeriesInstanceUID
    assert {i.ReferencedSOPInstanceUID for i in series.ReferencedSOPSequence} == {
        e.sop_instance_uid for e in evidence(175)
    }


def test_private_scheme_is_declared_and_the_model_is_contributing_equipment() -> None:
    ds = written(report(node=NodeIdentity("QCNODE", "A Hospital")))
    (scheme,) = ds.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99QCNODE"
    (model,) = ds.ContributingEquipmentSequence
    assert model.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (model.ManufacturerModelName, model.SoftwareVersions) == (MODEL.name, MODEL.version)
    assert MODEL.sha256 in model.ContributionDescription
    assert ds.InstitutionName == "A Hospital"


def test_device_changes_with_the_model_and_with_nothing_else_of_the_verdict() -> None:
    def device(verdict: Verdict, **changes: Any) -> str:
        return str(next(named(report(verdict, **changes), codes.DEVICE_UID)).UID)

    usual = device(mri_verdict())
    assert device(mri_verdict(2, 2, 2), software_version="9") == usual
    newer = replace(mri_verdict(), model=replace(MODEL, version="0.2.0"))
    assert device(newer) != usual
    assert device(mri_verdict(), node="OTHER") != usual


def test_report_uid_follows_from_what_the_contract_names_and_from_nothing_else() -> None:
    def uid(verdict: Verdict | None = None, header: Dataset | None = None, **changes: Any) -> str:
        return str(report(verdict, header, **changes).SOPInstanceUID)

    usual = uid()
    assert re.fullmatch(r"2\.25\.[1-9]\d{0,38}", usual)
    later = CREATED + datetime.timedelta(days=1)
    assert usual == uid(mri_verdict(1), created=later, warnings=["w"], node="OTHER")
    assert usual == uid(evidence=list(reversed(evidence())))
    different = [
        uid(header=source(SeriesInstanceUID="1.2.3")),
        uid(evidence=evidence(4)),
        uid(replace(mri_verdict(), model=replace(MODEL, version="0.2.0"))),
        uid(replace(mri_verdict(), model=replace(MODEL, sha256="f" * 64))),
        uid(also=[ct_verdict()]),
        uid(sr_class="comprehensive3d"),
        uid(sr_class="basic-text"),
        uid(rules_digest="r1"),
    ]
    assert len({usual, *different}) == len(different) + 1


def test_a_release_alone_makes_no_new_reports() -> None:
    assert report(software_version="9.9").SOPInstanceUID == report().SOPInstanceUID == UID_OF_FORMAT_2


def test_verdicts_of_several_classifiers_have_a_group_for_each_answer_and_name_their_own_algorithm() -> None:
    other = Verdict(Stage("quality"), ModelIdentity("votes", "3", "e" * 64), ct_verdict().findings)
    ds = written(report(also=[other]))
    found = groups(ds)
    assert [*found][-2:] == ["quality/body_part", "quality/contrast_enhanced"]
    assert [*found][:1] == ["brain_mri/straight_reject"]
    said = read_report(ds)
    assert said.verdict.model == MODEL and [v.model for v in said.also] == [other.model]
    assert said.also[0].findings[0].value == other.findings[0].value
    assert len(ds.ContributingEquipmentSequence) == 2


def test_same_arguments_give_the_same_bytes() -> None:
    assert as_bytes(report(warnings=["w"])) == as_bytes(report(warnings=["w"]))


def test_predecessor_is_named() -> None:
    before = (SR_CLASSES["comprehensive"], "1.2.3.4", "1.2.3")
    ds = written(report(predecessor=before))
    (study,) = ds.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == ds.StudyInstanceUID
    (series,) = study.ReferencedSeriesSequence
    (item,) = series.ReferencedSOPSequence
    assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID, series.SeriesInstanceUID) == before


@pytest.mark.parametrize("sr_class", SR_CLASSES)
def test_each_sop_class(sr_class: str) -> None:
    ds = written(report(sr_class=sr_class))
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == SR_CLASSES[sr_class]


@pytest.mark.parametrize("wrong", [{"evidence": []}, {"sr_class": "basic"}])
def test_mistakes_of_the_caller_raise(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a report needs"):
        report(**wrong)
