"""The inverse of :func:`qc_node.report.structured_report.build_report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from qc_node.domain import (
    Coverage,
    Finding,
    InstanceRef,
    ModelIdentity,
    QcNodeError,
    Question,
    SeriesKey,
    Stage,
    Verdict,
)
from qc_node.report import codes
from qc_node.report.documents import digests_in
from qc_node.report.items import (
    children,
    code_in,
    codes_named,
    name_of,
    named,
    text_named,
    texts_named,
)
from qc_node.report.measures_group import NONE_READ, ReadMeasures, is_measures, read_measures
from qc_node.report.sr_documents import SUMMARY_GROUP


@dataclass(frozen=True)
class ReadReport:
    """What a report of this node says, of whatever format.

    Attributes
    ----------
    summary
        The sentence for people; empty in reports of format 0.1.0.
    verdict
        Probabilities are rounded to four decimals, regions from cranial to caudal; its warnings are empty, because
        the report keeps them with the others.
    also
        Verdicts of further classifiers.
    series, evidence
        What was judged.
    warnings
        Every warning, the classifier's first.
    contrast_agent
        What the header stated.
    predecessor
        SOP Instance UID of the report that this one replaces.
    measures
        What was measured; empty in reports that say nothing of it.
    """

    sop_instance_uid: str
    series: SeriesKey
    evidence: tuple[InstanceRef, ...]
    verdict: Verdict
    also: tuple[Verdict, ...]
    warnings: tuple[str, ...]
    contrast_agent: str | None
    summary: str
    rules_digest: str
    software_version: str
    predecessor: str | None
    measures: ReadMeasures = NONE_READ


def read_report(ds: Dataset) -> ReadReport:
    """What the report `ds` says.

    Raises
    ------
    QcNodeError
        `ds` is no report that this node writes.
    """
    try:
        return _read(ds)
    except (AttributeError, KeyError, IndexError, ValueError, TypeError) as error:
        raise QcNodeError(f"The object is no report of a qc-node: {error}.") from error


def _read(ds: Dataset) -> ReadReport:
    if name_of(ds) != codes.MEASUREMENT_REPORT:
        raise ValueError("its title is not Imaging Measurement Report")
    groups = [
        group for part in named(ds, codes.IMAGING_MEASUREMENTS) for group in named(part, codes.MEASUREMENT_GROUP)
    ]
    if not groups:
        raise ValueError("it has no measurement group")
    summaries = [text for group in groups if _is_summary(group) for text in texts_named(group, codes.SUMMARY)]
    measured = next((read_measures(group) for group in groups if is_measures(group)), NONE_READ)
    groups = [group for group in groups if not _is_summary(group) and not is_measures(group)]
    by_stage: dict[Stage, list[Dataset]] = {}
    for group in groups:
        by_stage.setdefault(_tracked(group)[0], []).append(group)
    digests = _digests(ds, by_stage)
    verdict, *also = (_verdict(stage, own, digests[stage].get("weights", "")) for stage, own in by_stage.items())
    remarks = [text for part in named(ds, codes.QUALITATIVE_EVALUATIONS) for text in _comments(part)]
    series, evidence = _evidence(ds)
    agents = [text for group in groups for text in texts_named(group, codes.CONTRAST_AGENT)]
    return ReadReport(
        sop_instance_uid=str(ds.SOPInstanceUID),
        series=series,
        evidence=evidence,
        verdict=verdict,
        also=tuple(also),
        warnings=tuple(remarks),
        contrast_agent=next(iter(agents), None),
        summary=next(iter(summaries), ""),
        rules_digest=digests[verdict.stage].get("rules", ""),
        software_version=str(ds.get("SoftwareVersions", "")),
        predecessor=_predecessor(ds),
        measures=measured,
    )


def _predecessor(ds: Dataset) -> str | None:
    before = ds.get("PredecessorDocumentsSequence")
    if not before:
        return None
    return str(before[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def _is_summary(group: Dataset) -> bool:
    return text_named(group, codes.TRACKING_IDENTIFIER) == SUMMARY_GROUP


def _digests(ds: Dataset, by_stage: Mapping[Stage, Sequence[Dataset]]) -> dict[Stage, dict[str, str]]:
    """Digests of weights and rules by classifier: one item of equipment for each, in the order of their groups.

    Format 0.1.0 has that of the rules in the tree only.
    """
    found = {}
    for (stage, groups), equipment in zip(by_stage.items(), ds.ContributingEquipmentSequence, strict=True):
        in_tree = dict(p.partition(":")[::2] for p in texts_named(groups[0], codes.ALGORITHM_PARAMETERS))
        found[stage] = {k: v for k, v in in_tree.items() if k == "rules"} | digests_in(equipment)
    return found


def _verdict(stage: Stage, groups: Sequence[Dataset], weights: str) -> Verdict:
    """What one classifier says: its groups have one algorithm."""
    model = ModelIdentity(
        text_named(groups[0], codes.ALGORITHM_NAME) or "",
        text_named(groups[0], codes.ALGORITHM_VERSION) or "",
        weights,
    )
    coverage = next((c for c in map(_coverage, groups) if c is not None), None)
    return Verdict(stage, model, tuple(map(_finding, groups)), coverage)


def _tracked(group: Dataset) -> tuple[Stage, Question]:
    stage, _, question = (text_named(group, codes.TRACKING_IDENTIFIER) or "").partition("/")
    return Stage(stage), Question.named(question)


def _finding(group: Dataset) -> Finding:
    _, question = _tracked(group)
    answer = codes_named(group, codes.question_code(question))[0]
    value = codes.answer_value(question, answer)
    comments = _comments(group)
    return Finding(
        question=question,
        value=value,
        probabilities=_probabilities(group, question),
        reason=codes.reason_of(codes_named(group, codes.QUALITY_FINDING)),
        abstained=comments[1] if value is None else None,
    )


def _comments(item: Dataset) -> list[str]:
    return texts_named(item, codes.COMMENT)


def _probabilities(group: Dataset, question: Question) -> Mapping[str, float]:
    found = {}
    for item in named(group, codes.PROBABILITY):
        answer = next(code for code in codes_named(item, codes.question_code(question)))
        value = codes.answer_value(question, answer)
        if value is not None:
            measured = item.get("MeasuredValueSequence")
            said = measured[0].NumericValue if measured else item.TextValue.partition(" ")[0]
            found[question.key(value)] = float(said)
    return found


def _coverage(group: Dataset) -> Coverage | None:
    truncated = codes_named(group, codes.COVERAGE_INCOMPLETE)
    if not truncated:
        return None
    return Coverage(
        codes.regions_of(codes_named(group, codes.TARGET_REGION)),
        text_named(group, codes.COVERAGE_TOP),
        text_named(group, codes.COVERAGE_BOTTOM),
        truncated[0] == codes.YES,
    )


def _evidence(ds: Dataset) -> tuple[SeriesKey, tuple[InstanceRef, ...]]:
    study = ds.CurrentRequestedProcedureEvidenceSequence[0]
    series = study.ReferencedSeriesSequence[0]
    refs = tuple(
        InstanceRef(str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID))
        for i in series.ReferencedSOPSequence
    )
    return SeriesKey(str(study.StudyInstanceUID), str(series.SeriesInstanceUID)), refs


def is_own_report(ds: Dataset) -> bool:
    """Whether `ds` looks like a report of a qc-node: TID 1500 with our measures, or our answers."""
    return name_of(ds) == codes.MEASUREMENT_REPORT and any(
        is_measures(group) or any(map(_is_own_answer, children(group)))
        for part in named(ds, codes.IMAGING_MEASUREMENTS)
        for group in children(part)
    )


def _is_own_answer(item: Dataset) -> bool:
    name = name_of(item)
    return (
        name is not None
        and name.scheme == codes.PRIVATE_SCHEME
        and code_in(item, "ConceptCodeSequence") is not None
    )


@dataclass(frozen=True)
class ReadMeasuredReport:
    """What the report on a series says that was measured and not judged; fields as in :class:`ReadReport`."""

    sop_instance_uid: str
    series: SeriesKey
    evidence: tuple[InstanceRef, ...]
    measures: ReadMeasures
    summary: str
    predecessor: str | None


def read_measured_report(ds: Dataset) -> ReadMeasuredReport:
    """The inverse of :func:`qc_node.report.measured_report.build_measured_report`.

    Raises
    ------
    QcNodeError
        `ds` is no such report.
    """
    groups = [g for part in named(ds, codes.IMAGING_MEASUREMENTS) for g in named(part, codes.MEASUREMENT_GROUP)]
    measured = [group for group in groups if is_measures(group)]
    if not measured or any(not _is_summary(group) and not is_measures(group) for group in groups):
        raise QcNodeError("The object is no report of a qc-node on a series that was only measured.")
    series, evidence = _evidence(ds)
    summaries = [text for group in groups for text in texts_named(group, codes.SUMMARY)]
    return ReadMeasuredReport(
        sop_instance_uid=str(ds.SOPInstanceUID),
        series=series,
        evidence=evidence,
        measures=read_measures(measured[0]),
        summary=next(iter(summaries), ""),
        predecessor=_predecessor(ds),
    )
