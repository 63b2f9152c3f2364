"""``qc-node review``."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qc_node.cli import review
from qc_node.domain import HeaderClaims, QcNodeError, SeriesKey
from qc_node.engine import classify
from qc_node.engine.judging import SeriesOutcome
from qc_node.ledger import Ledger
from tests.cli.conftest import Run
from tests.web.conftest import brain


@pytest.fixture
def opened(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Opens a folder of two series and ends as if somebody had pressed Ctrl-C."""
    folder = tmp_path / "mine"
    folder.mkdir()

    def judged(paths: list[Path], *_: Any) -> Iterator[SeriesOutcome]:
        claims = HeaderClaims(series_description="t1")
        yield SeriesOutcome("a/t1", SeriesKey("1.2", "1.2.1"), "MR", 3, claims, verdict=brain())
        yield SeriesOutcome("c", SeriesKey("1.3", "1.3.1"), "MR", 3, claims, skipped="A scout.")

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(review, "threading", SimpleNamespace(Event=Interrupted))
    monkeypatch.setattr(classify, "classify_paths", judged)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return lambda *more: run("review", str(folder), *more)


def test_review_serves_what_it_judges_and_says_what_it_skips(opened: Callable[..., str], tmp_path: Path) -> None:
    said = opened()
    assert "/sign-in?next=/review#" in said and "c: A scout." in said
    assert not (tmp_path / "ledger.sqlite").exists(), "the ledger of the node is left alone"
    assert list((tmp_path / "mine").iterdir()) == [], "so is the folder"
    kept = review.kept_in(tmp_path / "mine")
    assert f"Kept in {kept}" in said and kept.parent == tmp_path / "data" / "qc-node" / "review"
    assert kept.stat().st_mode & 0o007 == 0, "not for everybody"


def test_corrections_are_there_when_the_folder_is_opened_again_and_are_exported(
    opened: Callable[..., str], tmp_path: Path
) -> None:
    opened()
    ledger = Ledger(review.kept_in(tmp_path / "mine") / "ledger.sqlite")
    (series,) = ledger.verdicts.recent()
    (reader,) = ledger.readers.all()
    ledger.labels.add(series["series_id"], 1, "motion", "0", "2", reader["reader_id"], 5.0)
    opened()
    assert [label["label"] for label in ledger.labels.all()] == ["2"]
    assert len(ledger.series.recent()) == 2 and len(ledger.verdicts.recent()) == 1, "nothing twice"
    assert [row["login"] for row in ledger.readers.all()] == ["analyst"]
    assert "Written" in opened("--export", str(tmp_path / "labels.csv"))
    lines = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert [(x["series_instance_uid"], x["found"], x["label"]) for x in lines if x["question"] == "motion"] == [
        ("1.2.1", "0", "2")
    ]


def test_what_is_kept_may_be_kept_elsewhere(opened: Callable[..., str], tmp_path: Path) -> None:
    there = tmp_path / "elsewhere"
    with pytest.raises(QcNodeError, match="Nothing is kept"):
        opened("--keep", str(there), "--export", str(tmp_path / "labels.csv"))
    opened("--keep", str(there))
    assert (there / "ledger.sqlite").is_file()
    with pytest.raises(QcNodeError, match="cannot be written"):
        opened("--keep", str(there), "--export", str(tmp_path / "nowhere" / "labels.csv"))
