"""One series from its files to an :class:`SeriesOutcome`; what ``classify`` and the worker share.

Pure apart from reading the files: nothing is written, no clock but the one given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.catalogue import questions_of
from qc_node.classifiers.interface import Classifier
from qc_node.domain import HeaderClaims, QcNodeError, SeriesKey, Stage, Verdict, Volume, results_json
from qc_node.engine.orders import Rule, check
from qc_node.series.headers.routing import Route

Clock = Callable[[], float]
"""Monotonic seconds."""


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of one series.

    Either ``verdict`` is there, or ``skipped`` is the sentence why not.  ``timings_s`` holds seconds by
    step: read, preprocess, infer, total.
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


@dataclass(frozen=True)
class Pending:
    """A series ready for the networks."""

    outcome: SeriesOutcome
    prepared: Any
    spacing_mm: tuple[float, float, float]


def prepare(
    blank: SeriesOutcome,
    route: Route,
    volume: Callable[[], Volume],
    classifier: Callable[[Stage], Classifier],
    clock: Clock,
) -> SeriesOutcome | Pending:
    """Read and preprocess a routed series.

    Parameters
    ----------
    blank
        The outcome so far: source, keys, header.
    route
        Which classifier, or why none.
    volume
        Decodes the pixels; called only when there is a classifier.
    classifier
        Opens a classifier.

    Returns
    -------
    SeriesOutcome or Pending
        An outcome when the series is skipped, else what :func:`decide` needs.
    """
    if route.stage is None:
        return replace(blank, skipped=route.sentence)
    start = clock()
    try:
        pixels = volume()
    except QcNodeError as refusal:
        return replace(blank, skipped=str(refusal))
    read = clock()
    prepared = classifier(route.stage).prepare(pixels)
    timings = {**blank.timings_s, "read": blank.timings_s.get("read", 0.0) + read - start}
    timings["preprocess"] = clock() - read
    outcome = replace(
        blank,
        stage=route.stage,
        timings_s=timings,
        warnings=(*blank.warnings, *pixels.warnings),
        network_input=prepared.network_input,
        thumbnails=prepared.thumbnails,
    )
    return Pending(outcome, prepared, pixels.spacing_mm)


def decide(
    pending: Sequence[Pending],
    classifier: Classifier,
    rules: Sequence[Rule],
    clock: Clock,
) -> list[SeriesOutcome]:
    """Ask one classifier about a batch, then compare with what was claimed and ordered.

    ``infer`` of each outcome is its share of the batch.
    """
    start = clock()
    verdicts = classifier.judge([p.prepared for p in pending])
    share = (clock() - start) / max(len(pending), 1)
    outcomes = []
    for p, verdict in zip(pending, verdicts, strict=True):
        found = check(p.outcome.claims, verdict, p.spacing_mm, rules)
        timings = {**p.outcome.timings_s, "infer": share}
        timings["total"] = sum(timings.values())
        warnings = tuple(dict.fromkeys((*p.outcome.warnings, *verdict.warnings, *found)))
        outcomes.append(replace(p.outcome, verdict=verdict, warnings=warnings, timings_s=timings))
    return outcomes


def outcome_json(outcome: SeriesOutcome) -> dict[str, Any]:
    """The line of ``classify --json``."""
    verdict = outcome.verdict
    model = verdict.model if verdict else None
    return {
        "source": outcome.source,
        "series_instance_uid": outcome.series.series_instance_uid if outcome.series else None,
        "study_instance_uid": outcome.series.study_instance_uid if outcome.series else None,
        "modality": outcome.modality,
        "instances": outcome.instances,
        "stage": outcome.stage.value if outcome.stage else None,
        "skipped": outcome.skipped,
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256} if model else None,
        "results": results_json(verdict, questions_of(verdict)) if verdict else {},
        "header": {
            "gadolinium_words": outcome.claims.gadolinium_words,
            "claims": outcome.claims.as_dict(),
        },
        "warnings": list(outcome.warnings),
        "timings_s": {k: round(v, 3) for k, v in outcome.timings_s.items()},
    }
