"""The composition root: builds the parts from the settings, starts and stops them, and nothing else.

Order of starting: what takes in comes last, so that nothing arrives before there is somebody to work on it;
order of stopping: what takes in goes first.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qc_node import __version__
from qc_node.completion.closing import Completion, CompletionPolicy
from qc_node.completion.pacs_query import series_count
from qc_node.config import PeerSettings, Settings, rules_digest
from qc_node.dicom.association import Peer
from qc_node.domain import ModelIdentity, QcNodeError, Stage, verdict_from_json
from qc_node.engine.closed_studies import check_study
from qc_node.engine.orders import Rule
from qc_node.engine.pool import Pool
from qc_node.engine.worker import WorkerSettings
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReportDelivery
from qc_node.operations import health, logs
from qc_node.operations.metrics import Metrics
from qc_node.operations.retention import remove_old
from qc_node.outbox.sending import Destination, Outbox
from qc_node.outbox.writer import Writer, WritingSettings
from qc_node.periodic import Periodic
from qc_node.receiver.receiver import ReceivedEvent, Receiver, ReceiverSettings
from qc_node.receiver.recovery import recover
from qc_node.spool import Spool
from qc_node.web.app import create_app
from qc_node.web.server import serve as serve_web
from qc_node.web.settings import PromptPolicy, WebDeps, WebOptions, check_bind, load_or_make_secret
from qc_node.web.votes.to_pacs import poster

log = logging.getLogger("qc_node")

RETENTION_S = 300.0
GB = 1e9


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
        self.ledger = Ledger(root / "ledger.sqlite")
        accepted = [p.ae_title for p in settings.peers("accept")]
        destinations = self._destinations = (settings.pacs.destination,) if settings.pacs.destination else ()
        self.metrics = Metrics(accepted, destinations)
        self._rules = rules_of(settings)
        self._stop = threading.Event()
        self.pool = Pool(worker_settings(settings), self.ledger, self._on_worker)
        writing = WritingSettings(
            software_version=__version__,
            rules_digest=rules_digest(settings),
            sr_class=settings.pacs.sr_class,
            ae_title=settings.node.ae_title,
            destinations=destinations,
            flag_object=settings.pacs.flag_object,
        )
        writer = Writer(writing, self.ledger, self.spool, time.time, self._on_written)
        self._completion = Completion(
            completion_settings(settings), self.ledger, ask_pacs=pacs_asker(settings), on_closed=self._on_closed
        )
        self._outbox = Outbox(
            self.ledger,
            self.spool,
            [
                Destination(peer_of(settings, settings.peer_named(name)), settings.pacs.storage_commitment)
                for name in destinations
            ],
            on_delivery=self._on_delivery,
        )
        self._writing = Periodic("writing", writer.step, after=self.ledger.close)
        self._closing = Periodic("completion", self._close_due, 0.5, after=self.ledger.close)
        self._retention = Periodic("retention", self._remove_old, RETENTION_S, after=self.ledger.close)
        self.receiver = Receiver(receiver_settings(settings), root, self._on_received, log)
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
        adopted = recover(self.spool, self.ledger)
        if adopted:
            log.warning("%d images that a crash had cut off from the ledger were taken in again", adopted)
        try:
            self._metrics_listener = self.metrics.serve(
                self.settings.metrics.host, self.settings.metrics.port, self._health, self._observe
            )
            self._web = self._open_web()
            self.pool.start()
            for loop in (self._writing, self._closing, self._retention):
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
        for loop in (self._closing, self._writing, self._retention):
            loop.stop(max(1.0, deadline - time.monotonic()))
        self._outbox.stop()
        if self._web is not None:
            self._web.stop()
        if self._metrics_listener is not None:
            self._metrics_listener.stop()
        self.ledger.close()
        os.close(self._lock)
        log.info("stopped")

    def run(self) -> None:
        """Start, wait for SIGTERM or SIGINT, stop."""
        logs.configure(self.settings.node.log_format, self.settings.node.log_level)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        self.start()
        while not self._stop.wait(1.0):
            pass
        self.stop()

    # -- steps ---------------------------------------------------------------------------------------
    def _close_due(self) -> float | None:
        return self._completion.step(time.time())

    def _remove_old(self) -> None:
        keep = self.settings.retention
        remove_old(self.ledger, self.spool, time.time(), keep.keep_images_h, keep.keep_training_days)

    def _observe(self) -> None:
        self.metrics.observe_ledger(self.ledger, self.spool, time.time())

    # -- what the parts tell -------------------------------------------------------------------------
    def _on_received(self, event: ReceivedEvent) -> None:
        self.metrics.instance_received(event.calling_ae, event.status, event.seconds)
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
        if event["verdict"] is not None:
            self.metrics.verdict(verdict_from_json(event["verdict"]))
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

    def _publish(self, series_id: int | None) -> None:
        if self.app is not None and series_id is not None:
            self.app.state.board.publish(series_id)

    # -- parts ---------------------------------------------------------------------------------------
    def _open_web(self) -> Any:
        settings = self.settings.web
        web = web_settings(self.settings)
        check_bind(web, self.ledger.readers.count_enabled(), secret_configured=settings.secret is not None)
        post_vote = poster(
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
            post_vote=post_vote,
        )
        self.app = create_app(deps)
        return serve_web(self.app, settings.host, settings.port)

    def _checks(self) -> health.Health:
        stuck_s = 600.0
        return health.Health(
            vital=[health.receiver_probe(self.receiver.alive), health.ledger_probe(self.ledger)],
            working=[
                health.disk_probe(self.spool, self.settings.disk.low_watermark_gb * GB),
                health.worker_probe(self.pool.alive, self.ledger, time.time, stuck_s),
                health.outbox_probe(self.ledger, time.time, stuck_s),
            ],
        )


# -- settings of the parts -------------------------------------------------------------------------------
def receiver_settings(settings: Settings) -> ReceiverSettings:
    """What the door needs to know."""
    node = settings.node
    return ReceiverSettings(
        ae_title=node.ae_title,
        host=node.host,
        port=node.port,
        peers={p.ae_title: p.host for p in settings.peers("accept")},
        accept_unknown=node.accept_unknown_callers,
        low_watermark_bytes=int(settings.disk.low_watermark_gb * GB),
        processes=node.receive_processes,
        max_associations=node.max_associations,
    )


def completion_settings(settings: Settings) -> CompletionPolicy:
    """When series and studies count as complete."""
    c = settings.completion
    return CompletionPolicy(
        quiet_s=c.quiet_s,
        hard_cap_s=c.hard_cap_s,
        study_quiet_s=c.study_quiet_s,
        ask_pacs=c.ask_pacs and bool(settings.peers("find")),
        quiet_s_by_ae={p.ae_title: p.quiet_s for p in settings.peer if p.quiet_s is not None},
    )


def worker_settings(settings: Settings) -> WorkerSettings:
    """What the classifier needs to know."""
    return WorkerSettings(
        data_dir=str(settings.node.data_dir.resolve()),
        models_dir=str(settings.classify.models_dir.resolve()),
        device=settings.classify.device,
        batch=settings.classify.batch,
        threads=settings.classify.threads,
        confirm_s=settings.completion.confirm_s,
        rules=tuple(rule.model_dump(mode="json") for rule in settings.rule),
        logging=logs.dict_config(settings.node.log_format, settings.node.log_level),
    )


def web_settings(settings: Settings) -> WebOptions:
    """How the counter is served; without a configured secret one is made and kept in the data folder."""
    web = settings.web
    return WebOptions(
        secret=web.secret or load_or_make_secret(settings.node.data_dir / "web-secret"),
        host=web.host,
        port=web.port,
        public_base=web.public_base,
        trusted_user_header=web.trusted_user_header,
        trusted_proxies=web.trusted_proxies,
        blind=web.blind,
        frame_ancestors=web.frame_ancestors,
        webhook_url=settings.webhook.url,
        vote_sr=web.vote_sr,
        fhircast_hubs=web.fhircast_hubs,
        fhircast_token=web.fhircast_token,
        prompts=PromptPolicy(**settings.prompt.model_dump()),
    )


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """The expectations of the department."""
    return tuple(Rule(**rule.model_dump(mode="json")) for rule in settings.rule)


def peer_of(settings: Settings, peer: PeerSettings) -> Peer:
    """A configured peer that can be called.

    Raises
    ------
    QcNodeError
        The peer has no address.
    """
    if peer.host is None or peer.port is None:
        raise QcNodeError(f"[[peer]] {peer.name} has no host and port, so nothing can be sent there.")
    return Peer(peer.name, peer.ae_title, peer.host, peer.port, settings.node.ae_title)


def pacs_asker(settings: Settings) -> Callable[[str, str], int | None]:
    """Asks the peers with the role ``find``, in order, until one answers."""
    peers = [peer_of(settings, p) for p in settings.peers("find")]
    own_title = settings.node.ae_title

    def ask(study_uid: str, series_uid: str) -> int | None:
        for peer in peers:
            count = series_count(peer.host, peer.port, peer.ae_title, own_title, study_uid, series_uid)
            if count is not None:
                return count
        return None

    return ask


def refuse_unbuilt(settings: Settings) -> None:
    """Say no to what the contract has a key for but this version does not do."""
    for peer in settings.peer:
        if peer.tls:
            raise QcNodeError(f"[[peer]] {peer.name} asks for tls, which this version does not speak yet.")


def lock_folder(root: Path) -> int:
    """Take the data folder for this process; the lock goes with the process, even after ``kill -9``.

    Raises
    ------
    QcNodeError
        Another node has it.
    """
    fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise QcNodeError(f"The data folder {root} is in use by another qc-node.") from None
    return fd


def _answer(report: Any) -> tuple[bool, Mapping[str, Any]]:
    return report.ok, json.loads(report.as_json())
