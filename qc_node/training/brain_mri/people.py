"""Who is in which part of the brain MRI data, and how to read them.

The split is by person and was written down before any network was trained (2026-11-20, 16:30 UTC).
Held-out people take part in nothing: no training, no validation, no temperature, no average head.
"""

from __future__ import annotations

import csv
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.series.files.nifti import read_nifti
from qc_node.training.label_maps import read_label_map

HELD_OUT_HEADS = (
    "ds000011-sub-08",
    "ds000011-sub-09",
    "ds000011-sub-10",
    "ds002608-sub-001",
    "T1_head-B",
    "siemens_trio_adi",
)
"""Real heads never trained on: four protocols, six people; the last comes as DICOM."""

DICOM_HEADS = ("siemens_trio_adi_s5",)
"""Series of the shared DICOM data that are whole T1w heads."""

HELD_OUT_MAPS = ("synthseg-17", "synthseg-18", "synthseg-19", "synthseg-20")
"""Label maps never trained on: rung R0 of the evaluation."""

TEST_ONLY_KINDS = ("t1w_gadolinium", "gado_pairs", "other")
"""Real gadolinium and real non-T1w images: only ever looked at by the evaluation."""

HYBRID_BRAINS = ("ds002748-sub-01", "ds002748-sub-02", "ds002748-sub-03")
"""Stripped real brains that serve as tissue inside synthetic heads; the other stripped ones are test."""

FURTHER = "nichart"
"""Folder of nine elderly people (T1w, FLAIR) that joined the training people on 2026-11-26, all nine of them.

They have an index of their own, so :func:`list_items`, from which the evaluation takes its real images, does not
name them; nor did they take part in the average head."""

FOLDS = 5

SCANNER = {
    "ds000011": "protocol A",
    "ds002608": "protocol B",
    "seg3D": "protocol C",
    "T1_head-A": "protocol D",
    "T1_head-B": "protocol E",
    "siemens_trio_adi": "protocol F",
    "ds002748": "Philips 3T",
    "nichart": "nichart",
}
"""Acquisition protocol by prefix of the person; what stands for "scanner" in stratified tables."""


@dataclass(frozen=True, slots=True)
class DataItem:
    """One image of the shared data."""

    path: Path
    kind: str
    label: str
    gadolinium: str
    person: str


def _rows(folder: Path) -> list[DataItem]:
    """Rows of the index of a folder of images."""
    with (folder / "INDEX.csv").open(newline="", encoding="utf-8") as stream:
        return [
            DataItem(folder / r["file"], r["kind"], r["label"], r["gadolinium"], r["subject"])
            for r in csv.DictReader(stream)
        ]


def list_items(data: Path) -> list[DataItem]:
    """Rows of ``mri/INDEX.csv`` under the shared data folder `data`, and the heads of its DICOM folder.

    Raises
    ------
    domain.QcNodeError
        There is no index.
    """
    index = data / "mri" / "INDEX.csv"
    if not index.is_file():
        raise domain.QcNodeError(f"There is no {index}; the shared images are needed for this.")
    items = _rows(index.parent)
    for name in DICOM_HEADS:
        path = data / "dicom" / f"{name}.tar.xz"
        if path.is_file():
            items.append(DataItem(path, "t1w", "DICOM series", "no", name.rsplit("_", 1)[0]))
    return items


def further_items(data: Path) -> list[DataItem]:
    """Images of :data:`FURTHER`: T1w heads (kind ``t1w``) and FLAIRs (kind ``other``); none where it is absent."""
    folder = data / "mri" / FURTHER
    return [i for i in _rows(folder) if i.kind in ("t1w", "other")] if (folder / "INDEX.csv").is_file() else []


def training_heads(data: Path) -> list[DataItem]:
    """Real T1w heads that may be trained on."""
    items = list_items(data) + further_items(data)
    return [i for i in items if i.kind == "t1w" and i.person not in HELD_OUT_HEADS]


def training_flairs(data: Path) -> list[DataItem]:
    """Real FLAIRs that may be trained on: those of :data:`FURTHER`."""
    return [i for i in further_items(data) if i.kind == "other"]


def training_maps(data: Path) -> list[DataItem]:
    """Label maps that may be trained on (those that name the structures outside the brain)."""
    return [
        i
        for i in list_items(data)
        if i.kind == "labelmaps" and i.person.startswith("synthseg") and i.person not in HELD_OUT_MAPS
    ]


def held_out_heads(data: Path) -> list[DataItem]:
    """Real T1w heads of :data:`HELD_OUT_HEADS`."""
    return [i for i in list_items(data) if i.kind == "t1w" and i.person in HELD_OUT_HEADS]


def held_out_maps(data: Path) -> list[DataItem]:
    """Label maps of :data:`HELD_OUT_MAPS`."""
    return [i for i in list_items(data) if i.kind == "labelmaps" and i.person in HELD_OUT_MAPS]


def fold_of(person: str, people: list[str]) -> int:
    """Fold 0-4 of a training person: real heads, hybrids and maps are dealt round-robin, kind by kind."""
    kinds = {p: "map" if p.startswith("synthseg") else "hybrid" if p in HYBRID_BRAINS else "head" for p in people}
    same = sorted(p for p in people if kinds[p] == kinds[person])
    # The heads of other protocols sort behind the ten of one protocol, so that dealing spreads both.
    return same[::-1].index(person) % FOLDS


def scanner_of(person: str) -> str | None:
    """Protocol of a person, None for label maps."""
    return next((name for prefix, name in SCANNER.items() if person.startswith(prefix)), None)


def read_image(path: Path) -> domain.Volume:
    """A NIfTI file or a packed DICOM series, read the way the node reads it.

    Raises
    ------
    domain.QcNodeError
        The file is broken, or the packed files are not one series that forms a volume.
    """
    return _read_dicom(path) if path.name.endswith(".tar.xz") else read_nifti(path, "MR")


def _read_dicom(path: Path) -> domain.Volume:
    """A series kept as ``.tar.xz``."""
    from qc_node.series.volume.stack import open_series

    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        return open_series(sorted(p for p in Path(folder).rglob("*") if p.is_file())).volume()


def read_labels(path: Path) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """A label map ``(K, J, I)``, cropped to the head with a margin, in LPS order, and its affine."""
    labels, affine = read_label_map(path)
    margin = 12
    low, high = [], []
    for axis in range(3):
        used = np.flatnonzero((labels > 0).any(tuple(a for a in range(3) if a != axis)))
        low.append(max(int(used[0]) - margin, 0))
        high.append(min(int(used[-1]) + margin + 1, labels.shape[axis]))
    # The head ends where the map ends at the neck: no margin of air below it.
    bottom = np.flatnonzero((labels > 0).any((1, 2)))[0]
    low[0] = int(bottom)
    affine[:3, 3] = affine[:3, :3] @ np.array(low[::-1]) + affine[:3, 3]
    return np.ascontiguousarray(labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]), affine
