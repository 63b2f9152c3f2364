"""``qc-node classify``: series on disk, judged in this process with the same code as the worker's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qc_node.classifiers.catalogue import in_words
from qc_node.domain import QcNodeError, SeriesKey, Volume
from qc_node.domain.measurable import TissueLevels
from qc_node.domain.measure import ALL, Measured
from qc_node.domain.technique import Technique
from qc_node.engine.judging import Measuring, Pending, SeriesOutcome, decide, prepare
from qc_node.engine.measuring import take, take_volume, with_findings
from qc_node.engine.orders import Rule
from qc_node.engine.registry import Registry
from qc_node.series.files.sources import SourceSeries, find_series

Tell = Callable[[str], None]


def classify_paths(
    paths: Iterable[Path],
    modality: str | None,
    registry: Registry,
    rules: Sequence[Rule],
    on_problem: Tell = lambda sentence: None,
    on_progress: Callable[[int, int], None] = lambda files, series: None,
    *,
    measures: bool = True,
) -> Iterator[SeriesOutcome]:
    """Judge every series below `paths`, one after the other.

    Parameters
    ----------
    paths
        Files, folders, archives and NIfTI in any mix.
    modality
        ``"MR"`` or ``"CT"`` for files that do not say.
    on_problem
        Gets one sentence for everything that cannot be read; the rest goes on.
    on_progress
        Called with the number of files looked at and of series judged.
    measures
        Whether series are measured, too.

    Yields
    ------
    SeriesOutcome
        In the order in which the series were found.
    """
    files = done = 0

    def looked(count: int) -> None:
        nonlocal files
        files = count
        on_progress(files, done)

    for source in find_series(paths, modality, looked):
        if source.error is not None:
            on_problem(source.error)
            continue
        try:
            yield judge(source, registry, rules, measures=measures)
        except QcNodeError as error:
            on_problem(f"{source.source}: {error}")
        done += 1
        on_progress(files, done)


def judge(
    source: SourceSeries, registry: Registry, rules: Sequence[Rule], *, measures: bool = True
) -> SeriesOutcome:
    """Judge and measure one series; a series that cannot be judged is an outcome with a sentence."""
    clock = time.perf_counter
    start = clock()
    route = source.route(registry.accepts)
    blank = _blank(source)
    blank = replace(blank, timings_s={"read": clock() - start})
    measure = _measuring(source, clock) if measures else None
    result = prepare(blank, route, source.volume, registry.classifier, clock, measure)
    if isinstance(result, Pending):
        (result,) = decide([result], registry.classifier, rules, clock)
    return with_findings(result)


def _measuring(source: SourceSeries, clock: Callable[[], float]) -> Measuring:
    def measure(volume: Volume | None, levels: TissueLevels | None) -> tuple[Measured, Technique | None]:
        if source.opened is not None:
            return take(source.opened, volume, levels, clock)
        return (Measured(), None) if volume is None else take_volume(volume, levels, clock)

    return measure


def _blank(source: SourceSeries) -> SeriesOutcome:
    series = None
    if source.opened is not None:
        header = source.opened.header
        uids = [str(header.get(name) or "").strip() for name in ("StudyInstanceUID", "SeriesInstanceUID")]
        series = SeriesKey(*uids) if uids[1] else None
    return SeriesOutcome(source.source, series, source.modality, source.instances, source.claims)


def row_of(outcome: SeriesOutcome) -> tuple[str, str, str, str, str]:
    """Source, modality, number of images and of measures, and verdict in words, for the table.

    What is certain of the image follows the verdict, or why nothing was measured.
    """
    if outcome.verdict is None:
        said = f"skipped: {outcome.skipped}"
    else:
        said = in_words(outcome.verdicts, outcome.warnings)
    measured = outcome.measured
    more = [*(one.sentence for one in outcome.findings), *filter(None, [measured.unmeasured.get(ALL)])]
    count = str(len(measured.values)) if measured.values else "–"
    return outcome.source, outcome.modality or "?", str(outcome.instances), count, " ".join([said, *more])
