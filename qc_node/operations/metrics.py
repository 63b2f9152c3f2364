"""Prometheus metrics: names and labels are part of the outward contract (``docs/operations.md``).

No label ever carries patient data, and no label can grow without bound: what a stranger may choose
(AE titles, modalities, sites) is checked against what is known, and everything else is ``other``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from qc_node import __version__
from qc_node.classifiers import catalogue
from qc_node.domain import ModelIdentity, Stage, Verdict
from qc_node.domain.attention import SEEN, AlarmAnswer, AttentionKind
from qc_node.http_server import HttpLimits
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReportDelivery, SeriesRow, VerdictRow
from qc_node.operations import orphans
from qc_node.operations.health import Health
from qc_node.operations.listener import HttpAnswer, Listener
from qc_node.operations.measure_metrics import MeasureMetrics
from qc_node.spool import Spool

disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody asks when a counter was made
OTHER = "other"

RECEIVE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""From "a page-cache write" to "the disk is in trouble"."""
STEP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0)
LATENCY_BUCKETS_S = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 60.0, 120.0, 300.0, 600.0, 3600.0)
"""Fine around the 3 s that are promised, coarse where only the order of magnitude matters."""

NO_STAGE = "none"
"""Value of the label ``stage`` for series that no classifier judges."""
OUTCOMES = ("reported", "judged", "skipped", "failed", "forgotten")
"""Values of the label ``outcome`` of ``qc_node_series_total``."""
STEPS = ("complete", "queue", "read", "preprocess", "measure", "infer", "total", "write", "deliver")
"""Values of the label ``step``: the stretches of a series' way."""
QUEUES = ("receiving", "queued", "judging", "judged", "outbox", "outbox_failed", "quarantine")
"""Values of the label ``queue``: unfinished series by state, objects in the outbox, and the quarantine."""
DELIVERY_OUTCOMES = ("sent", "committed", "retry", "failed", "uncommitted")
CALL_OUTCOMES = ("raised", SEEN, *(answer.value for answer in AlarmAnswer))
NOTIFICATION_OUTCOMES = ("sent", "retry", "given_up")
VOTES = ("good", "acceptable", "poor")
SIGN_IN_WAYS = ("pin", "link", "single sign-on", "too many")
"""Values of the label ``way``; ``too many`` was not looked at: attempts before it had used up the limit."""
_MODALITY_TERMS = (
    "AR AU BDUS BI BMD CR CT CFM DG DX ECG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM "
    "OAM OCT OP OPM OPT OPV OSS OT PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTPLAN RTRECORD RTSTRUCT "
    "SEG SM SMR SR SRF STAIN TG US VA XA XC"
)
MODALITIES = frozenset(_MODALITY_TERMS.split())
"""Defined terms of Modality (0008,0060), PS3.3 C.7.3.1.1.1."""
MOST_SITES = 100
"""Sites beyond this many are ``other``."""


def stages() -> tuple[str, ...]:
    """Values of the label ``stage``."""
    return (*(spec.stage for spec in catalogue.specs()), NO_STAGE)


class Metrics:
    """All metrics of one node, in a registry of their own.

    Parameters
    ----------
    calling_aes
        AE titles that may appear in ``calling_ae``; any other is ``other``.
    destinations
        Peer names that may appear in ``destination``.
    targets
        Names of those who are told, in ``target``.
    """

    def __init__(
        self,
        calling_aes: Iterable[str] = (),
        destinations: Iterable[str] = (),
        targets: Iterable[str] = (),
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._aes = frozenset(calling_aes)
        self._destinations = frozenset(destinations)
        self._targets = frozenset(targets)
        self._sites: set[str] = set()
        self._health: Health | None = None
        self._update: Callable[[], None] | None = None

        self._instances = self._counter(
            "instances_received", "Instances received by C-STORE", "calling_ae", "status"
        )
        self._changed = self._counter(
            "instances_changed",
            "Instances that came again under their SOP Instance UID with other content",
            "calling_ae",
            "outcome",
        )
        self._receive = self._histogram(
            "receive_seconds", "Time from request to response of one C-STORE", RECEIVE_BUCKETS_S
        )
        self._series = self._counter("series", "Series that ended a run, by outcome", "stage", "outcome")
        self._latency = self._histogram(
            "series_latency_seconds", "Last image received to report acknowledged", LATENCY_BUCKETS_S
        )
        self._steps = self._histogram("step_seconds", "Time that one step took", STEP_BUCKETS_S, "step")
        self._depth = self._gauge("queue_depth", "What waits, by queue", "queue")
        self._oldest = self._gauge("queue_oldest_seconds", "Age of the oldest series in a queue", "queue")
        self._outbox_oldest = self._gauge("outbox_oldest_seconds", "Age of the oldest object not yet delivered")
        self._uncommitted = self._gauge(
            "commitments_open_oldest_seconds", "Time since the oldest storage commitment still owed was asked for"
        )
        self._deliveries = self._counter("deliveries", "Attempts to deliver an object", "destination", "outcome")
        self._verdicts = self._counter("verdicts", "Answers given", "stage", "finding", "value")
        self._orphans = self._counter("orphans_removed", "Files that belonged to nothing and were deleted", "kind")
        self._votes = self._counter("votes", "Votes by people", "vote", "site", "modality")
        self._failed_sign_ins = self._counter("failed_sign_ins", "Attempts to sign in that failed", "way")
        self._calls = self._counter("calls", "Calls of the board, and what they led to", "kind", "outcome")
        self._notifications = self._counter(
            "notifications", "Attempts to tell another system what happened", "target", "outcome"
        )
        self.measures = MeasureMetrics(self.registry)
        self._models = self._gauge("model_info", "Model in use (always 1)", "stage", "name", "version")
        self._disk = self._gauge("disk_free_bytes", "Free space where the data folder is")
        self._checks = self._gauge("check_ok", "1 if the check passes, else 0", "check")
        self._gauge("build_info", "Version of the program (always 1)", "version").labels(__version__).set(1)

        for stage in stages():
            for outcome in OUTCOMES:
                self._series.labels(stage, outcome)
        for way in SIGN_IN_WAYS:
            self._failed_sign_ins.labels(way)
        for kind in orphans.KINDS:
            self._orphans.labels(kind)
        for queue in QUEUES:
            self._depth.labels(queue).set(0)
        for destination in self._destinations:
            for outcome in DELIVERY_OUTCOMES:
                self._deliveries.labels(destination, outcome)
        for kind in AttentionKind:
            for outcome in CALL_OUTCOMES:
                self._calls.labels(kind.value, outcome)
        for target in self._targets:
            for outcome in NOTIFICATION_OUTCOMES:
                self._notifications.labels(target, outcome)
        for ae in (*self._aes, OTHER):
            for status in ("0x0000", "0xA7xx"):  # an alert sees a first refusal only where there was a zero before
                self._instances.labels(ae, status)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"qc_node_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"qc_node_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"qc_node_{name}", text, labels, buckets=buckets, registry=self.registry)

    # -- what happened -------------------------------------------------------------------------------
    def instance_received(self, calling_ae: str, status: int, seconds: float) -> None:
        """One C-STORE from `calling_ae` was answered with `status` after `seconds`."""
        self._instances.labels(_known(calling_ae, self._aes), status_label(status)).inc()
        self._receive.observe(seconds)

    def instance_changed(self, calling_ae: str, kept: bool) -> None:
        """An instance came again with other content, and took the place of the first one or was refused."""
        self._changed.labels(_known(calling_ae, self._aes), "kept" if kept else "refused").inc()

    def series_finished(self, stage: str | None, outcome: str, latency_s: float | None = None) -> None:
        """A run of a series ended; `latency_s` (last image to report acknowledged) where there is one."""
        self._series.labels(_known(stage or NO_STAGE, stages()), _known(outcome, OUTCOMES)).inc()
        if latency_s is not None:
            self._latency.observe(latency_s)

    def report_acknowledged(self, ledger: Ledger, delivery: ReportDelivery, now: float) -> None:
        """The destination took a report: count the series, its latency, and the steps that the ledger timed.

        `delivery` is the row that the outbox sent; a report on an earlier run, overtaken by a late image,
        counts without times.  One on a series that was measured and not judged does not count: that was skipped.
        """
        number = delivery["series_id"]
        series = None if number is None else ledger.series.by_id(number)
        verdict = None if number is None else ledger.verdicts.get(number, delivery["run"])
        if series is not None and series["state"] == "skipped" and verdict is None:
            return
        if series is None or verdict is None or series["run"] != delivery["run"]:
            self.series_finished(None if verdict is None else verdict["stage"], "reported")
            return
        self.series_finished(verdict["stage"], "reported", now - series["last_received"])
        for step, seconds in walk_seconds(series, verdict, delivery, now).items():
            self.step(step, seconds)

    def step(self, step: str, seconds: float) -> None:
        """One step (:data:`STEPS`) took `seconds`."""
        self._steps.labels(_known(step, STEPS)).observe(seconds)

    def delivery(self, destination: str, outcome: str) -> None:
        """One attempt to deliver: an outcome of :data:`DELIVERY_OUTCOMES`."""
        self._deliveries.labels(_known(destination, self._destinations), _known(outcome, DELIVERY_OUTCOMES)).inc()

    def orphan_removed(self, kind: str) -> None:
        """A file of one of :data:`qc_node.operations.orphans.KINDS` belonged to nothing and was deleted."""
        self._orphans.labels(_known(kind, orphans.KINDS)).inc()

    def verdict(self, verdict: Verdict) -> None:
        """Count every answer of a verdict; an abstention is ``undetermined``."""
        for finding in verdict.findings:
            self._verdicts.labels(verdict.stage, finding.question.value, finding.key or "undetermined").inc()

    def vote(self, vote: str, site: str, modality: str) -> None:
        """A person voted ``good``, ``acceptable`` or ``poor`` on a study of `modality` at `site`."""
        if len(self._sites) < MOST_SITES:
            self._sites.add(site)
        self._votes.labels(_known(vote, VOTES), _known(site, self._sites), _known(modality, MODALITIES)).inc()

    def failed_sign_in(self, way: str) -> None:
        """Somebody tried to sign in by one of :data:`SIGN_IN_WAYS`, in vain."""
        self._failed_sign_ins.labels(_known(way, SIGN_IN_WAYS)).inc()

    def call(self, kind: str, outcome: str) -> None:
        """The board called for a reason (:class:`AttentionKind`), or somebody answered: :data:`CALL_OUTCOMES`."""
        self._calls.labels(_known(kind, tuple(AttentionKind)), _known(outcome, CALL_OUTCOMES)).inc()

    def notification(self, target: str, outcome: str) -> None:
        """One attempt to tell a target: an outcome of :data:`NOTIFICATION_OUTCOMES`."""
        known = _known(target, self._targets), _known(outcome, NOTIFICATION_OUTCOMES)
        self._notifications.labels(*known).inc()

    # -- what is -------------------------------------------------------------------------------------
    def queue_depth(self, queue: str, depth: int) -> None:
        """How much waits in one of :data:`QUEUES`."""
        self._depth.labels(_known(queue, QUEUES)).set(depth)

    def model(self, stage: Stage, identity: ModelIdentity) -> None:
        """`identity` answers for `stage` from now on, in place of any other."""
        for sample in next(iter(self._models.collect())).samples:
            if sample.labels["stage"] == stage.value:
                self._models.remove(*(sample.labels[label] for label in ("stage", "name", "version")))
        self._models.labels(stage.value, identity.name, identity.version).set(1)

    def observe_ledger(self, ledger: Ledger, spool: Spool, now: float) -> None:
        """Set the gauges that the ledger and the disk answer for (`now` in seconds since the epoch)."""
        states = ledger.series.unfinished_counts()
        since = ledger.series.waiting_since()
        for state in ("receiving", "queued", "judging", "judged"):
            self.queue_depth(state, states.get(state, 0))
            self._oldest.labels(state).set(max(0.0, now - since[state]) if state in since else 0.0)
        deliveries = ledger.deliveries.unfinished_counts()
        self.queue_depth("outbox", deliveries.get("pending", 0))
        self.queue_depth("outbox_failed", deliveries.get("failed", 0))
        self.queue_depth("quarantine", ledger.instances.quarantine_count())
        oldest = ledger.deliveries.oldest_pending()
        self._outbox_oldest.set(0.0 if oldest is None else max(0.0, now - oldest))
        owed = ledger.deliveries.oldest_uncommitted()
        self._uncommitted.set(0.0 if owed is None else max(0.0, now - owed))
        self._disk.set(spool.free_bytes())
        self.measures.observe(ledger, now)

    # -- the listener --------------------------------------------------------------------------------
    def render(self, accept: str = "") -> HttpAnswer:
        """The metrics as a scrape with the header ``Accept:`` `accept` gets them."""
        if self._update is not None:
            self._update()
        if self._health is not None:
            for check in self._health.ready().checks:
                self._checks.labels(check.name).set(1 if check.passed else 0)
        encode, content_type = choose_encoder(accept)
        return HttpAnswer(200, content_type, encode(self.registry))

    def serve(
        self,
        host: str,
        port: int,
        health: Health | None = None,
        update: Callable[[], None] | None = None,
        *,
        limits: HttpLimits,
    ) -> Listener:
        """Answer ``/metrics`` (and with `health` what it answers) until :meth:`Listener.stop`.

        Parameters
        ----------
        host, port
            Where to listen; port 0 lets the operating system choose.
        health
            Its checks are shown as ``qc_node_check_ok`` at each scrape.
        update
            Called before each scrape, so that its gauges are never older than the question.
        limits
            How many connections, and how long a request may take to arrive.

        Raises
        ------
        QcNodeError
            The port is taken or the address is not ours; the sentence names ``[metrics]``.
        """
        self._health, self._update = health, update
        return Listener("metrics", host, port, self._answer, limits)

    def _answer(self, path: str, accept: str) -> HttpAnswer:
        if path == "/metrics":
            return self.render(accept)
        report = None if self._health is None else self._health.answer(path)
        if report is not None:
            return HttpAnswer(report.http_status, "application/json", report.as_json().encode())
        return HttpAnswer(404, "text/plain; charset=utf-8", b"Here are /metrics, /healthz and /readyz.\n")


def walk_seconds(
    series: SeriesRow, verdict: VerdictRow, delivery: ReportDelivery, sent_at: float
) -> dict[str, float]:
    """How long a series waited at each step, in seconds, from its rows in the ledger.

    ``complete``: last image to closing; ``queue``: closing to the worker's hand; ``write``: report due to
    report in the outbox; ``deliver``: outbox to acknowledgement.
    """
    times = {
        "complete": (series["last_received"], series["closed_at"]),
        "queue": (series["closed_at"], series["claimed_at"]),
        "write": (max(verdict["judged_at"], verdict["report_after"]), delivery["created_at"]),
        "deliver": (delivery["created_at"], sent_at),
    }
    return {
        step: max(0.0, end - begin)
        for step, (begin, end) in times.items()
        if begin is not None and end is not None
    }


def status_label(status: int) -> str:
    """A DIMSE status as a label: ``0x0000``, or its class as in PS3.4 B.2.3 (``0xA7xx``, ``0xCxxx``).

    Examples
    --------
    >>> status_label(0), status_label(0xA700), status_label(0xC211)
    ('0x0000', '0xA7xx', '0xCxxx')
    """
    if status == 0:
        return "0x0000"
    code = f"{status & 0xFFFF:04X}"
    if re.match("A7|A9|B0|01", code):
        return f"0x{code[:2]}xx"
    return "0xCxxx" if code[0] == "C" else OTHER


def _known(value: str, known: Iterable[str]) -> str:
    return value if value in known else OTHER
