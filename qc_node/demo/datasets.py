"""Voxels to a valid DICOM series, one single-frame object per slice.

What a scanner would send: complete type 1 and 2 attributes of the MR and CT Image IODs (PS3.3 A.3, A.4), so
that ``dciodvfy`` finds no error.  Everything about the person is invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid


@dataclass(frozen=True)
class Sample:
    """An invented series.

    ``voxels`` is ``(K, J, I)`` int16 (HU for CT), ``affine`` maps ``(i, j, k)`` to LPS mm; ``title`` is what
    the demonstration calls it.
    """

    title: str
    modality: str
    voxels: npt.NDArray[np.int16]
    affine: npt.NDArray[np.float64]
    patient_id: str
    patient_name: str
    accession_number: str
    study_description: str
    series_description: str
    body_part: str
    station: str
    contrast_agent: str | None = None


def datasets(sample: Sample, now: datetime) -> Iterator[Dataset]:
    """The instances of `sample` in slice order, each complete with file meta information."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    columns = sample.affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    count = len(sample.voxels)
    for k in range(count):
        ds = _common(sample, now, study, series, frame)
        ds.InstanceNumber = k + 1
        ds.ImagesInAcquisition = count
        ds.ImagePositionPatient = _numbers(sample.affine[:3, 3] + k * columns[:, 2])
        directions = np.concatenate([columns[:, 0] / spacing[0], columns[:, 1] / spacing[1]])
        ds.ImageOrientationPatient = _numbers(directions)
        ds.PixelSpacing = _numbers([spacing[1], spacing[0]])
        ds.SliceThickness = _numbers([spacing[2]])[0]
        _modality(ds, sample)
        _pixels(ds, sample.voxels[k])
        yield ds


def _numbers(values: npt.ArrayLike) -> list[str]:
    return [f"{v:.8g}" for v in np.asarray(values, float)]


def _common(s: Sample, now: datetime, study: str, series: str, frame: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = MRImageStorage if s.modality == "MR" else CTImageStorage
    ds.SOPInstanceUID = generate_uid()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.AccessionNumber, ds.Modality = s.accession_number, s.modality
    ds.Manufacturer, ds.ManufacturerModelName = "qc-node", "demonstration phantom"
    ds.InstitutionName, ds.StationName = "Demonstration", s.station
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription = s.study_description, s.series_description
    ds.PatientName, ds.PatientID = s.patient_name, s.patient_id
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.StudyID = study, series, "1"
    ds.SeriesNumber = ds.AcquisitionNumber = 1
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = frame, ""
    ds.BodyPartExamined, ds.ProtocolName = s.body_part, s.series_description
    ds.PatientPosition = "HFS"
    if s.contrast_agent is not None:
        ds.ContrastBolusAgent = s.contrast_agent
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _modality(ds: Dataset, s: Sample) -> None:
    if s.modality == "MR":
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = ["GR", "IR"], ["SP", "MP"], ""
        ds.MRAcquisitionType, ds.SequenceName = "3D", "*tfl3d1"
        ds.RepetitionTime, ds.EchoTime, ds.InversionTime, ds.FlipAngle = "2300", "2.98", "900", "9"
        ds.EchoTrainLength, ds.MagneticFieldStrength = 1, "3"
        return
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "-1024", "HU"
    ds.KVP, ds.ConvolutionKernel = "120", "STANDARD"


def _pixels(ds: Dataset, slice_: npt.NDArray[np.int16]) -> None:
    ct = ds.Modality == "CT"
    stored = np.clip(slice_.astype(np.int32) + (1024 if ct else 0), 0, 4095).astype("<u2")
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = slice_.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    centre, width = ("40", "400") if ct else (str(int(stored.max()) // 2), str(max(int(stored.max()), 1)))
    ds.WindowCenter, ds.WindowWidth = centre, width
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
