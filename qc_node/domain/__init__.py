"""The nouns everyone shares: frozen values, no I/O, no DICOM spelling."""

from qc_node.domain.errors import QcNodeError
from qc_node.domain.image import Accepts, HeaderClaims, InstanceRef, Relink, SeriesKey, Volume
from qc_node.domain.json import results_json, verdict_from_json, verdict_to_json
from qc_node.domain.questions import GRADED, Answer, AnswerKind, Question
from qc_node.domain.steady import SteadyTimes
from qc_node.domain.verdict import (
    Coverage,
    Finding,
    ModelIdentity,
    Verdict,
    looks_cut_short,
    needs_attention,
    tier_finding,
    tier_from_grades,
    vote_level,
)
from qc_node.domain.vocabulary import (
    REGIONS_OF,
    BodyPart,
    ClosedBy,
    Content,
    Correction,
    Grade,
    Reason,
    Region,
    Stage,
    Tier,
    VoteChannel,
)

__all__ = [
    "GRADED",
    "REGIONS_OF",
    "Accepts",
    "Answer",
    "AnswerKind",
    "BodyPart",
    "ClosedBy",
    "Content",
    "Correction",
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
    "Relink",
    "SeriesKey",
    "Stage",
    "SteadyTimes",
    "Tier",
    "Verdict",
    "Volume",
    "VoteChannel",
    "looks_cut_short",
    "needs_attention",
    "results_json",
    "tier_finding",
    "tier_from_grades",
    "verdict_from_json",
    "verdict_to_json",
    "vote_level",
]
