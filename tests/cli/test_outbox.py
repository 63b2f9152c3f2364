"""``qc-node outbox`` and ``judge-again``; ``send`` is run as a user runs it, in tests/end_to_end."""

from __future__ import annotations

from pathlib import Path

import pytest
from click import UsageError

from qc_node.cli.main import main
from qc_node.domain import ClosedBy, Finding, ModelIdentity, QcNodeError, Question, Stage, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from tests.cli.conftest import Run
from tests.ledger.makers import number_of

VERDICT = Verdict(Stage.CT, ModelIdentity("m", "1", "00"), (Finding(Question.BODY_PART, "chest"),))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A reported series whose report was refused for good."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.instances.add([Received("a", "1", "1.2.3", "ST", "1", "CT", "AE", "images/a", 5, 0.0)])
    number = number_of(ledger, "1.2.3")
    ledger.series.close(number, 0.0, ClosedBy.QUIET, 1.0)
    ledger.series.claim(1.0)
    ledger.verdicts.add(
        number, 1, VERDICT, claims={}, warnings=[], timings={}, source_path="x", at=2.0, report_after=2.0
    )
    ledger.series.finish(number, 1, "judged", 2.0)
    report = WrittenObject("r", "1", number, "ST", 1, "sr", "reports/r")
    ledger.deliveries.post([report], ["PACS"], 3.0, reported=(number, 1))
    ledger.deliveries.failed(1, "Peer PACS does not take this SOP class.")
    return ledger


def test_what_was_refused_is_listed_and_goes_back_into_the_queue(run: Run, ledger: Ledger) -> None:
    assert "does not take this SOP class" in run("outbox", "list")
    assert "1 objects are in the queue" in run("outbox", "again", "--all")
    assert ledger.deliveries.counts() == {"pending": 1}
    with pytest.raises(QcNodeError, match="id 99"):
        run("outbox", "again", "99")


def test_what_is_dropped_is_never_sent_and_no_longer_listed(run: Run, ledger: Ledger) -> None:
    number = number_of(ledger, "1.2.3")
    more = [WrittenObject(f"r{n}", "1", number, "ST", 1, "kos", f"reports/r{n}") for n in (2, 3)]
    ledger.deliveries.post(more, ["PACS"], 4.0)
    ledger.deliveries.retry(2, 9.0, "Peer PACS answered with status 0xA701.")
    listed = run("outbox", "list")
    assert "0xA701" in listed and "Waits until 2 has been sent." in listed
    with pytest.raises(QcNodeError, match="no unfinished delivery with the id 99"):
        run("outbox", "drop", "2", "99")
    assert ledger.deliveries.counts() == {"failed": 1, "pending": 2}
    assert "2 objects are dropped" in run("outbox", "drop", "1", "2")
    assert ledger.deliveries.counts() == {"dropped": 2, "pending": 1}
    assert [row["id"] for row in ledger.deliveries.next_pending("PACS", 5.0)] == [3]
    assert ledger.db.value("SELECT count(*) FROM reports") == 3
    with pytest.raises(QcNodeError, match="id 2"):
        run("outbox", "drop", "2")
    with pytest.raises(UsageError):
        run("outbox", "drop")


def test_a_finished_series_is_judged_again_under_the_next_run(run: Run, ledger: Ledger) -> None:
    run("judge-again", "1.2.3")
    row = ledger.series.get("1.2.3")
    assert row is not None and (row["state"], row["run"]) == ("queued", 2)
    with pytest.raises(QcNodeError, match="not finished"):
        run("judge-again", "1.2.3")
    with pytest.raises(QcNodeError, match=r"no series 9\.9"):
        run("judge-again", "9.9")


def test_without_a_ledger_there_is_a_sentence_and_no_new_file(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["outbox", "list", "--config", str(config)])
    assert left.value.code == 1
    assert "There is no ledger" in capsys.readouterr().err
    assert not (config.parent / "ledger.sqlite").exists()
