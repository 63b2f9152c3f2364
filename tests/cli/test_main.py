"""Commands that look into the ledger; the others are run as a user runs them, in tests/end_to_end."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from qc_node.cli.main import main, main_group
from qc_node.domain import ClosedBy, Finding, ModelIdentity, QcNodeError, Question, Stage, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from tests.ledger.makers import number_of

VERDICT = Verdict(Stage.CT, ModelIdentity("m", "1", "00"), (Finding(Question.BODY_PART, "chest"),))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "qc-node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path}"\n')
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A reported series whose report was refused for good."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.instances.add([Received("a", "1", "1.2.3", "ST", "1", "CT", "AE", "images/a", 5, 0.0)])
    ledger.series.close(number_of(ledger, "1.2.3"), 0.0, ClosedBy.QUIET, 1.0)
    ledger.series.claim(1.0)
    ledger.verdicts.add(
        number_of(ledger, "1.2.3"),
        1,
        VERDICT,
        claims={},
        warnings=[],
        timings={},
        source_path="x",
        at=2.0,
        report_after=2.0,
    )
    ledger.series.finish(number_of(ledger, "1.2.3"), 1, "judged", 2.0)
    report = WrittenObject("r", "1", number_of(ledger, "1.2.3"), "ST", 1, "sr", "reports/r")
    ledger.deliveries.post([report], ["PACS"], 3.0, reported=(number_of(ledger, "1.2.3"), 1))
    ledger.deliveries.failed(1, "Peer PACS does not take this SOP class.")
    return ledger


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(
        main_group, list(map(str, arguments)), catch_exceptions=False, standalone_mode=False
    )
    return result.output


def test_what_was_refused_is_listed_and_goes_back_into_the_line(config: Path, ledger: Ledger) -> None:
    assert "does not take this SOP class" in run("outbox", "list", "--config", config)
    assert "1 objects are in the line" in run("outbox", "again", "--all", "--config", config)
    assert ledger.deliveries.counts() == {"pending": 1}
    with pytest.raises(QcNodeError, match="id 99"):
        run("outbox", "again", "99", "--config", config)


def test_a_finished_series_is_judged_again_under_the_next_run(config: Path, ledger: Ledger) -> None:
    run("judge-again", "1.2.3", "--config", config)
    row = ledger.series.get("1.2.3")
    assert row is not None and (row["state"], row["run"]) == ("queued", 2)
    with pytest.raises(QcNodeError, match="not finished"):
        run("judge-again", "1.2.3", "--config", config)
    with pytest.raises(QcNodeError, match=r"no series 9\.9"):
        run("judge-again", "9.9", "--config", config)


def test_without_a_ledger_there_is_a_sentence_and_no_new_file(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["outbox", "list", "--config", str(config)])
    assert left.value.code == 1
    assert "There is no ledger" in capsys.readouterr().err
    assert not (config.parent / "ledger.sqlite").exists()
