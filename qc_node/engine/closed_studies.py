"""A closed study against what was ordered: what was expected and did not come."""

from __future__ import annotations

from collections.abc import Sequence

from qc_node.domain import HeaderClaims
from qc_node.engine.orders import Rule, missing_series, ordered_texts, uncovered_claims, uncovered_regions
from qc_node.ledger import Ledger


def check_study(ledger: Ledger, rules: Sequence[Rule], study_uid: str) -> tuple[str, ...]:
    """Note in the ledger what a closed study lacks; returns the sentences.

    Looks at every series, skipped ones too; a series without a verdict covers nothing.
    """
    claims = [HeaderClaims.from_dict(c) for c in ledger.series.claims_of_study(study_uid)]
    ordered = tuple(dict.fromkeys(text for c in claims for text in ordered_texts(c)))
    rows = ledger.series.of_study(study_uid)
    judged = [
        (
            HeaderClaims.from_dict(ledger.series.claims_of(s["series_id"])),
            [row["verdict"] for row in ledger.verdicts.of_last_run(s["series_id"])],
        )
        for s in rows
    ]
    sentences = (
        *missing_series(rules, ordered, claims),
        *uncovered_regions(ordered, [verdict for _, verdicts in judged for verdict in verdicts]),
        *uncovered_claims(judged, ordered),
    )
    ledger.studies.note_missing(study_uid, sentences)
    return sentences
