"""What is asked at each scrape, image, series or page goes through what is open, never through ten years."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from qc_node.domain.attention import AttentionKind
from qc_node.domain.technique import Technique
from qc_node.ledger import Ledger, Received
from qc_node.ledger.schema import NUMBERED
from qc_node.ledger.search import NEWEST, SeriesWanted
from qc_node.operations import health
from qc_node.operations.metrics import Metrics
from qc_node.operations.retention import remove_old
from qc_node.receiver.recovery import recover
from qc_node.spool import Spool
from tests.ledger.grown_ledger import PER_SERIES, grow, image_uid, names_of

ONLY_OPEN = {
    "series_with_images",
    "emptied_open",
    "objects_waiting",
    "objects_handled",
    "commitments_in_vain",
    "deliveries_unfinished",
    "verdicts_keeping",
    "summaries_kept",
    "alarms_open",
    "alarms_vote",
    "notifications_due",
    "studies_due",
    "kept_inputs_there",
}
"""Partial indexes: they hold what is not done yet, or is on the disk for a while; going through one is going
through that."""
STOPS_EARLY = {"idx_verdicts_judged_at", "idx_series_last_received"}
"""Gone through from the newest on, for as many rows as are shown."""
BOUNDED = {"quarantine", "json_each", "alarms", "models", "n", "objects", "summaries_due"}
"""What retention, or its nature, keeps small; ``n``: a row for each scanner."""

NEW = Received("1.9", "1.2", "1.2.9", "1.2", "1.2", "MR", "SCANNER1", "images/x/y.dcm", 1, 2e9)
BACK = Received(
    image_uid(0, 0), "1.2", names_of(0)[1], names_of(0)[0], "1.2", "MR", "SCANNER0", "images/b/a", 1, 2e9
)


def measured_row() -> Any:
    return {"chart_id": 1, "at": 1.0, "measured_id": 1, "series_id": 1}


TECHNIQUE = Technique("MR", "SCANNER1", "VE11", {"sequence": "gr"})

HOT: dict[str, Callable[[Ledger, Spool], Any]] = {
    "a scrape": lambda ledger, spool: Metrics().observe_ledger(ledger, spool, 2e9),
    "readiness, worker": lambda ledger, spool: health.worker_probe(lambda: True, ledger, lambda: 2e9, 1.0)(),
    "readiness, outbox": lambda ledger, spool: health.outbox_probe(ledger, lambda: 2e9, 1.0)(),
    "a new image": lambda ledger, spool: ledger.instances.add([NEW], spool.count_there),
    "an image that retention removed": lambda ledger, spool: ledger.instances.add([BACK], spool.count_there),
    "is it known": lambda ledger, spool: ledger.instances.newest("1.2.3"),
    "closing": lambda ledger, spool: (
        *(ledger.series.due(2e9, 60.0), ledger.series.next_due(), ledger.studies.due(2e9, 60.0)),
        *(ledger.studies.next_due(), ledger.series.events(1), ledger.instances.of_series(1)),
    ),
    "claiming": lambda ledger, spool: (ledger.series.claim(2e9, 4), ledger.series.requeue_claimed(3, 2e9)),
    "writing": lambda ledger, spool: (
        *(ledger.verdicts.to_report(2e9), ledger.verdicts.waiting(), ledger.verdicts.next_report_at()),
        *(ledger.deliveries.last_report(1), ledger.deliveries.reports_of(1)),
    ),
    "summaries": lambda ledger, spool: (
        *(ledger.summaries.due(), ledger.summaries.of_study("1")),
        *(ledger.deliveries.summaries_to_remove(2e9), ledger.deliveries.last_report(1, "summary")),
    ),
    "sending": lambda ledger, spool: (
        *(ledger.deliveries.next_pending("PACS", 2e9, 50, 3e9), ledger.deliveries.next_attempt_at("PACS", 3e9)),
        *(ledger.deliveries.never_asked("PACS", 1e9), ledger.deliveries.asked_in_vain("PACS")),
    ),
    "the board": lambda ledger, spool: (
        *(ledger.series.scanners_since(1.9e9), ledger.series.newest_of("ROOM1", "nobody", 9)),
        *(
            ledger.series.newest_of(None, "nobody", 9),
            ledger.alarms.open_ones(),
            ledger.alarms.raised_since(1.9e9),
        ),
        *(ledger.verdicts.get(1), ledger.verdicts.after(1), ledger.verdicts.of_last_runs([1, 2])),
        *(ledger.alarms.open_of_study("1", AttentionKind.MISSING), ledger.alarms.answers_of("r", 0.0)),
        *(ledger.alarms.of_vote(1), ledger.alarms.open_votes(), ledger.series.without_station(1.9e9, 9)),
    ),
    "measures on the board": lambda ledger, spool: (
        *(ledger.control_charts.measured_of([1, 2]), ledger.control_charts.drifting(1.9e9)),
        *ledger.control_charts.last_measured_of([1, 2]),
        *(ledger.control_charts.software(["STATION_1"]), ledger.control_charts.chart(1)),
    ),
    "control charts": lambda ledger, spool: (
        *(ledger.control_charts.stations(), ledger.control_charts.of_station("STATION_1", 300)),
        *(ledger.measured.history(1, 100), ledger.control_charts.earlier(measured_row(), 9)),
    ),
    "notifications": lambda ledger, spool: (
        *(ledger.notifications.due(2e9, 9, 3600.0), ledger.notifications.next_attempt_at()),
        ledger.notifications.remove(1e9),
    ),
    "a target that is away": lambda ledger, spool: ledger.notifications.postpone("x", 2e9),
    "the newest 300": lambda ledger, spool: (ledger.verdicts.recent(300), ledger.series.recent(300)),
    "the review page": lambda ledger, spool: (
        *(ledger.search.named(names_of(1)[0]), ledger.search.named("A00000"), ledger.search.named(names_of(1)[1])),
        *(ledger.search.end_of_stretch(SeriesWanted(), NEWEST, 50), ledger.search.listed([1, 2])),
        *(ledger.search.between(SeriesWanted(modality="CT"), NEWEST, (1.9e9, 5)), ledger.search.scanners()),
        *(ledger.verdicts.of_present_runs([1, 2]), ledger.labels.of_many([1, 2])),
        *(ledger.series.events_of_many([1, 2]), ledger.labels.of(1)),
    ),
    "a study": lambda ledger, spool: (
        *(ledger.series.of_study("1"), ledger.series.get("1"), ledger.series.find("1", "2")),
        *(ledger.series.claims_of_study("1"), ledger.studies.by_accession("A"), ledger.studies.get("1")),
    ),
    "measuring": lambda ledger, spool: (
        *(ledger.measured.charts_of(TECHNIQUE), ledger.measured.history(1, 240, without=3)),
        *(ledger.measured.of(1, 1), ledger.measured.chart(TECHNIQUE, 2e9), ledger.kept_inputs.of_series(1)),
    ),
    "key objects": lambda ledger, spool: ledger.instances.unhandled_objects(),
    "the start": lambda ledger, spool: recover(spool, ledger),
    "retention": lambda ledger, spool: remove_old(ledger, spool, 2e9, 72, 90),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Spool]:
    made = grow(tmp_path_factory.mktemp("grown"), 3 * PER_SERIES, 2 * PER_SERIES)
    return made.ledger, made.spool


def asked(conn: sqlite3.Connection, do: Callable[[], Any]) -> list[str]:
    """Every statement that `do` has carried out on a connection, with its values."""
    statements: list[str] = []
    conn.set_trace_callback(statements.append)
    try:
        do()
    finally:
        conn.set_trace_callback(None)
    return [s for s in dict.fromkeys(statements) if re.match("SELECT|UPDATE|DELETE|INSERT", s)]


def scans(conn: sqlite3.Connection, statement: str) -> list[str]:
    """Steps of its plan that go through a whole table, or an index of one."""
    plan = [str(row[3]) for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}")]
    return [
        step for step in plan if (found := re.match(r"SCAN (\w+)(.*)", step)) and not is_small(*found.groups())
    ]


def is_small(table: str, how: str) -> bool:
    index = re.search(r"USING (?:COVERING )?INDEX (\w+)", how)
    used = index[1] if index else ""
    return table in BOUNDED or "CONSTANT" in table or used in ONLY_OPEN | STOPS_EARLY


@pytest.mark.parametrize("what", HOT)
def test_no_frequent_question_goes_through_a_whole_table(what: str, grown: tuple[Ledger, Spool]) -> None:
    ledger, spool = grown
    conn = ledger.db.conn
    conn.execute("BEGIN")  # the next case finds what this one found
    try:
        for table in NUMBERED:  # at work once after a patient was forgotten
            conn.execute(f"DROP TRIGGER {table}_number")
        statements = asked(conn, lambda: HOT[what](ledger, spool))
        found = {statement: plan for statement in statements if (plan := scans(conn, statement))}
    finally:
        conn.execute("ROLLBACK")
    assert statements and found == {}


def test_a_question_that_goes_through_a_table_would_be_seen(grown: tuple[Ledger, Spool]) -> None:
    ledger, _ = grown
    (statement,) = asked(ledger.db.conn, ledger.series.counts)
    assert scans(ledger.db.conn, statement)
