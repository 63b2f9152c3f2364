"""A real Orthanc with DICOM and REST on loopback."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom

from tests.peers.process import HOST, OwnedProcess, find_free_port, require

Modality = tuple[str, int]
"""AE title and port of a peer that Orthanc knows (loopback)."""


class Orthanc(OwnedProcess):
    """A small PACS.

    Parameters
    ----------
    folder
        Holds configuration, database and log; survives :meth:`stop`, so that a restarted Orthanc knows all.
    ae_title, port, http_port
        Ports are chosen when not given and stay the same over a restart.
    modalities
        Peers by name, e.g. ``{"node": ("QCNODE", 11112)}``; Orthanc answers their queries and sends commitment
        results to their port.
    options
        Further keys of Orthanc's configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "ORTHANC",
        port: int | None = None,
        http_port: int | None = None,
        modalities: Mapping[str, Modality] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        (program,) = require("Orthanc")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ae_title = ae_title
        self.port = port or find_free_port()
        self.http_port = http_port or find_free_port()
        self.url = f"http://{HOST}:{self.http_port}"
        config = {
            "Name": "qc-node test PACS",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "Plugins": [],
            "HttpServerEnabled": True,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "UnknownSopClassAccepted": True,
            "StableAge": 1,
            "DicomModalities": {name: self._modality(*m) for name, m in (modalities or {}).items()},
            **(options or {}),
        }
        path = folder / "orthanc.json"
        path.write_text(json.dumps(config, indent=1))
        super().__init__([program, str(path)], folder / "orthanc.log", self._answers)

    @staticmethod
    def _modality(ae_title: str, port: int) -> dict[str, Any]:
        return {"AET": ae_title, "Host": HOST, "Port": port, "AllowStorageCommitment": True}

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system")["DicomAet"] == self.ae_title)
        except OSError:
            return False

    # -- REST ----------------------------------------------------------------------------------------
    def fetch(self, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
        """The answer of the REST interface to one request."""
        request = urllib.request.Request(self.url + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: bytes = answer.read()
        return data

    def get(self, path: str) -> Any:
        """JSON of a GET."""
        return json.loads(self.fetch(path))

    def learn_modality(self, name: str, ae_title: str, port: int) -> None:
        """Make a further peer known while Orthanc runs."""
        self.fetch(f"/modalities/{name}", json.dumps(self._modality(ae_title, port)).encode(), "PUT")

    # -- verbs ---------------------------------------------------------------------------------------
    def received_uids(self, *, modality: str | None = None) -> list[str]:
        """SOP Instance UIDs in the order of their arrival, optionally of one modality (e.g. ``SR``)."""
        uids = {i["ID"]: i["MainDicomTags"]["SOPInstanceUID"] for i in self.get("/instances?expand")}
        if modality is not None:
            wanted: set[str] = set()
            for series in self.get("/series?expand"):
                if series["MainDicomTags"].get("Modality") == modality:
                    wanted.update(series["Instances"])
            uids = {k: v for k, v in uids.items() if k in wanted}
        order = [c["ID"] for c in self._changes() if c["ChangeType"] == "NewInstance"]
        return [uids[i] for i in order if i in uids]

    def _changes(self) -> list[dict[str, Any]]:
        changes: list[dict[str, Any]] = []
        last = 0
        while True:
            page = self.get(f"/changes?since={last}&limit=1000")
            changes += page["Changes"]
            last = page["Last"]
            if page["Done"]:
                return changes

    def received_file(self, sop_instance_uid: str) -> bytes:
        """The bytes that Orthanc keeps for one instance."""
        found = json.loads(self.fetch("/tools/lookup", sop_instance_uid.encode(), "POST"))
        ids = [f["ID"] for f in found if f["Type"] == "Instance"]
        if not ids:
            raise AssertionError(f"Orthanc does not hold {sop_instance_uid}")
        return self.fetch(f"/instances/{ids[0]}/file")

    def received(self, *, modality: str | None = None) -> list[pydicom.Dataset]:
        """The data sets that Orthanc keeps, in the order of their arrival."""
        uids = self.received_uids(modality=modality)
        return [pydicom.dcmread(BytesIO(self.received_file(uid)), force=True) for uid in uids]

    def series_uids(self) -> set[str]:
        """Series Instance UIDs that Orthanc holds."""
        return {s["MainDicomTags"]["SeriesInstanceUID"] for s in self.get("/series?expand")}

    def upload(self, data: bytes) -> None:
        """Store one file over REST."""
        self.fetch("/instances", data, "POST")
