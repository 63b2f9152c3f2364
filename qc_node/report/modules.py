"""Patient, study and equipment modules: what a report shares with the images it is about.

Whatever a source header holds, nothing here raises: what cannot be read is left empty where the standard
demands the attribute (type 2) and out where it does not (type 3).  Identity goes before validity: Patient ID,
Patient's Name and Accession Number are copied as they are even when they are longer than their VR allows,
because a report that a PACS files under another patient is worse than one with a warning.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydicom import config
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.valuerep import PersonName

from qc_node.domain import InstanceRef, SeriesKey
from qc_node.report.items import short_text

IDENTITY = ("PatientName", "PatientID", "AccessionNumber")
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

_SEVERAL = ("PhysiciansOfRecord", "NameOfPhysiciansReadingStudy")
_ENUMERATED = {"PatientSex": ("M", "F", "O")}
_LIMITS = {"SH": 16, "LO": 64, "LT": 10240}
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"([01]\d|2[0-3]):?(?:([0-5]\d):?(?:([0-5]\d|60)(\.\d{1,6})?)?)?")
_AGE = re.compile(r"\d{3}[DWMY]")
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


def copy_patient_and_study(source: Dataset, target: Dataset, study_instance_uid: str) -> None:
    """Fill the Patient, General Study and Patient Study modules of `target` from `source`."""
    for keyword in REQUIRED:
        _put(target, keyword, _readable(source, keyword) or "")
    for keyword in OPTIONAL:
        value = _readable(source, keyword)
        if value not in (None, "", []):
            _put(target, keyword, value)
    _copy_deidentification(source, target)
    _put(target, "StudyInstanceUID", study_instance_uid)
    procedures = _codes(source, "ProcedureCodeSequence")
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


def _put(target: Dataset, keyword: str, value: Any) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    target[tag] = DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE)


def _readable(source: Dataset, keyword: str) -> Any:
    value = raw_value(source, keyword)
    if value is None or isinstance(value, bytes | DicomSequence):
        return None
    vr = dictionary_VR(keyword)
    if vr == "PN":
        return _names(value, several=keyword in _SEVERAL)
    if vr in ("DS", "IS"):
        return _decimal(value)
    several = isinstance(value, MultiValue | list | tuple)
    text = ("\\" if keyword in IDENTITY else " / ").join(map(str, value)) if several else str(value)
    if keyword in IDENTITY:
        return text
    if vr == "DA":
        return _date(text.strip())
    if vr == "TM":
        return _time(text.strip())
    if vr == "AS":
        return text.strip() if _AGE.fullmatch(text.strip()) else None
    if keyword in _ENUMERATED:
        return text.strip() if text.strip() in _ENUMERATED[keyword] else None
    if not text.strip():
        return None
    return short_text(text, _LIMITS[vr])


def _names(value: Any, *, several: bool) -> Any:
    if isinstance(value, MultiValue | list | tuple):
        names = [str(v) for v in value]
        return names if several else "\\".join(names)
    return [str(value)] if several and str(value) else str(value)


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


def _codes(source: Dataset, keyword: str) -> DicomSequence:
    """The complete items of a code sequence."""
    out = []
    for item in raw_value(source, keyword) or []:
        values = [raw_value(item, k) for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
        if all(isinstance(v, str) and v.strip() for v in values):
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
                short_text(v, limit) for v, limit in zip(values, (16, 16, 64), strict=True)
            )
            out.append(code)
    return DicomSequence(out)


def _copy_deidentification(source: Dataset, target: Dataset) -> None:
    """Patient Identity Removed = YES needs a method (type 1C); without one it would be invalid."""
    if raw_value(source, "PatientIdentityRemoved") != "YES":
        return
    method = raw_value(source, "DeidentificationMethod")
    methods = method if isinstance(method, MultiValue | list) else [method]
    texts = [short_text(str(m)) for m in methods if m]
    codes = _codes(source, "DeidentificationMethodCodeSequence")
    if texts:
        target.DeidentificationMethod = texts
    if codes:
        target.DeidentificationMethodCodeSequence = codes
    if texts or codes:
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
    for key, references in evidence.items():
        series = Dataset()
        _put(series, "SeriesInstanceUID", key.series_instance_uid)
        ordered = sorted(set(references), key=lambda r: (r.sop_class_uid, r.sop_instance_uid))
        series.ReferencedSOPSequence = DicomSequence([_reference(r) for r in ordered])
        studies.setdefault(key.study_instance_uid, []).append(series)
    items = []
    for uid, of_study in studies.items():
        study = Dataset()
        _put(study, "StudyInstanceUID", uid)
        study.ReferencedSeriesSequence = DicomSequence(of_study)
        items.append(study)
    return DicomSequence(items)


def _reference(ref: InstanceRef) -> Dataset:
    item = Dataset()
    _put(item, "ReferencedSOPClassUID", ref.sop_class_uid)
    _put(item, "ReferencedSOPInstanceUID", ref.sop_instance_uid)
    return item


def settle_character_set(target: Dataset, source: Dataset) -> None:
    """Keep the images' character set where it can write every text of `target`; UTF-8 otherwise.

    Patient names then stand in the report byte for byte as in the images, and a sentence that quotes a
    character outside of that set makes the whole object UTF-8 instead of losing it.
    """
    declared = raw_value(source, "SpecificCharacterSet")
    terms = [str(t) for t in declared] if isinstance(declared, MultiValue | list) else [str(declared or "")]
    texts = list(_texts(target))
    if any(terms) and _can_write(terms, texts):
        target.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
    elif not all(text.isascii() for text in texts):
        target.SpecificCharacterSet = "ISO_IR 192"


def _can_write(terms: list[str], texts: list[str]) -> bool:
    try:
        encodings = convert_encodings(terms)
        # Every character is tried here first: pydicom would log what it cannot encode, and that is patient data.
        characters = {c for text in texts for c in text if not c.isascii()}
        if not all(any(_encodable(c, encoding) for encoding in encodings) for c in characters):
            return False
        return all(decode_bytes(encode_string(text, encodings), encodings, set()) == text for text in texts)
    except (LookupError, ValueError):
        return False


def _encodable(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _texts(ds: Dataset) -> Iterable[str]:
    for element in ds.iterall():
        if element.VR in ("PN", "LO", "SH", "LT", "ST", "UT", "UC"):
            values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
            for value in values:
                yield str(value) if isinstance(value, str | PersonName) else ""
