"""Unique identifiers: DICOM's by the names of :mod:`pydicom.uid`, those that it has no name for, and our own.

The only module that spells a UID of the standard (PS3.6 annex A).  Sets hold plain strings, because they are
looked into for every object that arrives.
"""

from __future__ import annotations

import re
from typing import Final

from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPIPHTJ2KReferenced,
    JPIPHTJ2KReferencedDeflate,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from qc_node import __version__

# -- who we are --------------------------------------------------------------------------------------
IMPLEMENTATION_CLASS_UID: Final = "2.25.262436012374016519218214478364186120573"
"""This program, in every association and in every file that it writes (PS3.7 D.3.3.2)."""
IMPLEMENTATION_VERSION_NAME: Final = f"QCNODE_{__version__}"[:16]
"""Its release, at most 16 characters (PS3.7 D.3.3.2.3)."""
MANUFACTURER: Final = "qc-node"
MODEL_NAME: Final = "qc-node"
"""Manufacturer (0008,0070) and Manufacturer's Model Name (0008,1090) of all that a qc-node writes: a picture that
comes back is known by both, and by its class."""

# -- what pydicom has no name for ----------------------------------------------------------------------
STANDARD_ROOT: Final = "1.2.840.10008."
"""What is below it is named in the standard and says nothing about anybody."""
STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
"""Storage SOP classes (PS3.4 annex B)."""
SERVICE_ROOT: Final = "1.2.840.10008.5.1.4."
"""SOP classes of composite objects and of the services about them."""
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""DICOM Application Context Name (PS3.7 annex A.2.1)."""
VERIFICATION: Final = "1.2.840.10008.1.1"
"""Verification SOP Class (PS3.4 annex A)."""
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class (PS3.4 annex J)."""
STORAGE_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""Its well-known SOP Instance."""
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND (PS3.4 annex C)."""
PAPYRUS_3: Final = "1.2.840.10008.1.20"
"""Papyrus 3 Implicit VR Little Endian, retired."""
GE_PRIVATE: Final = "1.2.840.113619.5.2"
"""GE's own: Implicit VR Little Endian with big-endian pixels."""
JPIP_REFERENCED: Final = "1.2.840.10008.1.2.4.94"
JPIP_REFERENCED_DEFLATE: Final = "1.2.840.10008.1.2.4.95"
JPEG_SPECTRAL_SELECTION: Final = "1.2.840.10008.1.2.4.53"
JPEG_FULL_PROGRESSION: Final = "1.2.840.10008.1.2.4.55"

# -- transfer syntaxes ---------------------------------------------------------------------------------
IMPLICIT: Final = frozenset(map(str, (ImplicitVRLittleEndian, PAPYRUS_3, GE_PRIVATE)))
"""Data sets in Implicit VR Little Endian."""
DEFLATED: Final = frozenset(
    map(str, (DeflatedExplicitVRLittleEndian, JPIP_REFERENCED_DEFLATE, JPIPHTJ2KReferencedDeflate))
)
"""Data sets that are deflated as a whole."""
NATIVE: Final = frozenset(
    map(
        str,
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
    )
)
"""Without encapsulation of the pixels."""
JPIP: Final = frozenset(
    map(str, (JPIP_REFERENCED, JPIP_REFERENCED_DEFLATE, JPIPHTJ2KReferenced, JPIPHTJ2KReferencedDeflate))
)
"""The pixels are elsewhere."""
LOSSY: Final = frozenset(
    map(
        str,
        (
            JPEGBaseline8Bit,
            JPEGExtended12Bit,
            JPEG_SPECTRAL_SELECTION,
            JPEG_FULL_PROGRESSION,
            JPEGLSNearLossless,
        ),
    )
)
"""These always lose information; JPEG 2000 may, which Lossy Image Compression (0028,2110) tells."""

# -- SOP classes ---------------------------------------------------------------------------------------
ENHANCED_CT: Final = frozenset(map(str, (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)))
ENHANCED_MR: Final = frozenset(map(str, (EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)))
CT_IMAGES: Final = ENHANCED_CT | {str(CTImageStorage)}
MR_IMAGES: Final = ENHANCED_MR | {str(MRImageStorage)}
XRAY_IMAGES: Final = {
    str(ComputedRadiographyImageStorage): "CR",
    str(DigitalXRayImageStorageForPresentation): "DX",
    str(DigitalXRayImageStorageForProcessing): "DX",
    str(DigitalMammographyXRayImageStorageForPresentation): "MG",
    str(DigitalMammographyXRayImageStorageForProcessing): "MG",
}
"""Modality of single projections: radiographs and mammograms, processed and raw."""
IMAGE_MODALITIES: Final = {
    **dict.fromkeys(CT_IMAGES, "CT"),
    **dict.fromkeys(MR_IMAGES, "MR"),
    **dict.fromkeys(map(str, (PositronEmissionTomographyImageStorage, EnhancedPETImageStorage)), "PT"),
    str(ComputedRadiographyImageStorage): "CR",
    str(DigitalXRayImageStorageForPresentation): "DX",
}
"""Modality of the image objects that a classifier may accept."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64


def is_uid(text: str) -> bool:
    """Whether `text` can name something: digits in components joined by dots, at most 64 characters.

    PS3.5 section 9.1 also forbids leading zeros in a component and asks for a root.  Neither is asked for here:
    real devices write both, and what the receiver takes must be found again by the same name.  Nothing else is
    let through, so a UID can never be a path, a query or markup.
    """
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


SR_CLASSES: Final = {
    "comprehensive": str(ComprehensiveSRStorage),
    "comprehensive3d": str(Comprehensive3DSRStorage),
    "basic-text": str(BasicTextSRStorage),
}
"""SOP Class UIDs of what reports can be, by their name in the configuration."""
