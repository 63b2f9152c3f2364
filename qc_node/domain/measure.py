"""What is measured of a series, and what is unusual for its scanner.  Frozen values; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Unit(StrEnum):
    """Units as UCUM spells them (PS3.3 section 8, CID 82)."""

    ONE = "1"
    PERCENT = "%"
    MM = "mm"
    PER_MM = "/mm"
    CM = "cm"
    HU = "[hnsf'U]"
    MGY = "mGy"
    MGY_CM = "mGy.cm"
    KV = "kV"
    MA = "mA"
    MAS = "mA.s"
    MS = "ms"
    DEG = "deg"
    GREY = "{grey value}"
    """Stored grey values, which mean something within one scanner and protocol only."""


class Better(StrEnum):
    """Which way a measure improves."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Measure:
    """One number that may be measured of a series.

    Attributes
    ----------
    name
        In JSON, ledger and exports; lower case with underscores, never renamed.
    title
        In a sentence ("noise in air").
    low, high
        Every value lies between them, borders included; infinite where nothing bounds it.
    modalities
        DICOM modalities of which it can be measured.
    source
        Where its definition comes from: a paper, a standard, "own".
    charted
        Whether it is compared with what is normal for the scanner and protocol.
    with_size
        Whether it depends on how big the patient is, so that this is taken out before it is compared.
    is_logarithm
        Whether it is a logarithm already (a Deviation Index), so that it is compared as it is.
    """

    name: str
    title: str
    unit: Unit
    better: Better
    low: float
    high: float
    modalities: frozenset[str]
    source: str
    charted: bool = True
    with_size: bool = False
    is_logarithm: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one series.

    Attributes
    ----------
    values
        By name of the measure; finite, within its range.
    unmeasured
        Why a measure has no value, a sentence by its name; ``"*"`` where nothing could be measured at all.
    seconds
        How long it took.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


ALL = "*"
"""The name in :attr:`Measured.unmeasured` of a sentence that is about every measure."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is normal: of one measure, on one scanner, in one protocol and software version.

    Attributes
    ----------
    centre, spread
        Robust centre and spread (as a standard deviation), in the unit of the measure.
    series
        How many series they come from.
    logarithmic
        Whether values are compared as logarithms: `spread` is then that close to the centre, and farther away
        steps grow with the value.
    start
        What is added to a value before its logarithm is taken, for small shares that may be 0.
    """

    centre: float
    spread: float
    series: int
    logarithmic: bool = False
    start: float = 0.0

    def at(self, z: float) -> float:
        """The value `z` spreads from the centre, in the unit of the measure.

        Examples
        --------
        >>> Baseline(20.0, 2.0, 60).at(3), round(Baseline(20.0, 2.0, 60, logarithmic=True).at(3), 1)
        (26.0, 27.0)
        """
        started = self.centre + self.start
        if self.logarithmic and started > 0:
            return started * math.exp(z * self.spread / started) - self.start
        return self.centre + z * self.spread

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; ``Baseline(**…)`` is its inverse."""
        plain = {"centre": self.centre, "spread": self.spread, "series": self.series}
        scale = {"logarithmic": True, **({"start": self.start} if self.start else {})}
        return {**plain, **scale} if self.logarithmic else plain


@dataclass(frozen=True, slots=True)
class Unusual:
    """A measure that is far from what is normal.

    Attributes
    ----------
    measure
        Its name.
    value
        As measured.
    z
        How many spreads from the centre, with its sign; body size taken out where it matters.  For a drift the
        mean of the series that it has lasted.
    kind
        ``"outlier"``: this series alone; ``"drift"``: the last series together.
    since
        For a drift, how many series it has lasted.
    """

    measure: str
    value: float
    z: float
    baseline: Baseline
    kind: str = "outlier"
    since: int = 1

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` is its inverse."""
        return {
            "measure": self.measure,
            "value": self.value,
            "z": round(self.z, 2),
            "kind": self.kind,
            "since": self.since,
            "baseline": self.baseline.as_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Unusual:
        """What :meth:`as_dict` wrote."""
        return cls(
            data["measure"], data["value"], data["z"], Baseline(**data["baseline"]), data["kind"], data["since"]
        )


@dataclass(frozen=True, slots=True)
class Departure:
    """A parameter that was set otherwise than this protocol usually has it.

    Attributes
    ----------
    parameter
        Its name in :data:`qc_node.domain.technique.PARAMETERS`.
    value, usual
        As text.
    share
        In which share of the earlier series it had the usual value, 0 to 1.
    series
        How many earlier series that is a share of.
    """

    parameter: str
    value: str
    usual: str
    share: float
    series: int = 0

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; ``Departure(**…)`` is its inverse."""
        return {
            "parameter": self.parameter,
            "value": self.value,
            "usual": self.usual,
            "share": self.share,
            "series": self.series,
        }


@dataclass(frozen=True, slots=True)
class ImageFinding:
    """Something that is physically certain of an image, or far outside what is normal.

    Attributes
    ----------
    kind
        ``noise``, ``metal``, ``truncation``, ``underexposure``, ``overexposure`` or ``clipping``.
    sentence
        For people, without patient data.
    """

    kind: str
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; ``ImageFinding(**…)`` is its inverse."""
        return {"kind": self.kind, "sentence": self.sentence}
