"""From an opened series of any shape to what can be measured of it, or one sentence why nothing is.

Wider than what classifiers take: several images at one place, several orientations and single slices are measured
too.  Pictures of text, planning images and maps that were computed from other images are not: their noise is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.uid import UID

from qc_node.dicom.uids import CT_IMAGES, LOSSY, MANUFACTURER, MODEL_NAME, MR_IMAGES, XRAY_IMAGES
from qc_node.domain import Volume
from qc_node.domain.measurable import Radiograph, Slices
from qc_node.series.errors import NotDicom, SeriesRefused, is_of_machine
from qc_node.series.headers.acquisition_values import measured_modality
from qc_node.series.headers.claims import number_of, text_of, texts_of
from qc_node.series.headers.routing import LOCALIZER_TYPES, REPORT_TYPES
from qc_node.series.headers.sequences import IMAGE_TYPES
from qc_node.series.raw_header import PIXELS, read_dataset
from qc_node.series.volume.decode import decode
from qc_node.series.volume.grid import Stack
from qc_node.series.volume.instances import (
    Frame,
    Instance,
    PixelFormat,
    decimal_of,
    short_of,
    single_frame,
)
from qc_node.series.volume.largest import images_per_place, largest_group
from qc_node.series.volume.multiframe import frames_of
from qc_node.series.volume.pixels import GREY, FrameReader, check_pixels, dtype_of, stored_range
from qc_node.series.volume.stack import OpenedSeries

MOST_RADIOGRAPHS = 12
"""Images of one X-ray series that are looked at; a whole examination has fewer."""
MOST_PIXELS = 100_000_000
"""No further image is decoded once those that were looked at have so many pixels: that is 200 MB, and seconds in
which other series wait.  Four mammograms have 60 to 100 million."""
MANY_3D, THIN_MM = 40, 1.5
"""So many slices that are so thin are taken for a 3D acquisition where the header of an MR does not say."""

_SLICES = MR_IMAGES | CT_IMAGES
_NAMES = {
    "US": "an ultrasound",
    "IVUS": "an intravascular ultrasound",
    "NM": "a nuclear medicine",
    "PT": "a PET",
    "XA": "an angiography",
    "RF": "a fluoroscopy",
    "ES": "an endoscopy",
    "OP": "an ophthalmic",
    "SM": "a microscopy",
    "XC": "a photography",
    "SEG": "a segmentation",
}
_KEPT = "it is kept and can be voted on; nothing is measured."
_COMPUTED = frozenset(
    {"a diffusion map", "a perfusion map", "a functional map", "a projection", "a rendering", "a T2 map"}
    | {"a phase image", "a flow image", "a field map", "spectroscopy"}
)
"""What :data:`IMAGE_TYPES` tells of images in which noise is not that of an acquisition."""


def measurable(opened: OpenedSeries, volume: Volume | None = None) -> Slices | tuple[Radiograph, ...] | str:
    """What can be measured of a series.

    Parameters
    ----------
    volume
        Its pixels where a classifier has them decoded already.

    Returns
    -------
    Slices, tuple of Radiograph, or str
        Slices of MR and CT, at most :data:`MOST_RADIOGRAPHS` images of CR, DX and MG, or a sentence why nothing is
        measured.

    Raises
    ------
    SeriesRefused, NotDicom
        The machine cannot read it (:func:`~qc_node.series.errors.is_of_machine`); what is wrong with the series is
        a sentence.
    """
    try:
        if volume is not None:
            return _slices(opened, volume)
        reason = _unmeasured(opened)
        if reason is not None:
            return reason
        if measured_modality(opened) in ("MR", "CT"):
            return _decoded(opened)
        return _radiographs(opened)
    except (SeriesRefused, NotDicom) as error:
        if is_of_machine(error):
            raise
        return str(error)


# -- why not -----------------------------------------------------------------------------------------
def _unmeasured(opened: OpenedSeries) -> str | None:
    """Why a series has no measures by its header; None where it may have some."""
    modality, header = measured_modality(opened), opened.header
    if text_of(header, "Manufacturer") == MANUFACTURER and text_of(header, "ManufacturerModelName") == MODEL_NAME:
        return "A qc-node made this series, so nothing is measured."
    if opened.patient_conflict:
        return opened.patient_conflict
    if all(image.pixels is None for image in opened.images):
        return "The series holds no image, so nothing is measured."
    if modality not in ("MR", "CT", *XRAY_IMAGES.values()):
        return f"{_named(modality)}: {_KEPT}"
    return _not_acquired(opened, modality) or _coloured(opened)


def _named(modality: str) -> str:
    if modality in _NAMES:
        return f"This is {_NAMES[modality]} series"
    return f"The modality of this series is {modality}" if modality else "The series does not tell its modality"


def _not_acquired(opened: OpenedSeries, modality: str) -> str | None:
    """Pictures of screens and of text, planning images, maps."""
    sop = opened.instances[0].sop_class_uid
    if sop and sop not in _SLICES | XRAY_IMAGES.keys():
        name = UID(sop, validation_mode=IGNORE).name
        what = f'"{name}"' if name != sop else "unknown"
        return f"SOP Class UID (0008,0016) is {what}, no MR, CT or X-ray image: {_KEPT}"
    types = [frozenset(t) for t in opened.image_types if t]
    if types and all(t & REPORT_TYPES for t in types):
        return "Image Type (0008,0008) says that this is a picture of text: nothing is measured."
    if types and all(t & LOCALIZER_TYPES for t in types):
        return "Image Type (0008,0008) says that this is a localizer: nothing is measured."
    computed = [_computed(t) for t in opened.image_types if t] if modality in ("MR", "CT") else []
    if computed and all(computed):
        return f"Image Type (0008,0008) says that this is {computed[0]}: nothing is measured."
    return None


def _computed(image_type: Sequence[str]) -> str | None:
    found = (IMAGE_TYPES.get(value.replace("_", " ")) for value in image_type[2:])
    return next((what for what in found if what in _COMPUTED), None)


def _coloured(opened: OpenedSeries) -> str | None:
    formats = [i.pixels for i in opened.images if i.pixels is not None]
    if all(p.samples != 1 or p.photometric not in GREY for p in formats):
        return f"This is a colour picture: {_KEPT}"
    return None


# -- slices ------------------------------------------------------------------------------------------
def _decoded(opened: OpenedSeries) -> Slices:
    """The regular stack where there is one, else the largest group of parallel slices."""
    if opened.stack is not None and opened.stack.places is not None:
        return _uneven(opened, opened.stack)
    try:
        return _slices(opened, opened.volume())
    except SeriesRefused as refusal:
        broken = opened.stack is not None and not opened.stack.doubles
        if broken or opened.patient_conflict or is_of_machine(refusal):
            raise
    stack, groups = largest_group(_frames(opened), opened.claims.slice_thickness_mm)
    volume = decode(stack, opened.modality, (*opened.warnings, *stack.warnings))
    return Slices(volume, _thickness(opened, stack), _is_3d(opened, stack), groups)


def _slices(opened: OpenedSeries, volume: Volume) -> Slices:
    stack = opened.stack
    if stack is None:
        return Slices(volume, opened.claims.slice_thickness_mm)
    if stack.places is not None:
        return _uneven(opened, stack)
    return Slices(volume, _thickness(opened, stack), _is_3d(opened, stack), _groups(opened, stack))


def _uneven(opened: OpenedSeries, stack: Stack) -> Slices:
    """A CT that is interpolated where it is judged, as it was acquired: what is interpolated has less noise."""
    true, _ = largest_group(stack.present, opened.claims.slice_thickness_mm)
    volume = decode(true, opened.modality, (*opened.warnings, *true.warnings))
    return Slices(volume, _thickness(opened, stack), groups=_groups(opened, stack))


def _frames(opened: OpenedSeries) -> list[Frame]:
    """Of every image with pixels.

    Raises
    ------
    SeriesRefused
        There is none; the first complaint.
    """
    frames: list[Frame] = []
    complaint: SeriesRefused | None = None
    for image in opened.images:
        try:
            check_pixels(image)
            frames.extend(frames_of(image))
        except SeriesRefused as refusal:
            if is_of_machine(refusal):
                raise
            complaint = complaint or refusal
    if not frames and complaint is not None:
        raise complaint
    return frames


def _thickness(opened: OpenedSeries, stack: Stack) -> float | None:
    """Slice Thickness (0018,0050) of the slices that are measured."""
    stated = decimal_of(stack.present[0].instance.raw, 0x00180050)
    if stated is None:
        stated = opened.claims.slice_thickness_mm
    return stated if stated and stated > 0 else None


def _is_3d(opened: OpenedSeries, stack: Stack) -> bool:
    """MR Acquisition Type (0018,0023); where it is absent, many thin slices are a 3D acquisition."""
    if opened.modality != "MR":
        return False
    stated = (opened.claims.acquisition_type or "").upper()
    if stated in ("2D", "3D"):
        return stated == "3D"
    distance = float(np.linalg.norm(stack.affine[:3, 2]))
    return stack.slots >= MANY_3D and distance <= THIN_MM


def _groups(opened: OpenedSeries, stack: Stack) -> int:
    """How many images lie at each place of a regular stack, of all that the series has."""
    first = stack.present[0]
    if first.tile is None and first.instance.frames == 1:
        single = [single_frame(i) for i in opened.images if i.frames == 1]
        return images_per_place(stack, single)
    if first.tile is not None:
        return max(1, len(opened.images))
    return max(1, round(sum(i.frames for i in opened.images) / len(stack.present)))


# -- radiographs -------------------------------------------------------------------------------------
def _radiographs(opened: OpenedSeries) -> tuple[Radiograph, ...] | str:
    """Every image that can be read; the first complaint where none can."""
    found: list[Radiograph] = []
    complaints: list[str] = []
    reader = FrameReader()
    for image in opened.images[:MOST_RADIOGRAPHS]:
        if sum(one.pixels.size for one in found) >= MOST_PIXELS:
            break
        try:
            found.append(_radiograph(image, reader))
        except (SeriesRefused, NotDicom) as error:
            if is_of_machine(error):
                raise
            complaints.append(str(error))
    return tuple(found) or complaints[0]


def _radiograph(image: Instance, reader: FrameReader) -> Radiograph:
    check_pixels(image)
    pixels = image.pixels
    assert pixels is not None
    if image.frames > 1:
        raise SeriesRefused(f"Number of Frames (0028,0008) is {image.frames}: this is no single projection.")
    if image.native and image.raw.pixel_offset >= 0:
        _check_length(image, pixels)
    header = read_dataset(image.path)
    picture = reader.read(single_frame(image))
    if picture.dtype.kind == "f":
        finite = picture[np.isfinite(picture)]
        lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    else:
        lowest, highest = map(float, stored_range(pixels))
    raw_values = (text_of(header, "PresentationIntentType") or "").upper() == "FOR PROCESSING"
    padding = _padding(image, pixels)
    if _is_inverted(header, pixels, raw_values):
        picture = _inverted(picture, lowest + highest)
        padding = None if padding is None else (lowest + highest - padding[1], lowest + highest - padding[0])
    return Radiograph(
        pixels=picture,
        lowest=lowest,
        highest=highest,
        spacing_mm=_spacing(header),
        for_processing=raw_values,
        lossy=text_of(header, "LossyImageCompression") in ("01", "1") or image.raw.transfer_syntax in LOSSY,
        padding=padding,
    )


def _check_length(image: Instance, pixels: PixelFormat) -> None:
    """Before room is made for what the header claims."""
    needed = pixels.rows * pixels.columns * dtype_of(image).itemsize
    if 0 <= image.raw.pixel_length < needed:
        raise SeriesRefused(
            f"Pixel Data (7FE0,0010) is truncated: {needed} bytes are needed, {image.raw.pixel_length} are there."
        )


def _is_inverted(header: Dataset, pixels: PixelFormat, raw_values: bool) -> bool:
    """Whether a higher stored value is shown darker.

    Of raw values Pixel Intensity Relationship Sign (0028,1041) tells it: 1 is more X-rays, thus darker (PS3.3
    C.8.11.3.1.2).  Else Photometric Interpretation does, after a modality rescale that may turn the values.
    """
    sign = number_of(header, "PixelIntensityRelationshipSign")
    if raw_values and sign in (1.0, -1.0):
        return sign == 1.0
    slope = number_of(header, "RescaleSlope")
    return (pixels.photometric == "MONOCHROME1") != (slope is not None and slope < 0)


def _inverted(picture: npt.NDArray[Any], total: float) -> npt.NDArray[Any]:
    """`total` minus each value, in the type of `picture`, which whole numbers within their range do not leave."""
    if picture.dtype.kind == "f":
        return np.asarray(total - picture, dtype=picture.dtype)
    mask = (1 << 8 * picture.itemsize) - 1
    wrapped = np.array(int(total) & mask, f"<u{picture.itemsize}").view(picture.dtype)
    return np.asarray(np.subtract(wrapped, picture))


def _padding(image: Instance, pixels: PixelFormat) -> tuple[float, float] | None:
    if image.pixel_tag != PIXELS:
        return None
    value = short_of(image.raw, 0x00280120, pixels.signed)
    if value is None:
        return None
    limit = short_of(image.raw, 0x00280121, pixels.signed)
    limit = value if limit is None else limit
    return float(min(value, limit)), float(max(value, limit))


_SPACINGS = ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing", "DetectorElementSpacing")
"""Distances at the detector first, for a radiograph has no other scale."""


def _spacing(header: Dataset) -> tuple[float, float] | None:
    """(column distance, row distance) in mm; every attribute has that of rows first."""
    for keyword in _SPACINGS:
        try:
            rows, columns = map(float, texts_of(header, keyword)[:2])
        except ValueError:
            continue
        if 0 < rows < 1e3 and 0 < columns < 1e3:
            return columns, rows
    return None
