"""What was measured of a series as one Measurement Group (TID 1501), and back.

A report has it behind the groups of the questions, or as its only group where nobody judged the series::

    Measurement Group                  Tracking Identifier "measures"
      Tracking Identifier and UID
      Finding = Quality Assessment
      Algorithm (TID 4019)             "qc-node measures" and their version
      concept of the measure = value   NUM in its UCUM unit (TID 300); TEXT behind the codes in Basic Text SR
      Quality Finding                  what is wrong with the image for certain
      Comment                          the disclaimer; a sentence for each finding

Only what follows from the pixels and their header is a number here: how unusual it is depends on what came before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydicom.dataset import Dataset

from qc_node.domain.measure import ImageFinding, Measure, Unit
from qc_node.report import codes
from qc_node.report.codes import Code
from qc_node.report.documents import DISCLAIMER
from qc_node.report.items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    children,
    code_in,
    code_item,
    codes_named,
    container,
    name_of,
    number_item,
    text_item,
    text_named,
    texts_named,
)
from qc_node.report.sr_documents import group_head

MEASURES_GROUP: Final = "measures"
"""Tracking Identifier of the group of measures."""
ALGORITHM: Final = "qc-node measures"


@dataclass(frozen=True)
class MeasuredBlock:
    """The measures of one series for its report.

    Attributes
    ----------
    version
        That of the measures (``measures.catalogue.VERSION``).
    values
        By name; what is not finite, not within its range or not in `known` is left out.
    known
        Every measure by name: titles, units, ranges, and the order in the report.
    findings
        Of kinds in :data:`qc_node.report.codes.FINDINGS`; others are left out.
    """

    version: int
    values: Mapping[str, float]
    known: Mapping[str, Measure]
    findings: tuple[ImageFinding, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to report."""
        return bool(self.numbers or self.coded)

    @property
    def numbers(self) -> list[tuple[Measure, float]]:
        """What goes into the report, in the order of `known`."""
        said = [(measure, self.values[name]) for name, measure in self.known.items() if name in self.values]
        return [(m, v) for m, v in said if math.isfinite(v) and m.low <= v <= m.high]

    @property
    def coded(self) -> list[ImageFinding]:
        """The findings that have a code."""
        return [finding for finding in self.findings if finding.kind in codes.FINDINGS]

    def causes(self) -> tuple[str, ...]:
        """What the UID of a report with this block is made from in addition; nothing where it is empty.

        Values follow from images and version; which findings there are may depend on what came before, and another
        one is another report.
        """
        return ("measures", str(self.version), *sorted({f.kind for f in self.coded})) if self else ()


NOTHING: Final = MeasuredBlock(0, {}, {})


def significant(value: float) -> str:
    """A number with six digits that count, in the 16 characters of a DS.

    Examples
    --------
    >>> significant(12.0), significant(-0.000012345678), significant(1234567.0), significant(-0.0)
    ('12', '-1.23457e-05', '1.23457e+06', '0')
    """
    return f"{value + 0.0:.6g}"


def measures_group(series_uid: str, block: MeasuredBlock, *, numbers: bool = True) -> Dataset:
    """The group of one series.

    Parameters
    ----------
    numbers
        Whether the SOP class has NUM; else each is a TEXT such as ``12.5 mm``.
    """
    measured = [_number(measure, value, numbers) for measure, value in block.numbers]
    found = [code for finding in block.coded for code in codes.FINDINGS[finding.kind]]
    content = [
        *group_head(series_uid, MEASURES_GROUP),
        text_item(codes.ALGORITHM_NAME, ALGORITHM, HAS_CONCEPT_MOD),
        text_item(codes.ALGORITHM_VERSION, str(block.version), HAS_CONCEPT_MOD),
        *(measured if numbers else ()),
        *(code_item(codes.QUALITY_FINDING, code) for code in dict.fromkeys(found)),
        *(() if numbers else measured),
        text_item(codes.COMMENT, DISCLAIMER),
        *(text_item(codes.COMMENT, finding.sentence) for finding in block.coded),
    ]
    return container(codes.MEASUREMENT_GROUP, content, CONTAINS, template="1501")


def _number(measure: Measure, value: float, numbers: bool) -> Dataset:
    name, unit = codes.measure_code(measure), codes.UNITS[measure.unit]
    if numbers:
        return number_item(name, value, unit, spell=significant)
    words = significant(value) if measure.unit is Unit.ONE else f"{significant(value)} {unit.value}"
    return text_item(name, words)


# -- reading -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ReadMeasures:
    """What a group of measures says.

    Attributes
    ----------
    version
        That of the measures; empty where the report has no such group.
    values
        By concept, as value and UCUM unit, in the order of the report.
    findings
        Kinds, in the order of :data:`qc_node.report.codes.FINDINGS`.
    sentences
        One for each finding, in the order of the report.
    """

    version: str = ""
    values: Mapping[Code, tuple[float, str]] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()

    def named(self, known: Iterable[Measure]) -> dict[str, float]:
        """The values by name of their measure; concepts of measures that are not `known` are left out."""
        by_code = {codes.measure_code(measure): measure.name for measure in known}
        return {by_code[code]: value for code, (value, _) in self.values.items() if code in by_code}


NONE_READ: Final = ReadMeasures()


def is_measures(group: Dataset) -> bool:
    """Whether a measurement group is that of the measures."""
    said = text_named(group, codes.TRACKING_IDENTIFIER), text_named(group, codes.ALGORITHM_NAME)
    return said == (MEASURES_GROUP, ALGORITHM)


def read_measures(group: Dataset) -> ReadMeasures:
    """The inverse of :func:`measures_group`."""
    return ReadMeasures(
        version=text_named(group, codes.ALGORITHM_VERSION) or "",
        values=dict(said for item in children(group) if (said := _said(item)) is not None),
        findings=codes.findings_of(codes_named(group, codes.QUALITY_FINDING)),
        sentences=tuple(texts_named(group, codes.COMMENT)[1:]),
    )


_OF_THE_GROUP = (codes.TRACKING_IDENTIFIER, codes.ALGORITHM_NAME, codes.ALGORITHM_VERSION, codes.COMMENT)


def _said(item: Dataset) -> tuple[Code, tuple[float, str]] | None:
    """One measure; None for any other item."""
    name, kind = name_of(item), item.get("ValueType")
    if name is None or kind not in ("NUM", "TEXT") or name in _OF_THE_GROUP:
        return None
    if kind == "TEXT":
        value, _, unit = str(item.TextValue).partition(" ")
        return name, (float(value), unit or Unit.ONE.value)
    measured = item.MeasuredValueSequence[0]
    units = code_in(measured, "MeasurementUnitsCodeSequence")
    return name, (float(measured.NumericValue), units.value if units is not None else "")
