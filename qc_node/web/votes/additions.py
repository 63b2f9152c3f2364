"""What a reader adds to a vote: reasons, a comment, how sure, agreement with the verdict; each its own row.

Nothing that is added changes the vote: it stays as blind, and as old, as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qc_node.ledger import NewAct
from qc_node.ledger.rows import ActRow, VoteRow
from qc_node.web.access.readers import Reader
from qc_node.web.settings import WebDeps
from qc_node.web.votes.casting import MAX_AGE_S, Choice, Refused, VoteReason, seen_by

LONGEST_COMMENT = 500


class Kind(StrEnum):
    """What can be added to a vote, and taking something back."""

    REASONS = "reasons"
    COMMENT = "comment"
    CONFIDENCE = "confidence"
    AGREEMENT = "agreement"
    WITHDRAWAL = "withdrawal"


class Confidence(StrEnum):
    """How sure a reader is of a vote; the ledger keeps a number in [0, 1] (:data:`SURENESS`)."""

    SURE = "sure"
    FAIRLY = "fairly"
    UNSURE = "unsure"


SURENESS = {Confidence.SURE: 1.0, Confidence.FAIRLY: 0.5, Confidence.UNSURE: 0.0}
"""Steps of a scale from unsure to sure; no probability."""


def in_words(sureness: float) -> Confidence:
    """The word that lies nearest to a number in [0, 1]."""
    return min(SURENESS, key=lambda word: abs(SURENESS[word] - sureness))


@dataclass(frozen=True, slots=True)
class VerdictAgreement:
    """Whether a reader agrees with what the machine said in these reports (SOP Instance UIDs)."""

    agrees: bool
    reports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Additions:
    """What stands of everything that was added to one vote; times are seconds since the epoch."""

    reasons: tuple[str, ...] = ()
    reasons_at: float | None = None
    comment: str | None = None
    comment_at: float | None = None
    confidence: Confidence | None = None
    confidence_at: float | None = None
    agreement: VerdictAgreement | None = None
    agreement_at: float | None = None


def standing_additions(acts: Iterable[ActRow]) -> Additions:
    """What stands: of each kind what was said last (`acts` are not taken back, oldest first)."""
    found: dict[str, Any] = {}
    for act in acts:
        value: Any = json.loads(act["value"] or "null")
        match act["kind"]:
            case Kind.REASONS:
                found |= {"reasons": tuple(value), "reasons_at": act["at"]}
            case Kind.COMMENT:
                found |= {"comment": value or None, "comment_at": act["at"]}
            case Kind.CONFIDENCE:
                found |= {"confidence": in_words(float(value)), "confidence_at": act["at"]}
            case Kind.AGREEMENT:
                said = VerdictAgreement(bool(value["agrees"]), tuple(value["reports"]))
                found |= {"agreement": said, "agreement_at": act["at"]}
    return Additions(**found)


def public(deps: WebDeps, row: VoteRow) -> dict[str, Any]:
    """What a page may know of a vote, and of what its reader added to it."""
    of = row["replaces"] if row["vote"] == Choice.WITHDRAWN and row["replaces"] else row["id"]
    said = standing_additions(deps.ledger.votes.standing_acts(of))
    return {
        "id": row["id"],
        "key": row["key"],
        "vote": row["vote"],
        "voted_at": row["voted_at"],
        "received_at": row["received_at"],
        "source": row["source"],
        "role": row["role"],
        "replaces": row["replaces"],
        "reasons": list(row["reasons"]),
        "confidence": said.confidence,
        "comment": said.comment,
        "agrees": said.agreement.agrees if said.agreement else None,
        "verdict_visible": bool(row["verdict_visible"]),
    }


def clean(comment: str) -> str:
    """A comment as it is kept: without control characters, one space where there were several."""
    return " ".join("".join(c if c.isprintable() else " " for c in comment).split())


def value_of(
    kind: Kind,
    *,
    reasons: Sequence[VoteReason] = (),
    comment: str = "",
    confidence: Confidence | None = None,
    agreement: VerdictAgreement | None = None,
) -> tuple[str, ...] | str | float | dict[str, Any] | None:
    """What the ledger keeps of one addition."""
    match kind:
        case Kind.REASONS:
            return tuple(dict.fromkeys(str(reason) for reason in reasons))
        case Kind.COMMENT:
            return clean(comment)
        case Kind.CONFIDENCE:
            return SURENESS[confidence or Confidence.FAIRLY]
        case Kind.AGREEMENT:
            assert agreement is not None
            return {"agrees": agreement.agrees, "reports": list(agreement.reports)}
        case Kind.WITHDRAWAL:
            return None


def add(
    deps: WebDeps,
    reader: Reader,
    *,
    key: str,
    of: str,
    kind: Kind,
    source: str,
    age_ms: float = 0.0,
    presentation: str | None = None,
    reasons: Sequence[VoteReason] = (),
    comment: str = "",
    confidence: Confidence | None = None,
    agreement: VerdictAgreement | None = None,
) -> tuple[VoteRow, bool]:
    """Add something to a vote, or take a vote or an addition back; the same key again changes nothing.

    Parameters
    ----------
    of
        Key of the reader's own vote; of a withdrawal also of an addition.

    Returns
    -------
    tuple
        The vote that it belongs to, and whether anything was written.

    Raises
    ------
    Refused
        404: this reader has no such vote.  409: it was taken back already; the key was used for something else;
        there was no verdict on the screen to agree with; the presentation was of another study.  422: unbelievable
        times.
    """
    votes, now = deps.ledger.votes, deps.clock()
    if not 0 <= age_ms / 1000 <= MAX_AGE_S:
        raise Refused(422, "age_ms is not between 0 and 45 days.")
    at = now - age_ms / 1000
    vote, earlier = _target(deps, reader, of, kind)
    if presentation is not None:
        _refuse_other_study(deps, presentation, vote)
    done = votes.act_by_key(reader.reader_id, key)
    if done is not None or votes.by_key(reader.reader_id, key) is not None:
        if done is None or done["kind"] != kind or done["vote_id"] != vote["id"]:
            raise Refused(409, "This idempotency key was used for something else.")
        return vote, False
    taken_back = {act["undoes"] for act in votes.acts_of(vote["id"]) if act["kind"] == Kind.WITHDRAWAL}
    if kind is Kind.WITHDRAWAL and (None if earlier is None else earlier["id"]) in taken_back:
        raise Refused(409, "This was taken back already.")
    if kind is Kind.AGREEMENT:
        agreement = _about(deps, reader, vote, at, agreement or VerdictAgreement(True))
    value = value_of(kind, reasons=reasons, comment=comment, confidence=confidence, agreement=agreement)
    act = NewAct(
        key=key,
        vote_id=vote["id"],
        kind=kind.value,
        reader_id=reader.reader_id,
        role=reader.role,
        at=at,
        received_at=now,
        source=source,
        value=value,
        undoes=None if earlier is None else earlier["id"],
        verdict_visible=seen_by(deps, reader, vote["study_uid"], at),
        presentation=presentation,
    )
    return vote, votes.act(act)[1]


def _refuse_other_study(deps: WebDeps, presentation: str, vote: VoteRow) -> None:
    """An addition was made on the study that was voted on, or on none."""
    shown = deps.ledger.cases.presentation(presentation)
    case = None if shown is None else deps.ledger.cases.get(shown["handle"])
    studies = {vote["study_uid"], None if case is None else case["study_uid"]} - {None}
    if len(studies) > 1:
        raise Refused(409, "This presentation was of another study.")


def _target(deps: WebDeps, reader: Reader, of: str, kind: Kind) -> tuple[VoteRow, ActRow | None]:
    """The vote that is meant, and the addition to it that is taken back."""
    votes = deps.ledger.votes
    earlier = votes.act_by_key(reader.reader_id, of)
    if earlier is not None and (kind is not Kind.WITHDRAWAL or earlier["kind"] == Kind.WITHDRAWAL):
        raise Refused(409, "This names no vote.")
    vote = votes.by_key(reader.reader_id, of) if earlier is None else votes.get(earlier["vote_id"])
    if vote is None:
        raise Refused(404, "There is no such vote of yours.")
    return vote, earlier


def _about(deps: WebDeps, reader: Reader, vote: VoteRow, at: float, said: VerdictAgreement) -> VerdictAgreement:
    """An agreement with the reports that it is about: those named, else those that the verdicts have now."""
    study = vote["study_uid"]
    if study is None or not seen_by(deps, reader, study, at):
        raise Refused(409, "No verdict was shown yet.")
    series = [row for row in deps.ledger.series.of_study(study) if vote["series_uid"] in (None, row["series_uid"])]
    judged = [row for row in series if deps.ledger.verdicts.get(row["series_id"]) is not None]
    if not judged:
        raise Refused(409, "There is no verdict on this study.")
    known = [deps.ledger.deliveries.reports_of(row["series_id"]) for row in judged]
    uids = {report["sop_instance_uid"] for reports in known for report in reports if report["kind"] == "sr"}
    if said.reports:
        if not uids.issuperset(said.reports):
            raise Refused(409, "This report is not about the study that was voted on.")
        return said
    last = (deps.ledger.deliveries.last_report(row["series_id"]) for row in judged)
    return VerdictAgreement(
        said.agrees, tuple(report["sop_instance_uid"] for report in last if report is not None)
    )
