"""Verdicts in plain words, for terminals and pages; the report has its own codes."""

from __future__ import annotations

from qc_node.domain import GRADED, BodyPart, Finding, Question, Reason, Stage, Tier, Verdict

REASONS: dict[Reason, str] = {
    Reason.MOTION: "motion",
    Reason.NOISE: "noise",
    Reason.POOR_CONTRAST: "poor grey/white contrast",
    Reason.COVERAGE: "part of the anatomy is missing",
    Reason.FIELD_OF_VIEW: "field of view cut off",
    Reason.SEGMENTED: "a segmentation, not an image",
    Reason.SKULL_STRIPPED: "skull removed",
    Reason.NOT_T1W: "not T1-weighted",
    Reason.NOT_BRAIN: "not a brain",
    Reason.PHANTOM: "a phantom",
    Reason.BLANK: "blank or unreadable",
    Reason.TOO_FEW_SLICES: "too few slices",
    Reason.THICK_SLICES: "slices too thick",
    Reason.ORIENTATION: "turned or mirrored",
    Reason.ARTIFACT: "image artefact",
    Reason.GEOMETRY: "slices do not form a regular volume",
}
"""Every reason in words for people."""

TIERS = {Tier.GOOD: "good", Tier.USABLE: "usable", Tier.POOR: "poor"}
BODY_PARTS: dict[BodyPart, str] = {part: part.value.replace("_", "-") for part in BodyPart}


def headline(verdict: Verdict) -> str:
    """The verdict in a few words, e.g. ``tier 2 (usable): motion 1, contrast 0, noise 0``."""
    return _brain(verdict) if verdict.stage is Stage.BRAIN_MRI else _ct(verdict)


def _brain(verdict: Verdict) -> str:
    reject = verdict.finding(Question.STRAIGHT_REJECT)
    if reject is not None and reject.value:
        return "straight reject" + (f": {REASONS[reject.reason]}" if reject.reason else "")
    tier = verdict.finding(Question.TIER)
    if tier is None or tier.value is None:
        head = "quality undetermined"
    else:
        head = f"tier {tier.value} ({TIERS[Tier(int(tier.value))]})"
    grades = [f"{q.value} {_or_unknown(verdict.finding(q))}" for q in GRADED]
    parts = [f"{head}: {', '.join(grades)}"]
    if reject is not None and reject.value is None:
        parts.append("proper T1w brain? undetermined")
    parts.append(
        _yes_no(
            verdict.finding(Question.GADOLINIUM), "with gadolinium", "no gadolinium", "gadolinium undetermined"
        )
    )
    return "; ".join(parts)


def _ct(verdict: Verdict) -> str:
    part = verdict.finding(Question.BODY_PART)
    name = (
        "body part undetermined" if part is None or part.value is None else BODY_PARTS[BodyPart(str(part.value))]
    )
    contrast = _yes_no(
        verdict.finding(Question.CONTRAST_ENHANCED), "contrast-enhanced", "no contrast", "contrast undetermined"
    )
    cut = "; field of view cut" if verdict.coverage and verdict.coverage.truncated else ""
    return f"{name}, {contrast}{cut}"


def _or_unknown(finding: Finding | None) -> str:
    return "?" if finding is None or finding.value is None else str(finding.value)


def _yes_no(finding: Finding | None, yes: str, no: str, unknown: str) -> str:
    if finding is None or finding.value is None:
        return unknown
    return yes if finding.value else no
