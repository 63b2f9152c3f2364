"""The words everyone shares: stages, questions, reasons, grades, tiers, regions.  No I/O, no DICOM spelling."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar


class Stage(str):
    """The name of a classifier, as JSON, ledger and metrics spell it.

    An open list: whoever registers a classifier names a stage (:mod:`qc_node.classifiers.catalogue`).
    Stages are equal when their names are.
    """

    __slots__ = ()

    BRAIN_MRI: ClassVar[Stage]
    CT: ClassVar[Stage]

    @property
    def value(self) -> str:
        """The name as plain text."""
        return str(self)


Stage.BRAIN_MRI = Stage("brain_mri")
Stage.CT = Stage("ct")


class Content(StrEnum):
    """What a series must be by its header before a classifier is asked (:mod:`qc_node.series.headers.routing`)."""

    T1W_HEAD = "t1w_head"
    """A 3D T1-weighted MR image of the head, or nothing that says otherwise."""
    CT_VOLUME = "ct_volume"
    """A CT series that is no map, localizer or report."""
    ANY = "any"
    """Any image of the modality."""


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
    """What a CT shows (ImageQC-net's five, and everything else)."""

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
    EXPOSURE = "exposure"
    """Exposed too little or too much."""


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


class VoteChannel(StrEnum):
    """How a vote came.  The ledger keeps it as text, so a new channel is a line here and a module that casts."""

    PANEL = "panel"
    FHIRCAST = "fhircast"
    """The panel, on the study that the viewer told."""
    KEY_OBJECT = "key_object"
    API = "api"
    IMPORT = "import"

    @property
    def elsewhere(self) -> bool:
        """Whether the vote was cast outside this program, so that nothing here may add to it or undo it."""
        return self in (VoteChannel.KEY_OBJECT, VoteChannel.IMPORT)


class Correction(StrEnum):
    """What another version of an instance, sent under the same SOP Instance UID, says differently."""

    PATIENT = "patient"
    """Another patient."""
    STUDY = "study"
    """The same patient, another study or series."""
    CONTENT = "content"
    """Anything else: pixels, the rest of the header, an object that had come in part."""


REGIONS_OF: dict[BodyPart, frozenset[str]] = {
    BodyPart.BRAIN: frozenset({Region.HEAD}),
    BodyPart.NECK: frozenset({Region.NECK}),
    BodyPart.CHEST: frozenset({Region.CHEST}),
    BodyPart.ABDOMEN: frozenset({Region.ABDOMEN}),
    BodyPart.ABDOMEN_PELVIS: frozenset({Region.ABDOMEN, Region.PELVIS}),
    BodyPart.OTHER: frozenset(),
}
"""The regions that each body part names."""
