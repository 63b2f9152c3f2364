"""Texts of old rows, deflated: the verdict and the claims of a series whose images are gone take a quarter.

SQLite keeps a ``bytes`` value in a text column as it is, so a packed text stays in its column; whoever reads one
that may be packed asks :func:`plain`.
"""

from __future__ import annotations

import zlib

FORMAT, FORMAT_OF_MEASURES = b"\x01", b"\x02"
"""First byte of a packed text, for each dictionary."""

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

_MEASURES = (
    b'{"metal_streaks": "No metal is in the body.", "ctdi_vol": "The header does not state it.", '
    b'"noise_air": "The scanner blanked the air around the body, so there is no noise in it.", '
    b'"slice_jump": "The acquisition is three-dimensional: its slices were not acquired one after '
    b'another.", "fat_hu": "Too little fat is in the slices."}{"repetition_time": 2300.0, "echo_time": '
    b'2.98, "inversion_time": 900.0, "flip_angle": 9.0, "matrix": "256 x 256", "pixel_mm": "1 x 1", '
    b'"slice_mm": 1.0, "slice_distance_mm": 1.0, "bandwidth": 240.0, "coil": "HEAD", "averages": 1.0, '
    b'"echo_train": 1.0, "field_t": 3.0, "kvp": 120.0, "mas": 100.0, "kernel": "B30f", "pitch": 0.9, '
    b'"filter": "NONE", "grid": "NONE", "detector_distance_mm": 1500.0, "contrast": "none"}"field_share": '
    b'90.0, "direct_share": 10.0, "exposure_index": 300.0, "target_exposure_index": 400.0, '
    b'"deviation_index": -1.0, "target_miss": 1.0, "deviation_index_error": 0.0, "field_level": 40.0, '
    b'"grain": 0.5, "black_clipped": 0.0, "white_clipped": 0.0, "grid_lines": 0.0, {"noise_air": 1.0, '
    b'"noise_object": 2.0, "noise_air_percent": 1.5, "noise_percent": 3.1, "snr_object": 32.0, '
    b'"nonuniformity": 12.5, "clipped_share": 0.0, "empty_share": 0.0, "edge_width_mm": 2.1, '
    b'"spectrum_slope": -3.1, "entropy_focus": 0.62, "wave_level": 0.0, "line_level": 1.2, '
    b'"ghost_along_rows": 0.1, "ghost_along_columns": -0.1, "slice_jump": 0.2, "slice_shift": 0.3, '
    b'"coverage_lr_mm": 240.0, "coverage_ap_mm": 240.0, "coverage_hf_mm": 176.0, "slice_gap_mm": 0.0, '
    b'"slice_count": 176.0, "missing_slices": 0.0, "grey_white_ratio": 0.66, "csf_white_ratio": 0.3, '
    b'"white_grey_cnr": 3.0, "tissue_overlap": 0.4}"noise_hu": 9.7, "air_hu": -997.5, "fat_hu": -99.2, '
    b'"muscle_hu": 60.1, "metal_share": 0.0, "metal_streaks": 20.0, "cut_outline": 0.0, "body_diameter": '
    b'312.9, "ctdi_vol": 15.4, "kvp": 120.0, "mas": 120.0, "slice_thickness": 5.0}'
)
"""What is measured, how it was acquired, and why something is not measured.  Never edited either."""
_DICTIONARIES = {FORMAT: _VOCABULARY, FORMAT_OF_MEASURES: _MEASURES}


def pack(text: str | bytes, form: bytes = FORMAT) -> bytes | str:
    """`text` deflated; as it is where it is packed already, or would not become shorter."""
    if isinstance(text, bytes):
        return text
    raw = text.encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=_DICTIONARIES[form])
    packed = form + deflate.compress(raw) + deflate.flush()
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
    vocabulary = _DICTIONARIES.get(text[:1])
    if vocabulary is None:
        raise ValueError("a row of the ledger is packed in a way that this version does not know")
    return zlib.decompressobj(-15, zdict=vocabulary).decompress(text[1:]).decode()
