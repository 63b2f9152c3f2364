"""What was measured of a series, from its row in the ledger to what a report or a picture says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from qc_node.domain.measure import Better, ImageFinding, Measure, Unusual
from qc_node.domain.measure_words import number, unit_words, unusual_sentence
from qc_node.domain.mismatch import without_quotation
from qc_node.ledger import Ledger
from qc_node.ledger.rows import MeasuredRow, SeriesRow
from qc_node.outbox.subjects import SourceRow
from qc_node.report.measures_group import NOTHING, MeasuredBlock

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from qc_node.report.summary_picture import Picture

MEASURED = "Measured, not judged."


def measured_block(row: MeasuredRow | None, known: Mapping[str, Measure]) -> MeasuredBlock:
    """What a report says was measured; nothing where there is no row, as of series from before any measures."""
    if row is None or not known:
        return NOTHING
    return MeasuredBlock(row["version"], json.loads(row["measures"]), known, findings_in(row))


def findings_in(row: MeasuredRow) -> tuple[ImageFinding, ...]:
    """What is certain of the image."""
    return tuple(ImageFinding(**one) for one in json.loads(row["findings"]))


def unusual_in(row: MeasuredRow) -> tuple[Unusual, ...]:
    """What is unusual for the scanner, the furthest from normal first."""
    return tuple(sorted(map(Unusual.from_dict, json.loads(row["unusual"])), key=lambda one: -abs(one.z)))


def unusual_lines(row: MeasuredRow, known: Mapping[str, Measure]) -> list[str]:
    """A sentence for each finding and unusual measure.

    Without the name of the scanner: that is text of a header, which goes on no picture.
    """
    unusual = [one for one in unusual_in(row) if one.measure in known]
    found = [finding.sentence for finding in findings_in(row)]
    return found + [unusual_sentence(one, known[one.measure].title) for one in unusual]


def value_words(row: MeasuredRow, known: Mapping[str, Measure]) -> list[str]:
    """Each measure with its value and unit in words.

    What is unusual comes first, then what says how good an image is.  Last: what is zero, merely describes the
    image, or can be compared with no other series, such as noise in grey values.
    """
    first = [one.measure for one in unusual_in(row)]

    def rank(said: tuple[Measure, float]) -> tuple[bool, bool, bool]:
        measure, value = said
        describes = measure.better is Better.NEITHER or not measure.charted
        return measure.name not in first, value == 0, describes

    numbers = sorted(measured_block(row, known).numbers, key=rank)
    titled = [(measure, measure.title.removeprefix("the "), value) for measure, value in numbers]
    return [f"{title} {number(value)} {unit_words(measure.unit)}".rstrip() for measure, title, value in titled]


# -- series that are not judged ------------------------------------------------------------------------
def source_row(ledger: Ledger, series: SeriesRow) -> SourceRow:
    """The first image of a series in the place of a verdict."""
    names = ledger.instances.paths_of_series(series["series_id"])
    return {"series_id": series["series_id"], "run": series["run"], "source_path": next(iter(names), "")}


def measured_at(row: MeasuredRow, series: SeriesRow) -> datetime:
    """When this run was complete; the time of a row is that of the first run."""
    return datetime.fromtimestamp(series["closed_at"] or row["at"], UTC).astimezone()


def summary_of(row: MeasuredRow, series: SeriesRow, known: Mapping[str, Measure]) -> str:
    """Why the series was not judged, and what stands out."""
    why = without_quotation(series["sentence"] or "")
    return " ".join(said for said in (MEASURED, why, *unusual_lines(row, known)) if said)


def shown_pictures(path: Path, modality: str) -> dict[str, Picture]:
    """Kept pictures of a series (:mod:`qc_node.engine.kept_inputs`) as grey levels, by what is written below them.

    Colour becomes its mean.
    """
    import numpy as np

    with np.load(path) as kept:
        names = sorted(name for name in kept.files if name.startswith("picture_"))
        pictures = [kept[name].astype(np.float32) for name in names]
    return {
        f"{n} of {len(pictures)}": _windowed(picture.mean(axis=2) if picture.ndim == 3 else picture, modality)
        for n, picture in enumerate(pictures, start=1)
    }


def _windowed(grey: npt.NDArray[np.float32], modality: str) -> Picture:
    """The 1st to the 99th percentile as black to white, without the lowest value: that is padding.

    Of CT the upper half of that, which is soft tissue and bone and not air.
    """
    import numpy as np

    above = grey[grey > grey.min()] if grey.size else grey
    low, high = np.percentile(above, (1, 99)) if above.size else (0.0, 0.0)
    low = (low + high) / 2 if modality == "CT" else low
    scaled = (grey - low) * (255 / (high - low) if high > low else 0.0)
    return np.clip(scaled, 0, 255).astype(np.uint8)
