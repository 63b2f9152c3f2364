"""A modality that remembers what it was told: which objects were acknowledged, and with which bytes."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.dsutils import encode as encoded

from qc_node.demo.datasets import datasets
from tests.end_to_end.node_process import ct_sample
from tests.receiver.wire_peer import WirePeer, associate_rq, c_store_rq, data_set_pdus, p_data, pdv
from tests.report import sources

WHEN = datetime(2026, 1, 2, 3, 4, 5)
ABORT_S = 20.0

Series = Sequence[Dataset]


@dataclass(frozen=True)
class Acknowledged:
    """An object that was answered with success: whose it is, and how long its data set is and which bytes."""

    sop_instance_uid: str
    series_uid: str
    length: int
    digest: bytes


def digest_of(data: bytes) -> bytes:
    """What two equal data sets have in common."""
    return hashlib.blake2b(data, digest_size=16).digest()


class Modality:
    """Sends what it is given, over associations of its own, and keeps what was acknowledged."""

    def __init__(self, port: int, ae_title: str = "CT1") -> None:
        self.port = port
        self.ae_title = ae_title
        self.acknowledged: list[Acknowledged] = []

    def sends(self, objects: Iterable[Dataset], *, pace_s: float = 0.0) -> list[Dataset]:
        """Each object once, `pace_s` seconds apart, over one association; what was not acknowledged."""
        objects = list(objects)
        association = self._call({str(ds.SOPClassUID) for ds in objects})
        left = []
        for ds in objects:
            if not (association.is_established and self._store(association, ds)):
                left.append(ds)
            time.sleep(pace_s)
        if association.is_established:
            association.release()
        return left

    def sends_until_taken(
        self, objects: Iterable[Dataset], *, within_s: float = 90.0, pace_s: float = 0.0
    ) -> None:
        """As :meth:`sends`, and what was not acknowledged again and again: what a modality's queue does."""
        deadline = time.monotonic() + within_s
        left = list(objects)
        while left := self.sends(left, pace_s=pace_s):
            assert time.monotonic() < deadline, f"{len(left)} objects were not taken within {within_s} s"
            time.sleep(0.3)

    def _call(self, classes: set[str]) -> Any:
        ae = AE(self.ae_title)
        ae.acse_timeout = ae.network_timeout = ae.dimse_timeout = ABORT_S
        for sop_class in classes:
            ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
        return ae.associate("127.0.0.1", self.port, ae_title="QCNODE")

    def _store(self, association: Any, ds: Dataset) -> bool:
        try:
            status = association.send_c_store(ds)
        except (RuntimeError, ValueError, OSError):  # it ended, or was never open for this class
            return False
        if status.get("Status") != 0x0000:
            return False
        data = encoded(ds, False, True) or b""
        self.acknowledged.append(
            Acknowledged(str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), len(data), digest_of(data))
        )
        return True

    # -- what goes wrong -----------------------------------------------------------------------------------
    def hangs_half_open(self, count: int = 1) -> list[WirePeer]:
        """Associations whose request never ends; close them."""
        peers = [WirePeer(self.port) for _ in range(count)]
        for peer in peers:
            peer.send(struct.pack(">BBL", 1, 0, 5000) + bytes(100))
        return peers

    def breaks_off(self, ds: Dataset) -> None:
        """Half of an object, then the connection is cut."""
        data = encoded(ds, False, True) or b""
        sop_class, uid = str(ds.SOPClassUID), str(ds.SOPInstanceUID)
        with closing(WirePeer(self.port)) as peer:
            peer.send(associate_rq([(1, sop_class, [ExplicitVRLittleEndian])], calling=self.ae_title))
            assert peer.pdu()[0] == 2, "the association was not accepted"
            peer.send(p_data(pdv(1, 3, c_store_rq(sop_class, uid))))
            whole = data_set_pdus(1, data)
            peer.send(whole[: len(whole) // 2])
            peer.cut()


# -- what is sent ------------------------------------------------------------------------------------------
def ct(slices: int = 4, seed: int = 0, *, counted: bool = True, size: int = 64) -> Series:
    """A small CT; without `counted` its header does not say how many images it has, and quiet time closes it."""
    return _without_count(list(datasets(ct_sample(slices, size, seed), WHEN)), counted)


def mr(slices: int = 24, seed: int = 0, *, counted: bool = True, size: int = 64) -> Series:
    """A small MR of something round, described as a 3D T1-weighted head."""
    cylinder = ct_sample(slices, size, seed)
    voxels = np.clip(cylinder.voxels + 1000, 0, 4000).astype(np.int16)
    head = replace(
        cylinder,
        modality="MR",
        voxels=voxels,
        affine=np.diag([220 / size, 220 / size, 160 / slices, 1.0]),
        study_description="MR test",
        series_description="t1_mprage_sag",
        body_part="HEAD",
        station="MR1",
    )
    return _without_count(list(datasets(head, WHEN)), counted)


def _without_count(series: list[Dataset], counted: bool) -> Series:
    for ds in series if not counted else ():
        del ds.ImagesInAcquisition
    return series


def dx(seed: int = 0) -> Series:
    """One projection radiograph: no classifier is there for it."""
    (ds,) = ct(1, seed)
    ds.Modality, ds.SOPClassUID = "DX", DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    return [ds]


def report_of_another() -> Series:
    """A Structured Report that another program wrote: it is received, and opens no series."""
    ds = sources.report()
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = (generate_uid() for _ in range(3))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return [ds]
