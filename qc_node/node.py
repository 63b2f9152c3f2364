"""The composition root: builds the parts from the settings, starts and stops them, and nothing else.

Order of starting: what takes images (:mod:`qc_node.intake`) comes first, then metrics and health, then what an
earlier run left, the pages, the loops, and last the classifier, which takes longest; whatever arrives meanwhile
waits in the ledger.  Order of stopping: what takes in goes first.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qc_node import __version__, parts
from qc_node.classifiers import catalogue
from qc_node.completion.asking import PacsQuestions
from qc_node.completion.closing import Completion
from qc_node.config import Settings, change
from qc_node.domain import ModelIdentity, QcNodeError, Stage, verdict_from_json
from qc_node.domain.attention import Notice
from qc_node.engine.closed_studies import check_study
from qc_node.engine.pool import Pool
from qc_node.engine.usual_studies import note_what_is_usual
from qc_node.intake import NodeIntake
from qc_node.ledger.rows import ReaderRow, ReportDelivery, VoteRow
from qc_node.measures.catalogue import MEASURES
from qc_node.operations import health, logs, service_manager
from qc_node.operations.drain import Drain
from qc_node.operations.ledger_watch import LedgerWatch
from qc_node.operations.metrics import Metrics
from qc_node.operations.notify import Notifier
from qc_node.operations.old_reports import remove_old_reports, remove_old_summaries
from qc_node.operations.retention import remove_old_sessions
from qc_node.operations.tidying import Tidying
from qc_node.outbox.measured_writer import MeasuredWriter
from qc_node.outbox.sending import Outbox
from qc_node.outbox.summary_writer import SummaryWriter
from qc_node.outbox.writer import Writer
from qc_node.periodic import Periodic
from qc_node.receiver.recovery import recover
from qc_node.receiver.service import CommittedEvent, Event
from qc_node.signals import SignalInbox
from qc_node.web.app import create_app
from qc_node.web.server import serve as serve_web
from qc_node.web.settings import Running, WebDeps, check_bind
from qc_node.web.votes.to_pacs import vote_reporter

log = logging.getLogger("qc_node")

RETENTION_S = 300.0
MEASURED_S = 5.0
"""How often to look for series that were measured and not judged, where they get reports."""
STUCK_S = 600.0
"""After so long a series in one hand, or a report that waits, is a fault of the node."""


class Node:
    """One qc-node.

    Parameters
    ----------
    settings
        Validated configuration.
    intake
        Of these settings, and possibly open already; by default a new one.

    Raises
    ------
    QcNodeError
        The data folder cannot be used or belongs to a running node; weights are missing or altered.
    """

    def __init__(self, settings: Settings, intake: NodeIntake | None = None) -> None:
        self.settings = settings
        self.intake = intake or NodeIntake(settings)
        self.spool, self.ledger, self.receiver = self.intake.spool, self.intake.ledger, self.intake.receiver
        accepted = [p.ae_title for p in settings.peers("accept")]
        self._destinations = parts.destination_names(settings)
        targets = parts.targets(settings, os.environ)
        self.metrics = Metrics(accepted, self._destinations, [target.name for target in targets])
        self._drain = Drain(self.ledger, self.receiver, time.time, self._tell_state)
        self._rules = parts.rules_of(settings)
        self._stop = threading.Event()
        self._models: dict[str, str] = {}
        self.pool = Pool(parts.worker_settings(settings), self.ledger, self._on_worker)
        self._writer = Writer(
            parts.writing_settings(settings),
            self.ledger,
            self.spool,
            time.time,
            self._on_written,
            steady=time.monotonic,
            words=catalogue.in_words,
            measures=MEASURES,
        )
        self._measured_writer = MeasuredWriter(
            parts.writing_settings(settings), self.ledger, self.spool, time.time, MEASURES, self._on_written
        )
        self._summary_writer = SummaryWriter(
            parts.writing_settings(settings),
            self.ledger,
            self.spool,
            time.time,
            catalogue.shared_card,
            self._check_study,
            lambda: self._outbox.wake(),
            MEASURES,
        )
        policy = parts.completion_policy(settings)
        self._questions = PacsQuestions(
            self.ledger,
            parts.pacs_asker(settings),
            policy.pacs_rest_s,
            wake=lambda: self._asking.wake(),
            answered=lambda: self._closing.wake(),
        )
        self._completion = Completion(policy, self.ledger, questions=self._questions, on_closed=self._on_closed)
        self._outbox = Outbox(
            self.ledger,
            self.spool,
            parts.destinations(settings),
            on_delivery=self._on_delivery,
            on_committed=self._on_committed,
            retry=parts.retry_policy(settings),
        )
        self._writing = Periodic("writing", self._writer.step, after=self.ledger.close)
        # off by default, and in no hurry: what it looks for are rows of every series whose images are there
        self._reporting_measured = Periodic(
            "measured-reports", self._measured_writer.step, MEASURED_S, after=self.ledger.close
        )
        # a loop of its own: no picture, and no trouble with one, holds up a report
        self._summarising = Periodic("summaries", self._summary_writer.step, after=self.ledger.close)
        self._asking = Periodic("pacs-questions", self._ask_pacs, after=self.ledger.close)
        self._closing = Periodic("completion", self._close_due, 0.5, after=self.ledger.close)
        self._tidying = Tidying(self.ledger, self.spool, self._rest, self.metrics.orphan_removed)
        self._retention = Periodic("retention", self._remove_old, RETENTION_S, after=self.ledger.close)
        self._watching = Periodic("ledger-watch", LedgerWatch(self.ledger).step, 60.0, after=self.ledger.close)
        self._notifier = Notifier(
            self.ledger,
            targets,
            settings.web.public_base,
            time.time,
            self.metrics.notification,
            wake=lambda: self._notifying.wake(),
        )
        self._notifying = Periodic("notifications", self._notifier.step, 2.0, after=self.ledger.close)
        self._draining = Periodic("drain", self._drain.step, after=self.ledger.close)
        self._settling = threading.Thread(target=self._settle, name="settling", daemon=True)
        self._recent, self._health = self._checks()
        self.app: Any = None
        self._web: Any = None
        self._metrics_listener: Any = None
        self.intake.listen(self._on_receiver)

    # -- life ----------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start everything; the node takes images at once, and judges them when its models are loaded.

        Raises
        ------
        QcNodeError
            A port is in use, the network would reach an unprotected page.
        """
        try:
            self.intake.open()
            self._drain.begin()
            self._metrics_listener = self.metrics.serve(
                self.settings.metrics.host,
                self.settings.metrics.port,
                self._health,
                self._observe,
                limits=parts.metrics_limits(self.settings),
            )
            self._settling.start()
            self._web = self._open_web()
            for loop in self._loops():
                loop.start()
            self._outbox.start()
            self.pool.start()
        except BaseException:
            self.stop()
            raise

    def _loops(self) -> tuple[Periodic, ...]:
        working = (self._closing, self._asking, self._writing, self._reporting_measured, self._summarising)
        return *working, self._notifying, self._retention, self._watching, self._draining

    def _all_loops(self) -> tuple[Periodic, ...]:
        follow_up = () if self.app is None else (self.app.state.follow_up.loop,)
        return *self._loops(), *self._outbox.loops, *follow_up

    def stop(self, grace_s: float = 20.0) -> None:
        """Take nothing more, finish what is in hand, keep the rest for the next start."""
        self._stop.set()
        deadline = time.monotonic() + grace_s
        service_manager.tell("STOPPING=1")
        self.receiver.stop(grace_s)
        self.pool.stop(max(1.0, deadline - time.monotonic()))
        for loop in self._loops():
            loop.stop(max(1.0, deadline - time.monotonic()))
        self._outbox.stop()
        if self._web is not None:
            self._web.stop()
        if self._metrics_listener is not None:
            self._metrics_listener.stop()
        self.intake.close()
        log.info("stopped")

    def run(self, read_again: Callable[[], Settings]) -> None:
        """Start, wait for SIGTERM or SIGINT, stop.

        Parameters
        ----------
        read_again
            Gives the configuration as it is now; called after each SIGHUP.
        """
        inbox = SignalInbox((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self.start()
        while not (came := inbox.wait(3600.0)) & {signal.SIGTERM, signal.SIGINT}:
            if signal.SIGHUP in came:
                self.reload(read_again)
        self.stop()

    def reload(self, read_again: Callable[[], Settings]) -> None:
        """Take over what may change while the node runs; say what needs a restart.  Never raises."""
        try:
            told = change(self.settings, read_again())
            self._apply(told.settings)
        except QcNodeError as error:
            log.error("the configuration was read again and stays as it was: %s", error)
        except Exception:
            log.exception("the configuration could not be read again and stays as it was")
        else:
            log.warning(
                "the configuration was read again; changed at once: %s", ", ".join(told.applied) or "nothing"
            )
            if told.waiting:
                log.warning("these changes need a restart: %s", ", ".join(told.waiting))

    def _apply(self, settings: Settings) -> None:
        self.settings = settings
        self._rules = parts.rules_of(settings)
        self._completion.apply(parts.completion_policy(settings))
        self._writer.apply(parts.writing_settings(settings))
        self._summary_writer.apply(parts.writing_settings(settings))
        self._measured_writer.apply(parts.writing_settings(settings))
        self.pool.apply(parts.worker_settings(settings))
        logs.configure(settings.node.log_format, settings.node.log_level)
        self.receiver.take_log_level()
        self._closing.wake()

    # -- steps ---------------------------------------------------------------------------------------
    def _settle(self) -> None:
        """What an earlier run left, looked through beside what arrives: there may be very much of it."""
        try:
            adopted = recover(self.spool, self.ledger, before=self.intake.opened_at or 0.0, stop=self._stop.is_set)
            if adopted:
                log.warning("%d images that a crash had cut off from the ledger were taken in again", adopted)
            tightened = self.spool.tighten_series()
            if tightened:
                log.warning("%d folders of series were open to other users; now closed", tightened)
        except Exception:
            log.exception("what an earlier run left could not be looked through; the next start tries again")
        finally:
            self.ledger.close()

    def _close_due(self) -> float | None:
        return self._completion.step(time.time(), time.monotonic())

    def _ask_pacs(self) -> float | None:
        return self._questions.step(time.time())

    def _remove_old(self) -> None:
        keep = self.settings.retention
        self._tidying.step(keep.keep_images_h, keep.keep_training_days, self.settings.keep.max_gb * 1e9)
        remove_old_reports(self.ledger, self.spool, time.time(), keep.keep_reports_days)
        remove_old_summaries(self.ledger, self.spool, time.time(), keep.keep_summaries_days)
        remove_old_sessions(self.ledger, time.time(), self.settings.web.session_days)

    def _rest(self, seconds: float) -> bool:
        self._retention.beat()
        return self._stop.wait(seconds)

    def _observe(self) -> None:
        self.metrics.observe_ledger(self.ledger, self.spool, time.time())

    # -- what the parts tell -------------------------------------------------------------------------
    def _on_receiver(self, event: Event) -> None:
        if isinstance(event, CommittedEvent):
            self._on_committed(event.destination)
            return
        self.metrics.instance_received(event.calling_ae, event.status, event.seconds)
        if event.changed:
            self.metrics.instance_changed(event.calling_ae, kept=event.status == 0x0000)
        self._recent.note(event.status)
        if event.status == 0x0000:
            self._closing.wake()

    def _on_closed(self, kind: str, uid: str) -> None:
        """A series or a study is complete."""
        if kind == "series":
            self.pool.wake()
            return
        self._check_study(uid)
        self._summarising.wake()

    def _check_study(self, uid: str) -> Sequence[str]:
        """What a closed study lacks, for boards too; safe to repeat."""
        missing = check_study(self.ledger, self._rules, uid)
        note_what_is_usual(self.ledger, self.spool, uid)
        if self.app is not None:
            self.app.state.board.study_closed(uid)
        return missing

    def _on_worker(self, event: Mapping[str, Any]) -> None:
        if event["event"] != "finished":
            for model in event.get("models", ()):
                identity = ModelIdentity(model["name"], model["version"], model["sha256"])
                self._models[model["stage"]] = f"{identity.name} {identity.version}"
                self.metrics.model(Stage(model["stage"]), identity)
            self._tell_state()
            return
        for step, seconds in event["timings"].items():
            self.metrics.step(step, seconds)
        for verdict in event["verdicts"]:
            self.metrics.verdict(verdict_from_json(verdict))
        self.metrics.measures.finished(event)
        if event["state"] != "judged" or not self.settings.pacs.destination:
            self.metrics.series_finished(event["stage"], event["state"])
        self._publish(event["series_id"])
        if self.app is not None and event["measures"]:
            self.app.state.board.measured(event["series_id"])
        self._check_if_closed(event["series_id"])
        self._writing.wake()

    def _check_if_closed(self, series_id: int) -> None:
        """A series that is judged after its study was closed may show, or lack, what was ordered."""
        series = self.ledger.series.by_id(series_id)
        study = None if series is None else self.ledger.studies.get(series["study_uid"])
        if study is not None and study["state"] == "closed":
            self._check_study(study["study_uid"])

    def _on_written(self, series_id: int) -> None:
        self._outbox.wake()
        self._summarising.wake()

    def _on_delivery(self, delivery: ReportDelivery, destination: str, outcome: str) -> None:
        self.metrics.delivery(destination, outcome)
        if outcome == "failed":
            said = f"{destination} does not take a report; the node has given it up (qc-node outbox list)."
            self._notifier.tell(Notice("delivery", "", said, time.time()))
        if outcome == "sent" and delivery["kind"] == "sr":
            if destination == self._destinations[0]:  # a series counts once, wherever else its report goes
                self.metrics.report_acknowledged(self.ledger, delivery, time.time())
            self._publish(delivery["series_id"])

    def _on_committed(self, destination: str) -> None:
        """A destination promised to keep an object, on our association or on one of its own."""
        self.metrics.delivery(destination, "committed")

    def _tell_state(self) -> None:
        """The classifier came or went, or the node is drained: boards and systemd are told."""
        notice = self._notice()
        service_manager.tell(f"STATUS={notice or 'Takes and judges images.'}")
        if self.app is not None:
            self.app.state.board.publish_notice()

    def _notice(self) -> str:
        """What people should know of the node itself; nothing when it takes and judges images."""
        checks = (self._drain_check(), self._worker_check())
        return " ".join(check.sentence for check in checks if not check.passed)

    def _publish(self, series_id: int | None) -> None:
        if self.app is not None and series_id is not None:
            self.app.state.board.publish(series_id)

    # -- parts ---------------------------------------------------------------------------------------
    def _open_web(self) -> Any:
        settings = self.settings.web
        web = parts.web_options(self.settings)
        check_bind(web, self.ledger.readers.count_enabled(), secret_configured=settings.secret is not None)
        reporters = [
            vote_reporter(
                self.ledger,
                self.spool,
                destinations,
                station_name=self.settings.node.ae_title,
                software_version=__version__,
                sr_class=sr_class,
                another=number > 0,
                clock=time.time,
            )
            for number, (sr_class, destinations) in enumerate(
                parts.writing_settings(self.settings).by_class().items()
            )
        ]

        def report_vote(vote: VoteRow, reader: ReaderRow) -> None:
            for reporter in reporters:
                reporter(vote, reader)

        deps = WebDeps(
            ledger=self.ledger,
            spool=self.spool,
            web=web,
            healthz=lambda: _answer(self._health.alive()),
            readyz=lambda: _answer(self._health.ready()),
            takes=lambda: _answer(self._health.takes()),
            notice=self._notice,
            running=lambda: Running(self.receiver.associations(), dict(self._models)),
            on_vote=self.metrics.vote,
            on_failed_sign_in=self.metrics.failed_sign_in,
            on_call=self.metrics.call,
            notify=self._notifier.tell,
            report_vote=report_vote,
        )
        self.app = create_app(deps)
        return serve_web(self.app, settings.host, settings.port)

    def _checks(self) -> tuple[health.RecentObjects, health.Health]:
        ledger = health.ledger_probe(self.ledger)
        disk = health.disk_probe(self.spool, self.settings.disk.low_watermark_bytes)
        recent = health.RecentObjects(time.monotonic, causes=(ledger, disk))
        return recent, health.Health(
            vital=[health.receiver_probe(self.receiver.alive), ledger],
            taking=[disk, health.objects_probe(recent), self._drain_check],
            working=[
                self._worker_check,
                health.outbox_probe(self.ledger, time.time, STUCK_S),
                health.loops_probe(self._all_loops),
            ],
        )

    @property
    def _drain_check(self) -> health.Probe:
        return health.drain_probe(lambda: self._drain.is_on)

    @property
    def _worker_check(self) -> health.Probe:
        pool = self.pool
        return health.worker_probe(
            pool.alive,
            self.ledger,
            time.time,
            STUCK_S,
            loading=pool.loading,
            fault=lambda: pool.fault,
            trouble=lambda: pool.trouble,
            rest_s=pool.rest_s,
        )


def _answer(report: Any) -> tuple[bool, Mapping[str, Any]]:
    return report.ok, json.loads(report.as_json())
