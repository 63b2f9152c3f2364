"""Bytes of delivered reports go after their time; nothing that waits for them does."""

from __future__ import annotations

from pathlib import Path

import pytest

from qc_node.ledger.rows import ReportDelivery
from qc_node.operations.old_reports import remove_old_reports
from qc_node.outbox.sending import BYTES_REMOVED, Destination, Outbox
from qc_node.outbox.writer import PREDECESSOR_GONE
from tests.ledger.makers import number_of
from tests.operations.patients import NOW, Patients
from tests.operations.test_forgetting import Interrupting

DAY_S = 86_400.0
LATER = 2000.0 + 11 * DAY_S
"""The reports of :class:`Patients` are written at 2000."""


@pytest.fixture
def folder(tmp_path: Path) -> Patients:
    """Two reports that wait."""
    folder = Patients(tmp_path)
    for patient in ("PID-1", "PID-2"):
        folder.take(patient)
        folder.judge()
        folder.report()
    return folder


def deliveries(folder: Patients) -> list[ReportDelivery]:
    return folder.ledger.deliveries.unfinished()


@pytest.mark.parametrize("days", [None, 12.0])
def test_without_the_setting_and_before_its_time_everything_stays(folder: Patients, days: float | None) -> None:
    for row in deliveries(folder):
        folder.ledger.deliveries.sent(row["id"], 2001.0)
    assert remove_old_reports(folder.ledger, folder.spool, LATER, days) == 0
    assert len(folder.files("reports")) == 2


def test_what_arrived_or_was_dropped_goes_and_what_waits_or_failed_stays(folder: Patients) -> None:
    first, second = deliveries(folder)
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 0
    folder.ledger.deliveries.failed(first["id"], "refused")
    folder.ledger.deliveries.sent(second["id"], 2001.0)
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 1
    assert folder.files("reports") == [first["path"]]
    folder.ledger.deliveries.drop(first["id"])
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 1
    assert folder.files("reports") == []
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 0
    assert [row["path"] for row in folder.ledger.db.rows("SELECT path FROM reports")] == ["", ""]


def test_a_report_stays_while_the_pacs_owes_a_promise_to_keep_it(folder: Patients) -> None:
    first = deliveries(folder)[0]
    folder.ledger.deliveries.sent(first["id"], 2001.0)
    folder.ledger.deliveries.commitment_asked(first["id"], "1.2.3", 2001.0)
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 0
    assert folder.ledger.deliveries.committed(first["sop_instance_uid"], "1.2.3", 2002.0)
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 1


def test_a_report_that_goes_nowhere_stays(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    folder.take("PID-1")
    folder.judge()
    folder.report()
    folder.ledger.db.conn.execute("DELETE FROM deliveries")
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 0


def test_after_a_kill_between_file_and_row_the_next_pass_goes_on(folder: Patients) -> None:
    first = deliveries(folder)[0]
    folder.ledger.deliveries.sent(first["id"], 2001.0)
    folder.spool.remove(first["path"])
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 1
    assert folder.ledger.db.value("SELECT path FROM reports WHERE sop_instance_uid = ?", _uid(first)) == ""


def _uid(row: ReportDelivery) -> tuple[str]:
    return (row["sop_instance_uid"],)


def test_whose_it_was_is_noted_before_the_last_file_of_an_older_study_goes(folder: Patients) -> None:
    folder.ledger.db.conn.execute("UPDATE studies SET patient = NULL")
    for row in deliveries(folder):
        folder.ledger.deliveries.sent(row["id"], 2001.0)
    for image in folder.ledger.db.rows("SELECT path FROM instances"):
        folder.spool.remove(image["path"])
    assert remove_old_reports(folder.ledger, folder.spool, LATER, 10) == 2
    assert len(folder.find("PID-1").scope.studies) == 1


def test_one_that_the_pacs_lost_after_all_fails_with_a_sentence(folder: Patients) -> None:
    first, second = deliveries(folder)
    folder.ledger.deliveries.sent(first["id"], 2001.0)
    remove_old_reports(folder.ledger, folder.spool, LATER, 10)
    folder.ledger.deliveries.again(first["id"], LATER)
    pacs = Interrupting(None)
    outbox = Outbox(folder.ledger, folder.spool, [Destination(pacs, storage_commitment=False)], wall=lambda: NOW)
    while outbox.step(NOW) is not None:
        pass
    (failed,) = deliveries(folder)
    assert (failed["id"], failed["state"], failed["last_error"]) == (first["id"], "failed", BYTES_REMOVED)
    assert pacs.got == [second["sop_instance_uid"]]


def test_a_later_report_names_no_predecessor_and_the_history_says_why(folder: Patients) -> None:
    first = deliveries(folder)[0]
    folder.ledger.deliveries.sent(first["id"], 2001.0)
    remove_old_reports(folder.ledger, folder.spool, LATER, 10)
    assert first["series_uid"] is not None
    number = number_of(folder.ledger, first["series_uid"])
    assert folder.ledger.series.judge_again(number, LATER)
    folder.judge()
    folder.writer.step()
    assert folder.state(first["series_uid"])[0] == "reported"
    assert PREDECESSOR_GONE in {event["detail"] for event in folder.ledger.series.events(number)}
    assert len(folder.files("reports")) == 2
    named = {row["path"] for row in folder.ledger.deliveries.reports_of(number)} - {""}
    assert named <= set(folder.files("reports")) and len(named) == 1, "no file without a row"
