"""``qc-node review FOLDER``: what was judged on disk, put into a ledger where the review page looks."""

from __future__ import annotations

import hashlib
from pathlib import Path

from qc_node.domain import SeriesKey
from qc_node.engine.judging import SeriesOutcome
from qc_node.engine.kept_files import png
from qc_node.engine.measuring import compared, keep_measured
from qc_node.ledger import Ledger, Received
from qc_node.ledger.rows import SeriesRow
from qc_node.measures.normal import WINDOW
from qc_node.spool import Spool


def keep(ledger: Ledger, spool: Spool, judged: SeriesOutcome, at: float) -> int | None:
    """Put what became of one series into the ledger; returns its number, None where nothing of it is new.

    A series that was kept before and is said something else of now (other weights, other rules) gets another run;
    what people said of it stays.
    """
    key = judged.series or _made_up(judged.source)
    row = ledger.series.find(key.study_instance_uid, key.series_instance_uid)
    if row is None:
        row = _new(ledger, key, judged, at)
    elif _says_the_same(ledger, row, judged) or not ledger.series.judge_again(row["series_id"], at):
        if ledger.measured.of(row["series_id"], row["run"]) is None:  # kept by a version that did not measure
            _note_measures(ledger, row, judged, at)
        return None
    else:
        row = ledger.series.by_id(row["series_id"])
        assert row is not None
    series_id, run = row["series_id"], row["run"]
    claims = judged.claims.as_dict()
    ledger.series.note_claims(series_id, claims)
    _note_measures(ledger, row, judged, at)
    if judged.verdict is None:
        ledger.series.finish(series_id, run, "skipped", at, sentence=judged.skipped)
        return series_id
    pictures = []
    for view, picture in judged.thumbnails.items():
        name = spool.thumbnail_name(f"{key.study_instance_uid}/{key.series_instance_uid}", run, view)
        spool.store(name, png(picture))
        pictures.append(name)
    for verdict in judged.verdicts:
        ledger.verdicts.add(
            series_id,
            run,
            verdict,
            claims=claims,
            warnings=judged.warnings,
            timings=judged.timings_s,
            source_path="",
            at=at,
            report_after=at,
            thumbnails=pictures if verdict is judged.verdict else (),
            routed=verdict is judged.verdict,
        )
    ledger.series.finish(series_id, run, "judged", at, stage=judged.verdict.stage.value)
    return series_id


def _note_measures(ledger: Ledger, row: SeriesRow, judged: SeriesOutcome, at: float) -> None:
    series_id = row["series_id"]
    keep_measured(compared(judged, ledger, series_id, WINDOW), ledger, series_id, row["run"], at)


def _new(ledger: Ledger, key: SeriesKey, judged: SeriesOutcome, at: float) -> SeriesRow:
    """A row for a series that was not kept before, closed."""
    study, uid = key.study_instance_uid, key.series_instance_uid
    name = Path(judged.source).name or judged.source
    ledger.instances.add(
        [
            Received(
                sop_instance_uid=f"{study}/{uid}.{n}",
                sop_class_uid="",
                series_uid=uid,
                study_uid=study,
                transfer_syntax_uid="",
                modality=judged.modality,
                calling_ae=name,
                path="",
                bytes=0,
                received_at=at,
            )
            for n in range(max(1, judged.instances))
        ]
    )
    ledger.studies.describe(study, None, judged.claims.study_description)
    row = ledger.series.find(study, uid)
    assert row is not None
    ledger.series.close(row["series_id"], at, "read from disk", at)
    return row


def _says_the_same(ledger: Ledger, row: SeriesRow, judged: SeriesOutcome) -> bool:
    """Whether a series that is kept was judged by the same weights, with the same result."""
    given = ledger.verdicts.of(row["series_id"], row["run"])
    if not given or judged.verdict is None:
        return not given and judged.verdict is None and row["sentence"] == judged.skipped
    kept = [one["verdict"] for one in given]
    return kept == list(judged.verdicts) and list(judged.warnings) == given[0]["warnings"]


def _made_up(source: str) -> SeriesKey:
    """UIDs for a file that has none (PS3.5 B.2: 2.25 and a number), the same for the same file."""
    numbers = (
        int(hashlib.md5(f"{kind}{source}".encode(), usedforsecurity=False).hexdigest(), 16) for kind in "ts"
    )
    study, series = (f"2.25.{number}" for number in numbers)
    return SeriesKey(study, series)
