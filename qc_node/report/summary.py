"""The QC summary as a Secondary Capture image: one picture for each judged series, one series of them per study.

What it says is drawn by :mod:`qc_node.report.summary_picture`; here is everything around the pixels (PS3.3 A.8.1).
For people, where the report (:mod:`qc_node.report.structured_report`) is for machines: most viewers show an image
and few show a Structured Report.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import SecondaryCaptureImageStorage

from qc_node.domain import InstanceRef, SeriesKey, Verdict
from qc_node.report import modules
from qc_node.report.character_set import settle_character_set
from qc_node.report.documents import SERIES_NUMBER_BASE, NodeIdentity, model_equipment, new_object
from qc_node.report.measures_group import NOTHING, MeasuredBlock
from qc_node.report.summary_picture import Picture
from qc_node.report.uids import ORIGINAL, Edition, summary_series_uid, summary_uid

SUMMARY_CLASS: Final = str(SecondaryCaptureImageStorage)
SERIES_DESCRIPTION: Final = "QC summary"
SERIES_NUMBER: Final = 2 * SERIES_NUMBER_BASE
"""Behind every report, whatever the number of its series."""

DERIVATION: Final = (
    "Summary of an automated image quality control: verdict and mid-planes, drawn for people. Not an acquired"
    " image, not for measurement, not for diagnosis. The Structured Report on the same series says all of it."
)


def build_summary(
    source: Dataset,
    evidence: Sequence[InstanceRef],
    series: SeriesKey,
    verdicts: Sequence[Verdict],
    picture: Picture,
    *,
    software_version: str,
    node: NodeIdentity | str,
    rules_digest: str,
    created: datetime,
    instance_number: int,
    earlier: str | None = None,
    edition: Edition = ORIGINAL,
    measures: MeasuredBlock = NOTHING,
) -> Dataset:
    """The picture for one series, ready for ``save_as(..., enforce_file_format=True)``.

    Parameters
    ----------
    source, evidence, series, software_version, node, rules_digest, edition
        As for :func:`qc_node.report.structured_report.build_report`.
    verdicts
        Every verdict that the picture tells, the routed classifier's first; none where nobody judged the series.
    picture
        RGB uint8 ``(rows, columns, 3)``.
    created
        When the series was judged.
    instance_number
        Its place among the pictures of the study.
    earlier
        SOP Instance UID of the picture that this one replaces.  An image has no predecessor in DICOM: it stands in
        Referenced Image Sequence, without a purpose, for which CID 7201 has no code.
    measures
        What the report on the series says was measured.

    Returns
    -------
    Dataset
        With file meta information, Explicit VR Little Endian, not compressed.  The same arguments give the same
        bytes.

    Raises
    ------
    ValueError
        No evidence, neither verdict nor measures, or no RGB picture.
    """
    if (
        not evidence
        or not (verdicts or measures)
        or picture.ndim != 3
        or picture.shape[2] != 3
        or picture.dtype.str != "|u1"
    ):
        raise ValueError("a summary needs evidence, a verdict and an RGB picture")
    node = NodeIdentity(node) if isinstance(node, str) else node
    uid = summary_uid(
        series.series_instance_uid,
        evidence,
        [v.model for v in verdicts],
        rules_digest=rules_digest,
        edition=edition,
        measures=measures.causes(),
    )
    text = modules.source_text(source)
    ds = new_object(
        text,
        series.study_instance_uid,
        SUMMARY_CLASS,
        uid,
        summary_series_uid(series.study_instance_uid, node.station_name, software_version, edition),
        node,
        software_version,
        created,
        modality="OT",
        description=SERIES_DESCRIPTION,
        series_number=SERIES_NUMBER,
        instance_number=instance_number,
    )
    del ds.SeriesDate, ds.SeriesTime  # the series is of the study, and grows: it has no one time
    if verdicts:
        ds.ContributingEquipmentSequence = DicomSequence([model_equipment(node, v, created) for v in verdicts])
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.Laterality = ds.PatientOrientation = ""  # type 2C; a drawing has neither
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.DerivationDescription = DERIVATION
    ds.SourceImageSequence = modules.references(evidence)
    if earlier is not None and earlier != uid:
        ds.ReferencedImageSequence = modules.references([InstanceRef(SUMMARY_CLASS, earlier)])
    _put_pixels(ds, picture)
    settle_character_set(ds, text)
    return ds


def _put_pixels(ds: Dataset, picture: Picture) -> None:
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    data = picture.tobytes()
    ds.PixelData = data + bytes(len(data) % 2)
