"""Texts of old rows, deflated: the verdict and the claims of a series whose images are gone take a quarter.

SQLite keeps a ``bytes`` value in a text column as it is, so a packed text stays in its column; whoever reads one
that may be packed asks :func:`plain`.
"""

from __future__ import annotations

import zlib

FORMAT = b"\x01"
"""First byte of a packed text; another dictionary would get another one."""

_VOCABULARY = (
    b'["thumbnails/0123456789abcdef-mip_coronal.png", "-mip_sagittal.png", "-axial.png", "-coronal.png", '
    b'"-sagittal.png"]'
    b'{"read": 0.0, "preprocess": 0.0, "infer": 0.0, "total": 0.0}{"accession_number": "birth_date": '
    b'"patient_{"modality": "CT", "manufacturer": "GE MEDICAL SYSTEMS", "model_name": "station_name": '
    b'"field_strength_t": 1.5, 3.0, "SIEMENS", "Siemens Healthineers", "Philips", "CANON", "TOSHIBA", '
    b'"contrast_bolus_agent": "body_part_examined": "HEAD", "CHEST", "ABDOMEN", "BRAIN", "convolution_kernel": '
    b'"STANDARD", "ordered": [""study_description": "MRI brain", "CT head without contrast", "image_type": '
    b'["ORIGINAL", "PRIMARY", "AXIAL"], "DERIVED", "SECONDARY", "NORM", "scanning_sequence": ["GR", "IR"], '
    b'"SE", "acquisition_type": "3D", "2D", "series_description": "T1 MPRAGE sag 3D", "protocol_name": '
    b'"slice_thickness_mm": 1.0, "contrast_words": false, "gadolinium_words": false}true}null{"stage": "ct", '
    b'"model": {"name": "ct-slices", "version": "1.2.0", "sha256": "0123456789abcdef"}, "findings": '
    b'[{"question": "body_part", "value": "brain", "probabilities": {"brain": 0.99, "neck": 0.00, "chest": '
    b'1.0e-20, "abdomen": e-21, "abdomen_pelvis": e-05, "other": 0.0}, "reason": null, "abstained": null}, '
    b'{"question": "contrast_enhanced", "value": false, "probabilities": {"yes": 0.0, "no": 0.9}, "reason": '
    b'null, "abstained": null}], "coverage": {"regions": ["head", "neck", "chest", "abdomen", "pelvis", '
    b'"limb"], "top": "vertex", "bottom": "skull base", "truncated": false}, "warnings": []}{"stage": '
    b'"brain_mri", "model": {"name": "qc-node-brain-mri", "version": "0.6.0", "sha256": "findings": '
    b'[{"question": "straight_reject", "value": false, "probabilities": {"yes": 0.0, "no": 0.9}, "reason": '
    b'null, "abstained": null}, {"question": "gadolinium", "value": false, "probabilities": {"yes": 0.0, "no": '
    b'0.9}, "reason": null, "abstained": null}, {"question": "motion", "value": 0, "probabilities": {"0": 0.9, '
    b'"1": 0.0, "2": 0.0}, "reason": null, "abstained": null}, {"question": "contrast", "value": 0, '
    b'"probabilities": {"0": 0.9, "1": 0.0, "2": 0.0}, "reason": "noise", "abstained": null}, {"question": '
    b'"noise", "value": 0, "probabilities": {"0": 0.9, "1": 0.0, "2": 0.0}, "reason": null, "abstained": '
    b'null}, {"question": "tier", "value": 1, "probabilities": {}, "reason": null, "abstained": null}], '
    b'"coverage": null, "warnings": []}'
)
"""What verdicts and claims are made of, the most frequent last.  Never edited: stored rows need it to be read."""


def pack(text: str | bytes) -> bytes | str:
    """`text` deflated; as it is where it is packed already, or would not become shorter."""
    if isinstance(text, bytes):
        return text
    raw = text.encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=_VOCABULARY)
    packed = FORMAT + deflate.compress(raw) + deflate.flush()
    return packed if len(packed) < len(raw) else text


def plain(text: str | bytes) -> str:
    """What :func:`pack` was given.

    Raises
    ------
    ValueError
        The bytes are of a format that this version does not know.
    """
    if isinstance(text, str):
        return text
    if text[:1] != FORMAT:
        raise ValueError("a row of the ledger is packed in a way that this version does not know")
    return zlib.decompressobj(-15, zdict=_VOCABULARY).decompress(text[1:]).decode()
