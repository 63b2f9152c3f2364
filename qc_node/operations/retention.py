"""What is kept for how long: images until the report is out, network inputs as long as votes may come.

Rows of the ledger are never deleted, nor are reports.  In each case the row is changed first: a file without a row
would be taken in again at the next start.
"""

from __future__ import annotations

from qc_node.ledger import Ledger
from qc_node.spool import Spool

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def remove_old(
    ledger: Ledger, spool: Spool, now: float, keep_images_h: float, keep_training_days: float
) -> tuple[int, int]:
    """Delete images, other received objects, quarantine and network inputs that are past their time.

    Returns
    -------
    tuple of int
        How many series lost their images, and how many verdicts their network input.
    """
    series = 0
    for row in ledger.series.images_to_remove(now - keep_images_h * HOUR_S):
        names = ledger.instances.paths_of_series(row["series_id"])  # before the mark: what comes after it stays
        if not ledger.series.mark_images_removed(row["series_id"], row["last_received"], now):
            continue
        for name in names:
            spool.remove(name)
        series += 1
    for removable in ledger.instances.objects_to_remove(now - keep_images_h * HOUR_S):
        ledger.instances.mark_removed(removable["sop_instance_uid"])
        spool.remove(removable["path"])
    spool.remove_quarantine(now - keep_training_days * DAY_S)
    inputs = 0
    for verdict in ledger.verdicts.training_to_remove(now - keep_training_days * DAY_S):
        ledger.verdicts.forget_training(verdict["id"])
        for kept in (verdict["training_path"], *verdict["thumbnails"]):
            if kept:
                spool.remove(kept)
        inputs += 1
    return series, inputs
