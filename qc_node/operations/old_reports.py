"""Bytes of delivered reports and pictures that are past their time; their rows stay.

``[retention] keep_reports_days`` and ``keep_summaries_days`` say when that is.

The file goes first, then the row says so: a kill in between leaves a row whose file is gone, and the next pass
takes it up.  Both happen under the lock of the ledger, so that nobody puts the report into the outbox meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from qc_node.engine.pseudonyms import note_patient
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReportRow
from qc_node.spool import Spool

BATCH = 100
"""Reports between two moments at which others can write to the ledger."""


def remove_old_summaries(ledger: Ledger, spool: Spool, now: float, keep_days: float) -> int:
    """The same for pictures alone, which take a hundred times the room of a report and are never read again."""
    removed = 0
    while batch := _remove_batch(ledger, spool, ledger.deliveries.summaries_to_remove, now - keep_days * 86_400.0):
        removed += batch
    return removed


def remove_old_reports(ledger: Ledger, spool: Spool, now: float, keep_days: float | None) -> int:
    """Remove what is due; returns how many reports lost their bytes.

    Parameters
    ----------
    now
        Seconds since the epoch.
    keep_days
        Days since the report was written; None keeps all for ever.
    """
    if keep_days is None:
        return 0
    removed = 0
    while batch := _remove_batch(ledger, spool, ledger.deliveries.reports_to_remove, now - keep_days * 86_400.0):
        removed += batch
    return removed


def _remove_batch(
    ledger: Ledger, spool: Spool, to_remove: Callable[[float, int], list[ReportRow]], older_than: float
) -> int:
    with ledger.db.transaction():
        rows = to_remove(older_than, BATCH)
        for row in rows:
            if ledger.patients.of(row["study_uid"]) is None:
                note_patient(ledger, spool, row["study_uid"], row["path"])
        spool.remove_all(row["path"] for row in rows)
        for row in rows:
            ledger.deliveries.mark_bytes_removed(row["sop_instance_uid"])
    return len(rows)
