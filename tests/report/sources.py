"""Made-up headers and verdicts for tests of reports; nobody's patient data."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from qc_node.domain import (
    GRADED,
    BodyPart,
    Coverage,
    Finding,
    HeaderClaims,
    InstanceRef,
    ModelIdentity,
    Question,
    Reason,
    Region,
    SeriesKey,
    Stage,
    Verdict,
    tier_finding,
)
from qc_node.report.modules import raw_value
from qc_node.report.structured_report import build_report

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MODEL = ModelIdentity("qc-test", "0.1.0", "0123456789abcdef" * 4)
CREATED = datetime.datetime(2026, 1, 2, 3, 4, 5, 678900)


def source(modality: str = "MR", **changes: Any) -> Dataset:
    """A plain header; `changes` set attributes, None deletes one."""
    ds = Dataset()
    ds.SOPClassUID = CT_IMAGE if modality == "CT" else MR_IMAGE
    ds.SOPInstanceUID = "1.2.826.0.1.3680043.10.999.1.1.1"
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.10.999.1"
    ds.SeriesInstanceUID = "1.2.826.0.1.3680043.10.999.1.1"
    ds.Modality = modality
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "QC-1"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "F"
    ds.StudyDate = "20260102"
    ds.StudyTime = "030000"
    ds.StudyID = "7"
    ds.AccessionNumber = "A7"
    ds.ReferringPhysicianName = "Roe^Richard"
    ds.StudyDescription = "Head"
    ds.SeriesNumber = "5"
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def evidence(count: int = 3, sop_class: str = MR_IMAGE) -> list[InstanceRef]:
    return [InstanceRef(sop_class, f"1.2.826.0.1.3680043.10.999.1.1.{i + 1}") for i in range(count)]


def key(ds: Dataset) -> SeriesKey:
    return SeriesKey(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))


def mri_verdict(
    motion: int | None = 0, contrast: int | None = 0, noise: int | None = 0, gadolinium: bool | None = False
) -> Verdict:
    """A brain that was graded; None abstains."""

    def grade(question: Question, value: int | None) -> Finding:
        if value is None:
            return Finding(
                question, None, {"0": 0.34, "1": 0.33, "2": 0.33}, abstained="The grades are too close."
            )
        p = {str(g): 0.9 if g == value else 0.05 for g in range(3)}
        return Finding(question, value, p)

    grades = [grade(q, v) for q, v in zip(GRADED, (motion, contrast, noise), strict=True)]
    reject = Finding(Question.STRAIGHT_REJECT, False, {"yes": 0.02, "no": 0.98})
    gado = (
        Finding(Question.GADOLINIUM, None, {"yes": 0.5, "no": 0.5}, abstained="Not sure.")
        if gadolinium is None
        else Finding(Question.GADOLINIUM, gadolinium, {"yes": 0.9 if gadolinium else 0.1})
    )
    return Verdict(Stage.BRAIN_MRI, MODEL, (reject, gado, *grades, tier_finding(grades)))


def rejected(reason: Reason) -> Verdict:
    return Verdict(Stage.BRAIN_MRI, MODEL, (Finding(Question.STRAIGHT_REJECT, True, {"yes": 0.97}, reason),))


def undecided_reject() -> Verdict:
    finding = Finding(Question.STRAIGHT_REJECT, None, {"yes": 0.5, "no": 0.5}, abstained="The networks disagree.")
    return Verdict(Stage.BRAIN_MRI, MODEL, (finding,))


def ct_verdict(
    part: BodyPart | None = BodyPart.CHEST,
    enhanced: bool | None = True,
    regions: Sequence[Region] | None = None,
    truncated: bool = False,
) -> Verdict:
    p = {b.value: 0.9 if b is part else 0.02 for b in BodyPart}
    body = (
        Finding(Question.BODY_PART, None, p, abstained="No class is likely enough.")
        if part is None
        else Finding(Question.BODY_PART, part.value, p)
    )
    contrast = (
        Finding(Question.CONTRAST_ENHANCED, None, {"yes": 0.5}, abstained="Not sure.")
        if enhanced is None
        else Finding(Question.CONTRAST_ENHANCED, enhanced, {"yes": 0.9 if enhanced else 0.1})
    )
    coverage = None if regions is None else Coverage(tuple(regions), "lung apex", "L1", truncated)
    return Verdict(Stage.CT, MODEL, (body, contrast), coverage)


def every_region_set() -> list[tuple[Region, ...]]:
    return [c for n in range(1, len(Region) + 1) for c in combinations(Region, n)]


def report(verdict: Verdict | None = None, header: Dataset | None = None, **changes: Any) -> Dataset:
    """A report with defaults for everything."""
    header = source() if header is None else header
    options = {
        "software_version": "0.1.0",
        "node": "QCNODE",
        "rules_digest": "r0",
        "created": CREATED,
        "sr_class": "comprehensive",
        **changes,
    }
    refs = options.pop("evidence", evidence())
    claims = options.pop("claims", None) or HeaderClaims(modality=str(raw_value(header, "Modality") or ""))
    warnings = options.pop("warnings", ())
    return build_report(header, refs, key(header), verdict or mri_verdict(), claims, warnings, **options)


def of_0_1_0(name: str) -> Dataset:
    """A report as version 0.1.0 wrote it (format 0.1.0), kept as DICOM JSON: ``brain-mri`` or ``ct``."""
    return Dataset.from_json((Path(__file__).parent / "format_1" / f"{name}.json").read_text())


def as_bytes(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def written(ds: Dataset) -> Dataset:
    """`ds` after a trip through bytes."""
    return pydicom.dcmread(io.BytesIO(as_bytes(ds)))
