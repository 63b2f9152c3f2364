"""What is measured of a series, and how it compares with what its scanner usually makes.

Two steps: :func:`take` measures pixels and reads how they were acquired, knowing nothing of other series;
:func:`compared` looks at the chart of the scanner and protocol in the ledger.  No measure fails a series: what
cannot be measured has a sentence.  Only faults of the machine are raised, and end as they do elsewhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qc_node.domain import QcNodeError, Volume
from qc_node.domain.measurable import Radiograph, Slices, TissueLevels
from qc_node.domain.measure import ALL, ImageFinding, Measured
from qc_node.domain.technique import Technique
from qc_node.engine.judging import SeriesOutcome
from qc_node.engine.own_faults import own_fault, raised_by_machine
from qc_node.ledger import Ledger
from qc_node.ledger.measured import NewMeasured
from qc_node.ledger.rows import MeasuredRow
from qc_node.series.volume.stack import OpenedSeries

log = logging.getLogger("qc_node.engine")

GIVEN_UP = "It was not measured, because the classifier stopped more than once while it had this series in hand."
"""Of a series that is tried for the last time."""

MeasurableImages = Slices | tuple[Radiograph, ...] | str


def take(
    opened: OpenedSeries, volume: Volume | None, levels: TissueLevels | None, clock: Callable[[], float]
) -> tuple[Measured, Technique | None]:
    """Measure a series.

    Parameters
    ----------
    volume
        Its pixels, where they are decoded already.
    levels
        What a classifier found of its tissues, where one did.

    Returns
    -------
    tuple
        What was measured, and how the series was acquired; None where its header cannot be read.
    """
    start = clock()
    technique = _technique(opened)
    known = technique or Technique(opened.modality)
    measured = _guarded(lambda: _measure(_measurable(opened, volume), known, levels))
    return replace(measured, seconds=clock() - start), technique


def take_volume(
    volume: Volume, levels: TissueLevels | None, clock: Callable[[], float]
) -> tuple[Measured, Technique | None]:
    """Measure a volume without a DICOM header (NIfTI)."""
    start = clock()
    technique = Technique(volume.modality)
    measured = _guarded(lambda: _measure(Slices(volume), technique, levels))
    return replace(measured, seconds=clock() - start), technique


def given_up() -> tuple[Measured, Technique | None]:
    """In place of :func:`take` where that would hold up the verdict for ever."""
    return Measured(unmeasured={ALL: GIVEN_UP}), None


def compared(outcome: SeriesOutcome, ledger: Ledger, series_id: int, window: int) -> SeriesOutcome:
    """The outcome with what is unusual for its scanner and protocol, and with what departs from the protocol.

    Parameters
    ----------
    series_id
        Of this series, which is not compared with itself.
    window
        With how many of the newest series of its chart at most it is compared.
    """
    technique = outcome.technique
    if not outcome.measured.values and technique is None:
        return outcome
    try:
        return _with_findings(_with_normal(outcome, ledger, series_id, window))
    except Exception as error:
        if own_fault(error) is not None:
            raise
        log.exception("what was measured could not be compared")
        return outcome


def with_findings(outcome: SeriesOutcome) -> SeriesOutcome:
    """The outcome with what is certain of its images without knowing others of the scanner."""
    try:
        return _with_findings(outcome)
    except Exception as error:
        if own_fault(error) is not None:
            raise
        log.exception("what was measured has no findings")
        return outcome


def keep_measured(outcome: SeriesOutcome, ledger: Ledger, series_id: int, run: int, at: float) -> None:
    """Write the row of one run; of a series that nobody tried to measure there is none."""
    measured = outcome.measured
    if not measured.values and not measured.unmeasured:
        return
    ledger.measured.add(
        NewMeasured(
            series_id,
            run,
            measured,
            outcome.technique,
            version(),
            outcome.unusual,
            outcome.departures,
            outcome.findings,
        ),
        at,
    )


def version() -> int:
    """Of the measures: values of another one are not comparable."""
    from qc_node.measures.catalogue import VERSION

    return int(VERSION)


# -- pixels --------------------------------------------------------------------------------------------
def _technique(opened: OpenedSeries) -> Technique | None:
    try:
        from qc_node.series.headers.acquisition import technique_of

        return technique_of(opened)
    except Exception as error:
        _raise_own(error)
        log.exception("how a series was acquired cannot be read")
        return None


def _measurable(opened: OpenedSeries, volume: Volume | None) -> MeasurableImages:
    from qc_node.series.measurable import measurable

    return measurable(opened, volume)


def _measure(what: MeasurableImages, technique: Technique, levels: TissueLevels | None) -> Measured:
    if isinstance(what, str):
        return Measured(unmeasured={ALL: what})
    if isinstance(what, Slices):
        from qc_node.measures.volumes import measure_volume

        return measure_volume(what, technique, levels)
    from qc_node.measures.radiographs import measure_radiographs

    return measure_radiographs(what, technique)


def _guarded(measure: Callable[[], Measured]) -> Measured:
    """What `measure` gives; a sentence where it cannot."""
    try:
        return measure()
    except QcNodeError as refusal:
        _raise_own(refusal)
        return Measured(unmeasured={ALL: str(refusal)})
    except Exception as error:
        _raise_own(error)
        log.exception("a series could not be measured")
        return Measured(unmeasured={ALL: f"This series could not be measured ({type(error).__name__})."})


def _raise_own(error: Exception) -> None:
    """Raise what is the machine's fault."""
    if own_fault(error) is not None:
        raise raised_by_machine(error) from None


# -- other series --------------------------------------------------------------------------------------
def _with_normal(outcome: SeriesOutcome, ledger: Ledger, series_id: int, window: int) -> SeriesOutcome:
    from qc_node.measures.catalogue import MEASURES
    from qc_node.measures.compliance import departures
    from qc_node.measures.normal import PastSeries, compare

    technique = outcome.technique
    if technique is None or not technique.station:
        return outcome
    own, others = _earlier(ledger, technique, series_id, window)
    past = [PastSeries(_decoded(row["measures"]), row["body_size"]) for row in own if row["version"] == version()]
    found = compare(outcome.measured.values, technique.body_size, past, MEASURES)
    usual = [_decoded(row["parameters"]) for row in (*others, *own)]
    departed = departures(technique.parameters, usual)
    return replace(outcome, unusual=tuple(found.unusual), departures=tuple(departed), lacking=found.lacking)


def _earlier(
    ledger: Ledger, technique: Technique, series_id: int, window: int
) -> tuple[Sequence[MeasuredRow], Sequence[MeasuredRow]]:
    """Earlier series of the chart, and of charts of other software versions where these are too few; oldest first.

    Values may change with the software, what a protocol prescribes does not.  A series that is judged again is
    compared with what came before it, as it was at first.
    """
    until = ledger.measured.first_at(series_id)
    own: list[MeasuredRow] = []
    others: list[MeasuredRow] = []
    for chart in ledger.measured.charts_of(technique):
        left = window - len(own) - len(others)
        if chart["software"] == technique.software:
            own = ledger.measured.history(chart["chart_id"], window, without=series_id, until=until)
        elif left > 0:
            earlier = ledger.measured.history(chart["chart_id"], left, without=series_id, until=until)
            others = [*earlier, *others]
    return own, others


def _decoded(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(text)
    return found


def _with_findings(outcome: SeriesOutcome) -> SeriesOutcome:
    if not outcome.measured.values:
        return outcome
    from qc_node.measures.findings import of

    technique = outcome.technique or Technique(outcome.modality)
    found: tuple[ImageFinding, ...] = of(outcome.measured, technique, outcome.unusual)
    return replace(outcome, findings=found)
