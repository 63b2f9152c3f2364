"""Metrics: the contract's names, bounded labels, a listener that stops."""

from __future__ import annotations

import socket
import subprocess
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from qc_node.domain import (
    BodyPart,
    Finding,
    ModelIdentity,
    QcNodeError,
    Question,
    Reason,
    Stage,
    Verdict,
    tier_finding,
)
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.operations.health import Health, HealthCheck, HealthCode, ledger_probe, outbox_probe
from qc_node.operations.metrics import MOST_SITES, Metrics, status_label
from qc_node.spool import Spool
from tests.ledger.makers import number_of
from tests.part_settings import http_limits
from tests.peers.process import require

CONTRACT = {
    "qc_node_instances_received_total": {"calling_ae", "status"},
    "qc_node_receive_seconds": set(),
    "qc_node_series_total": {"stage", "outcome"},
    "qc_node_series_latency_seconds": set(),
    "qc_node_step_seconds": {"step"},
    "qc_node_queue_depth": {"queue"},
    "qc_node_outbox_oldest_seconds": set(),
    "qc_node_deliveries_total": {"destination", "outcome"},
    "qc_node_verdicts_total": {"stage", "finding", "value"},
    "qc_node_votes_total": {"vote", "site", "modality"},
    "qc_node_failed_sign_ins_total": {"way"},
    "qc_node_model_info": {"stage", "name", "version"},
    "qc_node_disk_free_bytes": set(),
}
MODEL = ModelIdentity("quality", "1.0", "ab" * 32)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.render().body.decode()
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted(labels.items()))]


def busy_metrics() -> Metrics:
    metrics = Metrics(["MR1"], ["PACS"])
    metrics.instance_received("MR1", 0, 0.004)
    metrics.series_finished("brain_mri", "reported", 2.5)
    metrics.step("infer", 0.3)
    metrics.delivery("PACS", "sent")
    metrics.vote("good", "North", "MR")
    metrics.model(Stage.CT, MODEL)
    metrics.verdict(Verdict(Stage.CT, MODEL, (Finding(Question.CONTRAST_ENHANCED, True),)))
    return metrics


def test_names_and_labels_are_the_contract() -> None:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(busy_metrics().render().body.decode()):
        for s in family.samples:
            name = s.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
            if not name.endswith("_created"):
                found.setdefault(name, set()).update(set(s.labels) - {"le"})
    assert {name: found.get(name) for name in CONTRACT} == CONTRACT


def test_promtool_finds_nothing_to_say() -> None:
    (promtool,) = require("promtool")
    text = b"".join(
        line + b"\n"
        for line in busy_metrics().render().body.splitlines()
        if b"qc_node_" in line and b"_created" not in line
    )
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_stranger_cannot_make_labels() -> None:
    metrics = Metrics(["MR1"], ["PACS"])
    before = len(samples(metrics))
    for n in range(300):
        metrics.instance_received(f"EVIL{n}", 0, 0.1)
        metrics.delivery(f"EVIL{n}", "sent")
        metrics.step(f"evil{n}", 0.1)
        metrics.series_finished(f"evil{n}", f"evil{n}", None)
    assert value(metrics, "qc_node_instances_received_total", calling_ae="other", status="0x0000") == 300
    for n in range(300):
        metrics.vote("good", f"site{n}", f"M{n}")
    sites = {dict(labels)["site"] for name, labels in samples(metrics) if name == "qc_node_votes_total"}
    assert len(sites) == MOST_SITES + 1
    assert len(samples(metrics)) < before + 2 * MOST_SITES + 60


@pytest.mark.parametrize(
    ("status", "label"),
    [(0, "0x0000"), (0xA700, "0xA7xx"), (0xA900, "0xA9xx"), (0xC2F3, "0xCxxx"), (0x0122, "0x01xx")],
)
def test_status_labels(status: int, label: str) -> None:
    assert status_label(status) == label


def test_status_labels_are_few() -> None:
    assert len({status_label(status) for status in range(0x10000)}) < 12


def test_verdicts_are_counted_by_answer() -> None:
    metrics = Metrics()
    grades = tuple(Finding(q, 1) for q in (Question.MOTION, Question.CONTRAST, Question.NOISE))
    metrics.verdict(
        Verdict(Stage.BRAIN_MRI, MODEL, (Finding(Question.STRAIGHT_REJECT, False), *grades, tier_finding(grades)))
    )
    metrics.verdict(
        Verdict(Stage.BRAIN_MRI, MODEL, (Finding(Question.STRAIGHT_REJECT, True, reason=Reason.BLANK),))
    )
    metrics.verdict(Verdict(Stage.CT, MODEL, (Finding(Question.BODY_PART, BodyPart.CHEST),)))
    metrics.verdict(Verdict(Stage.CT, MODEL, (Finding(Question.BODY_PART, None, abstained="Too unlike."),)))
    name = "qc_node_verdicts_total"
    assert value(metrics, name, stage="brain_mri", finding="straight_reject", value="no") == 1
    assert value(metrics, name, stage="brain_mri", finding="straight_reject", value="yes") == 1
    assert value(metrics, name, stage="brain_mri", finding="motion", value="1") == 1
    assert value(metrics, name, stage="brain_mri", finding="tier", value="2") == 1
    assert value(metrics, name, stage="ct", finding="body_part", value="chest") == 1
    assert value(metrics, name, stage="ct", finding="body_part", value="undetermined") == 1


def test_a_new_model_replaces_the_old_one() -> None:
    metrics = Metrics()
    metrics.model(Stage.CT, MODEL)
    metrics.model(Stage.BRAIN_MRI, MODEL)
    metrics.model(Stage.CT, ModelIdentity("quality", "1.1", "cd" * 32))
    versions = {
        (dict(labels)["stage"], dict(labels)["version"])
        for name, labels in samples(metrics)
        if name == "qc_node_model_info"
    }
    assert versions == {("ct", "1.1"), ("brain_mri", "1.0")}


def received(sop: str, series: str, at: float) -> Received:
    return Received(
        sop,
        "1.2.840.10008.5.1.4.1.1.4",
        series,
        "1.2",
        "1.2.840.10008.1.2.1",
        "MR",
        "MR1",
        f"images/{sop}",
        10,
        at,
    )


def test_gauges_come_from_the_ledger(tmp_path: Path) -> None:
    ledger, spool, metrics = Ledger(tmp_path / "ledger.sqlite"), Spool(tmp_path), Metrics()
    ledger.instances.add([received("1.2.1.1", "1.2.1", 100.0), received("1.2.2.1", "1.2.2", 140.0)])
    assert ledger.series.close(number_of(ledger, "1.2.1"), 100.0, "quiet", 150.0)
    ledger.instances.quarantine("quarantine/x", "not DICOM", "MR1", 100.0)
    written = WrittenObject("1.2.9", "1.2", number_of(ledger, "1.2.1"), "1.2", 1, "sr", "reports/x")
    ledger.deliveries.post([written], ["PACS"], 120.0)
    listener = metrics.serve(
        "127.0.0.1", 0, update=lambda: metrics.observe_ledger(ledger, spool, 200.0), limits=http_limits()
    )
    assert value(metrics, "qc_node_queue_depth", queue="queued") == 1
    assert value(metrics, "qc_node_queue_depth", queue="receiving") == 1
    assert value(metrics, "qc_node_queue_depth", queue="outbox") == 1
    assert value(metrics, "qc_node_queue_depth", queue="quarantine") == 1
    assert value(metrics, "qc_node_queue_oldest_seconds", queue="queued") == 50
    assert value(metrics, "qc_node_queue_oldest_seconds", queue="receiving") == 60
    assert value(metrics, "qc_node_outbox_oldest_seconds") == 80
    assert value(metrics, "qc_node_disk_free_bytes") > 0
    row = ledger.deliveries.next_pending("PACS", 200.0)[0]
    ledger.deliveries.sent(row["id"], 201.0)
    assert value(metrics, "qc_node_outbox_oldest_seconds") == 0
    assert value(metrics, "qc_node_commitments_open_oldest_seconds") == 0
    ledger.deliveries.commitment_asked(row["id"], "1.7", 130.0)
    ledger.deliveries.commitment_asked(row["id"], "1.8", 190.0)
    assert value(metrics, "qc_node_commitments_open_oldest_seconds") == 70
    assert ledger.deliveries.committed("1.2.9", "1.8", 195.0)
    assert value(metrics, "qc_node_commitments_open_oldest_seconds") == 0
    listener.stop()


def test_a_delivered_report_is_timed_step_by_step(tmp_path: Path) -> None:
    ledger, metrics = Ledger(tmp_path / "ledger.sqlite"), Metrics(["MR1"], ["PACS"])
    ledger.instances.add([received("1.2.1.1", "1.2.1", 100.0)])
    assert ledger.series.close(number_of(ledger, "1.2.1"), 100.0, "header", 101.0)
    ledger.series.claim(103.0)
    ledger.verdicts.add(
        number_of(ledger, "1.2.1"),
        1,
        Verdict(Stage.CT, MODEL, (Finding(Question.CONTRAST_ENHANCED, True),)),
        claims={},
        warnings=[],
        timings={},
        source_path="images/x",
        at=110.0,
        report_after=140.0,
    )
    ledger.series.finish(number_of(ledger, "1.2.1"), 1, "judged", 110.0, stage="ct")
    written = WrittenObject("1.2.9", "1.2", number_of(ledger, "1.2.1"), "1.2", 1, "sr", "reports/x")
    ledger.deliveries.post([written], ["PACS"], 141.5)
    row = ledger.deliveries.next_pending("PACS", 142.0)[0]
    metrics.report_acknowledged(ledger, row, 144.0)
    seconds = {
        s: value(metrics, "qc_node_step_seconds_sum", step=s) for s in ("complete", "queue", "write", "deliver")
    }
    assert seconds == {"complete": 1.0, "queue": 2.0, "write": 1.5, "deliver": 2.5}
    assert value(metrics, "qc_node_series_latency_seconds_sum") == 44.0
    assert value(metrics, "qc_node_series_total", stage="ct", outcome="reported") == 1
    ledger.instances.add([received("1.2.1.2", "1.2.1", 150.0)])
    metrics.report_acknowledged(ledger, row, 151.0)
    assert value(metrics, "qc_node_series_total", stage="ct", outcome="reported") == 2
    assert value(metrics, "qc_node_series_latency_seconds_count") == 1, "an overtaken report has no latency"


def get(port: int, path: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_the_listener_serves_and_stops() -> None:
    metrics = busy_metrics()
    failing = HealthCheck("worker", HealthCode.WORKER_DOWN, "The classifier process is not running.")
    health = Health([lambda: HealthCheck("reception")], [lambda: failing])
    listener = metrics.serve("127.0.0.1", 0, health, limits=http_limits())
    try:
        status, kind, text = get(listener.port, "/metrics")
        assert status == 200 and kind.startswith("text/plain")
        assert 'qc_node_check_ok{check="worker"} 0.0' in text
        assert 'qc_node_check_ok{check="reception"} 1.0' in text
        assert get(listener.port, "/healthz")[0] == 200
        status, kind, text = get(listener.port, "/readyz?verbose")
        assert status == 503 and kind == "application/json" and '"worker_down"' in text
        assert get(listener.port, "/etc/passwd")[0] == 404
    finally:
        listener.stop()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", listener.port), 1).close()


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(QcNodeError, match=rf"\[metrics\] port {port} on 127.0.0.1 is already in use"):
            Metrics().serve("127.0.0.1", port, limits=http_limits())


def test_a_foreign_address_is_one_sentence() -> None:
    with pytest.raises(QcNodeError, match="is not an address of this machine"):
        Metrics().serve("192.0.2.1", 9108, limits=http_limits())


def test_scrapes_leave_nothing_open(tmp_path: Path) -> None:
    ledger, spool, metrics = Ledger(tmp_path / "ledger.sqlite"), Spool(tmp_path), Metrics()
    health = Health([ledger_probe(ledger)], [outbox_probe(ledger, lambda: 0.0, 60.0)])
    listener = metrics.serve(
        "127.0.0.1", 0, health, lambda: metrics.observe_ledger(ledger, spool, 0.0), limits=http_limits()
    )
    open_files = Path("/proc/self/fd")
    try:
        get(listener.port, "/metrics")
        before = len(list(open_files.iterdir()))
        for _ in range(30):
            assert get(listener.port, "/metrics")[0] == get(listener.port, "/readyz")[0] == 200
        assert len(list(open_files.iterdir())) < before + 15
    finally:
        listener.stop()


def test_many_scrapes_at_once_open_two_connections_of_the_ledger_at_most(tmp_path: Path) -> None:
    ledger, spool, metrics = Ledger(tmp_path / "ledger.sqlite"), Spool(tmp_path), Metrics()
    threads: set[int] = set()

    def update() -> None:
        threads.add(threading.get_ident())
        metrics.observe_ledger(ledger, spool, 0.0)

    listener = metrics.serve("127.0.0.1", 0, update=update, limits=http_limits())
    try:
        with ThreadPoolExecutor(8) as pool:
            assert {s for s, _, _ in pool.map(lambda _: get(listener.port, "/metrics"), range(60))} == {200}
        assert len(threads) <= 2
        opened = [f for f in Path("/proc/self/fd").iterdir() if str(f.resolve()).startswith(str(tmp_path))]
        assert len(opened) <= 3 * 3, "file, log and index; for this thread and for the two that answer"
    finally:
        listener.stop()


def test_a_silent_client_does_not_block_a_scrape() -> None:
    listener = busy_metrics().serve("127.0.0.1", 0, limits=http_limits())
    try:
        with socket.create_connection(("127.0.0.1", listener.port)):
            assert get(listener.port, "/metrics")[0] == 200
    finally:
        listener.stop()
