"""A stored series of phantom slices, for pages that scroll: nobody's head."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.ledger import Received
from tests.report.sources import MR_IMAGE, source
from tests.web.conftest import Clinic, head_phantom


def store_series(
    clinic: Clinic, study: str, series: str, *, scanner: str, slices: int = 24, seed: int = 1
) -> None:
    """Put a stack of axial phantom slices where received images lie."""
    rows = []
    middle = head_phantom(seed * 10).astype(np.float32)
    side = middle.shape[0]
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    for n in range(slices):
        height = abs(2 * n / (slices - 1) - 1) * 0.97
        pixels = (middle * ((x**2 + y**2) < 1 - height**2) * 4).astype(np.uint16)
        ds: Dataset = source()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, series, f"{series}.{n + 1}"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 5 * n], [1, 0, 0, 0, 1, 0]
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = side, side, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.PixelData = pixels.tobytes()
        name = clinic.spool.image_name(study, series, ds.SOPInstanceUID)
        clinic.spool.folder_of(name)
        ds.save_as(clinic.spool.root / name, enforce_file_format=True)
        rows.append(
            Received(
                ds.SOPInstanceUID,
                MR_IMAGE,
                series,
                study,
                str(ExplicitVRLittleEndian),
                "MR",
                scanner,
                name,
                1,
                clinic.clock.now,
            )
        )
    clinic.ledger.instances.add(rows)
