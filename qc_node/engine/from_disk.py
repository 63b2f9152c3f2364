"""``qc-node review FOLDER``: what was judged on disk, put into a ledger where the review page looks."""

from __future__ import annotations

import hashlib
from pathlib import Path

from qc_node.domain import SeriesKey
from qc_node.engine.judging import SeriesOutcome
from qc_node.engine.worker import png
from qc_node.ledger import Ledger, Received
from qc_node.spool import Spool


def keep(ledger: Ledger, spool: Spool, judged: SeriesOutcome, at: float) -> int | None:
    """Put one judged series into the ledger; returns its number, None when it was skipped or is known."""
    if judged.verdict is None:
        return None
    key = judged.series or _made_up(judged.source)
    uid = key.series_instance_uid
    if ledger.series.find(key.study_instance_uid, uid) is not None:
        return None
    name = Path(judged.source).name or judged.source
    ledger.instances.add(
        [
            Received(
                sop_instance_uid=f"{key.study_instance_uid}/{uid}.{n}",
                sop_class_uid="",
                series_uid=uid,
                study_uid=key.study_instance_uid,
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
    row = ledger.series.find(key.study_instance_uid, uid)
    assert row is not None
    series_id = row["series_id"]
    ledger.series.close(series_id, at, "read from disk", at)
    pictures = []
    for view, picture in judged.thumbnails.items():
        picture_name = spool.thumbnail_name(f"{key.study_instance_uid}/{uid}", 1, view)
        spool.store(picture_name, png(picture))
        pictures.append(picture_name)
    for verdict in judged.verdicts:
        ledger.verdicts.add(
            series_id,
            1,
            verdict,
            claims=judged.claims.as_dict(),
            warnings=judged.warnings,
            timings=judged.timings_s,
            source_path="",
            at=at,
            report_after=at,
            thumbnails=pictures if verdict is judged.verdict else (),
            routed=verdict is judged.verdict,
        )
    ledger.series.finish(series_id, 1, "judged", at, stage=judged.verdict.stage.value)
    return series_id


def _made_up(source: str) -> SeriesKey:
    """UIDs for a file that has none (PS3.5 B.2: 2.25 and a number), the same for the same file."""
    numbers = (
        int(hashlib.md5(f"{kind}{source}".encode(), usedforsecurity=False).hexdigest(), 16) for kind in "ts"
    )
    study, series = (f"2.25.{number}" for number in numbers)
    return SeriesKey(study, series)
