"""What tests of several parts ask of a ledger."""

from __future__ import annotations

from qc_node.ledger import Ledger


def number_of(ledger: Ledger, series_uid: str) -> int:
    """The ``series_id`` of the series with this UID, which must be there."""
    row = ledger.series.get(series_uid)
    assert row is not None, f"no series {series_uid}"
    return row["series_id"]
