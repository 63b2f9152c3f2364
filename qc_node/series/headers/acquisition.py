"""How a series was acquired: scanner, software, protocol, what was set, what is stated about dose.

The protocol says which series are comparable.  It is made of codes alone: what people type enters as digits of a
hash, because charts are kept, drawn and exported.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable

import numpy as np
from pydicom import Dataset

from qc_node.dicom.text import text_bytes
from qc_node.dicom.uids import XRAY_IMAGES
from qc_node.domain.station import LONGEST, station_of
from qc_node.domain.technique import Technique
from qc_node.series.headers.acquisition_values import (
    acquired_places,
    body_size,
    first_number,
    first_text,
    first_texts,
    measured_modality,
    parameters_of,
    stated_of,
)
from qc_node.series.headers.claims import items_of
from qc_node.series.headers.claims import text_of as claimed
from qc_node.series.headers.patient_words import names_somebody, patient_words
from qc_node.series.headers.retakes import ExposedView, acquired_at
from qc_node.series.headers.sequences import IMAGE_TYPES
from qc_node.series.headers.words import agent_stated, contrast_said, plain
from qc_node.series.raw_header import read_dataset
from qc_node.series.volume.instances import code_of, decimals_of
from qc_node.series.volume.stack import OpenedSeries

DOMINANT = 0.8
"""Cosine to an axis of the body from which on slices have its name; further away they are oblique."""
MOST_VIEWS = 12
"""Images of one X-ray series whose view is asked for."""

_SCANNING = ("SE", "IR", "GR", "EP", "RM")
_VARIANTS = ("SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP")
"""Defined terms of Scanning Sequence (0018,0020) and Sequence Variant (0018,0021), in the order of a key."""
_KINDS = frozenset(
    {"LOCALIZER", "MPR", "REFORMATTED", "MIP", "MINIP", "ADC", "TRACEW", "FA", "SUB", "SUBTRACTION", "NORM", "ND"}
    | {"DIS2D", "DIS3D", "W", "WATER", "F", "FAT", "IP", "IN_PHASE", "OP", "OPP_PHASE", "OUT_PHASE", "P", "PHASE"}
    | {"SWI", "MOSAIC", "CBF", "CBV", "MTT", "TTP", "AVERAGE", "MEAN", "PROJECTION IMAGE", "DIXON", "MONO"}
    | {"VIRTUAL_MONOENERGETIC", "GENERATED_2D", "TOMOSYNTHESIS", "STITCHED"}
)
"""Values of Image Type (0008,0008) from the third on that make images incomparable with those without."""
_BODY_PARTS = frozenset(
    word
    for words in (
        "ABDOMEN ABDOMENPELVIS ANKLE ARM BACK BLADDER BRAIN BREAST BUTTOCK CALCANEUS CALF CAROTID CHEST",
        "CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX CSPINE CTSPINE EAR ELBOW ESOPHAGUS EXTREMITY",
        "EYE FACE FEMUR FIBULA FINGER FOOT FOREARM HAND HEAD HEADNECK HEART HIP HUMERUS IAC JAW KIDNEY KNEE LEG",
        "LIVER LSPINE LSSPINE LUNG MAXILLA MANDIBLE MOUTH NECK NECKCHEST NOSE ORBIT PANCREAS PATELLA PELVIS",
        "PROSTATE RADIUS RIB SCAPULA SELLA SHOULDER SINUS SKULL SPINE SSPINE STERNUM TIBIA THIGH THORAX THUMB",
        "TLSPINE TMJ TOE TSPINE ULNA UTERUS WHOLEBODY WRIST ZYGOMA",
    )
    for word in words.split()
)
"""Defined terms of Body Part Examined (0018,0015; PS3.16 annex L) that are common."""
_AGAIN = re.compile(r"(?<!\w)(?:repeat(?:ed)?|rpt|wdhl?g?|wiederhol\w*|rr|again|\d{4,})(?!\w)")
"""Words of a description that do not name a protocol: another try, a date, a number."""


def technique_of(opened: OpenedSeries) -> Technique:
    """How `opened` was acquired; whatever is absent or broken is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that are read here and taken as absent
        return _technique(opened)


def _technique(opened: OpenedSeries) -> Technique:
    header = opened.header
    places = acquired_places(header)
    modality = measured_modality(opened)
    people = patient_words(header)
    software = _cleaned(" ".join(first_texts(places[:1], "SoftwareVersions")))
    return Technique(
        modality=modality,
        station=_station(header),
        software="" if names_somebody(software, people) else software,
        protocol={name: v for name, v in _protocol(opened, places) if v and not names_somebody(v, people)},
        parameters={
            name: value
            for name, value in parameters_of(opened, places).items()
            if not (isinstance(value, str) and names_somebody(value, people))
        },
        stated=stated_of(opened, places),
        body_size=body_size(header, modality),
    )


# -- scanner -----------------------------------------------------------------------------------------
def _station(header: Dataset) -> str:
    """As the receiver told it when the first image arrived, so that ledger and charts agree."""
    names = ("StationName", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber")
    return station_of(*(_as_received(header, name) for name in names))


def _as_received(header: Dataset, keyword: str) -> str:
    try:
        data = text_bytes(header, keyword)
    except Exception:  # whatever pydicom meets in a broken value, it is no name
        return ""
    if not isinstance(data, bytes):
        return data or ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _cleaned(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:LONGEST].rstrip()


# -- protocol ----------------------------------------------------------------------------------------
def _protocol(opened: OpenedSeries, places: tuple[Dataset, ...]) -> Iterable[tuple[str, str]]:
    modality = measured_modality(opened)
    yield "body_part", _body_part(places)
    yield "kind", _kind(opened)
    yield "name", _name(opened)
    if modality in XRAY_IMAGES.values():
        yield "view", _views(opened, places)
        yield "side", _sides(opened, places)
        yield "processing", "raw" if claimed(opened.header, "PresentationIntentType") == "FOR PROCESSING" else ""
        return
    yield "orientation", _orientation(opened, places)
    yield "contrast", contrast_class(opened)
    if modality == "MR":
        yield "sequence", _sequence(places)
        yield "dimension", _dimension(opened)
        yield "weighting", _weighting(places)
    if modality == "CT":
        yield "kernel", _code(" ".join(first_texts(places, "ConvolutionKernel")))
        yield "slice", _thickness_class(opened)


def _code(text: str) -> str:
    """A vendor's code for a key: nothing that separates, 24 characters."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_")[:24]


def hashed(text: str) -> str:
    """Eight hexadecimal digits that stand for a text that people typed, whatever its spelling.

    Examples
    --------
    >>> hashed("T1 MPRAGE sag") == hashed("t1_mprage_SAG repeat"), hashed("T2"), hashed("  ")
    (True, 'c4447403', '')
    """
    folded = " ".join(_AGAIN.sub(" ", plain(text)).split())
    return hashlib.sha256(folded.encode()).hexdigest()[:8] if folded else ""


def _name(opened: OpenedSeries) -> str:
    """Of the step of the protocol: that of GE and of many CTs names the whole examination."""
    claims = opened.claims
    of_step = opened.modality == "CT" or (claims.manufacturer or "").upper().startswith("GE")
    names = (claims.protocol_name, claims.series_description)
    return next((h for text in (reversed(names) if of_step else names) if (h := hashed(text or ""))), "")


def _body_part(places: tuple[Dataset, ...]) -> str:
    text = (first_text(places, "BodyPartExamined") or "").upper()
    code = re.sub(r"[^A-Z0-9]", "", text)
    if not code:
        region = next((item for place in places for item in items_of(place, "AnatomicRegionSequence")), None)
        value = claimed(region, "CodeValue") or ""
        return value if re.fullmatch(r"T-[0-9A-F]{5}|[0-9]{5,12}", value) else ""
    return code.lower() if code in _BODY_PARTS else hashed(text)


def _kind(opened: OpenedSeries) -> str:
    """Original or derived, and what makes an image incomparable: ``derived+mpr``."""
    image_type = opened.claims.image_type
    values = [v.upper() for v in image_type]
    if not values:
        return ""
    first = values[0].lower() if values[0] in ("ORIGINAL", "DERIVED") else "other"
    known = {v for v in values[2:] if v in _KINDS or v.replace("_", " ") in IMAGE_TYPES}
    return "+".join([first, *sorted(re.sub(r"[ _&-]+", "", v).lower() for v in known)])


def _orientation(opened: OpenedSeries, places: tuple[Dataset, ...]) -> str:
    if opened.stack is not None:
        across = np.cross(opened.stack.affine[:3, 0], opened.stack.affine[:3, 1])
    else:
        image = next((i for i in opened.images if i.ref.sop_instance_uid == _uid(opened)), opened.images[0])
        stated = decimals_of(image.raw, 0x00200037, 6)
        if stated is None:
            stated = _six(first_texts(places, "ImageOrientationPatient"))
        if stated is None:
            return ""
        across = np.cross(stated[:3], stated[3:])
    length = float(np.linalg.norm(across))
    if not np.isfinite(length) or length == 0:
        return ""
    cosines = np.abs(across) / length
    axis = int(np.argmax(cosines))
    return ("sagittal", "coronal", "axial")[axis] if cosines[axis] >= DOMINANT else "oblique"


def _uid(opened: OpenedSeries) -> str:
    return claimed(opened.header, "SOPInstanceUID") or ""


def _six(texts: tuple[str, ...]) -> tuple[float, ...] | None:
    try:
        numbers = tuple(map(float, texts))
    except ValueError:
        return None
    return numbers if len(numbers) == 6 else None


def contrast_class(opened: OpenedSeries) -> str:
    """``yes`` where the series itself says that an agent was given, else ``no``; the order is about more."""
    claims = opened.claims
    said = [
        contrast_said(t, ct=opened.modality == "CT") for t in (claims.series_description, claims.protocol_name)
    ]
    return "yes" if agent_stated(claims.contrast_agent) or any(said) else "no"


# -- MR ----------------------------------------------------------------------------------------------
def _sequence(places: tuple[Dataset, ...]) -> str:
    """Scanning sequence, variant and the vendor's name without the numbers in it: ``gr_ir_sp_mp_tfl3dns``."""
    scanning, variant = (first_texts(places, k) for k in ("ScanningSequence", "SequenceVariant"))
    codes = [c.lower() for c in _SCANNING if c in scanning] + [c.lower() for c in _VARIANTS if c in variant]
    if not scanning:  # enhanced objects say it in other words
        codes = [t.lower() for t in first_texts(places, "EchoPulseSequence") if t in ("SPIN", "GRADIENT", "BOTH")]
        codes += ["epi"] if first_text(places, "EchoPlanarPulseSequence") == "YES" else []
        codes += ["ir"] if first_text(places, "InversionRecovery") == "YES" else []
    name = first_text(places, "SequenceName") or first_text(places, "PulseSequenceName") or ""
    letters = "".join(re.findall(r"[23]d|[a-z]+", name.lower()))[:16]
    return "_".join([*codes, letters] if letters else codes)


def _dimension(opened: OpenedSeries) -> str:
    stated = (opened.claims.acquisition_type or "").upper()
    return stated.lower() if stated in ("2D", "3D") else ""


def _weighting(places: tuple[Dataset, ...]) -> str:
    """A coarse class by times alone, so that what is measured of one is not compared with another."""
    echo = first_number(places, "EchoTime", "EffectiveEchoTime")
    repetition = first_number(places, "RepetitionTime")
    inversion = first_number(places, "InversionTime", "InversionTimes")
    b_value = first_number(places, "DiffusionBValue")
    gradient = "GR" in first_texts(places, "ScanningSequence") or "GRADIENT" in first_texts(
        places, "EchoPulseSequence"
    )
    return weighting(echo, repetition, inversion, b_value, gradient)


def weighting(
    echo: float | None, repetition: float | None, inversion: float | None, b_value: float | None, gradient: bool
) -> str:
    """``dwi``, ``flair``, ``stir``, ``t1``, ``t2``, ``t2star`` or ``pd``; empty where the times do not tell.

    Times in ms, b-value in s/mm2; `gradient` is whether echoes are made by gradients.

    Examples
    --------
    >>> weighting(2.9, 2300, 900, None, True), weighting(90, 9000, 2500, None, False)
    ('t1', 'flair')
    """
    if b_value is not None and b_value > 0:
        return "dwi"
    if echo is None or repetition is None:
        return ""
    if gradient:
        return "t2star" if echo >= 12 else "t1"
    if inversion is not None and inversion >= 1500 and echo >= 60:
        return "flair"
    if inversion is not None and 80 <= inversion <= 300:
        return "stir"
    if repetition < 1500 and echo < 40:
        return "t1"
    return "t2" if echo >= 60 else "pd"


def _thickness_class(opened: OpenedSeries) -> str:
    thickness = opened.claims.slice_thickness_mm
    return f"{thickness:.3g}" if thickness is not None and 0 < thickness < 100 else ""


# -- X-ray -------------------------------------------------------------------------------------------
def _views(opened: OpenedSeries, places: tuple[Dataset, ...]) -> str:
    """View Position (0018,5101) of every image, else the code of View Code Sequence (0054,0220)."""
    views = {view_key(code_of(i.raw, 0x00185101)) for i in opened.images[:MOST_VIEWS]} - {""}
    if not views:
        item = next((item for place in places for item in items_of(place, "ViewCodeSequence")), None)
        views = {_code(claimed(item, "CodeValue") or "")} - {""}
    return "+".join(sorted(views))


def view_key(view: str) -> str:
    """A code string as it stands in a key.

    Examples
    --------
    >>> view_key(" PA"), view_key("L.M.O"), view_key("")
    ('pa', 'lmo', '')
    """
    return re.sub(r"[^a-z0-9]", "", view.lower())[:16]


def _sides(opened: OpenedSeries, places: tuple[Dataset, ...]) -> str:
    sides = {code_of(i.raw, 0x00200062) for i in opened.images[:MOST_VIEWS]} - {""}
    sides = sides or {(first_text(places, "Laterality") or "").upper()}
    return "+".join(sorted(s.lower() for s in sides if s in ("L", "R", "B", "U")))


def exposed_views(opened: OpenedSeries) -> tuple[ExposedView, ...]:
    """Every radiograph of a series with its time, for :func:`~qc_node.series.headers.retakes.likely_retakes`."""
    return tuple(exposed_view(read_dataset(image.path)) for image in opened.images[:MOST_VIEWS])


def exposed_view(header: Dataset) -> ExposedView:
    """One radiograph with its time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that are read here and taken as absent
        side = claimed(header, "ImageLaterality") or claimed(header, "Laterality") or ""
        return ExposedView(
            acquired_at(header),
            view_key(claimed(header, "ViewPosition") or ""),
            side.lower() if side.upper() in ("L", "R", "B", "U") else "",
            _body_part((header,)),
        )
