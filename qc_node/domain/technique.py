"""How a series was acquired, by its header: scanner, software, protocol, and what was set.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Parameter:
    """One acquisition parameter.

    Attributes
    ----------
    name
        In JSON and ledger.
    title
        In a sentence ("the echo time").
    unit
        As text; empty where there is none.
    tag
        ``(gggg,eeee)`` that it is read from.
    tolerance
        Relative difference that is none: scanners round and adapt.
    """

    name: str
    title: str
    unit: str
    tag: str
    tolerance: float = 0.0


PARAMETERS: Mapping[str, Parameter] = {
    p.name: p
    for p in (
        Parameter("repetition_time", "the repetition time", "ms", "(0018,0080)", 0.02),
        Parameter("echo_time", "the echo time", "ms", "(0018,0081)", 0.02),
        Parameter("inversion_time", "the inversion time", "ms", "(0018,0082)", 0.02),
        Parameter("flip_angle", "the flip angle", "°", "(0018,1314)", 0.02),
        Parameter("matrix", "the acquisition matrix", "", "(0018,1310)"),
        Parameter("pixel_mm", "the pixel size", "mm", "(0028,0030)", 0.05),
        Parameter("slice_mm", "the slice thickness", "mm", "(0018,0050)", 0.02),
        Parameter("slice_distance_mm", "the distance of slices", "mm", "(0018,0088)", 0.02),
        Parameter("bandwidth", "the pixel bandwidth", "Hz", "(0018,0095)", 0.02),
        Parameter("coil", "the receive coil", "", "(0018,1250)"),
        Parameter("averages", "the number of averages", "", "(0018,0083)", 0.01),
        Parameter("echo_train", "the echo train length", "", "(0018,0091)", 0.01),
        Parameter("field_t", "the field strength", "T", "(0018,0087)", 0.02),
        Parameter("kvp", "the tube voltage", "kV", "(0018,0060)", 0.01),
        Parameter("mas", "the exposure", "mAs", "(0018,1152)", 0.5),
        Parameter("kernel", "the reconstruction kernel", "", "(0018,1210)"),
        Parameter("pitch", "the pitch", "", "(0018,9311)", 0.05),
        Parameter("filter", "the filter", "", "(0018,1160)"),
        Parameter("grid", "the grid", "", "(0018,1166)"),
        Parameter("detector_distance_mm", "the distance of source and detector", "mm", "(0018,1110)", 0.05),
        Parameter("contrast", "the contrast agent", "", "(0018,0010)"),
    )
}
"""What may be compared, in the order of sentences."""


@dataclass(frozen=True, slots=True)
class Technique:
    """How a series was acquired.

    Attributes
    ----------
    modality
        DICOM modality.
    station
        The scanner (:func:`qc_node.domain.station.station_of`); empty where the header does not say.
    software
        Its software version; empty where the header does not say.
    protocol
        What makes series comparable, as short text by name (``sequence``, ``orientation``, ``kernel``, ``view``,
        ``body_part``, …); names are sorted when they are written.
    parameters
        What was set, by name in :data:`PARAMETERS`; numbers in its unit, else text.
    stated
        Numbers that the header states about dose and exposure, by name of the measure (``ctdi_vol``,
        ``exposure_index``, …).
    body_size
        How big the patient is, relative (a diameter in mm or BMI), None where nothing is known.
    """

    modality: str
    station: str = ""
    software: str = ""
    protocol: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    stated: Mapping[str, float] = field(default_factory=dict)
    body_size: float | None = None

    @property
    def protocol_key(self) -> str:
        """The protocol as one line: ``name=value`` with ``|`` between, sorted.

        Examples
        --------
        >>> Technique("MR", protocol={"sequence": "gr_ir", "orientation": "axial"}).protocol_key
        'orientation=axial|sequence=gr_ir'
        """
        return "|".join(f"{name}={self.protocol[name]}" for name in sorted(self.protocol) if self.protocol[name])
