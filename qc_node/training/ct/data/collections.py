"""Where each shared CT series comes from: the collection, and whose scanner it was.

A person is of one collection, and a collection mostly of one site.  Leaving a collection out is therefore as close
to another hospital as the shared data come.  All but two of the collections have one person here: for them a fold
by person is a fold by collection.
"""

from __future__ import annotations

from collections.abc import Sequence

from qc_node.training.ct.data.pack import PackItem

COLLECTIONS: dict[str, tuple[str, str]] = {
    "lidc": ("LIDC-IDRI", "Philips"),
    "crlm": ("CRLM", "GE"),
    "acrinflt": ("ACRIN-FLT-Breast", "GE"),
    "riderpilot": ("RIDER Pilot", "GE"),
    "cmbcrc": ("CMB-CRC", "GE"),
    "lungfcp": ("Lung-Fused-CT-Pathology", "unknown"),
    "tcgabc": ("TCGA-LIHC", "Siemens"),
    "kits": ("C4KC-KiTS", "Siemens"),
    "c3l": ("CPTAC-PDA", "GE"),
    "ts_dicom": ("TotalSegmentator", "Siemens"),
    "ts_cta": ("TotalSegmentator CTA", "unknown"),
    "dcmqa": ("dcm_qa_ct phantom", "Philips"),
    "ct_dcmqa_ge": ("dcm_qa_ct", "GE"),
    "matrad": ("matRad", "made"),
    "elastix": ("elastix", "unknown"),
    "openkbp": ("openKBP", "unknown"),
    "ibsi_STS": ("Soft-tissue-Sarcoma", "GE"),
}
"""Beginning of the file name to collection and vendor, after ``ct/INDEX.csv``."""

LARGE = {"openkbp": "openKBP", "sarcoma": "Soft-tissue-Sarcoma"}
"""Collections of more than one person, by the name of the run that leaves them out."""


def collection_of(name: str) -> str:
    """The collection of the series `name`; what is made is a collection of its own, ``"made"``."""
    return _row(name)[0]


def vendor_of(name: str) -> str:
    """The vendor of the scanner of the series `name`, ``"unknown"`` where the index does not tell it."""
    return _row(name)[1]


def _row(name: str) -> tuple[str, str]:
    for beginning, row in COLLECTIONS.items():
        if name.startswith(beginning):
            return row
    return "made", "made"


def people_of(items: Sequence[PackItem], collection: str) -> set[str]:
    """Everybody of whom `collection` has a series."""
    return {item.person for item in items if collection_of(item.name) == collection}
