"""How many instances the PACS has of a series: C-FIND at SERIES level (PS3.4 annex C)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from qc_node.dicom.association import Peer, Timeouts, call
from qc_node.dicom.uids import STUDY_ROOT_FIND

QUERY_TIMEOUTS: Final = Timeouts(connect=3.0, association=3.0, response=3.0, network=3.0, total=3.0)
"""A PACS that takes longer to count, all in all, is not waited for: the series closes by another rule."""
MOST_MATCHES: Final = 1000
"""Responses to one question; a PACS that sends more ignores the key and tells of its whole archive."""
PENDING: Final = (0xFF00, 0xFF01)
"""C-FIND statuses that carry a match (PS3.4 table C.4-1)."""

_CONTEXTS = tuple((STUDY_ROOT_FIND, syntax) for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian))


def series_count(pacs: Peer, study_uid: str, series_uid: str) -> int | None:
    """Number of Series Related Instances (0020,1209) that the PACS reports, or None when it does not say.

    Some archives do not count at SERIES level and leave the attribute empty: that is None as well.  A series
    that the PACS does not know is 0.  Never raises for what a peer does; takes no longer than the timeouts of
    `pacs` allow, and leaves a PACS that answers without end after :data:`MOST_MATCHES` by aborting.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    query.NumberOfSeriesRelatedInstances = None
    try:
        with call(pacs, _CONTEXTS) as open_call:
            return _count(open_call.find(query, STUDY_ROOT_FIND), series_uid)
    except Exception:  # no association; and pynetdicom raises many kinds for what a peer sends
        return None


class _EnoughError(Exception):
    """Nothing more is wanted though the PACS is still answering; ends the association by an abort."""


def _count(responses: Iterable[tuple[Any, Any]], series_uid: str) -> int | None:
    total: int | None = None
    for number, (status, match) in enumerate(responses):
        if number > MOST_MATCHES:
            raise _EnoughError
        code = getattr(status, "Status", None)
        if code == 0x0000:
            return 0 if total is None else total
        if code not in PENDING:
            return None
        if match is None or str(match.get("SeriesInstanceUID", series_uid)) != series_uid:
            continue
        value = match.get("NumberOfSeriesRelatedInstances")
        if value is None or value == "":
            raise _EnoughError
        total = int(value)
    return None
