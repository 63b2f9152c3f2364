"""The words everyone shares: stages, questions, reasons, grades, tiers, regions.  No I/O, no DICOM spelling."""

from __future__ import annotations

from enum import IntEnum, StrEnum


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
