"""The worker process: takes queued series from the ledger, judges them, writes the verdicts.

Runs as ``python -m qc_node.engine.worker`` below the node, niced, so that a busy classifier never delays
reception.  The first line on its standard input is its settings as JSON; every further line means "look at
the queue"; end of file means that the node is gone, and the worker leaves.  It answers with one JSON
object per line (see :class:`Worker`).  A line with ``settings`` changes those that :meth:`Worker.apply` takes.

A series is claimed by a row, so a killed worker loses nothing: the next one finds the row again.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import math
import os
import select
import signal
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qc_node.domain import (
    QcNodeError,
    Stage,
    Verdict,
    Volume,
    looks_cut_short,
    verdict_to_json,
)
from qc_node.domain.measurable import TissueLevels
from qc_node.domain.measure import Measured
from qc_node.domain.technique import Technique
from qc_node.engine.judging import Measuring, Pending, SeriesOutcome, decide, prepare
from qc_node.engine.kept_files import KeptOfVerdict, keep_files, keep_pictures
from qc_node.engine.measures_json import values_json
from qc_node.engine.measuring import compared, given_up, keep_measured, take
from qc_node.engine.opening import blank_outcome, decoded, text_of
from qc_node.engine.orders import Rule
from qc_node.engine.own_faults import MAX_ATTEMPTS, OwnFault, OwnTrouble, own_fault
from qc_node.engine.pseudonyms import note_patient
from qc_node.engine.registry import Registry, choose_device
from qc_node.ledger import Ledger
from qc_node.ledger.erasing import STOPPED
from qc_node.ledger.rows import SeriesRow
from qc_node.process import ParentProcess
from qc_node.report.identifiers import correct
from qc_node.series.headers.expected import count_is_certain
from qc_node.series.headers.routing import route
from qc_node.series.volume.stack import OpenedSeries, open_series
from qc_node.spool import Spool, digest

log = logging.getLogger("qc_node.worker")

IDLE_S = 1.0
"""How long to sleep before looking at the queue without being asked."""
BEAT_S = 5.0
"""How often to say that one is there."""

Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class WorkerSettings:
    """What the node tells its worker.

    ``batch`` is how many series are judged in one forward pass on a GPU (a CPU takes one at a time);
    ``threads`` bounds the threads of torch and SimpleITK (0 = as many as cores); ``confirm_s`` delays the
    report of a coverage reject where nobody knew how many images the series has; ``measures`` says whether series
    are measured, ``window`` with how many earlier ones each is compared, ``keeps_pictures`` whether pixels stay of
    series that no classifier takes, of a ``sampled_share`` of them also without a vote; ``logging`` is a
    configuration for :func:`logging.config.dictConfig`.
    """

    data_dir: str
    models_dir: str
    device: str
    batch: int
    threads: int
    confirm_s: float
    measures: bool
    window: int
    sampled_share: float
    keeps_pictures: bool
    rules: tuple[Mapping[str, Any], ...]
    logging: Mapping[str, Any]
    nice: int = 10


class Worker:
    """One worker.

    Emits ``{"event": "ready", "models": […]}`` once, then for every series ``started``, ``measuring`` where it is
    measured, and ``finished`` (with ``state`` judged, skipped, failed or forgotten, the timings, the verdicts and
    what was measured: ``measures``, ``unusual``, ``departures``, ``modality``, ``station``) or ``given_back``, and
    ``fault`` with a sentence when it cannot work at all.  ``beat`` says that it is there, and in ``trouble`` what
    of the machine's keeps it from judging (:mod:`qc_node.engine.own_faults`), or nothing.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        spool: Spool,
        registry: Registry,
        emit: Emit,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._registry = registry
        self._emit = emit
        self._wall = wall
        self._clock = clock
        self._rules = tuple(Rule(**rule) for rule in settings.rules)
        self._trouble = OwnTrouble(clock)
        self._in_hand: dict[int, SeriesRow] = {}
        self._opened: dict[int, OpenedSeries] = {}
        self._owed: list[tuple[SeriesRow, bool, OwnFault]] = []
        self.is_spent = False
        """Whether the process has to be replaced: its GPU context is lost."""

    def apply(self, settings: WorkerSettings) -> None:
        """Go on with other rules, patience and logging; the rest stays as it was started with."""
        self._settings = replace(
            self._settings,
            confirm_s=settings.confirm_s,
            measures=settings.measures,
            window=settings.window,
            sampled_share=settings.sampled_share,
            keeps_pictures=settings.keeps_pictures,
            rules=settings.rules,
            logging=settings.logging,
        )
        self._rules = tuple(Rule(**rule) for rule in settings.rules)
        logging.config.dictConfig(dict(settings.logging))

    def step(self) -> int:
        """Judge up to one batch of queued series; returns how many were taken."""
        if self._trouble.waits():
            return 0
        rows: list[SeriesRow] = []
        try:
            self._give_back()
            rows = self._ledger.series.claim(self._wall(), self._settings.batch)
            self._in_hand = {row["series_id"]: row for row in rows}
            self._work(rows)
        except Exception as error:
            fault = own_fault(error)
            if fault is None:
                raise
            self._hold_up(fault, alone=len(rows) == 1)
        else:
            if self._trouble.end():
                log.warning("the classifier goes on")
        return len(rows)

    @property
    def trouble(self) -> str:
        """What of the machine's keeps the worker from judging; empty when nothing does."""
        return self._trouble.sentence

    def _work(self, rows: Sequence[SeriesRow]) -> None:
        waiting: dict[Stage, list[tuple[SeriesRow, Pending]]] = {}
        for row in rows:
            self._emit({"event": "started", **_named(row)})
            try:
                result = self._look(row)
            except Exception as error:  # a bad series must never stop the node
                if own_fault(error) is not None:
                    raise
                self._fail(row, error)
                continue
            if isinstance(result, SeriesOutcome):
                self._finish(row, result)
            else:
                assert result.outcome.stage is not None
                waiting.setdefault(result.outcome.stage, []).append((row, result))
        for stage, pairs in waiting.items():
            self._judge(stage, pairs)

    def _hold_up(self, fault: OwnFault, *, alone: bool) -> None:
        """A fault of the machine: what is in hand goes back, and is tried again after a pause."""
        if self._trouble.begin(fault.sentence):
            log.error("%s Series wait and are tried again; none fails of it.", fault.sentence)
        is_attempt = alone and fault.may_be_its and (not fault.asks_disk or self._disk_works())
        for row in self._in_hand.values():
            self._owed.append((row, is_attempt, fault))
            self._emit({"event": "given_back", **_named(row)})
        self._in_hand, self._opened = {}, {}
        self.is_spent = fault.ends_worker
        self._emit({"event": "beat", "trouble": fault.sentence})
        with contextlib.suppress(sqlite3.Error):  # else before the next claim, or the pool when the worker is gone
            self._give_back()

    def _give_back(self) -> None:
        """Put what is owed to the queue back; one that had the worker alone too often has failed."""
        while self._owed:
            row, is_attempt, fault = self._owed[0]
            if is_attempt and row["attempts"] >= MAX_ATTEMPTS:
                sentence = f"This series was given up after {MAX_ATTEMPTS} attempts. {fault.sentence}"
                self._end_failed(row, sentence)
            else:
                self._ledger.series.give_back(row["series_id"], row["run"], is_attempt=is_attempt)
            self._owed.pop(0)

    def _disk_works(self) -> bool:
        try:
            self._spool.prove_writable()
        except OSError:
            return False
        return True

    def _look(self, row: SeriesRow) -> SeriesOutcome | Pending:
        start = self._clock()
        if row["images_removed_at"] is not None:
            raise QcNodeError(
                "Images of this series are gone, by retention or otherwise; send them again to have it judged."
            )
        names = self._ledger.instances.paths_of_series(row["series_id"])
        for name in names[:1]:
            note_patient(self._ledger, self._spool, row["study_uid"], name)
        opened = open_series([self._spool.path(name) for name in names])
        self._opened[row["series_id"]] = opened
        source = str(opened.header_path.relative_to(self._spool.root.resolve()))
        blank = blank_outcome(opened, row["series_uid"], source)
        blank = replace(blank, timings_s={"read": self._clock() - start})
        self._ledger.series.note_claims(row["series_id"], blank.claims.as_dict())
        header = correct(opened.header, self._ledger.relinks.of(row["study_uid"], row["series_uid"]))
        self._ledger.studies.describe(
            row["study_uid"], text_of(header.get("AccessionNumber")), text_of(header.get("StudyDescription"))
        )
        return prepare(
            blank,
            route(opened, self._registry.accepts),
            lambda: decoded(opened),
            self._registry.classifier,
            self._clock,
            self._measuring(row, opened),
        )

    def _measuring(self, row: SeriesRow, opened: OpenedSeries) -> Measuring | None:
        """How the series is measured; not at the last attempt, so that no measure ever fails a series."""
        if not self._settings.measures:
            return None
        if row["attempts"] >= MAX_ATTEMPTS:
            return lambda volume, levels: given_up()

        def measure(volume: Volume | None, levels: TissueLevels | None) -> tuple[Measured, Technique | None]:
            self._emit({"event": "measuring", **_named(row)})
            return take(opened, volume, levels, self._clock)

        return measure

    def _judge(self, stage: Stage, pairs: Sequence[tuple[SeriesRow, Pending]]) -> None:
        try:
            outcomes = decide([p for _, p in pairs], self._registry.classifier, self._rules, self._clock)
        except Exception as error:
            if own_fault(error) is not None:
                raise
            if len(pairs) == 1:
                self._fail(pairs[0][0], error)
                return
            for pair in pairs:  # one bad series must not take its batch with it
                self._judge(stage, [pair])
            return
        for (row, _), outcome in zip(pairs, outcomes, strict=True):
            self._finish(row, outcome)

    def _finish(self, row: SeriesRow, outcome: SeriesOutcome) -> None:
        """Write all that is known of a run in one transaction; its files are there before."""
        series_id, run, now = row["series_id"], row["run"], self._wall()
        outcome = compared(outcome, self._ledger, series_id, self._settings.window)
        opened = self._opened.get(series_id)
        kept = keep_files(self._spool, row, outcome)
        state = "skipped" if outcome.verdict is None else "judged"
        stage = outcome.stage.value if outcome.stage else None
        with self._ledger.db.transaction():
            if self._is_gone(row, kept):
                return
            self._note_verdicts(row, outcome, kept, now)
            keep_measured(outcome, self._ledger, series_id, run, now)
            self._ledger.series.finish(series_id, run, state, now, stage=stage, sentence=outcome.skipped)
        self._tell(row, state, outcome, outcome.skipped)
        if opened is not None and outcome.network_input is None and self._settings.keeps_pictures:
            self._keep_pictures(row, opened, now)

    def _note_verdicts(
        self, row: SeriesRow, outcome: SeriesOutcome, kept: Sequence[KeptOfVerdict], now: float
    ) -> None:
        report_after = now + max((self._patience(row, verdict) for verdict in outcome.verdicts), default=0.0)
        for verdict, (training_path, thumbnails) in zip(outcome.verdicts, kept, strict=True):
            self._ledger.verdicts.add(
                row["series_id"],
                row["run"],
                verdict,
                claims=outcome.claims.as_dict(),
                warnings=outcome.warnings,
                timings=outcome.timings_s,
                source_path=outcome.source,
                at=now,
                report_after=report_after,
                training_path=training_path,
                thumbnails=thumbnails,
                routed=verdict is outcome.verdict,
            )

    def _is_gone(self, row: SeriesRow, kept: Sequence[KeptOfVerdict]) -> bool:
        """Whether the series was forgotten while it was judged: then nothing of it may stay."""
        if self._ledger.series.by_id(row["series_id"]) is not None:
            return False
        self._spool.remove_all(name for training, pictures in kept for name in (training, *pictures) if name)
        self._tell(row, "forgotten", None, None)
        return True

    def _keep_pictures(self, row: SeriesRow, opened: OpenedSeries, now: float) -> None:
        """Keep pixels of a series that no classifier takes; nobody waits for that, and it fails nothing."""
        try:
            new = keep_pictures(self._spool, row, opened, self._settings.sampled_share)
            if new is None:
                return
            with self._ledger.db.transaction():
                if self._ledger.series.by_id(row["series_id"]) is None:
                    self._spool.remove_all([new.path])
                else:
                    self._ledger.kept_inputs.add(new, now)
        except Exception as error:
            log.warning("no picture of a series is kept (%s)", type(error).__name__)

    def _patience(self, row: SeriesRow, verdict: Verdict) -> float:
        """A series cut short by a slow sender looks like bad coverage: wait before saying so."""
        uncertain = not count_is_certain(row["closed_by"])
        return self._settings.confirm_s if uncertain and looks_cut_short(verdict) else 0.0

    def _fail(self, row: SeriesRow, error: Exception) -> None:
        if isinstance(error, QcNodeError):
            sentence = str(error)
        else:
            sentence = f"The classifier could not judge this series ({type(error).__name__})."
            log.exception("series %s failed", digest(row["series_uid"]))
        self._end_failed(row, sentence)

    def _end_failed(self, row: SeriesRow, sentence: str) -> None:
        now = self._ledger.series.by_id(row["series_id"])
        if now is None or now["sentence"] == STOPPED:
            self._tell(row, "forgotten", None, None)
            return
        self._ledger.series.finish(row["series_id"], row["run"], "failed", self._wall(), sentence=sentence)
        self._tell(row, "failed", None, sentence)

    def _tell(self, row: SeriesRow, state: str, outcome: SeriesOutcome | None, sentence: str | None) -> None:
        self._in_hand.pop(row["series_id"], None)
        self._opened.pop(row["series_id"], None)
        self._emit(
            {
                "event": "finished",
                **_named(row),
                "state": state,
                "stage": outcome.stage.value if outcome and outcome.stage else None,
                "sentence": sentence,
                "timings": dict(outcome.timings_s) if outcome else {},
                "verdicts": [verdict_to_json(verdict) for verdict in outcome.verdicts] if outcome else [],
                **_measures_of(row, outcome),
            }
        )


def _named(row: SeriesRow) -> dict[str, Any]:
    """Which run of which series an event is about."""
    return {"series_id": row["series_id"], "series_uid": row["series_uid"], "run": row["run"]}


def _measures_of(row: SeriesRow, outcome: SeriesOutcome | None) -> dict[str, Any]:
    """What the node is told of what was measured."""
    technique = outcome.technique if outcome else None
    return {
        "measures": values_json(outcome.measured) if outcome else {},
        "unusual": [one.as_dict() for one in outcome.unusual] if outcome else [],
        "departures": [one.as_dict() for one in outcome.departures] if outcome else [],
        "modality": outcome.modality if outcome else row["modality"],
        "station": (technique.station if technique else "") or row["station"] or row["calling_ae"],
    }


def _listen(node: ParentProcess, worker: Worker, seconds: float) -> bool:
    """Take what the node says, waiting for it for at most `seconds`; False when the node is gone."""
    while select.select([0], [], [], seconds)[0]:
        told = node.hear()
        if told is None:
            return False
        if "settings" in told:
            worker.apply(WorkerSettings(**told["settings"]))
        seconds = 0.0
    return True


def main() -> int:
    """Run until the node closes our standard input or asks us to stop (SIGTERM)."""
    node = ParentProcess()
    warnings.simplefilter("ignore")  # those of pydicom quote element values
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = node.hear()
    if told is None:
        return 0
    settings = WorkerSettings(**told)
    logging.config.dictConfig(dict(settings.logging))
    try:
        os.nice(settings.nice)
        worker = _build(settings, node.say)
    except QcNodeError as error:
        node.say({"event": "fault", "sentence": str(error)})
        return 1
    beat_at = -math.inf
    while not stopping:
        busy = worker.step() > 0
        if worker.is_spent:
            return 1
        if time.monotonic() - beat_at >= BEAT_S:
            beat_at = time.monotonic()
            node.say({"event": "beat", "trouble": worker.trouble})
        if not _listen(node, worker, 0.0 if busy else IDLE_S):
            break
    return 0


def _build(settings: WorkerSettings, emit: Emit) -> Worker:
    import torch

    if settings.threads:
        torch.set_num_threads(settings.threads)
    root = Path(settings.data_dir)
    device = choose_device(settings.device)
    if device == "cpu":  # there a batch only makes the first series wait for the last
        settings = replace(settings, batch=1)
    registry = Registry(Path(settings.models_dir), device)
    models = registry.open_all()
    worker = Worker(settings, Ledger(root / "ledger.sqlite"), Spool(root), registry, emit)
    names = [
        {"stage": stage.value, "name": m.name, "version": m.version, "sha256": m.sha256}
        for stage, m in models.items()
    ]
    emit({"event": "ready", "models": names, "device": registry.device})
    return worker


if __name__ == "__main__":
    sys.exit(main())
