"""A series as everyone sees it: its key, its instances, its volume, what its header claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.domain.vocabulary import Content, Stage


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Names one series."""

    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """Names one stored instance: what evidence and references are made of."""

    sop_class_uid: str
    sop_instance_uid: str
    content: str = ""
    """Digest of the content where it took the place of another one under the same UID; else empty."""


@dataclass(frozen=True)
class Volume:
    """A regular stack of slices.

    Attributes
    ----------
    voxels
        ``(K, J, I)`` = (slice, row, column), C-contiguous, in the stored type where one rescale holds
        for all slices (``uint8``, ``int16``, ``uint16``), else ``float32``.  May contain NaN or infinity
        when the source did.  Read-only by convention: nobody writes into it.
    slope, intercept
        ``value = voxels * slope + intercept``; HU for CT, arbitrary units for MR.
    affine
        ``(4, 4)`` float64 from ``(i, j, k, 1)`` = (column, row, slice) to **LPS** millimetres, as in
        DICOM PS3.3 C.7.6.2.1.1 and ITK.  Sheared for a tilted gantry.
    modality
        ``"MR"``, ``"CT"`` or another DICOM modality; empty when unknown.
    padding_value
        Stored value that means "no data" (Pixel Padding Value), or None.
    warnings
        One sentence for each peculiarity that was found and tolerated.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    slope: float = 1.0
    intercept: float = 0.0
    modality: str = ""
    padding_value: float | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbours along ``(i, j, k)`` in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(K, J, I)``."""
        k, j, i = self.voxels.shape
        return k, j, i


@dataclass(frozen=True)
class HeaderClaims:
    """What the header of a series claims; free text is as found, trimmed.  None where nothing is said.

    ``gadolinium_words`` / ``contrast_words`` tell whether any header field speaks of a contrast agent
    (or of "post contrast"); ``contrast_agent`` is Contrast/Bolus Agent (0018,0010).
    """

    modality: str = ""
    manufacturer: str | None = None
    model_name: str | None = None
    station_name: str | None = None
    field_strength_t: float | None = None
    series_description: str | None = None
    protocol_name: str | None = None
    study_description: str | None = None
    body_part_examined: str | None = None
    scanning_sequence: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    acquisition_type: str | None = None
    slice_thickness_mm: float | None = None
    convolution_kernel: str | None = None
    contrast_agent: str | None = None
    contrast_words: bool = False
    gadolinium_words: bool = False
    ordered: tuple[str, ...] = ()
    """Requested procedure description and codes, request attributes, procedure code meanings."""

    @classmethod
    def from_dict(cls, claims: Mapping[str, Any]) -> HeaderClaims:
        """The inverse of :meth:`as_dict`."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in claims.items()}
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """The claims that are there, JSON-ready; :meth:`from_dict` is its inverse."""
        names = self.__dataclass_fields__
        pairs = ((name, getattr(self, name)) for name in names)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in pairs if v not in (None, "", ())}


@dataclass(frozen=True, slots=True)
class Accepts:
    """Which series a classifier is asked about: those of one DICOM modality, as far as their header says so."""

    stage: Stage
    modality: str
    content: Content


@dataclass(frozen=True, slots=True)
class Relink:
    """Identifiers that an operator corrected because the images do not bring the correction along.

    Attributes
    ----------
    number
        Later ones have higher numbers.
    at
        Seconds since the epoch.
    identity
        Values by DICOM keyword; None takes back what was corrected before.
    named
        Patient ID and issuer of whom the images named until then: only these are corrected.  Empty: everybody.
    """

    number: int
    at: float
    identity: Mapping[str, str] | None
    named: frozenset[tuple[str, str]]
