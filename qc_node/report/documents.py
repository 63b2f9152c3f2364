"""What everything that the node writes has in common, whatever its class: whose it is, who made it, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from qc_node.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER, MODEL_NAME
from qc_node.domain import Verdict
from qc_node.report import codes, modules
from qc_node.report.character_set import SourceText
from qc_node.report.items import coded, short_text
from qc_node.report.uids import device_uid

DISCLAIMER: Final = "Automated, unverified; not for diagnosis."
"""First comment of every measurement group, last line of every picture."""

SERIES_NUMBER_BASE: Final = 90000
"""The report on series 5 is in series 90005, which sorts behind the images."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Which node wrote a report: its AE title or station name, and the hospital where that is known."""

    station_name: str
    institution: str | None = None


def new_object(
    text: SourceText,
    study_instance_uid: str,
    sop_class_uid: str,
    sop_instance_uid: str,
    series_instance_uid: str,
    node: NodeIdentity,
    software_version: str,
    created: datetime,
    *,
    modality: str,
    description: str,
    series_number: int,
    instance_number: int,
) -> Dataset:
    """An object of the node's own in the study of the images: patient, study, series, equipment, file meta.

    Parameters
    ----------
    text
        The texts of the header of one of them (:func:`qc_node.report.modules.source_text`).
    """
    ds = Dataset()
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = sop_instance_uid
    modules.copy_patient_and_study(text, ds, study_instance_uid)
    modules.stamp(ds, text.source, created)
    ds.Modality = modality
    ds.SeriesInstanceUID = series_instance_uid
    ds.SeriesNumber = series_number
    ds.SeriesDescription = description
    ds.InstanceNumber = instance_number
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MODEL_NAME
    ds.SoftwareVersions = short_text(software_version)
    ds.DeviceSerialNumber = sha256(node.station_name.encode("utf-8", "replace")).hexdigest()[:16]
    ds.StationName = short_text(node.station_name, 16)
    if node.institution:
        ds.InstitutionName = short_text(node.institution)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    ds.file_meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    ds.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return ds


def number_of_series(source: Dataset) -> int | None:
    """Series Number of the images, where it is one that a report can carry on."""
    try:
        number = int(modules.raw_value(source, "SeriesNumber"))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 < number < SERIES_NUMBER_BASE else None


def series_number(source: Dataset) -> int:
    """Series Number of what is written about one series."""
    return SERIES_NUMBER_BASE + (number_of_series(source) or 0)


def model_equipment(node: NodeIdentity, verdict: Verdict, created: datetime, rules_digest: str = "") -> Dataset:
    """Contributing Equipment (PS3.3 C.12.1.1.5): the model, as IHE AIR asks, with all of its digests."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = coded(codes.PROCESSING_EQUIPMENT)
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = short_text(verdict.model.name)
    item.SoftwareVersions = short_text(verdict.model.version)
    item.DeviceUID = device_uid(node.station_name, verdict.model)
    item.StationName = short_text(node.station_name, 16)
    item.ContributionDateTime = created.strftime("%Y%m%d%H%M%S.%f")
    rules = f"; rules {short_text(rules_digest)}" if rules_digest else ""
    item.ContributionDescription = (
        f"Automated image quality control; weights sha256:{short_text(verdict.model.sha256)}{rules}"
    )
    return item


def digests_in(equipment: Dataset) -> dict[str, str]:
    """The inverse: ``weights`` and ``rules`` as :func:`model_equipment` writes them."""
    said = str(equipment.get("ContributionDescription", "")).split("; ")[1:]
    return {what: digest.removeprefix("sha256:") for what, _, digest in (part.partition(" ") for part in said)}


SHORT_HASH: Final = 8
"""Characters of a digest where people read it; the whole one is in Contributing Equipment."""


def weights_hash(verdict: Verdict) -> str:
    """The weights that gave a verdict, as people see them."""
    return f"sha256:{short_text(verdict.model.sha256, SHORT_HASH)}"
