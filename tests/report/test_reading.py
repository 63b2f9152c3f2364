"""Builder and parser are inverses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from qc_node.domain import (
    GRADED,
    BodyPart,
    Coverage,
    Finding,
    HeaderClaims,
    ModelIdentity,
    QcNodeError,
    Question,
    Reason,
    Region,
    Stage,
    Verdict,
    tier_finding,
)
from qc_node.report import codes
from qc_node.report.items import long_text
from qc_node.report.reading import is_own_report, read_report
from qc_node.report.structured_report import SR_CLASSES
from tests.report.sources import (
    MODEL,
    ct_verdict,
    evidence,
    key,
    mri_verdict,
    of_0_1_0,
    report,
    source,
    written,
)

SENTENCE = st.text(min_size=1, max_size=200).map(long_text)
WORD = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=30)
P = st.integers(0, 10_000).map(lambda n: n / 10_000)
MODELS = st.builds(ModelIdentity, WORD, WORD, st.text("0123456789abcdef", min_size=64, max_size=64))


@st.composite
def findings(draw: st.DrawFn, question: Question) -> Finding:
    answers = [question.answer(key) for key in question.answers]
    p = draw(st.dictionaries(st.sampled_from(question.answers), P))
    reason = draw(st.none() | st.sampled_from(Reason))
    if draw(st.booleans()):
        return Finding(question, draw(st.sampled_from(answers)), p, reason)
    return Finding(question, None, p, reason, abstained=draw(SENTENCE))


@st.composite
def mri_verdicts(draw: st.DrawFn) -> Verdict:
    model = draw(MODELS)
    if draw(st.booleans()):
        return Verdict(Stage.BRAIN_MRI, model, (draw(findings(Question.STRAIGHT_REJECT)),))
    grades = [draw(findings(q)) for q in GRADED]
    first = [draw(findings(q)) for q in (Question.STRAIGHT_REJECT, Question.GADOLINIUM)]
    return Verdict(Stage.BRAIN_MRI, model, (*first, *grades, tier_finding(grades)))


@st.composite
def ct_verdicts(draw: st.DrawFn) -> Verdict:
    coverage = None
    if draw(st.booleans()):
        regions = codes.in_body_order(draw(st.lists(st.sampled_from(Region))))
        mark = st.none() | SENTENCE
        coverage = Coverage(regions, draw(mark), draw(mark), draw(st.booleans()))
    asked = tuple(draw(findings(q)) for q in (Question.BODY_PART, Question.CONTRAST_ENHANCED))
    return Verdict(Stage.CT, draw(MODELS), asked, coverage)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    verdict=mri_verdicts() | ct_verdicts(),
    warnings=st.lists(SENTENCE, max_size=4, unique=True),
    agent=st.none() | SENTENCE,
    sr_class=st.sampled_from(sorted(SR_CLASSES)),
    count=st.integers(1, 5),
)
@pytest.mark.slow
def test_reading_gives_back_what_was_written(
    verdict: Verdict, warnings: list[str], agent: str | None, sr_class: str, count: int
) -> None:
    header = source("CT" if verdict.stage == Stage.CT else "MR")
    claims = HeaderClaims(modality=header.Modality, contrast_agent=agent, contrast_words=True)
    ds = report(verdict, header, warnings=warnings, claims=claims, sr_class=sr_class, evidence=evidence(count))
    said = read_report(written(ds))
    assert said.verdict == verdict
    assert said.warnings == tuple(warnings)
    assert said.series == key(header)
    assert set(said.evidence) == set(evidence(count))
    asked = {f.question for f in verdict.findings} & {Question.GADOLINIUM, Question.CONTRAST_ENHANCED}
    assert said.contrast_agent == (agent if asked else None)
    assert (said.rules_digest, said.software_version, said.predecessor) == ("r0", "0.1.0", None)
    assert said.sop_instance_uid == ds.SOPInstanceUID


def test_probabilities_are_rounded_to_four_decimals() -> None:
    finding = Finding(Question.GADOLINIUM, True, {"yes": 2 / 3, "no": 1 / 3})
    said = read_report(written(report(Verdict(Stage.BRAIN_MRI, MODEL, (finding,)))))
    assert said.verdict.findings[0].probabilities == {"yes": 0.6667, "no": 0.3333}


@pytest.mark.parametrize("p", [float("nan"), float("inf"), -0.1, 1.1])
def test_what_is_no_probability_is_not_written(p: float) -> None:
    verdict = Verdict(Stage.BRAIN_MRI, MODEL, (Finding(Question.GADOLINIUM, True, {"yes": p}),))
    assert read_report(written(report(verdict))).verdict.findings[0].probabilities == {}


def test_warnings_of_the_classifier_come_back_with_the_others() -> None:
    verdict = replace(ct_verdict(BodyPart.OTHER), warnings=("First.",))
    said = read_report(written(report(verdict, source("CT"), warnings=["Second."])))
    assert said.warnings == ("First.", "Second.")
    assert said.verdict == replace(verdict, warnings=())


def test_predecessor_comes_back() -> None:
    said = read_report(written(report(predecessor=(SR_CLASSES["comprehensive"], "1.2.3.4", "1.2.3"))))
    assert said.predecessor == "1.2.3.4"


def test_reports_of_0_1_0_are_read_as_before() -> None:
    mri, ct = read_report(of_0_1_0("brain-mri")), read_report(of_0_1_0("ct"))
    assert mri.verdict == mri_verdict(1, None, 2) and mri.verdict.model == MODEL
    assert (mri.warnings, mri.contrast_agent) == (("From the classifier.", "A warning."), "Gadovist 1.0")
    assert ct.verdict == ct_verdict(
        BodyPart.ABDOMEN, True, [Region.CHEST, Region.ABDOMEN, Region.PELVIS], truncated=True
    )
    assert (mri.rules_digest, ct.rules_digest, mri.summary) == ("r0", "r0", "")


def test_the_summary_comes_back() -> None:
    said = read_report(written(report(summary="tier 2 (usable): motion 1, contrast 0, noise 0.")))
    assert said.summary == "tier 2 (usable): motion 1, contrast 0, noise 0."
    assert said.verdict == mri_verdict()


def test_other_objects_are_refused_in_one_sentence() -> None:
    for ds in (source(), Dataset()):
        assert not is_own_report(ds)
        with pytest.raises(QcNodeError, match="no report of a qc-node"):
            read_report(ds)
    assert is_own_report(written(report()))


def test_another_reader_finds_the_groups_and_the_answers() -> None:
    """highdicom, an independent implementation of TID 1500, reads the report."""
    highdicom = pytest.importorskip("highdicom")
    sr = highdicom.sr.sop.ComprehensiveSR.from_dataset(written(report()))
    found = sr.content.get_image_measurement_groups()
    assert len(found) == 6
    tiers = [g for g in found if g.tracking_identifier == "brain_mri/tier"]
    quality = tiers[0].get_qualitative_evaluations(
        highdicom.sr.CodedConcept("130550", "DCM", "Imaging Series Quality")
    )
    assert [q.value.value for q in quality] == ["122741"]
    assert {s.topographical_modifier for g in found for s in g.finding_sites} == {None}
