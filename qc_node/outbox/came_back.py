"""Images that came back after retention had removed them, and may name another patient than their report does.

Nobody knows what the removed files held, but the report says whose they were.  The same patient: nothing to do.
"""

from __future__ import annotations

import logging

from qc_node.dicom.patient import same_patient
from qc_node.domain import Correction
from qc_node.ledger import Ledger
from qc_node.ledger.rows import SeriesRow
from qc_node.outbox.headers import header_or_none
from qc_node.report.identifiers import correct
from qc_node.spool import Spool, digest

log = logging.getLogger("qc_node.writing")


def judge_again_where_another(ledger: Ledger, spool: Spool, at: float) -> int:
    """Queue each reported series whose images are back and name another patient; returns how many.

    Parameters
    ----------
    at
        Seconds since the epoch.
    """
    return sum(_settle(ledger, spool, row, at) for row in ledger.series.came_back())


def _settle(ledger: Ledger, spool: Spool, row: SeriesRow, at: float) -> bool:
    number, another = row["series_id"], _names_another(ledger, spool, row)
    with ledger.db.transaction():
        ledger.series.looked_at(number)
        if not another or not ledger.series.judge_again(number, at):
            return False
        ledger.series.corrected(number, Correction.PATIENT, at)
    series = digest(row["series_uid"])
    log.warning("series %s: images came back under another patient and are judged again", series)
    return True


def _names_another(ledger: Ledger, spool: Spool, row: SeriesRow) -> bool:
    written = ledger.deliveries.last_report(row["series_id"])
    report = None if written is None else header_or_none(spool, written["path"])
    if report is None:
        return False
    relinks = ledger.relinks.of(row["study_uid"], row["series_uid"])
    names = ledger.instances.paths_of_series(row["series_id"])
    headers = (header_or_none(spool, name) for name in names)
    return any(header is not None and not same_patient(report, correct(header, relinks)) for header in headers)
