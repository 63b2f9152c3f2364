"""Patient, study and equipment modules: what a report shares with the images it is about.

Whatever a source header holds, nothing here raises: what cannot be read is left empty where the standard
demands the attribute (type 2) and out where it does not (type 3).  Identity goes before validity: Patient ID and
its issuer, Patient's Name and Accession Number are copied as they are even when they are longer than their VR
allows, because a report that a PACS files under another patient is worse than one with a warning.  What else is
too long is cut where it is a description, and left out where a part would be another thing: a code, an ID, a name.

In which character set all that is written: :mod:`qc_node.report.character_set`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

from qc_node.dicom.text import TEXT_VRS, CharacterSet
from qc_node.domain import InstanceRef, SeriesKey
from qc_node.report.character_set import ITEM_TEXTS, SourceText, as_it_stands, declare
from qc_node.report.items import short_text

IDENTITY = ("PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber")
"""Copied as they are, whatever their length."""

REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Type 2 in the Patient (PS3.3 C.7.1.1) and General Study (C.7.2.1) modules: always there, empty if need be."""

OPTIONAL = (
    "IssuerOfPatientID",
    "PatientBirthTime",
    "EthnicGroup",
    "PatientComments",
    "StudyDescription",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdditionalPatientHistory",
)
"""Type 3 in the Patient, General Study and Patient Study modules: copied when they can be read."""

CODES = ("ProcedureCodeSequence", "DeidentificationMethodCodeSequence")
COPIED = (*REQUIRED, *OPTIONAL, "DeidentificationMethod")
_SEVERAL = ("PhysiciansOfRecord", "NameOfPhysiciansReadingStudy")
_WHOLE_OR_NOT = ("StudyID",)
_ENUMERATED = {"PatientSex": ("M", "F", "O")}
_LIMITS = {"SH": 16, "LO": 64, "LT": 10240, "PN": 64}
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"([01]\d|2[0-3]):?(?:([0-5]\d):?(?:([0-5]\d|60)(\.\d{1,6})?)?)?")
_AGE = re.compile(r"\d{3}[DWMY]")
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


def source_text(source: Dataset) -> SourceText:
    """Every text of `source` that a report copies."""
    sequences = [_items(source, keyword) for keyword in CODES]
    return SourceText(source, [k for k in COPIED if dictionary_VR(k) in TEXT_VRS], sequences)


def copy_patient_and_study(text: SourceText, target: Dataset, study_instance_uid: str) -> None:
    """Fill the Patient, General Study and Patient Study modules of `target`."""
    for keyword in REQUIRED:
        put_value(target, keyword, _readable(text, keyword) or "")
    for keyword in OPTIONAL:
        value = _readable(text, keyword)
        if value:
            put_value(target, keyword, value)
    _copy_deidentification(text, target)
    put_value(target, "StudyInstanceUID", study_instance_uid)
    procedures = _codes(text, "ProcedureCodeSequence")
    if procedures:
        target.ProcedureCodeSequence = procedures


def raw_value(source: Dataset, keyword: str) -> Any:
    """The value of an attribute, or None where it is missing or cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return source[keyword].value if keyword in source else None
    except Exception:
        # pydicom raises whatever its converters raise: any broken value of any VR ends here.
        return None


def put_value(target: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute, whatever its value is worth."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    target[tag] = DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE)


def _readable(text: SourceText, keyword: str) -> Any:
    """The value to write, as bytes where the source's are kept; None where there is none that may be copied."""
    vr = dictionary_VR(keyword)
    if vr not in TEXT_VRS:
        return _of_plain_vr(keyword, vr, raw_value(text.source, keyword))
    said = text.of(keyword)
    if said is None:
        return None
    if text.keeps_bytes:
        fits = keyword in IDENTITY or _fits(said, vr)
        return as_it_stands(text.source, keyword) if fits else None
    assert isinstance(said, str)
    return said if keyword in IDENTITY else _within_limits(keyword, vr, said)


def _fits(said: str | bytes, vr: str) -> bool:
    """Whether a text is as short as its VR asks, in characters (PS3.5 6.2); in bytes where it is those."""
    text = said if isinstance(said, str) else said.decode("latin-1")
    parts = re.split(r"[\\=]", text) if vr == "PN" else [text]
    return all(len(part) <= _LIMITS[vr] for part in parts)


def _within_limits(keyword: str, vr: str, said: str) -> str | list[str] | None:
    """A description is cut; the part of an ID or a name would be another, so it is left out."""
    if vr == "PN":
        names = [_one_line(name) for name in said.split("\\") if _fits(name, vr)]
        return names if keyword in _SEVERAL else next(iter(names), None)
    if keyword in _WHOLE_OR_NOT and not _fits(said, vr):
        return None
    return short_text(said.replace("\\", " / "), _LIMITS[vr]) if said.strip() else None


def _one_line(name: str) -> str:
    return "".join(c for c in name if c.isprintable())


def _of_plain_vr(keyword: str, vr: str, value: Any) -> str | None:
    """Values that no character set is about."""
    if value is None or isinstance(value, bytes | DicomSequence):
        return None
    if vr in ("DS", "IS"):
        return _decimal(value)
    said = (" / ".join(map(str, value)) if isinstance(value, MultiValue | list | tuple) else str(value)).strip()
    if vr == "DA":
        return _date(said)
    if vr == "TM":
        return _time(said)
    if vr == "AS":
        return said if _AGE.fullmatch(said) else None
    return said if said in _ENUMERATED[keyword] else None


def _decimal(value: Any) -> str | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return f"{number:.10g}" if abs(number) < 1e6 else None


def _date(text: str) -> str | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        datetime(*map(int, match.groups()))  # type: ignore[arg-type]
    except ValueError:
        return None
    return "".join(match.groups())


def _time(text: str) -> str | None:
    match = _TIME.fullmatch(text)
    return None if match is None else "".join(group or "" for group in match.groups())


def _items(source: Dataset, keyword: str) -> list[Dataset]:
    items = raw_value(source, keyword)
    return [item for item in items if isinstance(item, Dataset)] if isinstance(items, DicomSequence) else []


def _codes(text: SourceText, keyword: str) -> DicomSequence:
    """The complete items of a code sequence; the part of a code would be another code."""
    out = []
    for item in _items(text.source, keyword):
        value, scheme, meaning = (text.in_item(item, k) for k in ITEM_TEXTS)
        if not (value and scheme and meaning and _fits(value, "SH") and _fits(scheme, "SH")):
            continue
        code = Dataset()
        if text.keeps_bytes:
            for k in ITEM_TEXTS:
                put_value(code, k, as_it_stands(item, k))
            declare(code, CharacterSet.of(item))
        else:
            code.CodeValue, code.CodingSchemeDesignator = short_text(str(value), 16), short_text(str(scheme), 16)
            code.CodeMeaning = short_text(str(meaning))
        out.append(code)
    return DicomSequence(out)


def _copy_deidentification(text: SourceText, target: Dataset) -> None:
    """Patient Identity Removed = YES needs a method (type 1C); without one it would be invalid."""
    if raw_value(text.source, "PatientIdentityRemoved") != "YES":
        return
    said = text.of("DeidentificationMethod")
    codes = _codes(text, "DeidentificationMethodCodeSequence")
    if said and text.keeps_bytes:
        put_value(target, "DeidentificationMethod", as_it_stands(text.source, "DeidentificationMethod"))
    elif said:
        target.DeidentificationMethod = [short_text(method) for method in str(said).split("\\")]
    if codes:
        target.DeidentificationMethodCodeSequence = codes
    if said or codes:
        target.PatientIdentityRemoved = "YES"


def stamp(target: Dataset, source: Dataset, created: datetime) -> None:
    """Dates and times of creation, on the clock of the images where they say which that is.

    `created` with a time zone is converted to the source's Timezone Offset From UTC (0008,0201), which is then
    written; without one in the source, `created` is written as it stands, which should be the site's clock.
    """
    offset = raw_value(source, "TimezoneOffsetFromUTC")
    if created.tzinfo is not None and isinstance(offset, str) and _OFFSET.fullmatch(offset.strip()):
        created = created.astimezone(datetime.strptime(offset.strip(), "%z").tzinfo)
        target.TimezoneOffsetFromUTC = offset.strip()
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S.%f")
    target.InstanceCreationDate, target.InstanceCreationTime = date, time
    target.ContentDate, target.ContentTime = date, time
    target.SeriesDate, target.SeriesTime = date, time


def evidence_sequence(evidence: Mapping[SeriesKey, Iterable[InstanceRef]]) -> DicomSequence:
    """The hierarchical reference to instances, by study and series (PS3.3 table C.17-3)."""
    studies: dict[str, list[Dataset]] = {}
    for key, instances in evidence.items():
        series = Dataset()
        put_value(series, "SeriesInstanceUID", key.series_instance_uid)
        series.ReferencedSOPSequence = references(instances)
        studies.setdefault(key.study_instance_uid, []).append(series)
    items = []
    for uid, of_study in studies.items():
        study = Dataset()
        put_value(study, "StudyInstanceUID", uid)
        study.ReferencedSeriesSequence = DicomSequence(of_study)
        items.append(study)
    return DicomSequence(items)


def references(instances: Iterable[InstanceRef]) -> DicomSequence:
    """References to instances (PS3.3 table 10-11), each once and in one order."""
    ordered = sorted(set(instances), key=lambda r: (r.sop_class_uid, r.sop_instance_uid))
    return DicomSequence([_reference(r) for r in ordered])


def _reference(ref: InstanceRef) -> Dataset:
    item = Dataset()
    put_value(item, "ReferencedSOPClassUID", ref.sop_class_uid)
    put_value(item, "ReferencedSOPInstanceUID", ref.sop_instance_uid)
    return item
