"""The composition root: builds the parts from the settings, starts and stops them, and nothing else.

Order of starting: what takes in comes last, so that nothing arrives before there is somebody to work on it;
order of stopping: what takes in goes first.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qc_node import __version__, parts
from qc_node.completion.asking import PacsQuestions
from qc_node.completion.closing import Completion
from qc_node.config import Settings, change
from qc_node.domain import ModelIdentity, QcNodeError, Stage, verdict_from_json
from qc_node.engine.closed_studies import check_study
from qc_node.engine.pool import Pool
from qc_node.ledger.rows import ReportDelivery
from qc_node.operations import health, logs
from qc_node.operations.ledger_watch import LedgerWatch, open_sound
from qc_node.operations.metrics import Metrics
from qc_node.operations.old_reports import remove_old_reports
from qc_node.operations.tidying import Tidying
from qc_node.outbox.sending import Outbox
from qc_node.outbox.writer import Writer
from qc_node.periodic import Periodic
from qc_node.receiver.recovery import recover
from qc_node.receiver.service import CommittedEvent, Event, Receiver
from qc_node.spool import PRIVATE, Spool, lock_folder
from qc_node.web.app import create_app
from qc_node.web.server import serve as serve_web
from qc_node.web.settings import WebDeps, check_bind
from qc_node.web.votes.to_pacs import vote_reporter

log = logging.getLogger("qc_node")

RETENTION_S = 300.0


class Node:
    """One qc-node.

    Parameters
    ----------
    settings
        Validated configuration.

    Raises
    ------
    QcNodeError
        The data folder cannot be used or belongs to a running node.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        refuse_unbuilt(settings)
        root = settings.node.data_dir
        self.spool = Spool(root)
        self._lock = lock_folder(root)
        self.ledger = open_sound(root / "ledger.sqlite", self.spool)
        accepted = [p.ae_title for p in settings.peers("accept")]
        self._destinations = parts.destination_names(settings)
        self.metrics = Metrics(accepted, self._destinations)
        self._recent = health.RecentObjects(time.monotonic)
        self._rules = parts.rules_of(settings)
        self._stop = threading.Event()
        self.pool = Pool(parts.worker_settings(settings), self.ledger, self._on_worker)
        self._writer = Writer(
            parts.writing_settings(settings),
            self.ledger,
            self.spool,
            time.time,
            self._on_written,
            steady=time.monotonic,
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
        self._asking = Periodic("pacs-questions", self._ask_pacs, after=self.ledger.close)
        self._closing = Periodic("completion", self._close_due, 0.5, after=self.ledger.close)
        self._tidying = Tidying(self.ledger, self.spool, self._stop.wait, self.metrics.orphan_removed)
        self._retention = Periodic("retention", self._remove_old, RETENTION_S, after=self.ledger.close)
        self._watching = Periodic("ledger-watch", LedgerWatch(self.ledger).step, 60.0, after=self.ledger.close)
        self.receiver = Receiver(parts.receiver_settings(settings), root, self._on_receiver, log)
        self._health = self._checks()
        self.app: Any = None
        self._web: Any = None
        self._metrics_listener: Any = None

    # -- life ----------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start everything; when it returns, the node takes images.

        Raises
        ------
        QcNodeError
            A port is in use, weights are missing or altered, the network would reach an unprotected page.
        """
        tightened = self.spool.tighten()
        if tightened:
            log.warning("%d files and folders of the data folder were open to other users; now closed", tightened)
        adopted = recover(self.spool, self.ledger)
        if adopted:
            log.warning("%d images that a crash had cut off from the ledger were taken in again", adopted)
        try:
            self._metrics_listener = self.metrics.serve(
                self.settings.metrics.host, self.settings.metrics.port, self._health, self._observe
            )
            self._web = self._open_web()
            self.pool.start()
            for loop in (self._writing, self._closing, self._asking, self._retention, self._watching):
                loop.start()
            self._outbox.start()
            self.receiver.start()
        except BaseException:
            self.stop()
            raise
        log.info(
            "%s takes images on %s port %d",
            self.settings.node.ae_title,
            self.settings.node.host,
            self.receiver.port,
        )

    def stop(self, grace_s: float = 20.0) -> None:
        """Take nothing more, finish what is in hand, keep the rest for the next start."""
        self._stop.set()
        deadline = time.monotonic() + grace_s
        self.receiver.stop(grace_s)
        self.pool.stop(max(1.0, deadline - time.monotonic()))
        for loop in (self._closing, self._asking, self._writing, self._retention, self._watching):
            loop.stop(max(1.0, deadline - time.monotonic()))
        self._outbox.stop()
        if self._web is not None:
            self._web.stop()
        if self._metrics_listener is not None:
            self._metrics_listener.stop()
        self.ledger.close()
        os.close(self._lock)
        log.info("stopped")

    def run(self, read_again: Callable[[], Settings]) -> None:
        """Start, wait for SIGTERM or SIGINT, stop.

        Parameters
        ----------
        read_again
            Gives the configuration as it is now; called after each SIGHUP.
        """
        os.umask(~PRIVATE & 0o777)
        logs.configure(self.settings.node.log_format, self.settings.node.log_level)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        asked = threading.Event()
        signal.signal(signal.SIGHUP, lambda *_: asked.set())
        self.start()
        while not self._stop.wait(1.0):
            if asked.is_set():
                asked.clear()
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
        self.pool.apply(parts.worker_settings(settings))
        logs.configure(settings.node.log_format, settings.node.log_level)
        self._closing.wake()

    # -- steps ---------------------------------------------------------------------------------------
    def _close_due(self) -> float | None:
        return self._completion.step(time.time(), time.monotonic())

    def _ask_pacs(self) -> float | None:
        return self._questions.step(time.time())

    def _remove_old(self) -> None:
        keep = self.settings.retention
        self._tidying.step(keep.keep_images_h, keep.keep_training_days)
        remove_old_reports(self.ledger, self.spool, time.time(), keep.keep_reports_days)

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
        check_study(self.ledger, self._rules, uid)
        if self.app is not None:
            self.app.state.board.study_closed(uid)

    def _on_worker(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "ready":
            for model in event["models"]:
                identity = ModelIdentity(model["name"], model["version"], model["sha256"])
                self.metrics.model(Stage(model["stage"]), identity)
            return
        for step, seconds in event["timings"].items():
            self.metrics.step(step, seconds)
        for verdict in event["verdicts"]:
            self.metrics.verdict(verdict_from_json(verdict))
        if event["state"] != "judged" or not self.settings.pacs.destination:
            self.metrics.series_finished(event["stage"], event["state"])
        self._publish(event["series_id"])
        self._writing.wake()

    def _on_written(self, series_id: int) -> None:
        self._outbox.wake()

    def _on_delivery(self, delivery: ReportDelivery, destination: str, outcome: str) -> None:
        self.metrics.delivery(destination, outcome)
        if outcome == "sent" and delivery["kind"] == "sr":
            self.metrics.report_acknowledged(self.ledger, delivery, time.time())
            self._publish(delivery["series_id"])

    def _on_committed(self, destination: str) -> None:
        """A destination promised to keep an object, on our association or on one of its own."""
        self.metrics.delivery(destination, "committed")

    def _publish(self, series_id: int | None) -> None:
        if self.app is not None and series_id is not None:
            self.app.state.board.publish(series_id)

    # -- parts ---------------------------------------------------------------------------------------
    def _open_web(self) -> Any:
        settings = self.settings.web
        web = parts.web_options(self.settings)
        check_bind(web, self.ledger.readers.count_enabled(), secret_configured=settings.secret is not None)
        report_vote = vote_reporter(
            self.ledger,
            self.spool,
            self._destinations,
            station_name=self.settings.node.ae_title,
            software_version=__version__,
            sr_class=self.settings.pacs.sr_class,
            clock=time.time,
        )
        deps = WebDeps(
            ledger=self.ledger,
            spool=self.spool,
            web=web,
            healthz=lambda: _answer(self._health.alive()),
            readyz=lambda: _answer(self._health.ready()),
            on_vote=self.metrics.vote,
            report_vote=report_vote,
        )
        self.app = create_app(deps)
        return serve_web(self.app, settings.host, settings.port)

    def _checks(self) -> health.Health:
        stuck_s = 600.0
        return health.Health(
            vital=[health.receiver_probe(self.receiver.alive), health.ledger_probe(self.ledger)],
            working=[
                health.disk_probe(self.spool, self.settings.disk.low_watermark_bytes),
                health.objects_probe(self._recent),
                health.worker_probe(self.pool.alive, self.ledger, time.time, stuck_s),
                health.outbox_probe(self.ledger, time.time, stuck_s),
            ],
        )


def refuse_unbuilt(settings: Settings) -> None:
    """Say no to what the contract has a key for but this version does not do."""
    for peer in settings.peer:
        if peer.tls:
            raise QcNodeError(f"[[peer]] {peer.name} asks for tls, which this version does not speak yet.")


def _answer(report: Any) -> tuple[bool, Mapping[str, Any]]:
    return report.ok, json.loads(report.as_json())
