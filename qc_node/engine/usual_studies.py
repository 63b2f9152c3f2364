"""A closed study against what studies of its kind usually have, and radiographs that were likely repeated.

What is usual informs and calls nobody: one study in ten may rightly lack what nine have.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from qc_node.engine.own_faults import own_fault
from qc_node.ledger import Ledger
from qc_node.ledger.rows import StudyProtocolRow
from qc_node.measures.usual_study import WINDOW_STUDIES, surprise_sentence, surprises
from qc_node.series.headers.acquisition import exposed_views
from qc_node.series.headers.retakes import ExposedView, likely_retakes
from qc_node.series.volume.stack import open_series
from qc_node.spool import Spool

log = logging.getLogger("qc_node.engine")

SCANNERS = 5
"""So many scanners may share one description of studies before the newest studies of one are too few."""
RADIOGRAPHS = ("CR", "DX", "MG")


def note_what_is_usual(ledger: Ledger, spool: Spool, study_uid: str) -> tuple[str, ...]:
    """Note in the ledger what a closed study lacks or has beside the usual, and retakes; returns the sentences.

    Safe to repeat.  Where the images of radiographs are gone, what was said of them before is gone too.
    """
    sentences = (*_unusual_series(ledger, study_uid), *_retakes(ledger, spool, study_uid))
    if sentences or ledger.studies.usual(study_uid):
        ledger.studies.note_usual(study_uid, sentences)
    return sentences


def _unusual_series(ledger: Ledger, study_uid: str) -> tuple[str, ...]:
    here = ledger.studies.protocols(study_uid)
    if not here:
        return ()
    station = Counter(row["station"] for row in here).most_common(1)[0][0]
    alike = ledger.studies.protocols_alike(study_uid, SCANNERS * WINDOW_STUDIES)
    found = surprises(_protocols(here, station), list(_by_study(alike, station)))
    return tuple(dict.fromkeys(surprise_sentence(one) for one in found))


def _protocols(rows: Sequence[StudyProtocolRow], station: str) -> list[str]:
    return [row["protocol"] for row in rows if row["station"] == station]


def _by_study(rows: Sequence[StudyProtocolRow], station: str) -> Iterator[list[str]]:
    for _, of_study in groupby(rows, key=lambda row: row["study_uid"]):
        if protocols := _protocols(list(of_study), station):
            yield protocols


def _retakes(ledger: Ledger, spool: Spool, study_uid: str) -> tuple[str, ...]:
    rows = [row for row in ledger.series.of_study(study_uid) if row["modality"] in RADIOGRAPHS]
    if sum(row["instances"] for row in rows) < 2:
        return ()
    taken: list[ExposedView] = []
    for row in rows:
        taken += _views(ledger, spool, row["series_id"])
    return tuple(dict.fromkeys(retake.sentence for retake in likely_retakes(taken)))


def _views(ledger: Ledger, spool: Spool, series_id: int) -> Sequence[ExposedView]:
    """Of a series whose images are there and can be read; else none."""
    try:
        names = ledger.instances.paths_of_series(series_id)
        return exposed_views(open_series([spool.path(name) for name in names])) if names else ()
    except Exception as error:
        if own_fault(error) is None:
            log.info("the views of a radiograph cannot be read (%s)", type(error).__name__)
        return ()
