"""How many instances a header says its series has, and whether an object opens a series at all.

What real headers carry: Images in Acquisition (0020,1002) counts an *acquisition*, and some devices write 1
whatever the series holds; most Siemens, Philips and GE series say nothing.  So a count is used only where
the rest of the header does not contradict it, a count of 1 never (one multi-frame object apart), and a count
that can be right for one part of a series only is *weak*: completion lets a moment pass before it believes it.
"""

from __future__ import annotations

import re

from pydicom.uid import (
    EnhancedMRColorImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RTImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from qc_node.dicom import received_header
from qc_node.dicom.received_header import Facts
from qc_node.dicom.uids import ENHANCED_CT, ENHANCED_MR, SERVICE_ROOT, STORAGE_ROOT
from qc_node.domain import ClosedBy

TEMPORAL = "NumberOfTemporalPositions (0020,0105) x ImagesInAcquisition (0020,1002)"
ACQUISITION = "ImagesInAcquisition (0020,1002)"
PET = "NumberOfSlices (0054,0081) x NumberOfTimeSlices (0054,0101)"
GE = "GE Images in Series (0025,1007)"
CARDIAC = "CardiacNumberOfImages (0018,1090)"
CONCATENATION = "InConcatenationTotalNumber (0020,9163)"
MULTI_FRAME = "one multi-frame object (0028,0008)"

WEAK = frozenset((CARDIAC, CONCATENATION, MULTI_FRAME))
"""Rules that may count a part of the series."""

MOST = 1_000_000


def count_is_certain(closed_by: str | None) -> bool:
    """Whether the rule that closed a series knew how many images the *series* has.

    Silence and the cap know nothing; a weak header count may count a part: one enhanced object says nothing about
    how many objects its series has.

    Parameters
    ----------
    closed_by
        The sentence of the ledger: a :class:`~qc_node.domain.ClosedBy`, a colon, and for a header the rule.

    Examples
    --------
    >>> count_is_certain(f"header: {ACQUISITION}"), count_is_certain(f"header: {MULTI_FRAME}")
    (True, False)
    """
    by, _, rule = (closed_by or "").partition(": ")
    return by == ClosedBy.PACS or (by == ClosedBy.HEADER and rule not in WEAK)


_MULTI_FRAME = (
    ENHANCED_CT
    | ENHANCED_MR
    | {
        EnhancedMRColorImageStorage,
        EnhancedPETImageStorage,
        LegacyConvertedEnhancedPETImageStorage,
        UltrasoundMultiFrameImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
"""Enhanced CT, MR and PET (legacy converted ones too), ultrasound and secondary capture multi-frame."""

_NO_IMAGES = re.compile(
    re.escape(STORAGE_ROOT) + r"(?:4\.2|9\.|11\.|66|67|68\.|78\.|79\.|80\.|82\.|88\.|90\.|104\.|131|481\.[1-9])"
)
"""Beginnings of classes: spectroscopy, waveforms, presentation states, raw data, registrations, measurements,
structured reports, documents, displays, radiotherapy."""
_NO_IMAGE_MODALITIES = frozenset(("SR", "KO", "PR", "AU", "DOC", "ECG", "EPS", "HD", "PLAN", "REG", "RWV", "FID"))


def opens_series(facts: Facts) -> bool:
    """Whether an object makes its series a candidate for judging.

    Structured reports, key objects, presentation states, documents, waveforms, registrations, RT plans and the
    like never do, nor do the pictures of a QC summary that come back, whichever node drew them; whatever else is
    an image by its class, or has rows, does.
    """
    sop_class = facts.sop_class_uid
    if facts.of_qc_node and sop_class == SecondaryCaptureImageStorage:
        return False
    if sop_class == RTImageStorage:
        return True
    if _NO_IMAGES.match(sop_class) or facts.modality in _NO_IMAGE_MODALITIES:
        return False
    return sop_class.startswith(SERVICE_ROOT) or received_header.ROWS in facts.numbers


def expected_count(facts: Facts) -> tuple[int, str] | tuple[None, None]:
    """The number of instances of the series and the rule that says so, or twice None.

    The products and the cardiac count are those that Orthanc knows as well; the others are guarded:
    Images in Acquisition only in the first acquisition and first echo of a series with one temporal position.
    """
    numbers = facts.numbers
    in_acquisition = numbers.get(received_header.IMAGES_IN_ACQUISITION, 0)
    positions = numbers.get(received_header.NUMBER_OF_TEMPORAL_POSITIONS, 1)
    if facts.sop_class_uid in _MULTI_FRAME and received_header.NUMBER_OF_FRAMES in numbers:
        parts = numbers.get(received_header.IN_CONCATENATION_TOTAL_NUMBER, 1)
        return _sane(parts, CONCATENATION, least=2) if parts != 1 else (1, MULTI_FRAME)
    candidates = (
        (
            numbers.get(received_header.NUMBER_OF_SLICES, 0)
            * numbers.get(received_header.NUMBER_OF_TIME_SLICES, 0),
            PET,
        ),
        (positions * in_acquisition if positions > 1 else 0, TEMPORAL),
        (numbers.get(received_header.GE_IMAGES_IN_SERIES, 0) if facts.ge_private else 0, GE),
        (in_acquisition if _one_acquisition(facts) else 0, ACQUISITION),
        (numbers.get(received_header.CARDIAC_NUMBER_OF_IMAGES, 0), CARDIAC),
    )
    for count, rule in candidates:
        if 2 <= count <= MOST:
            return count, rule
    return None, None


def _one_acquisition(facts: Facts) -> bool:
    numbers = facts.numbers
    return (
        numbers.get(received_header.ACQUISITION_NUMBER, 1) in (0, 1)
        and numbers.get(received_header.ECHO_NUMBERS, 1) in (0, 1)
        and numbers.get(received_header.NUMBER_OF_TEMPORAL_POSITIONS, 1) <= 1
    )


def _sane(count: int, rule: str, least: int) -> tuple[int, str] | tuple[None, None]:
    return (count, rule) if least <= count <= MOST else (None, None)
