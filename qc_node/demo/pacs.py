"""A small PACS for the demonstration: stores, answers C-ECHO and C-FIND, forgets everything at the end.

It keeps data sets in memory and is meant for loopback only; a department has a real one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

from qc_node.dicom.uids import STUDY_ROOT_FIND, VERIFICATION
from qc_node.domain import QcNodeError
from qc_node.report.summary import SUMMARY_CLASS


class DemoPacs:
    """A storage SCP on loopback.

    Parameters
    ----------
    ae_title, port
        Where it listens; port 0 takes a free one.
    """

    def __init__(self, ae_title: str = "DEMOPACS", port: int = 0) -> None:
        self.ae_title = ae_title
        self._port = port
        self._server: Any = None
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], set[str]] = {}
        self._reports: dict[str, Dataset] = {}
        self._pictures: dict[str, Dataset] = {}
        self._arrival = threading.Condition(self._lock)

    # -- life ----------------------------------------------------------------------------------------
    def start(self) -> DemoPacs:
        """Begin to listen; raises :class:`QcNodeError` when the port is taken."""
        ae = AE(self.ae_title)
        ae.maximum_pdu_size = 0
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax or "", context.transfer_syntax)
        ae.add_supported_context(VERIFICATION)
        ae.add_supported_context(STUDY_ROOT_FIND)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
        ]
        try:
            self._server = ae.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise QcNodeError(
                f"The demonstration PACS cannot listen on port {self._port}: {error.strerror}."
            ) from error
        return self

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()

    # -- what the demonstration asks -----------------------------------------------------------------
    def report_for(self, series_uid: str, timeout_s: float) -> Dataset | None:
        """The report whose evidence names `series_uid`; waits for it."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._match(series_uid) is not None, timeout_s)
            return self._match(series_uid)

    def picture_for(self, study_uid: str, timeout_s: float) -> Dataset | None:
        """The first picture of the QC summary of a study; waits for it."""
        with self._arrival:
            self._arrival.wait_for(lambda: study_uid in self._pictures, timeout_s)
            return self._pictures.get(study_uid)

    def _match(self, series_uid: str) -> Dataset | None:
        for report in self._reports.values():
            for study in report.get("CurrentRequestedProcedureEvidenceSequence", []):
                if any(s.SeriesInstanceUID == series_uid for s in study.ReferencedSeriesSequence):
                    return report
        return None

    # -- handlers ------------------------------------------------------------------------------------
    def _store(self, event: Any) -> int:
        """Store one object; always 0x0000."""
        ds = event.dataset
        ds.file_meta = event.file_meta
        with self._arrival:
            key = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))
            self._counts.setdefault(key, set()).add(str(ds.SOPInstanceUID))
            if ds.get("Modality") in ("SR", "KO"):
                self._reports[str(ds.SOPInstanceUID)] = ds
            if ds.SOPClassUID == SUMMARY_CLASS:
                self._pictures.setdefault(str(ds.StudyInstanceUID), ds)
            self._arrival.notify_all()
        return 0x0000

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Answer at SERIES level with the number of instances; 0xFF00 per match."""
        study_uid = event.identifier.get("StudyInstanceUID")
        series_uid = event.identifier.get("SeriesInstanceUID") or None
        with self._lock:
            found = {
                key: len(uids)
                for key, uids in self._counts.items()
                if key[0] == study_uid and series_uid in (key[1], None)
            }
        for (study, series), count in found.items():
            answer = Dataset()
            answer.QueryRetrieveLevel = "SERIES"
            answer.StudyInstanceUID, answer.SeriesInstanceUID = study, series
            answer.NumberOfSeriesRelatedInstances = count
            yield 0xFF00, answer
