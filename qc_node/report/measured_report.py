"""The report on a series that was measured and not judged: TID 1500 with a sentence and the measures.

The observer is the device with the measures as its model: another version of them is another device.  No group has
a Finding Site: the measures are of the whole image.
:func:`qc_node.report.reading.read_measured_report` is the inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydicom.dataset import Dataset

from qc_node.dicom.uids import SR_CLASSES
from qc_node.domain import InstanceRef, ModelIdentity, SeriesKey
from qc_node.report import modules
from qc_node.report.character_set import note, settle_character_set
from qc_node.report.documents import NodeIdentity
from qc_node.report.measures_group import ALGORITHM, MeasuredBlock, measures_group
from qc_node.report.sr_documents import observer, report_document, report_root, summary_group
from qc_node.report.uids import ORIGINAL, Edition, Predecessor, measured_report_uid, report_series_uid


def measures_model(version: int) -> ModelIdentity:
    """The measures as what judged: a name and a version, and no weights."""
    return ModelIdentity(ALGORITHM, str(version), "")


def build_measured_report(
    source: Dataset,
    evidence: Sequence[InstanceRef],
    series: SeriesKey,
    measures: MeasuredBlock,
    *,
    summary: str,
    software_version: str,
    node: NodeIdentity | str,
    created: datetime,
    sr_class: str,
    predecessor: Predecessor | None = None,
    instance_number: int = 1,
    edition: Edition = ORIGINAL,
) -> Dataset:
    """The report on one series, ready for ``save_as(..., enforce_file_format=True)``.

    Parameters
    ----------
    measures
        Not empty.
    summary
        All of it in a sentence, why it was not judged for example.
    source, evidence, series, software_version, node, created, sr_class, predecessor, instance_number, edition
        As for :func:`qc_node.report.structured_report.build_report`.

    Raises
    ------
    ValueError
        No evidence, no measures, or an unknown `sr_class`: mistakes of the caller, never of the source.
    """
    if not evidence or not measures or sr_class not in SR_CLASSES:
        raise ValueError("a report needs evidence, measures and a known SR class")
    node = NodeIdentity(node) if isinstance(node, str) else node
    image = series.series_instance_uid
    uid = measured_report_uid(image, evidence, measures.causes(), sr_class=sr_class, edition=edition)
    series_uid = report_series_uid("report-series", image, node.station_name, software_version, edition)
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
    remark = note(text)
    groups = [
        *([summary_group(series, summary)] if summary else []),
        measures_group(image, measures, numbers=sr_class != "basic-text"),
    ]
    modality = str(modules.raw_value(source, "Modality") or "")
    context = observer(node, measures_model(measures.version))
    ds.update(report_root(context, modality, groups, [] if remark is None else [remark]))
    settle_character_set(ds, text)
    return ds
