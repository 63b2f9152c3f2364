"""Instances of one series become one :class:`~qc_node.domain.Volume`, or a sentence says why not.

:func:`open_series` reads headers only and places the slices in space; :meth:`OpenedSeries.volume` decodes the
pixels straight into one array, so that there is never more than one copy of them in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from qc_node.domain import HeaderClaims, InstanceRef, Volume
from qc_node.series.errors import NotDicom, SeriesRefused, is_of_machine
from qc_node.series.headers.claims import read_claims
from qc_node.series.raw_header import read_dataset, scan_file
from qc_node.series.volume.decode import decode
from qc_node.series.volume.geometry import find_stack
from qc_node.series.volume.grid import Stack
from qc_node.series.volume.instances import Frame, Instance, instance_of
from qc_node.series.volume.multiframe import frames_of
from qc_node.series.volume.pixels import check_pixels

__all__ = ["OpenedSeries", "SeriesRefused", "open_series"]


@dataclass(frozen=True)
class OpenedSeries:
    """A series of which only headers were read.

    Attributes
    ----------
    instances
        Every object of the series, in the order of space where there is one, for evidence.
    images
        The same with their typed facts.
    patient_conflict
        A sentence when the objects belong to different patients, else None.
    stack
        The regular stack that :meth:`volume` decodes; None when ``refusal`` says why there is none.
    warnings
        One sentence for each peculiarity that was found and tolerated so far.
    """

    images: tuple[Instance, ...]
    patient_conflict: str | None
    stack: Stack | None
    refusal: SeriesRefused | None
    warnings: tuple[str, ...] = ()
    _first: Instance = field(kw_only=True)
    _stated_modality: str = ""

    @property
    def instances(self) -> tuple[InstanceRef, ...]:
        """Every object of the series, for evidence."""
        return tuple(i.ref for i in self.images)

    @property
    def header_path(self) -> Path:
        """The file whose header stands for the series: the geometrically first image."""
        return self._first.path

    @cached_property
    def header(self) -> Dataset:
        """The header of the geometrically first image, without pixels."""
        return read_dataset(self._first.path)

    @cached_property
    def claims(self) -> HeaderClaims:
        """What the header claims."""
        return read_claims(self.header)

    @cached_property
    def modality(self) -> str:
        """Modality (0008,0060), or where it is absent what the SOP class says, or what was stated."""
        return _modality(self._first, self._stated_modality)

    @property
    def image_types(self) -> frozenset[tuple[str, ...]]:
        """Every value of Image Type (0008,0008) in the series."""
        return frozenset(i.image_type for i in self.images)

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Distance of neighbours along (column, row, slice) in mm, if there is a stack."""
        if self.stack is None:
            return None
        i, j, k = np.linalg.norm(self.stack.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    def volume(self) -> Volume:
        """Decode the pixels.

        Raises
        ------
        SeriesRefused
            The sentence names the tag at fault.
        """
        if self.patient_conflict:
            raise SeriesRefused(self.patient_conflict)
        if self.stack is None:
            raise self.refusal or SeriesRefused("The series has no image.")
        try:
            return decode(self.stack, self.modality, self.warnings)
        except MemoryError as error:
            k, first = self.stack.slots, self.stack.present[0]
            raise SeriesRefused(
                f"A volume of {k} slices of {first.rows}x{first.columns} does not fit into memory."
            ) from error


def open_series(paths: Sequence[Path]) -> OpenedSeries:
    """Read the headers of the files of one series.

    Parameters
    ----------
    paths
        The files of one series, in any order.

    Raises
    ------
    SeriesRefused
        No file can be read as DICOM.  Everything else that is wrong becomes :attr:`OpenedSeries.refusal`.
    NotDicom
        The machine cannot read a file that may be a good one (no descriptors, no disk).
    """
    instances: list[Instance] = []
    broken: list[str] = []
    for path in paths:
        try:
            instances.append(instance_of(scan_file(Path(path))))
        except NotDicom as error:
            if is_of_machine(error):
                raise
            broken.append(str(error))
    if not instances:
        raise SeriesRefused(broken[0] if broken else "The series has no file.")
    return assemble(instances, broken)


def assemble(instances: Iterable[Instance], broken: Sequence[str] = (), modality: str = "") -> OpenedSeries:
    """An opened series out of scanned instances.

    Parameters
    ----------
    broken
        Sentences about files that could not be read.
    modality
        Stands for Modality (0008,0060) where it is absent.
    """
    warnings: list[str] = []
    unique: dict[object, Instance] = {}
    repeated = 0
    for instance in instances:
        uid = instance.ref.sop_instance_uid or instance.path
        repeated += uid in unique
        unique.setdefault(uid, instance)
    if repeated:
        warnings.append(
            f"SOP Instance UID (0008,0018) is repeated by {repeated} of the files; they were left out."
        )
    images = sorted(unique.values(), key=_rank)
    if broken:
        n = len(broken)
        warnings.append(broken[0] if n == 1 else f"{n} files cannot be read; the first: {broken[0]}")
    stack, refusal = None, None
    try:
        stack = _stack(images, warnings, coverage=_modality(images[0], modality) == "CT")
    except (SeriesRefused, NotDicom) as error:
        refusal = SeriesRefused(str(error))
        refusal.__cause__ = error
    first = images[0]
    if stack is not None:
        first = stack.present[0].instance
        warnings.extend(stack.warnings)
        rank = {id(f.instance): n for n, f in reversed(list(enumerate(stack.present)))}
        images.sort(key=lambda i: rank.get(id(i), len(rank)))
    return OpenedSeries(tuple(images), _conflict(images), stack, refusal, tuple(warnings), modality, _first=first)


def _rank(image: Instance) -> tuple[bool, int, str, Path]:
    """By Instance Number; images of one number by UID, for a path is another one in the spool than on a disk."""
    number = image.instance_number
    return number is None, number or 0, image.ref.sop_instance_uid, image.path


def _modality(first: Instance, stated: str) -> str:
    if first.modality:
        return first.modality
    for uid, modality in ((MRImageStorage, "MR"), (CTImageStorage, "CT")):
        if first.ref.sop_class_uid == uid or first.ref.sop_class_uid.startswith(uid + "."):
            return modality
    return stated


def _stack(images: Sequence[Instance], warnings: list[str], coverage: bool) -> Stack:
    with_pixels: list[Instance] = []
    complaint: SeriesRefused | None = None
    for image in images:
        try:
            check_pixels(image)
        except SeriesRefused as refusal:
            complaint = complaint or refusal
        else:
            with_pixels.append(image)
    if not with_pixels:
        assert complaint is not None
        raise complaint
    if complaint:
        n = len(images) - len(with_pixels)
        warnings.append(f"{n} image{'s' if n > 1 else ''} left out: {complaint}")
    frames: list[Frame] = []
    for image in with_pixels:
        frames.extend(frames_of(image))
    return find_stack(frames, coverage)


def _conflict(images: Sequence[Instance]) -> str | None:
    """Two patients in one series: the sentence names the tag, never the patients."""
    ids = {i.patient_id.casefold() for i in images} - {""}
    if len(ids) > 1:
        return f"Patient ID (0010,0020) takes {len(ids)} values in one series, so it is not one patient's."
    if not ids:
        names = {_plain_name(i.patient_name) for i in images} - {""}
        if len(names) > 1:
            return (
                f"Patient's Name (0010,0010) takes {len(names)} values in one series, so it is not one patient's."
            )
    return None


def _plain_name(name: str) -> str:
    return " ".join(name.split("=")[0].replace("^", " ").casefold().split())
