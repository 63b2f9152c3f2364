"""Series of made-up DICOM, written slice by slice as a scanner would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

NATIVE = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)

Change = Callable[[int, Dataset], None]

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def voxels(shape: tuple[int, int, int] = (6, 16, 20), dtype: str = "<u2", high: int = 1000) -> npt.NDArray[Any]:
    """Reproducible noise ``(slice, row, column)``."""
    return np.random.default_rng(7).integers(0, high, shape).astype(dtype)


def header(sop_class: str, modality: str) -> Dataset:
    """What every made object has in common."""
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = "1.2.3.4"
    ds.SeriesInstanceUID = "1.2.3.4.5"
    ds.PatientID = "P1"
    ds.PatientName = "Made^Up"
    ds.Modality = modality
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    return ds


def put_pixels(ds: Dataset, picture: npt.NDArray[Any], stored: int | None = None) -> None:
    """Image Pixel module for a slice, or for frames ``(frame, row, column)``."""
    ds.Rows, ds.Columns = picture.shape[-2:]
    ds.BitsAllocated = picture.dtype.itemsize * 8
    ds.BitsStored = stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(picture.dtype.kind == "i")
    ds.PixelData = picture.tobytes()
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write `ds` as a Part 10 file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    little = syntax != ExplicitVRBigEndian
    implicit = syntax == ImplicitVRLittleEndian
    file = FileDataset(path, ds, b"\0" * 128, meta, is_implicit_VR=implicit, is_little_endian=little)
    file.save_as(path, enforce_file_format=True)
    return path


def make_series(
    folder: Path,
    data: npt.NDArray[Any] | None = None,
    modality: str = "MR",
    spacing: tuple[float, float, float] = (0.8, 0.7, 2.5),
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    shear: Sequence[float] = (0.0, 0.0, 0.0),
    change: Change | None = None,
    stored: int | None = None,
    order: Sequence[int] | None = None,
    syntax: str = ExplicitVRLittleEndian,
) -> list[Path]:
    """A classic series, one file per slice.

    Parameters
    ----------
    data
        ``(slice, row, column)``.
    spacing
        Between rows, between columns, between slices, in mm.
    shear
        Added to the position per slice, in mm.
    change
        Called with the number of the slice and its data set before it is written.
    order
        In which order the slices get their Instance Numbers and file names.
    """
    data = voxels() if data is None else data
    row, col = np.array(orientation[:3]), np.array(orientation[3:])
    step = np.cross(row, col) * spacing[2] + np.array(shear)
    paths = []
    for number, k in enumerate(order if order is not None else range(len(data))):
        ds = header(CTImageStorage if modality == "CT" else MRImageStorage, modality)
        ds.InstanceNumber = number + 1
        ds.ImageOrientationPatient = [float(x) for x in orientation]
        ds.ImagePositionPatient = [round(float(x), 6) for x in np.array(origin) + k * step]
        ds.PixelSpacing = list(spacing[:2])
        ds.SliceThickness = spacing[2]
        if modality == "CT":
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        put_pixels(ds, data[k], stored)
        if change:
            change(k, ds)
        paths.append(save(ds, folder / f"{number:04d}.dcm", syntax))
    return paths


def make_radiograph(
    path: Path,
    picture: npt.NDArray[Any],
    change: Callable[[Dataset], None] | None = None,
    stored: int | None = None,
    sop_class: str = DigitalXRayImageStorageForPresentation,
    modality: str = "DX",
    syntax: str = ExplicitVRLittleEndian,
) -> Path:
    """One DX image ``(row, column)``, MONOCHROME2 with 0.2 mm pixels."""
    ds = header(sop_class, modality)
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.InstanceNumber = 1
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImagerPixelSpacing = [0.2, 0.2]
    put_pixels(ds, picture, stored)
    if change:
        change(ds)
    return write_in(ds, path, syntax)


def write_in(ds: Dataset, path: Path, syntax: str) -> Path:
    """Write `ds`, whose 16-bit pixels are little-endian, in any transfer syntax that can be written."""
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    if syntax in NATIVE:
        return save(ds, path, syntax)
    save(ds, path)
    written = dcmread(path)
    written.compress(UID(syntax), generate_instance_uid=False)
    written.save_as(path)
    return path


def item(**values: Any) -> DicomSequence:
    """A sequence of one item."""
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return DicomSequence([ds])


def make_enhanced(
    path: Path,
    data: npt.NDArray[Any],
    slopes: Sequence[float] | None = None,
    order: Sequence[int] | None = None,
    spacing: tuple[float, float, float] = (0.8, 0.7, 2.5),
    echoes: Sequence[float] | None = None,
    change: Callable[[Dataset], None] | None = None,
    syntax: str = ExplicitVRLittleEndian,
) -> Path:
    """An enhanced MR with one frame per slice and echo; frames are stored in `order`."""
    order = list(order) if order is not None else list(range(len(data)))
    ds = header(EnhancedMRImageStorage, "MR")
    put_pixels(ds, np.ascontiguousarray(np.concatenate([data[order]] * len(echoes or [1]))))
    ds.NumberOfFrames = len(order) * len(echoes or [1])
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(AXIAL))
    shared.PixelMeasuresSequence = item(PixelSpacing=list(spacing[:2]), SliceThickness=spacing[2])
    ds.SharedFunctionalGroupsSequence = DicomSequence([shared])
    frames = []
    times: Sequence[float | None] = echoes or [None]
    for echo in times:
        for k in order:
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=[0.0, 0.0, k * spacing[2]])
            slope = slopes[k] if slopes is not None else 1.0
            frame.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")
            frame.FrameContentSequence = item(StackID="1", InStackPositionNumber=k + 1)
            if echo is not None:
                frame.MREchoSequence = item(EffectiveEchoTime=float(echo))
            frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    if change:
        change(ds)
    return save(ds, path, syntax)
