"""Whether a radiograph repeats an earlier one of its study: asked when a series is judged.

Of an image that is judged before the one that it repeats arrives nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from qc_node.dicom.uids import XRAY_IMAGES
from qc_node.ledger import Ledger
from qc_node.ledger.rows import SeriesRow
from qc_node.series.errors import NotDicom, is_of_machine
from qc_node.series.headers.acquisition import MOST_VIEWS, exposed_view, exposed_views
from qc_node.series.headers.retakes import ExposedView, likely_retakes
from qc_node.series.raw_header import read_dataset
from qc_node.series.volume.stack import OpenedSeries
from qc_node.spool import Spool

MOST_SERIES = 24
"""X-ray series of one study that are looked at beside the one that is judged."""


def repeated_views(ledger: Ledger, spool: Spool, row: SeriesRow, opened: OpenedSeries) -> tuple[str, ...]:
    """One sentence where an image of a series likely repeats another one of its study; none where none does.

    Raises
    ------
    NotDicom
        The machine cannot read.
    """
    if opened.modality not in XRAY_IMAGES.values() or opened.patient_conflict:
        return ()
    own = exposed_views(opened)
    others = tuple(_others(ledger, spool, row))
    found = [r for r in likely_retakes((*own, *others)) if r.second < len(own)]
    return (found[-1].sentence,) if found else ()


def _others(ledger: Ledger, spool: Spool, row: SeriesRow) -> Iterator[ExposedView]:
    series = [s for s in ledger.series.of_study(row["study_uid"]) if s["series_id"] != row["series_id"]]
    kept = [s for s in series if s["modality"] in XRAY_IMAGES.values() and s["images_removed_at"] is None]
    for one in kept[-MOST_SERIES:]:
        for name in ledger.instances.paths_of_series(one["series_id"])[:MOST_VIEWS]:
            try:
                yield exposed_view(read_dataset(spool.path(name)))
            except NotDicom as error:
                if is_of_machine(error):
                    raise
