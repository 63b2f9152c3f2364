"""The nouns everyone shares: frozen values, no I/O, no DICOM spelling."""

from qc_node.domain.errors import QcNodeError
from qc_node.domain.image import HeaderClaims, InstanceRef, SeriesKey, Volume
from qc_node.domain.json import results_json, verdict_from_json, verdict_to_json
from qc_node.domain.verdict import Coverage, Finding, ModelIdentity, Verdict, tier_finding, tier_from_grades
from qc_node.domain.vocabulary import (
    BINARY,
    GRADED,
    BodyPart,
    ClosedBy,
    Grade,
    Question,
    Reason,
    Region,
    Stage,
    Tier,
)

__all__ = [
    "BINARY",
    "GRADED",
    "BodyPart",
    "ClosedBy",
    "Coverage",
    "Finding",
    "Grade",
    "HeaderClaims",
    "InstanceRef",
    "ModelIdentity",
    "QcNodeError",
    "Question",
    "Reason",
    "Region",
    "SeriesKey",
    "Stage",
    "Tier",
    "Verdict",
    "Volume",
    "results_json",
    "tier_finding",
    "tier_from_grades",
    "verdict_from_json",
    "verdict_to_json",
]
