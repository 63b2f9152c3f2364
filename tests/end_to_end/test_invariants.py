"""The invariants find what they are there for: each is broken once, in rows and bytes that stood before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.end_to_end.faults.invariants import Seen, broken, lost, unexplained, unfinished, wrong_reports
from tests.end_to_end.faults.modality import Acknowledged, digest_of
from tests.report import sources

NOW = 10_000.0
IMAGE = sources.evidence(1)[0].sop_instance_uid
FILE = b"head" + b"data set"


def disk(files: Mapping[str, bytes]) -> Callable[[str], bytes | None]:
    return lambda name: files.get(name)


def report_bytes(**changes: Any) -> tuple[str, bytes]:
    ds = sources.report(evidence=sources.evidence(1), **changes)
    return str(ds.SOPInstanceUID), sources.as_bytes(ds)


UID, REPORT = report_bytes()
SERIES = {
    "series_id": 1,
    "series_uid": "1.2",
    "state": "reported",
    "sentence": None,
    "images_removed_at": None,
    "last_received": NOW - 5000,
    "closed_at": NOW - 5000,
    "claimed_at": NOW - 5000,
    "report_after": NOW - 5000,
}
DELIVERY = {
    "id": 7,
    "sop_instance_uid": UID,
    "state": "committed",
    "created_at": NOW - 5000,
    "sent_at": NOW - 4000,
    "last_error": None,
}
TABLES: dict[str, list[Mapping[str, Any]]] = {
    "instances": [{"sop_instance_uid": IMAGE, "path": "images/1", "series_id": 1, "superseded_at": None}],
    "series": [SERIES],
    "studies": [{"study_uid": "1", "state": "closed", "last_received": NOW - 5000}],
    "reports": [{"sop_instance_uid": UID, "series_id": 1, "run": 1, "kind": "sr"}],
    "deliveries": [DELIVERY],
}
WELL = Seen(
    at=NOW,
    acknowledged=[Acknowledged(IMAGE, "1.2", 8, digest_of(b"data set"))],
    tables=TABLES,
    read=disk({"images/1": FILE}),
    held={UID: REPORT},
    commitment=True,
)


def with_rows(table: str, *rows: Mapping[str, Any]) -> Seen:
    return replace(WELL, tables={**TABLES, table: rows})


def test_nothing_is_said_where_all_is_well() -> None:
    assert broken(WELL) == [] and unfinished(WELL) == []


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (with_rows("instances"), "not in the ledger"),
        (replace(WELL, read=disk({})), "not on the disk"),
        (replace(WELL, read=disk({"images/1": b"head" + b"other"})), "other bytes"),
    ],
)
def test_an_acknowledged_object_that_is_not_kept_is_found(seen: Seen, said: str) -> None:
    (sentence,) = lost(seen)
    assert said in sentence


def test_images_that_retention_removed_are_not_missed() -> None:
    emptied = with_rows("series", {**SERIES, "images_removed_at": NOW})
    assert broken(replace(emptied, read=disk({}), tables={**emptied.tables, "instances": []})) == []


def test_each_content_that_was_acknowledged_under_one_uid_is_looked_for() -> None:
    both = [*WELL.acknowledged, Acknowledged(IMAGE, "1.2", 5, digest_of(b"other"))]
    (sentence,) = lost(replace(WELL, acknowledged=both))
    assert "other bytes" in sentence


SECOND, AGAIN = report_bytes(rules_digest="another")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (replace(WELL, held={}), "does not hold it"),
        (replace(WELL, held={**WELL.held, "1.9": b""}), "which the ledger does not know"),
        (replace(WELL, altered=[UID]), "again with other bytes"),
        (with_rows("reports"), "does not know"),
        (
            replace(
                with_rows(
                    "reports", *TABLES["reports"], {**TABLES["reports"][0], "sop_instance_uid": SECOND, "run": 2}
                ),
                held={UID: REPORT, SECOND: AGAIN},
            ),
            "2 current reports",
        ),
        (
            with_rows("instances", *TABLES["instances"], {**TABLES["instances"][0], "sop_instance_uid": "1.7"}),
            "other images",
        ),
    ],
)
def test_a_report_that_is_missing_doubled_or_wrong_is_found(seen: Seen, said: str) -> None:
    assert any(said in sentence for sentence in wrong_reports(seen)), wrong_reports(seen)


@pytest.mark.parametrize("state", ["receiving", "queued", "judging", "judged"])
def test_a_series_that_waits_is_seen_by_a_metric_or_a_check_or_it_is_found(state: str) -> None:
    seen = with_rows("series", {**SERIES, "state": state})
    assert len(unexplained(seen)) == 1 and len(unfinished(seen)) == 1
    gauge = f'qc_node_queue_oldest_seconds{{queue="{state}"}}'
    assert unexplained(replace(seen, metrics={gauge: 4999.0})) == []
    assert len(unexplained(replace(seen, metrics={gauge: 10.0}))) == 1
    assert unexplained(replace(seen, failing={"worker": "The classifier process is not running."})) == []
    assert unexplained(replace(seen, at=SERIES["last_received"] + 10)) == []  # type: ignore[operator]


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_a_series_that_ended_without_a_report_has_a_sentence(state: str) -> None:
    assert len(unexplained(with_rows("series", {**SERIES, "state": state}))) == 1
    assert unexplained(with_rows("series", {**SERIES, "state": state, "sentence": "It is a map."})) == []


def test_a_study_that_never_closes_is_found() -> None:
    seen = with_rows("studies", {**TABLES["studies"][0], "state": "open"})
    assert len(unexplained(seen)) == 1 and unexplained(replace(seen, at=NOW - 4900)) == []


def test_a_report_that_waits_is_in_the_list_and_in_the_metric_or_it_is_found() -> None:
    seen = with_rows("deliveries", {**DELIVERY, "state": "pending"})
    listed, shown = {7: "The PACS is away."}, {"qc_node_outbox_oldest_seconds": 5000.0}
    assert len(unexplained(replace(seen, outbox=listed))) == len(unexplained(replace(seen, metrics=shown))) == 1
    assert unexplained(replace(seen, outbox=listed, metrics=shown)) == []


def test_a_refused_report_without_a_sentence_is_found() -> None:
    seen = with_rows("deliveries", {**DELIVERY, "state": "failed"})
    assert len(unexplained(seen)) == 1
    assert unexplained(replace(seen, outbox={7: "Refused."})) == []


def test_a_promise_that_is_owed_is_in_the_metric_or_in_a_note_or_it_is_found() -> None:
    seen = with_rows("deliveries", {**DELIVERY, "state": "sent"})
    assert len(unexplained(seen)) == 1
    assert unexplained(replace(seen, metrics={"qc_node_commitments_open_oldest_seconds": 3990.0})) == []
    assert unexplained(with_rows("deliveries", {**DELIVERY, "state": "sent", "last_error": "No promise."})) == []
    assert unexplained(replace(seen, commitment=False)) == []
