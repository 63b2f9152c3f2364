"""``qc-node votes``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qc_node.domain import QcNodeError
from tests.cli.conftest import Run
from tests.web.seventy_days import make_log


def test_import_stats_export(run: Run, tmp_path: Path) -> None:
    text, expected = make_log()
    log = tmp_path / "log.csv"
    log.write_text(text)
    done = run("votes", "import", str(log), "--add-readers")
    assert done.startswith("log.csv: 1527 votes, 2800 presentations, 0 known before, 6 readers added.")
    said = run("votes", "stats", "--plots", str(tmp_path / "plots"))
    assert "1527 votes on 1527 studies by 6 readers in 5 centres over 70 days" in said
    assert f"MR {expected.by_modality['MR']}" in said and "1527 of 2800" in said
    assert (tmp_path / "plots" / "cumulative.svg").is_file()
    assert json.loads(run("votes", "stats", "--json"))["votes"] == 1527
    out = tmp_path / "out.jsonl"
    run("votes", "export", "-o", str(out))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 1527 and {"p_good", "reader", "vote"} <= set(lines[0])


def test_a_time_zone_that_is_none_is_a_sentence(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("")
    with pytest.raises(QcNodeError, match="no time zone 'Mars/Olympus'"):
        run("votes", "import", str(log), "--timezone", "Mars/Olympus")
