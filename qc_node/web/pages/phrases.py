"""What pages say of a series beside its verdict.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qc_node.classifiers import catalogue
from qc_node.domain.mismatch import for_outsiders
from qc_node.domain.wording import Card, Tone
from qc_node.ledger import corrections
from qc_node.ledger.rows import EventRow, VerdictRow

STATES = {
    "receiving": "Images are arriving",
    "queued": "Waiting to be judged",
    "judging": "Being judged",
    "skipped": "Not judged",
    "failed": "Could not be judged",
    "judged": "Judged",
    "reported": "Judged",
}


def state_card(state: str, sentence: str | None) -> Card:
    """What to say of a series without a verdict."""
    return Card(STATES.get(state, state), Tone.OPEN, sentence or "")


def verdict_card(given: Sequence[VerdictRow]) -> Card:
    """What the verdicts on one run of a series say together, the routed classifier's first."""
    return catalogue.shared_card([row["verdict"] for row in given], given[0]["warnings"])


def outside_card(given: Sequence[VerdictRow]) -> Card:
    """As :func:`verdict_card`, without what it would quote from the header: for other systems."""
    return catalogue.shared_card(
        [row["verdict"] for row in given], [for_outsiders(warning) for warning in given[0]["warnings"]]
    )


def notes(events: Sequence[EventRow]) -> list[str]:
    """What people must know of a series whose images came again with other content, from its history."""
    said = [_note(row["event"], row["detail"] or "") for row in events]
    return list(dict.fromkeys(sentence for sentence in said if sentence))


def _note(event: str, detail: str) -> str | None:
    match event:
        case corrections.LEFT_BEHIND:
            return (
                f"The report {detail} at the PACS is about another patient or study than these images name now:"
                " remove it there."
            )
        case corrections.CORRECTED:
            return f"Images came again with other content ({detail}); the series was judged again."
        case corrections.RELINKED:
            return "An operator corrected identifiers; reports carry them from then on."
        case corrections.MOVED:
            return "Images came again as part of another study or series."
    return None


def claimed(claims: Mapping[str, Any]) -> str:
    """What the header says of a series, in a line."""
    names = ("series_description", "protocol_name", "body_part_examined", "contrast_agent")
    said: Sequence[str] = [str(claims[n]) for n in names if claims.get(n)]
    return " · ".join(dict.fromkeys(said))
