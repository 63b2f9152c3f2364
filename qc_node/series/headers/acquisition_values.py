"""What was set for a series, what is stated about its dose, how big the patient is.

Broken values are left out; what is found is a claim of the header.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import Dataset

from qc_node.dicom.uids import XRAY_IMAGES
from qc_node.series.headers.claims import items_of, number_of, text_of, texts_of
from qc_node.series.headers.words import agent_stated
from qc_node.series.volume.instances import Instance, decimal_of, double_of
from qc_node.series.volume.stack import OpenedSeries

HIGHEST = 1e7
"""No parameter that is read here is larger."""
LIKELY_FACTOR = 10.0
"""mAs differ from current times time by the pitch at most; a writer who errs in the unit is further off."""
MOST_EXPOSURES = 12
"""Images of an X-ray series whose indices are read; as many are measured."""
MOST_SLICES = 4096
"""Slices of which a median is taken."""

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_KEYWORDS = (
    "MRTimingAndRelatedParametersSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "MRFOVGeometrySequence",
    "MRAveragesSequence",
    "MRReceiveCoilSequence",
    "MRDiffusionSequence",
    "MRImagingModifierSequence",
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "FrameAnatomySequence",
    "CTExposureSequence",
    "CTXRayDetailsSequence",
    "CTReconstructionSequence",
    "CTTableDynamicsSequence",
    "CTGeometrySequence",
)


def measured_modality(opened: OpenedSeries) -> str:
    """``CR``, ``DX`` or ``MG`` by the SOP class, which some devices contradict; else the stated modality."""
    return XRAY_IMAGES.get(opened.instances[0].sop_class_uid) or opened.modality


# -- where a value may stand -------------------------------------------------------------------------
def acquired_places(header: Dataset) -> tuple[Dataset, ...]:
    """The header, then its functional groups: shared ones and those of the first frame (PS3.3 C.7.6.16)."""
    places = [header]
    for groups in _GROUPS:
        for item in items_of(header, groups)[:1]:
            places += [found for keyword in _KEYWORDS for found in items_of(item, keyword)[:1]]
    return tuple(places)


def first_texts(places: Sequence[Dataset], keyword: str) -> tuple[str, ...]:
    """Every value of an attribute where it is found first."""
    return next((found for place in places if (found := texts_of(place, keyword))), ())


def first_text(places: Sequence[Dataset], keyword: str) -> str | None:
    """One text, or None."""
    return next((found for place in places if (found := text_of(place, keyword))), None)


def first_number(places: Sequence[Dataset], *keywords: str) -> float | None:
    """One finite number by the first keyword that has one, or None."""
    found = (number_of(place, keyword) for keyword in keywords for place in places)
    return next((number for number in found if number is not None), None)


def _positive(places: Sequence[Dataset], *keywords: str) -> float | None:
    number = first_number(places, *keywords)
    return number if number is not None and 0 < number < HIGHEST else None


# -- parameters --------------------------------------------------------------------------------------
_MR = {
    "repetition_time": ("RepetitionTime",),
    "echo_time": ("EchoTime", "EffectiveEchoTime"),
    "inversion_time": ("InversionTime", "InversionTimes"),
    "flip_angle": ("FlipAngle",),
    "bandwidth": ("PixelBandwidth",),
    "averages": ("NumberOfAverages",),
    "echo_train": ("EchoTrainLength",),
}
_CT = {"pitch": ("SpiralPitchFactor",)}
_XRAY = {"detector_distance_mm": ("DistanceSourceToDetector",)}
_OF_MODALITY: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "MR": _MR,
    "CT": _CT,
    "CR": _XRAY,
    "DX": _XRAY,
    "MG": _XRAY,
}
"""Plain numbers by the modality that has them, with the keywords of classic and enhanced objects."""


def parameters_of(opened: OpenedSeries, places: Sequence[Dataset]) -> dict[str, float | str]:
    """What was set, by name in :data:`~qc_node.domain.technique.PARAMETERS`."""
    modality = measured_modality(opened)
    found: dict[str, float | str | None] = {
        name: _positive(places, *keywords) for name, keywords in _OF_MODALITY.get(modality, {}).items()
    }
    found["pixel_mm"] = _pixel_mm(places, modality)
    if modality == "MR":
        found["matrix"] = _matrix(places)
        found["coil"] = _label(first_text(places, "ReceiveCoilName"))
        found["field_t"] = opened.claims.field_strength_t
    if modality in ("MR", "CT"):
        found["slice_mm"] = opened.claims.slice_thickness_mm
        found["slice_distance_mm"] = _slice_distance(opened, places)
        found["contrast"] = _contrast(opened.claims.contrast_agent)
    if modality in _OF_MODALITY and modality != "MR":
        found["kvp"] = _positive(places, "KVP")
        found["mas"] = mas_of(opened, places)
        found["filter"] = _label(" ".join(first_texts(places, "FilterType")))
    if modality == "CT":
        found["kernel"] = _label(" ".join(first_texts(places, "ConvolutionKernel")))
    elif modality in _OF_MODALITY and modality != "MR":
        found["grid"] = _label(" ".join(first_texts(places, "Grid")))
    return {name: _rounded(value) for name, value in found.items() if value is not None and value != ""}


def _rounded(value: float | str) -> float | str:
    return value if isinstance(value, str) else float(f"{value:.6g}")


def _label(text: str | None) -> str | None:
    """A vendor's name of a part, 32 characters."""
    return " ".join((text or "").split())[:32] or None


def _contrast(agent: str | None) -> str | None:
    """Dose and brand vary from patient to patient: an agent is given, or it is none."""
    stated = agent_stated(agent)
    return None if stated is None else "given" if stated else "none"


def _matrix(places: Sequence[Dataset]) -> str | None:
    """Frequency by phase encoding: of Acquisition Matrix (0018,1310) the two values that are not 0."""
    steps = [int(v) for v in first_texts(places, "AcquisitionMatrix") if re.fullmatch(r"[0-9]{1,5}", v)]
    used = [n for n in steps if n > 0]
    if len(used) == 2:
        return f"{used[0]}x{used[1]}"
    frequency = _positive(places, "MRAcquisitionFrequencyEncodingSteps")
    phase = _positive(places, "MRAcquisitionPhaseEncodingStepsInPlane")
    return f"{frequency:.0f}x{phase:.0f}" if frequency and phase else None


def _pixel_mm(places: Sequence[Dataset], modality: str) -> float | None:
    """Side of a square as large as a pixel."""
    keywords = ("PixelSpacing",) if modality in ("MR", "CT") else ("ImagerPixelSpacing", "PixelSpacing")
    for keyword in keywords:
        try:
            rows, columns = map(float, first_texts(places, keyword)[:2])
        except ValueError:
            continue
        if 0 < rows < 1e3 and 0 < columns < 1e3:
            return math.sqrt(rows * columns)
    return None


def _slice_distance(opened: OpenedSeries, places: Sequence[Dataset]) -> float | None:
    """Where the slices lie; Spacing Between Slices (0018,0088) where nothing places them."""
    if opened.stack is not None:
        affine = opened.stack.affine
        across = np.cross(affine[:3, 0], affine[:3, 1])
        distance = abs(float(affine[:3, 2] @ across) / float(np.linalg.norm(across)))
        return distance if 0 < distance < 1e3 else None
    stated = first_number(places, "SpacingBetweenSlices")
    return abs(stated) if stated else None


# -- exposure ----------------------------------------------------------------------------------------
def _median(opened: OpenedSeries, tag: int, double: bool = False) -> float | None:
    """Median over the images that state a positive number."""
    read = double_of if double else decimal_of
    found = (read(image.raw, tag) for image in opened.images[:MOST_SLICES])
    usable = [number for number in found if number is not None and 0 < number < HIGHEST]
    return statistics.median(usable) if usable else None


def mas_of(opened: OpenedSeries, places: Sequence[Dataset]) -> float | None:
    """mAs: of a CT the median over its slices, for its current follows the body."""
    in_uas = _positive(places, "ExposureInuAs")
    if measured_modality(opened) in XRAY_IMAGES.values() and in_uas is not None:
        return in_uas / 1000  # an IS in mAs has no decimals
    stated = _median(opened, 0x00181152) or _positive(places, "Exposure", "ExposureInmAs")
    if stated is None and in_uas is not None:
        stated = in_uas / 1000
    current, time = _current(opened, places), _time(opened, places)
    product = current * time / 1000 if current is not None and time is not None else None
    if stated is None or product is None:
        return product if stated is None else stated
    return stated if 1 / LIKELY_FACTOR <= stated / product <= LIKELY_FACTOR else product


def _current(opened: OpenedSeries, places: Sequence[Dataset]) -> float | None:
    """MA."""
    in_ua = _positive(places, "XRayTubeCurrentInuA")
    stated = _median(opened, 0x00181151) or _positive(places, "XRayTubeCurrentInmA")
    return stated if stated is not None else None if in_ua is None else in_ua / 1000


def _time(opened: OpenedSeries, places: Sequence[Dataset]) -> float | None:
    """Milliseconds."""
    in_us = _positive(places, "ExposureTimeInuS")
    stated = _median(opened, 0x00181150) or _positive(places, "ExposureTimeInms")
    return stated if stated is not None else None if in_us is None else in_us / 1000


def stated_of(opened: OpenedSeries, places: Sequence[Dataset]) -> dict[str, float]:
    """What the header states about dose and exposure, by name of the measure.

    ``kvp`` kV, ``mas``; of CT ``ctdi_vol`` mGy; of X-ray images ``exposure_index``, ``target_exposure_index`` and
    ``deviation_index`` (IEC 62494-1; may be negative).
    """
    modality = measured_modality(opened)
    if modality not in ("CT", "CR", "DX", "MG"):
        return {}
    found: dict[str, float | None] = {"kvp": _positive(places, "KVP"), "mas": mas_of(opened, places)}
    if modality == "CT":
        found["ctdi_vol"] = _median(opened, 0x00189345, double=True) or _positive(places, "CTDIvol")
    else:
        exposures = [_indices(image) for image in opened.images[:MOST_EXPOSURES]]
        if exposures:
            worst: dict[str, float | None] = max(exposures, key=_off_target)
            found |= worst
    return {name: float(f"{value:.6g}") for name, value in found.items() if value is not None}


def _indices(image: Instance) -> dict[str, float | None]:
    """Exposure indices of one image; None where it states none, or a vendor's own number."""
    index, target, deviation = (decimal_of(image.raw, tag) for tag in (0x00181411, 0x00181412, 0x00181413))
    return {
        "exposure_index": index if index is not None and 0 < index < HIGHEST else None,
        "target_exposure_index": target if target is not None and 0 < target < HIGHEST else None,
        "deviation_index": deviation if deviation is not None and abs(deviation) < 100 else None,
    }


def _off_target(stated: Mapping[str, float | None]) -> float:
    """How far an exposure was from its target, either way; of several images the worst counts."""
    index, target, deviation = (
        stated[name] for name in ("exposure_index", "target_exposure_index", "deviation_index")
    )
    if deviation is None and index is not None and target is not None:
        deviation = 10 * math.log10(index / target)
    return -1.0 if deviation is None else abs(deviation)


# -- patient -----------------------------------------------------------------------------------------
def body_size(header: Dataset, modality: str) -> float | None:
    """How big the patient is: compressed thickness in mm where an X-ray device states it, else BMI in kg/m2.

    One chart must not mix the two; a device states the thickness always or never.
    """
    if modality in ("CR", "DX", "MG"):
        thickness = number_of(header, "BodyPartThickness")
        if thickness is not None and 5 < thickness < 1000:
            return thickness
    size, weight = number_of(header, "PatientSize"), number_of(header, "PatientWeight")
    if size is None or weight is None or size <= 0:
        return None
    metres = size / 100 if size > 3 else size  # in cm, against the standard
    bmi = weight / metres**2
    return round(bmi, 2) if 0.4 < metres < 2.6 and 8 < bmi < 90 else None
