"""The only place that spells a code.

Every noun of :mod:`qc_node.domain` that reaches a DICOM object has its code here.  A code of the standard is
used wherever one says the same; what is left is declared under the private scheme ``99QCNODE`` (PS3.16
section 8.2: designators that begin with ``99``) and listed by :func:`private_codes`.

Standard codes are looked up by keyword in the dictionaries that pydicom generates from DICOM PS3.16; context
groups are named beside them, and a test holds each code to its group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, assert_never

from pydicom.sr.codedict import codes as dictionary

from qc_node.domain import Answer, AnswerKind, BodyPart, Grade, Question, Reason, Region, Tier
from qc_node.domain.measure import Measure, Unit
from qc_node.domain.wording import sentence


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept.

    ``value`` has at most 16 characters (SH), ``meaning`` at most 64 (LO).  Codes are equal when value and
    scheme are: other writers may spell the meaning in their own way.
    """

    value: str
    scheme: str
    meaning: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and (self.value, self.scheme) == (other.value, other.scheme)

    def __hash__(self) -> int:
        return hash((self.value, self.scheme))


PRIVATE_SCHEME: Final = "99QCNODE"
PRIVATE_SCHEME_NAME: Final = "qc-node image quality codes"
PRIVATE_SCHEME_ORGANIZATION: Final = "qc-node project"


def _standard(scheme: str, keyword: str) -> Code:
    """A code of PS3.16 by pydicom's keyword for it; raises :class:`AttributeError` where there is none."""
    known = getattr(getattr(dictionary, scheme), keyword)
    return Code(str(known.value), scheme, str(known.meaning))


def _dcm(keyword: str) -> Code:
    return _standard("DCM", keyword)


def _sct(keyword: str) -> Code:
    return _standard("SCT", keyword)


def _own(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


# -- concept names of the templates ------------------------------------------------------------------
MEASUREMENT_REPORT = _dcm("ImagingMeasurementReport")
"""Title of every report (TID 1500 row 1, CID 7021)."""
LANGUAGE = _dcm("LanguageOfContentItemAndDescendants")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
"""CID 5000."""
OBSERVER_TYPE = _dcm("ObserverType")
DEVICE = _dcm("Device")
"""CID 270."""
PERSON = _dcm("Person")
"""CID 270."""
DEVICE_UID = _dcm("DeviceObserverUID")
DEVICE_NAME = _dcm("DeviceObserverName")
DEVICE_MANUFACTURER = _dcm("DeviceObserverManufacturer")
DEVICE_MODEL = _dcm("DeviceObserverModelName")
DEVICE_SERIAL = _dcm("DeviceObserverSerialNumber")
PERSON_NAME = _dcm("PersonObserverName")
PERSON_LOGIN = _dcm("PersonObserverLoginName")
PERSON_ORGANIZATION = _dcm("PersonObserverOrganizationName")
PROCEDURE_REPORTED = _dcm("ProcedureReported")
IMAGING_MEASUREMENTS = _dcm("ImagingMeasurements")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
"""TID 1500 row 12: where the template has room for text about the whole series."""
MEASUREMENT_GROUP = _dcm("MeasurementGroup")
TRACKING_IDENTIFIER = _dcm("TrackingIdentifier")
TRACKING_UID = _dcm("TrackingUniqueIdentifier")
FINDING = _dcm("Finding")
FINDING_SITE = _sct("FindingSite")
ALGORITHM_NAME = _dcm("AlgorithmName")
ALGORITHM_VERSION = _dcm("AlgorithmVersion")
ALGORITHM_PARAMETERS = _dcm("AlgorithmParameters")
PROBABILITY = _dcm("Probability")
NO_UNITS = _standard("UCUM", "NoUnits")
COMMENT = _dcm("Comment")
SUMMARY = _dcm("Summary")
PROCESSING_EQUIPMENT = _dcm("ProcessingEquipment")
"""CID 7005, purpose of the Contributing Equipment item."""

# -- what is said ------------------------------------------------------------------------------------
QUALITY_ASSESSMENT = _dcm("QualityAssessment")
SERIES_QUALITY = _dcm("ImagingSeriesQuality")
STUDY_QUALITY = _dcm("ImagingStudyQuality")
QUALITY_FINDING = _dcm("QualityFinding")
GOOD_QUALITY = _dcm("GoodImageQuality")
"""CID 3114."""
USABLE_QUALITY = _dcm("UsableMeetsTheQualityControlStandard")
"""CID 6044."""
POOR_QUALITY = _dcm("PoorImageQuality")
"""CID 3114."""
UNUSABLE_QUALITY = _dcm("UnusableQualityRendersImageUnusable")
"""CID 3114 and 6044; only for a blank or unreadable series."""
CONTRAST_AGENT = _dcm("ContrastBolusAgent")
TARGET_REGION = _dcm("TargetRegion")
COVERAGE_INCOMPLETE = _dcm("AnatomyCoverageIncomplete")
"""As a concept name: whether the anatomy is cut off; as a Quality Finding: that it is (CID 6315)."""

YES = _sct("Yes")
NO = _sct("No")
UNDETERMINED = _sct("Undetermined")
"""CID 230."""
OTHER = Code("74964007", "SCT", "Other")

BRAIN = _sct("Brain")
"""CID 4; the finding site of brain MRI (CID 4031 has no brain)."""

PROCEDURES: Final[Mapping[str, Code]] = {
    "MR": _standard("LN", "MRIUnspecifiedBodyRegion"),
    "CT": _standard("LN", "CTUnspecifiedBodyRegion"),
}
"""Procedure reported by modality (CID 100)."""
PROCEDURE_OTHER = _sct("ImagingProcedure")


def procedure(modality: str) -> Code:
    """Procedure reported for a DICOM modality."""
    return PROCEDURES.get(modality, PROCEDURE_OTHER)


# -- questions ---------------------------------------------------------------------------------------
TIER = _own("TIER", "Image quality tier (1 good, 2 usable, 3 poor)")
COVERAGE_TOP = _own("COVERAGE-TOP", "Uppermost anatomical landmark in the image")
COVERAGE_BOTTOM = _own("COVERAGE-BOTTOM", "Lowermost anatomical landmark in the image")

QUESTIONS: Final[Mapping[Question, Code]] = {
    Question.STRAIGHT_REJECT: _own("STRAIGHT-REJECT", "Straight reject: not a proper whole-head 3D T1w image"),
    Question.GADOLINIUM: _own("GADOLINIUM-SEEN", "Effect of a gadolinium-based agent seen in the image"),
    Question.MOTION: _own("GRADE-MOTION", "Motion grade (0 none, 1 moderate, 2 severe)"),
    Question.CONTRAST: _own("GRADE-CONTRAST", "Grey/white-matter contrast grade (0 good, 2 severely poor)"),
    Question.NOISE: _own("GRADE-NOISE", "Noise grade (0 none, 1 moderate, 2 severe)"),
    Question.TIER: TIER,
    Question.BODY_PART: _own("BODY-PART", "Body part, as one of six classes"),
    Question.CONTRAST_ENHANCED: _own("ENHANCEMENT-SEEN", "Intravascular contrast enhancement seen in the CT"),
}
"""Concept name of the answer to each question."""

GRADES: Final[Mapping[Grade, Code]] = {
    Grade.NONE: _own("GRADE-0", "Grade 0: none"),
    Grade.MODERATE: _own("GRADE-1", "Grade 1: moderate"),
    Grade.SEVERE: _own("GRADE-2", "Grade 2: severe"),
}
TIERS: Final[Mapping[Tier, Code]] = {
    Tier.GOOD: _own("TIER-1", "Tier 1"),
    Tier.USABLE: _own("TIER-2", "Tier 2"),
    Tier.POOR: _own("TIER-3", "Tier 3"),
}
"""The tier in the words of its scale."""
TIER_QUALITY: Final[Mapping[Tier, Code]] = {
    Tier.GOOD: GOOD_QUALITY,
    Tier.USABLE: USABLE_QUALITY,
    Tier.POOR: POOR_QUALITY,
}
"""The tier as Imaging Series Quality."""

VOTES: Final[Mapping[str, Code]] = {
    "good": GOOD_QUALITY,
    "acceptable": USABLE_QUALITY,
    "poor": POOR_QUALITY,
}
"""A human vote as Imaging Series Quality."""

# -- anatomy (CID 4031) ------------------------------------------------------------------------------
_HEAD = _sct("Head")
_NECK = _sct("Neck")
_CHEST = _sct("Chest")
_ABDOMEN = _sct("Abdomen")
_PELVIS = _sct("Pelvis")
_LIMB = _sct("Extremity")
_ABDOMEN_PELVIS = _sct("AbdomenAndPelvis")
ENTIRE_BODY = _sct("EntireBody")

BODY_PARTS: Final[Mapping[BodyPart, Code]] = {
    BodyPart.BRAIN: _HEAD,
    BodyPart.NECK: _NECK,
    BodyPart.CHEST: _CHEST,
    BodyPart.ABDOMEN: _ABDOMEN,
    BodyPart.ABDOMEN_PELVIS: _ABDOMEN_PELVIS,
    BodyPart.OTHER: OTHER,
}

_H, _N, _C, _A, _P, _L = Region
REGIONS: Final[Mapping[tuple[Region, ...], Code]] = {
    (_H,): _HEAD,
    (_N,): _NECK,
    (_C,): _CHEST,
    (_A,): _ABDOMEN,
    (_P,): _PELVIS,
    (_L,): _LIMB,
    (_H, _N): _sct("HeadAndNeck"),
    (_N, _C): _sct("NeckAndChest"),
    (_C, _A): _sct("ChestAndAbdomen"),
    (_A, _P): _ABDOMEN_PELVIS,
    (_N, _C, _A): _sct("NeckChestAndAbdomen"),
    (_C, _A, _P): _sct("ChestAbdomenAndPelvis"),
    (_N, _C, _A, _P): _sct("NeckChestAbdomenAndPelvis"),
    (_H, _N, _C, _A, _P, _L): ENTIRE_BODY,
}
"""Target Region for each coverage that CID 4031 has one code for."""


def in_body_order(regions: Sequence[Region]) -> tuple[Region, ...]:
    """`regions` from cranial to caudal, each once."""
    return tuple(r for r in Region if r in regions)


def target_regions(regions: Sequence[Region]) -> tuple[Code, ...]:
    """As few codes of CID 4031 as say exactly `regions`; combined codes for combined coverage.

    What has no code of its own (head to chest, say) is told by several, each as long a run as there is a
    code for, from cranial to caudal.
    """
    rest = in_body_order(regions)
    out: list[Code] = []
    while rest:
        taken = next(n for n in range(len(rest), 0, -1) if rest[:n] in REGIONS)
        out.append(REGIONS[rest[:taken]])
        rest = rest[taken:]
    return tuple(out)


def regions_of(targets: Sequence[Code]) -> tuple[Region, ...]:
    """The inverse of :func:`target_regions`; codes that are no region of ours are passed over."""
    by_code = {code: regions for regions, code in REGIONS.items()}
    return in_body_order([r for code in targets for r in by_code.get(code, ())])


# -- reasons -----------------------------------------------------------------------------------------
NO_IMAGE = _dcm("NoImage")
"""CID 6135."""
WRONG_PROCESSING = _dcm("InappropriateImageProcessing")
"""CID 6135."""

REASONS: Final[Mapping[Reason, tuple[Code, ...]]] = {
    Reason.MOTION: (_standard("RADLEX", "MotionRelatedArtifact"),),
    Reason.NOISE: (_dcm("PoorSNR"),),
    Reason.POOR_CONTRAST: (_own("POOR-TISSUE-CON", "Poor contrast between tissues"),),
    Reason.COVERAGE: (COVERAGE_INCOMPLETE,),
    Reason.FIELD_OF_VIEW: (_dcm("PoorFOVSelection"),),
    Reason.SEGMENTED: (WRONG_PROCESSING, _own("SEGMENTED", "Label map or tissue map, not an image")),
    Reason.SKULL_STRIPPED: (WRONG_PROCESSING, _own("SKULL-STRIPPED", "Skull and scalp were removed")),
    Reason.NOT_T1W: (_own("NOT-T1W", "Not a T1-weighted image"),),
    Reason.NOT_BRAIN: (_own("NOT-BRAIN", "Not an image of the brain"),),
    Reason.PHANTOM: (_sct("Phantom"),),
    Reason.BLANK: (NO_IMAGE,),
    Reason.TOO_FEW_SLICES: (_own("TOO-FEW-SLICES", "Too few slices for a volume"),),
    Reason.THICK_SLICES: (_own("THICK-SLICES", "Slices too thick for a 3D image"),),
    Reason.ORIENTATION: (_dcm("Positioning"),),
    Reason.ARTIFACT: (_dcm("ImageArtifacts"),),
    Reason.GEOMETRY: (_own("GEOMETRY", "The slices do not form a regular volume"),),
    Reason.EXPOSURE: (_own("EXPOSURE", "Exposed too little or too much"),),
}
"""Quality Findings for each reason, the most general first.  The last one is the reason's own."""


def reason_of(findings: Sequence[Code]) -> Reason | None:
    """The reason that the Quality Findings of one group spell."""
    return next((reason for reason, spelt in REASONS.items() if findings and spelt[-1] == findings[-1]), None)


# -- measures ----------------------------------------------------------------------------------------
MEASURES: Final[Mapping[str, Code]] = {
    "snr_object": _dcm("SignalToNoiseRatio"),
    "ctdi_vol": _dcm("MeanCtdivol"),
    "exposure_index": _dcm("ExposureIndex"),
    "target_exposure_index": _dcm("TargetExposureIndex"),
    "deviation_index": _dcm("DeviationIndex"),
    "kvp": _dcm("KVP"),
    "mas": _dcm("Exposure"),
    "slice_thickness": _dcm("SliceThickness"),
}
"""Concept names of measures that the standard defines in the same way; every other one has a code of its own."""

UNITS: Final[Mapping[Unit, Code]] = {u: Code(u.value, "UCUM", u.value) for u in Unit} | {Unit.ONE: NO_UNITS}

FINDINGS: Final[Mapping[str, tuple[Code, ...]]] = {
    "noise": REASONS[Reason.NOISE],
    "metal": (_dcm("ArtifactsOtherThanGridOrDetectorArtifact"), _own("METAL", "Metal and its streaks")),
    "truncation": REASONS[Reason.FIELD_OF_VIEW],
    "underexposure": (_dcm("UnderExposed"),),
    "overexposure": (_dcm("OverExposed"),),
    "clipping": (_own("CLIPPED", "Grey values of the body cut off at the end of their range"),),
}
"""Quality Findings by the kind of an :class:`qc_node.domain.measure.ImageFinding`; the last one is its own."""


def measure_code(measure: Measure) -> Code:
    """Concept name of a measure."""
    title = sentence(measure.title.removeprefix("the "))[:-1][:64].rstrip()
    return MEASURES.get(measure.name) or _own(_short(measure.name), title)


def findings_of(spelt: Sequence[Code]) -> tuple[str, ...]:
    """The kinds that Quality Findings spell, in the order of :data:`FINDINGS`."""
    return tuple(kind for kind, own in FINDINGS.items() if own[-1] in spelt)


# -- key objects (TID 2010) --------------------------------------------------------------------------
QUALITY_ISSUE = _dcm("QualityIssue")
"""CID 7010: the title of the node's optional flag object."""
REJECTED_FOR_QUALITY = _dcm("RejectedForQualityReasons")
"""CID 7010: archives hide such images.  Read where others send it, never written."""
BEST_IN_SET = _dcm("BestInSet")
"""CID 7010."""
TITLE_MODIFIER = _dcm("DocumentTitleModifier")
KEY_OBJECT_DESCRIPTION = _dcm("KeyObjectDescription")


# -- answers -----------------------------------------------------------------------------------------
def question_code(question: Question) -> Code:
    """Concept name of the answer to `question`; one without a row of its own is spelt from its name and title."""
    known = QUESTIONS.get(question)
    return known if known is not None else _own(_short(question.value), question.title)


def _short(name: str) -> str:
    """A code value (SH, at most 16 characters) that stays the same for a name."""
    spelt = name.upper().replace("_", "-")
    if len(spelt) <= 16:
        return spelt
    return f"{spelt[:9]}-{sha256(name.encode()).hexdigest()[:6].upper()}"


def answer_code(question: Question, value: Answer | None) -> Code:
    """How the answer `value` to `question` is spelt; None is Undetermined (CID 230)."""
    if value is None:
        return UNDETERMINED
    match question.kind:
        case AnswerKind.YES_NO:
            return YES if value else NO
        case AnswerKind.GRADE:
            return GRADES[Grade(int(value))]
        case AnswerKind.TIER:
            return TIERS[Tier(int(value))]
        case AnswerKind.CHOICE:
            return _choice_code(question, str(value))
        case _ as never:
            assert_never(never)


def _choice_code(question: Question, key: str) -> Code:
    if question is Question.BODY_PART:
        return BODY_PARTS[BodyPart(key)]
    return _own(_short(f"{question.value}_{key}"), f"{question.title}: {question.say(key)}"[:64])


def answer_value(question: Question, code: Code) -> Answer | None:
    """The inverse of :func:`answer_code`.

    Raises
    ------
    ValueError
        `code` is no answer to `question`.
    """
    if code == UNDETERMINED:
        return None
    for key in question.answers:
        value = question.answer(key)
        if answer_code(question, value) == code:
            return value
    raise ValueError(f"({code.value}, {code.scheme}) is no answer to {question.value}")


SITES: Final[Mapping[BodyPart, Code]] = {**BODY_PARTS, BodyPart.BRAIN: BRAIN}
"""Finding Site of a question that is asked of one part of the body."""


def private_codes() -> tuple[Code, ...]:
    """Every code of ``99QCNODE``, for the conformance statement, but those of measures (:func:`measure_code`)."""
    found: dict[Code, None] = {}
    for code in (COVERAGE_TOP, COVERAGE_BOTTOM, *QUESTIONS.values(), *GRADES.values(), *TIERS.values()):
        found[code] = None
    for spelt in (*REASONS.values(), *FINDINGS.values()):
        found.update((code, None) for code in spelt if code.scheme == PRIVATE_SCHEME)
    return tuple(found)
