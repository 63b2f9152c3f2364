"""How many instances the PACS has of a series: C-FIND at SERIES level (PS3.4 annex C)."""

from __future__ import annotations

from typing import Any

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PENDING = (0xFF00, 0xFF01)
"""C-FIND statuses that carry a match (PS3.4 table C.4-1)."""


def series_count(
    host: str, port: int, called_ae: str, calling_ae: str, study_uid: str, series_uid: str, timeout_s: float = 3.0
) -> int | None:
    """Number of Series Related Instances (0020,1209) that the PACS reports, or None when it does not say.

    Some archives do not count at SERIES level and leave the attribute empty: that is None as well.  A series
    that the PACS does not know is 0.  Never raises for what a peer does; takes at most some `timeout_s`.
    """
    from pydicom.dataset import Dataset
    from pynetdicom import AE

    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    query.NumberOfSeriesRelatedInstances = None
    ae: Any = AE(ae_title=calling_ae)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    ae.add_requested_context(STUDY_ROOT_FIND)
    try:
        association = ae.associate(host, port, ae_title=called_ae)
        if not association.is_established:
            return None
        try:
            return _count(association.send_c_find(query, STUDY_ROOT_FIND), series_uid)
        finally:
            association.release()
    except Exception:  # pynetdicom raises many kinds for what a peer sends
        return None


def _count(responses: Any, series_uid: str) -> int | None:
    total: int | None = None
    for status, match in responses:
        code = getattr(status, "Status", None)
        if code == 0x0000:
            return 0 if total is None else total
        if code not in PENDING:
            return None
        if match is None or str(match.get("SeriesInstanceUID", series_uid)) != series_uid:
            continue
        value = match.get("NumberOfSeriesRelatedInstances")
        if value is None or value == "":
            return None
        total = int(value)
    return None
