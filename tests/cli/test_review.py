"""``qc-node review``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qc_node.cli import review
from qc_node.domain import HeaderClaims, SeriesKey
from qc_node.engine import classify
from qc_node.engine.judging import SeriesOutcome
from tests.cli.conftest import Run
from tests.web.conftest import brain


def test_review_serves_what_it_judges_and_says_what_it_skips(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    said = run("review", str(tmp_path))
    assert "/sign-in?next=/review#" in said and "c: A scout." in said
    assert not (tmp_path / "ledger.sqlite").exists(), "the ledger of the node is left alone"
