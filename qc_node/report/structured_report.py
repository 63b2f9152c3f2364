"""A verdict as a TID 1500 Structured Report.

The tree is the one of the outward contract, in the order of the templates (PS3.16), which is significant: a
measurement group (TID 1501) that says it all in a sentence, then one for each question::

    Imaging Measurement Report                         TID 1500
      Language, Observer Context (TID 1002, 1004)      the device changes with the model
      Procedure reported                               CID 100
      Imaging Measurements
        Measurement Group                              the summary
          Tracking Identifier and UID
          Finding = Quality Assessment
          Summary                                      TEXT: what the pages say; Comment: the disclaimer
        Measurement Group                              TID 1501, one for each question
          Tracking Identifier and UID                  the same for every report on the series
          Finding = Quality Assessment                 row 3b
          Finding Site                                 row 6
          Algorithm Name, Version                      row 9b, TID 4019; with the first group of a classifier
                                                       the first digits of its weights' digest as parameter
          Probability [question = answer]              row 10, NUM, one for each possible answer
          the answer and what it rests on              row 11, CODE
          texts                                        row 12: agent in the header, landmarks, then Comment:
                                                       the disclaimer; why there is no answer, or how sure it
                                                       is; what to do
        Measurement Group                              what was measured, if anything was
                                                       (:mod:`qc_node.report.measures_group`)
      Qualitative Evaluations                          only with warnings, each a Comment

Basic Text SR knows no NUM: there a probability is a TEXT of row 12.  Whole digests of weights and rules are in
Contributing Equipment, where nobody has to read them.

Built on pydicom alone: no Image Library, hence some milliseconds for any number of slices.
:func:`qc_node.report.reading.read_report` is the inverse of :func:`build_report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from qc_node.dicom.uids import SR_CLASSES
from qc_node.domain import (
    GRADED,
    AnswerKind,
    Finding,
    HeaderClaims,
    InstanceRef,
    Question,
    Reason,
    SeriesKey,
    Tier,
    Verdict,
)
from qc_node.domain.wording import advice_on, sureness
from qc_node.report import codes, modules
from qc_node.report.character_set import note, settle_character_set
from qc_node.report.codes import Code
from qc_node.report.documents import (
    DISCLAIMER,
    NodeIdentity,
    model_equipment,
    weights_hash,
)
from qc_node.report.items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    code_item,
    container,
    number_item,
    number_text,
    text_item,
)
from qc_node.report.measures_group import NOTHING, MeasuredBlock, measures_group
from qc_node.report.sr_documents import (
    group_head,
    observer,
    report_document,
    report_root,
    summary_group,
)
from qc_node.report.uids import ORIGINAL, Edition, Predecessor, report_series_uid, report_uid

__all__ = ["DISCLAIMER", "SR_CLASSES", "NodeIdentity", "build_report", "report_uid"]


def build_report(
    source: Dataset,
    evidence: Sequence[InstanceRef],
    series: SeriesKey,
    verdict: Verdict,
    claims: HeaderClaims,
    warnings: Sequence[str] = (),
    *,
    software_version: str,
    node: NodeIdentity | str,
    rules_digest: str,
    created: datetime,
    sr_class: str,
    predecessor: Predecessor | None = None,
    instance_number: int = 1,
    also: Sequence[Verdict] = (),
    summary: str = "",
    edition: Edition = ORIGINAL,
    measures: MeasuredBlock = NOTHING,
) -> Dataset:
    """The report on one series, ready for ``save_as(..., enforce_file_format=True)``.

    Parameters
    ----------
    source
        Header of any instance of the series; broken values in it never raise.
    evidence
        Every instance that was judged; at least one.
    verdict
        At least one finding; its warnings come before `warnings` in the report, none twice.
    claims
        The contrast agent that the header states is quoted beside what was seen.
    warnings
        Sentences for whoever reads the report, one comment each.
    rules_digest
        Digest of the rules in force: other rules, another report.
    created
        Content date and time; see :func:`qc_node.report.modules.stamp` for time zones.  Give the time of the
        verdict, so that the same verdict gives the same bytes.
    sr_class
        ``comprehensive``, ``comprehensive3d`` or ``basic-text``.
    predecessor
        The report on the same series that this one replaces.
    also
        Verdicts of further classifiers on the same series; the observer is the device with the model of `verdict`,
        and each group names its own algorithm.
    summary
        All of it in the sentence that people see elsewhere; with none the report begins with the first question.
    edition
        What was corrected since the images came first.
    measures
        What was measured, as a last group; with nothing in it the report is what it was without.

    Returns
    -------
    Dataset
        With file meta information, Explicit VR Little Endian.  The same arguments give the same bytes.

    Raises
    ------
    ValueError
        No evidence, no finding, or an unknown `sr_class`: mistakes of the caller, never of the source.
    """
    verdicts = (verdict, *also)
    if not evidence or not all(v.findings for v in verdicts) or sr_class not in SR_CLASSES:
        raise ValueError("a report needs evidence, a finding and a known SR class")
    node = NodeIdentity(node) if isinstance(node, str) else node
    uid = report_uid(
        series.series_instance_uid,
        evidence,
        [v.model for v in verdicts],
        sr_class=sr_class,
        rules_digest=rules_digest,
        edition=edition,
        measures=measures.causes(),
    )
    series_uid = report_series_uid(
        "report-series", series.series_instance_uid, node.station_name, software_version, edition
    )
    text = modules.source_text(source)
    ds = report_document(
        text,
        series,
        evidence,
        (SR_CLASSES[sr_class], uid, series_uid),
        node,
        software_version,
        created,
        instance_number=instance_number,
        predecessor=predecessor,
    )
    ds.ContributingEquipmentSequence = DicomSequence(
        [model_equipment(node, v, created, rules_digest) for v in verdicts]
    )
    modality = claims.modality or str(modules.raw_value(source, "Modality") or "")
    remark = note(text)
    remarks = warnings if remark is None else [*warnings, remark]
    numbers = sr_class != "basic-text"
    groups = [summary_group(series, summary)] if summary else []
    groups += [group for v in verdicts for group in _groups(series, v, claims, numbers)]
    groups += [measures_group(series.series_instance_uid, measures, numbers=numbers)] if measures else []
    remarks = list(dict.fromkeys([*(w for v in verdicts for w in v.warnings), *remarks]))
    ds.update(report_root(observer(node, verdict.model), modality, groups, remarks))
    settle_character_set(ds, text)
    return ds


# -- the tree ----------------------------------------------------------------------------------------
def _groups(series: SeriesKey, verdict: Verdict, claims: HeaderClaims, numbers: bool) -> list[Dataset]:
    """One group for each answer of a classifier; the first one says which weights gave them all."""
    return [
        _group(series, verdict, finding, claims, numbers=numbers, first=n == 0)
        for n, finding in enumerate(verdict.findings)
    ]


def _group(
    series: SeriesKey, verdict: Verdict, finding: Finding, claims: HeaderClaims, *, numbers: bool, first: bool
) -> Dataset:
    model = verdict.model
    weights = [text_item(codes.ALGORITHM_PARAMETERS, weights_hash(verdict), HAS_CONCEPT_MOD)] if first else []
    measured = _probabilities(finding, numbers)
    content = [
        *group_head(series.series_instance_uid, f"{verdict.stage}/{finding.question}"),
        code_item(codes.FINDING_SITE, _site(verdict, finding), HAS_CONCEPT_MOD),
        text_item(codes.ALGORITHM_NAME, model.name, HAS_CONCEPT_MOD),
        text_item(codes.ALGORITHM_VERSION, model.version, HAS_CONCEPT_MOD),
        *weights,
        *(measured if numbers else ()),
        *_answers(verdict, finding),
        *_texts(verdict, finding, claims),
        *(() if numbers else measured),
        text_item(codes.COMMENT, DISCLAIMER),
    ]
    if finding.abstained is not None:
        content.append(text_item(codes.COMMENT, finding.abstained))
    content += [text_item(codes.COMMENT, words) for words in _in_words(finding)]
    return container(codes.MEASUREMENT_GROUP, content, CONTAINS, template="1501")


def _texts(verdict: Verdict, finding: Finding, claims: HeaderClaims) -> list[Dataset]:
    """What goes with an answer and has no code."""
    found = []
    # without contrast words the element says "off" or "none", which is no agent
    if finding.question.about_contrast and claims.contrast_agent and claims.contrast_words:
        found.append(text_item(codes.CONTRAST_AGENT, claims.contrast_agent))
    coverage = verdict.coverage
    if finding.question is Question.BODY_PART and coverage is not None:
        found += [text_item(codes.COVERAGE_TOP, coverage.top)] if coverage.top else []
        found += [text_item(codes.COVERAGE_BOTTOM, coverage.bottom)] if coverage.bottom else []
    return found


def _in_words(finding: Finding) -> list[str]:
    """For whoever reads the tree: how sure an answer is, and what to do."""
    sure = "" if finding.value is None else sureness(finding)
    return [words for words in (f"{sure}." if sure else "", advice_on(finding)) if words]


def _site(verdict: Verdict, finding: Finding) -> Code:
    """Finding Site: that of the question, or the body part that the verdict names."""
    site = finding.question.site
    if site is None:
        part = verdict.finding(Question.BODY_PART)
        return codes.UNDETERMINED if part is None else codes.answer_code(Question.BODY_PART, part.value)
    if finding.reason in (Reason.NOT_BRAIN, Reason.PHANTOM, Reason.BLANK):
        return codes.UNDETERMINED
    return codes.SITES[site]


def _answers(verdict: Verdict, finding: Finding) -> list[Dataset]:
    """The CODE items of one group, the most standard one first."""
    question, value = finding.question, finding.value
    answer = code_item(codes.question_code(question), codes.answer_code(question, value))
    items: list[Dataset] = []
    if question.kind is AnswerKind.TIER:
        quality = codes.UNDETERMINED if value is None else codes.TIER_QUALITY[Tier(int(value))]
        items = [code_item(codes.SERIES_QUALITY, quality), answer, *_grades(verdict)]
    elif question is Question.BODY_PART:
        items = [*_regions(verdict, finding), answer]
    else:
        if finding.reason is Reason.BLANK:
            items.append(code_item(codes.SERIES_QUALITY, codes.UNUSABLE_QUALITY))
        items.append(answer)
    if finding.reason is not None:
        items += [code_item(codes.QUALITY_FINDING, code) for code in codes.REASONS[finding.reason]]
    return items


def _grades(verdict: Verdict) -> list[Dataset]:
    """The three grades that the tier follows from."""
    found = [verdict.finding(question) for question in GRADED]
    return [code_item(codes.question_code(f.question), codes.answer_code(f.question, f.value)) for f in found if f]


def _regions(verdict: Verdict, finding: Finding) -> list[Dataset]:
    """Target Region of the whole coverage where it is known, of the body part otherwise."""
    coverage = verdict.coverage
    if coverage is None:
        return [code_item(codes.TARGET_REGION, codes.answer_code(Question.BODY_PART, finding.value))]
    targets = codes.target_regions(coverage.regions) or (codes.UNDETERMINED,)
    items = [code_item(codes.TARGET_REGION, code) for code in targets]
    items.append(code_item(codes.COVERAGE_INCOMPLETE, codes.YES if coverage.truncated else codes.NO))
    return items


def _probabilities(finding: Finding, numbers: bool) -> list[Dataset]:
    """A Probability for each answer that has one, modified by (question = answer); as text without `numbers`."""
    question = finding.question
    items = []
    for key in question.answers:
        p = finding.probabilities.get(key)
        if p is not None and 0.0 <= p <= 1.0:
            answer = codes.answer_code(question, question.answer(key))
            which = code_item(codes.question_code(question), answer, HAS_CONCEPT_MOD)
            if numbers:
                items.append(number_item(codes.PROBABILITY, float(p), codes.NO_UNITS, [which]))
            else:
                items.append(
                    text_item(codes.PROBABILITY, f"{number_text(float(p))} ({answer.meaning})", children=[which])
                )
    return items
