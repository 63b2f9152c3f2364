"""The nouns everyone in the house shares: frozen values, no I/O, no DICOM spelling.

A *verdict* is a value.  A reading room returns it, the writing room prints it, the web shows it,
the ledger stores it.  Nobody re-derives a tier, a grade or a reason from something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt


class QcNodeError(Exception):
    """An error that is its own explanation: one sentence naming the file, tag or key at fault.

    The command line prints ``str(error)`` and exits 1; a traceback is shown only with ``--debug``.
    """


class Stage(StrEnum):
    """The reading rooms."""

    BRAIN_MRI = "brain_mri"
    CT = "ct"


class Question(StrEnum):
    """What a reading room can be asked.  One question is one measurement group of the report."""

    STRAIGHT_REJECT = "straight_reject"
    """Is this *not* a proper whole-head 3D T1w brain image? (Bottani et al. 2022, section 2.2)"""
    GADOLINIUM = "gadolinium"
    """Was a gadolinium-based contrast agent given?"""
    MOTION = "motion"
    """Motion grade 0-2."""
    CONTRAST = "contrast"
    """Grey/white-matter contrast grade 0-2 (0 = good)."""
    NOISE = "noise"
    """Noise grade 0-2."""
    TIER = "tier"
    """Overall quality 1-3; follows from the three grades and from nothing else."""
    BODY_PART = "body_part"
    """Which part of the body a CT shows."""
    CONTRAST_ENHANCED = "contrast_enhanced"
    """Is the CT enhanced by an intravascular iodinated agent?"""


GRADED = (Question.MOTION, Question.CONTRAST, Question.NOISE)
"""The three characteristics that carry a grade, in the order of the contract."""

BINARY = (Question.STRAIGHT_REJECT, Question.GADOLINIUM, Question.CONTRAST_ENHANCED)
"""The questions answered yes or no."""


class Grade(IntEnum):
    """Severity of one characteristic (Bottani et al. 2022, section 2.2.2)."""

    NONE = 0
    MODERATE = 1
    """Present, yet anatomical structures can still be told apart."""
    SEVERE = 2
    """Structures can no longer be told apart."""


class Tier(IntEnum):
    """Overall quality of a 3D T1w brain image."""

    GOOD = 1
    USABLE = 2
    POOR = 3


class BodyPart(StrEnum):
    """Answers to :attr:`Question.BODY_PART` (ImageQC-net's five, and everything else)."""

    BRAIN = "brain"
    NECK = "neck"
    CHEST = "chest"
    ABDOMEN = "abdomen"
    ABDOMEN_PELVIS = "abdomen_pelvis"
    OTHER = "other"


class Region(StrEnum):
    """Anatomical regions that a CT may cover, from cranial to caudal."""

    HEAD = "head"
    NECK = "neck"
    CHEST = "chest"
    ABDOMEN = "abdomen"
    PELVIS = "pelvis"
    LIMB = "limb"


class Reason(StrEnum):
    """Why an image was judged as it was.  Only ``report.codes`` knows how DICOM spells them."""

    MOTION = "motion"
    NOISE = "noise"
    POOR_CONTRAST = "poor_contrast"
    COVERAGE = "coverage"
    """Part of the anatomy is outside the image."""
    FIELD_OF_VIEW = "field_of_view"
    """The field of view is truncated or badly chosen."""
    SEGMENTED = "segmented"
    """A label map or a tissue map, not an image."""
    SKULL_STRIPPED = "skull_stripped"
    NOT_T1W = "not_t1w"
    """Another contrast than T1-weighted."""
    NOT_BRAIN = "not_brain"
    PHANTOM = "phantom"
    BLANK = "blank"
    """Constant, empty or unreadable; the only reason coded as unusable."""
    TOO_FEW_SLICES = "too_few_slices"
    THICK_SLICES = "thick_slices"
    ORIENTATION = "orientation"
    """The head is turned or mirrored beyond what registration can undo."""
    ARTIFACT = "artifact"
    """Another image artifact (ghosting, wrap, spikes, bias field)."""
    GEOMETRY = "geometry"
    """The slices do not form a regular volume."""


class ClosedBy(StrEnum):
    """Which rule said that a series or study is complete; the ledger's sentence begins with this word."""

    HEADER = "header"
    """As many instances as the header says."""
    PACS = "pacs"
    """As many as the PACS says, twice."""
    QUIET = "quiet"
    """Nothing new for a while."""
    HARD_CAP = "hard_cap"
    """Open for too long."""


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Names one series."""

    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """Names one stored instance: what evidence and references are made of."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Volume:
    """A regular stack of slices.

    Attributes
    ----------
    voxels
        ``(K, J, I)`` = (slice, row, column), C-contiguous, in the stored type where one rescale holds
        for all slices (``uint8``, ``int16``, ``uint16``), else ``float32``.  May contain NaN or infinity
        when the source did.  Read-only by convention: nobody writes into it.
    slope, intercept
        ``value = voxels * slope + intercept``; HU for CT, arbitrary units for MR.
    affine
        ``(4, 4)`` float64 from ``(i, j, k, 1)`` = (column, row, slice) to **LPS** millimetres, as in
        DICOM PS3.3 C.7.6.2.1.1 and ITK.  Sheared for a tilted gantry.
    modality
        ``"MR"``, ``"CT"`` or another DICOM modality; empty when unknown.
    padding_value
        Stored value that means "no data" (Pixel Padding Value), or None.
    warnings
        One sentence for each peculiarity that was found and tolerated.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    slope: float = 1.0
    intercept: float = 0.0
    modality: str = ""
    padding_value: float | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbours along ``(i, j, k)`` in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(K, J, I)``."""
        k, j, i = self.voxels.shape
        return k, j, i


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which weights answered.

    ``sha256`` is the hash of the weights file, or for a bundle of several files the hash of the sorted
    lines ``"<sha256>  <file name>\\n"``.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes
    ----------
    question
        What was asked.
    value
        ``bool`` for binary questions, ``int`` for grades (0-2) and tier (1-3), a :class:`BodyPart` value
        for the body part; None when abstained.
    probabilities
        Calibrated probability of each answer, in [0, 1]: keys ``"yes"``/``"no"``, ``"0"``/``"1"``/``"2"``
        or body parts.  Empty for the tier, which follows from the grades, and where no network was asked
        (a certain rule answered).
    reason
        Why, where there is something to say (always for a straight reject).
    abstained
        None, or one sentence why there is no answer.
    """

    question: Question
    value: bool | int | str | None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    reason: Reason | None = None
    abstained: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.abstained is not None):
            raise ValueError(f"{self.question}: a finding has either a value or a sentence why not")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What part of the body a CT covers; ``top`` and ``bottom`` name the outermost landmark seen."""

    regions: tuple[Region, ...]
    top: str | None
    bottom: str | None
    truncated: bool


@dataclass(frozen=True)
class Verdict:
    """What one reading room says about one series.

    A straight reject carries only :attr:`Question.STRAIGHT_REJECT`: the other answers are not defined.
    """

    stage: Stage
    model: ModelIdentity
    findings: tuple[Finding, ...]
    coverage: Coverage | None = None
    warnings: tuple[str, ...] = ()

    def finding(self, question: Question) -> Finding | None:
        """The answer to `question`, or None where it is not defined."""
        return next((f for f in self.findings if f.question is question), None)


@dataclass(frozen=True)
class HeaderClaims:
    """What the header of a series claims; free text is as found, trimmed.  None where nothing is said.

    ``gadolinium_words`` / ``contrast_words`` tell whether any header field speaks of a contrast agent
    (or of "post contrast"); ``contrast_agent`` is Contrast/Bolus Agent (0018,0010).
    """

    modality: str = ""
    manufacturer: str | None = None
    model_name: str | None = None
    station_name: str | None = None
    field_strength_t: float | None = None
    series_description: str | None = None
    protocol_name: str | None = None
    study_description: str | None = None
    body_part_examined: str | None = None
    scanning_sequence: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    acquisition_type: str | None = None
    slice_thickness_mm: float | None = None
    convolution_kernel: str | None = None
    contrast_agent: str | None = None
    contrast_words: bool = False
    gadolinium_words: bool = False
    ordered: tuple[str, ...] = ()
    """Requested procedure description and codes, request attributes, procedure code meanings."""

    @classmethod
    def from_dict(cls, claims: Mapping[str, Any]) -> HeaderClaims:
        """The inverse of :meth:`as_dict`."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in claims.items()}
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """The claims that are there, JSON-ready; :meth:`from_dict` is its inverse."""
        names = self.__dataclass_fields__
        pairs = ((name, getattr(self, name)) for name in names)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in pairs if v not in (None, "", ())}


def tier_from_grades(motion: int, contrast: int, noise: int) -> Tier:
    """The tier that follows from the three grades (Bottani et al. 2022, Table 2).

    1 = all 0; 2 = at least one 1 and none 2; 3 = at least one 2.
    """
    return Tier(max(motion, contrast, noise) + 1)


def tier_finding(grades: Sequence[Finding]) -> Finding:
    """The tier as a finding.

    A severe grade decides even when another was not given; otherwise one missing grade leaves the tier
    open, because it could still be the worst of the three.
    """
    known = [int(f.value) for f in grades if f.value is not None]
    if len(known) == len(GRADED):
        return Finding(Question.TIER, int(tier_from_grades(*known)))
    if Grade.SEVERE in known:
        return Finding(Question.TIER, int(Tier.POOR))
    missing = ", ".join(f.question.value for f in grades if f.value is None)
    return Finding(Question.TIER, None, abstained=f"The tier needs every grade and {missing} could not be graded.")


def results_json(verdict: Verdict) -> dict[str, Any]:
    """The ``results`` object of the contract for `verdict`."""
    if verdict.stage is Stage.BRAIN_MRI:
        order: tuple[Question, ...] = (Question.STRAIGHT_REJECT, Question.GADOLINIUM, *GRADED, Question.TIER)
    else:
        order = (Question.BODY_PART, Question.CONTRAST_ENHANCED)
    results = {q.value: _finding_json(f) if (f := verdict.finding(q)) else None for q in order}
    if verdict.coverage is not None:
        results["coverage"] = _coverage_json(verdict.coverage)
    return results


def _coverage_json(coverage: Coverage) -> dict[str, Any]:
    return {
        "regions": [r.value for r in coverage.regions],
        "top": coverage.top,
        "bottom": coverage.bottom,
        "truncated": coverage.truncated,
    }


def _finding_json(f: Finding) -> dict[str, Any]:
    rounded = {k: round(float(p), 4) for k, p in f.probabilities.items()}
    if f.question in BINARY:
        certain = None if f.value is None else float(f.value)  # a rule answered, not a network
        out: dict[str, Any] = {"value": f.value, "probability": rounded.get("yes", certain)}
        if f.question is Question.STRAIGHT_REJECT:
            out["reason"] = f.reason.value if f.reason else None
    elif f.question in GRADED:
        out = {"grade": f.value, "probabilities": [rounded[g] for g in ("0", "1", "2")] if rounded else None}
    elif f.question is Question.TIER:
        out = {"value": f.value}
    else:
        out = {"value": f.value, "probabilities": rounded}
    out["abstained"] = f.abstained
    return out


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A JSON-ready copy of `verdict`; :func:`verdict_from_json` is its inverse."""
    return {
        "stage": verdict.stage.value,
        "model": {"name": verdict.model.name, "version": verdict.model.version, "sha256": verdict.model.sha256},
        "findings": [
            {
                "question": f.question.value,
                "value": f.value,
                "probabilities": {k: float(p) for k, p in f.probabilities.items()},
                "reason": f.reason.value if f.reason else None,
                "abstained": f.abstained,
            }
            for f in verdict.findings
        ],
        "coverage": None if verdict.coverage is None else _coverage_json(verdict.coverage),
        "warnings": list(verdict.warnings),
    }


def verdict_from_json(data: Mapping[str, Any]) -> Verdict:
    """The verdict that :func:`verdict_to_json` wrote."""
    cov = data["coverage"]
    return Verdict(
        stage=Stage(data["stage"]),
        model=ModelIdentity(**data["model"]),
        findings=tuple(
            Finding(
                question=Question(f["question"]),
                value=f["value"],
                probabilities=f["probabilities"],
                reason=Reason(f["reason"]) if f["reason"] else None,
                abstained=f["abstained"],
            )
            for f in data["findings"]
        ),
        coverage=None
        if cov is None
        else Coverage(tuple(Region(r) for r in cov["regions"]), cov["top"], cov["bottom"], cov["truncated"]),
        warnings=tuple(data["warnings"]),
    )
