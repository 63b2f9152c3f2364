"""One series from its files to an :class:`SeriesOutcome`; what ``classify`` and the worker share.

Pure apart from reading the files: nothing is written, no clock but the one given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.classifiers import catalogue
from qc_node.classifiers.interface import Classifier, Prepared
from qc_node.domain import HeaderClaims, QcNodeError, SeriesKey, Stage, Verdict, Volume
from qc_node.domain.measurable import TissueLevels
from qc_node.domain.measure import Departure, ImageFinding, Measured, Unusual
from qc_node.domain.technique import Technique
from qc_node.engine.measures_json import values_json
from qc_node.engine.orders import Rule, check
from qc_node.engine.own_faults import own_fault
from qc_node.series.headers.routing import Route

log = logging.getLogger("qc_node.engine")

Clock = Callable[[], float]
"""Monotonic seconds."""
Measuring = Callable[[Volume | None, TissueLevels | None], tuple[Measured, Technique | None]]
"""Measures a series by its volume, where that is decoded already, and by what a classifier found of its tissues
(:func:`qc_node.engine.measuring.take`)."""


@dataclass(frozen=True)
class FurtherVerdict:
    """What another classifier than the routed one says of the same series, and what is kept of it."""

    verdict: Verdict
    network_input: npt.NDArray[Any] | None = None
    thumbnails: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of one series.

    Either ``verdict`` is there, or ``skipped`` is the sentence why not.  ``verdict``, ``network_input`` and
    ``thumbnails`` are those of the routed classifier, ``also`` those of the others.  ``timings_s`` holds seconds
    by step: read, preprocess, measure, infer, total.

    ``measured`` is there for judged and for skipped series, empty where nobody measured; ``unusual``,
    ``departures`` and ``lacking`` (so many series are missing before anything is called unusual) need the chart
    of the scanner, ``findings`` do not.
    """

    source: str
    series: SeriesKey | None
    modality: str
    instances: int
    claims: HeaderClaims
    stage: Stage | None = None
    skipped: str | None = None
    verdict: Verdict | None = None
    warnings: tuple[str, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    network_input: npt.NDArray[Any] | None = None
    thumbnails: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    also: tuple[FurtherVerdict, ...] = ()
    measured: Measured = field(default_factory=Measured)
    technique: Technique | None = None
    unusual: tuple[Unusual, ...] = ()
    departures: tuple[Departure, ...] = ()
    findings: tuple[ImageFinding, ...] = ()
    lacking: int = 0

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every verdict, that of the routed classifier first."""
        return () if self.verdict is None else (self.verdict, *(further.verdict for further in self.also))


@dataclass(frozen=True)
class Pending:
    """A series ready for the networks of every classifier that accepts it, the routed one first."""

    outcome: SeriesOutcome
    prepared: Mapping[Stage, Prepared]
    spacing_mm: tuple[float, float, float]


def prepare(
    blank: SeriesOutcome,
    route: Route,
    volume: Callable[[], Volume],
    classifier: Callable[[Stage], Classifier],
    clock: Clock,
    measure: Measuring | None = None,
) -> SeriesOutcome | Pending:
    """Read, preprocess and measure a series.

    Parameters
    ----------
    blank
        The outcome so far: source, keys, header.
    route
        Which classifiers, or why none.
    volume
        Decodes the pixels; called only when there is a classifier.
    classifier
        Opens a classifier.
    measure
        Measures what was decoded, or decodes what no classifier wants; None measures nothing.

    Returns
    -------
    SeriesOutcome or Pending
        An outcome when the series is skipped, else what :func:`decide` needs.
    """
    if route.stage is None:
        return _with_measures(replace(blank, skipped=route.sentence), None, None, measure, clock)
    start = clock()
    try:
        pixels = volume()
    except QcNodeError as refusal:
        return _with_measures(replace(blank, skipped=str(refusal)), None, None, measure, clock)
    read = clock()
    prepared = {stage: classifier(stage).prepare(pixels) for stage in route.stages}
    timings = {**blank.timings_s, "read": blank.timings_s.get("read", 0.0) + read - start}
    timings["preprocess"] = clock() - read
    outcome = replace(
        blank,
        stage=route.stage,
        timings_s=timings,
        warnings=(*blank.warnings, *pixels.warnings),
        network_input=prepared[route.stage].network_input,
        thumbnails=prepared[route.stage].thumbnails,
    )
    # of all classifiers the one of T1-weighted heads knows where the tissues are
    levels = next(filter(None, (getattr(one, "tissue_levels", None) for one in prepared.values())), None)
    return Pending(_with_measures(outcome, pixels, levels, measure, clock), prepared, pixels.spacing_mm)


def _with_measures(
    outcome: SeriesOutcome,
    volume: Volume | None,
    levels: TissueLevels | None,
    measure: Measuring | None,
    clock: Clock,
) -> SeriesOutcome:
    if measure is None:
        return outcome
    start = clock()
    measured, technique = measure(volume, levels)
    timings = {**outcome.timings_s, "measure": clock() - start}
    return replace(outcome, measured=measured, technique=technique, timings_s=timings)


def decide(
    pending: Sequence[Pending],
    classifier: Callable[[Stage], Classifier],
    rules: Sequence[Rule],
    clock: Clock,
) -> list[SeriesOutcome]:
    """Ask every classifier about its part of a batch, then compare with what was claimed and ordered.

    ``infer`` of each outcome is its share of the batch.  Only the routed classifier may fail a series: what
    another one cannot judge is a warning, unless the machine is the reason.
    """
    start = clock()
    verdicts = _ask_all(pending, classifier)
    share = (clock() - start) / max(len(pending), 1)
    return [_outcome(p, own, share, rules) for p, own in zip(pending, verdicts, strict=True)]


def _ask_all(
    pending: Sequence[Pending], classifier: Callable[[Stage], Classifier]
) -> list[dict[Stage, Verdict | str]]:
    """For each series the verdict of each stage, or a sentence why there is none."""
    out: list[dict[Stage, Verdict | str]] = [{} for _ in pending]
    for stage in dict.fromkeys(stage for p in pending for stage in p.prepared):
        rows = [n for n, p in enumerate(pending) if stage in p.prepared]
        try:
            judged: Sequence[Verdict | str] = classifier(stage).judge([pending[n].prepared[stage] for n in rows])
        except Exception as error:
            if own_fault(error) is not None or any(pending[n].outcome.stage == stage for n in rows):
                raise
            log.exception("a further classifier failed")
            judged = [f"The classifier {stage} could not judge this series."] * len(rows)
        for n, verdict in zip(rows, judged, strict=True):
            out[n][stage] = verdict
    return out


def _outcome(
    p: Pending, verdicts: Mapping[Stage, Verdict | str], share: float, rules: Sequence[Rule]
) -> SeriesOutcome:
    given = {stage: v for stage, v in verdicts.items() if isinstance(v, Verdict)}
    unable = [v for v in verdicts.values() if isinstance(v, str)]
    said = [w for v in given.values() for w in (*v.warnings, *check(p.outcome.claims, v, p.spacing_mm, rules))]
    assert p.outcome.stage is not None
    timings = {**p.outcome.timings_s, "infer": share}
    timings["total"] = sum(timings.values())
    return replace(
        p.outcome,
        verdict=given[p.outcome.stage],
        warnings=tuple(dict.fromkeys((*p.outcome.warnings, *said, *unable))),
        timings_s=timings,
        also=tuple(
            FurtherVerdict(v, p.prepared[stage].network_input, p.prepared[stage].thumbnails)
            for stage, v in given.items()
            if stage != p.outcome.stage
        ),
    )


def outcome_json(outcome: SeriesOutcome) -> dict[str, Any]:
    """The line of ``classify --json``."""
    verdict = outcome.verdict
    model = verdict.model if verdict else None
    return {
        "schema": 2,
        "source": outcome.source,
        "series_instance_uid": outcome.series.series_instance_uid if outcome.series else None,
        "study_instance_uid": outcome.series.study_instance_uid if outcome.series else None,
        "modality": outcome.modality,
        "instances": outcome.instances,
        "stage": outcome.stage.value if outcome.stage else None,
        "skipped": outcome.skipped,
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256} if model else None,
        "results": catalogue.results_json(outcome.verdicts),
        "header": {
            "gadolinium_words": outcome.claims.gadolinium_words,
            "claims": outcome.claims.as_dict(),
        },
        "warnings": list(outcome.warnings),
        "summary": catalogue.in_words(outcome.verdicts, outcome.warnings) if verdict else outcome.skipped,
        "measures": values_json(outcome.measured),
        "unmeasured": dict(outcome.measured.unmeasured),
        "unusual": [unusual.as_dict() for unusual in outcome.unusual],
        "departures": [departure.as_dict() for departure in outcome.departures],
        "findings": [finding.as_dict() for finding in outcome.findings],
        "timings_s": {k: round(v, 3) for k, v in outcome.timings_s.items()},
    }
