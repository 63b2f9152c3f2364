"""A series that two classifiers accept: two rows in the ledger, one report with both, one card with both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest

from qc_node.classifiers.interface import Classifier
from qc_node.domain import Accepts, Content, Stage, verdict_from_json
from qc_node.engine.worker import Worker
from qc_node.ledger import Ledger
from qc_node.outbox.writer import Writer
from qc_node.report.reading import read_report
from qc_node.spool import Spool
from tests.classifiers import invented
from tests.engine.test_worker import Bench, SmallClassifier
from tests.part_settings import worker_settings, writing_settings

CT = Accepts(invented.STAGE, "CT", Content.CT_VOLUME)


@dataclass
class TwoClassifiers:
    """The small classifier of the worker's tests is the routed one; the invented one judges as well."""

    fails: bool = False
    accepts = (Accepts(Stage.CT, "CT", Content.CT_VOLUME), CT)

    def classifier(self, stage: Stage) -> Classifier:
        return SmallClassifier() if stage == Stage.CT else invented.InventedClassifier(self.fails)


@pytest.fixture
def known() -> Iterator[None]:
    with invented.registered(CT):
        yield


def judged(root: Path, *, fails: bool = False) -> tuple[Bench, int, list[dict[str, Any]]]:
    """One judged series: its bench, its number, and what the worker told the node."""
    bench = Bench(root, SmallClassifier())
    told: list[dict[str, Any]] = []
    settings = worker_settings(root / "data")
    worker = Worker(
        settings,
        bench.ledger,
        bench.spool,
        TwoClassifiers(fails),  # type: ignore[arg-type]
        lambda m: told.append(dict(m)),
        lambda: 1000.0,
    )
    row = bench.ledger.series.get(bench.receive("one"))
    assert row is not None and worker.step() == 1
    return bench, row["series_id"], told


def test_each_verdict_is_a_row_and_the_routed_one_names_the_stage(tmp_path: Path, known: None) -> None:
    bench, number, told = judged(tmp_path)
    rows = bench.ledger.verdicts.of(number, 1)
    assert [(row["stage"], bool(row["routed"])) for row in rows] == [("ct", True), ("pet_invented", False)]
    assert rows[1]["verdict"] == invented.verdict()
    series = bench.ledger.series.by_id(number)
    assert series is not None and (series["state"], series["stage"]) == ("judged", "ct")
    kept = [row["training_path"] for row in rows] + [name for row in rows for name in row["thumbnails"]]
    assert len(set(kept)) == len(kept) == 4 and all(name and bench.spool.path(name).is_file() for name in kept)
    (finished,) = (event for event in told if event["event"] == "finished")
    assert [verdict_from_json(v).stage for v in json.loads(json.dumps(finished["verdicts"]))] == [
        "ct",
        "pet_invented",
    ]


def test_a_further_classifier_that_fails_leaves_the_series_judged_with_a_warning(
    tmp_path: Path, known: None
) -> None:
    bench, number, _ = judged(tmp_path, fails=True)
    (row,) = bench.ledger.verdicts.of(number, 1)
    assert row["stage"] == "ct" and "The classifier pet_invented could not judge this series." in row["warnings"]


def written(ledger: Ledger, spool: Spool, number: int) -> list[pydicom.Dataset]:
    """What the writer makes of it, the report first."""
    Writer(writing_settings(flag_object=True), ledger, spool, lambda: 2000.0).step()
    return [pydicom.dcmread(spool.path(row["path"])) for row in ledger.deliveries.reports_of(number)]


def test_the_report_holds_both_and_the_flag_names_what_alarms(tmp_path: Path, known: None) -> None:
    bench, number, _ = judged(tmp_path)
    report, flag = sorted(written(bench.ledger, bench.spool, number), key=lambda ds: ds.Modality, reverse=True)
    said = read_report(report)
    assert (said.verdict.stage, [v.stage for v in said.also]) == ("ct", ["pet_invented"])
    assert said.also[0].findings[0].value == "extravasated"
    texts = [str(item.get("TextValue", "")) for item in flag.ContentSequence]
    assert any(text.startswith("Uptake: tracer beside the vein.") for text in texts)
