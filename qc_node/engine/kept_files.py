"""The files that stay of a judged or measured series when its images go: votes come days after that."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.engine.judging import SeriesOutcome
from qc_node.engine.kept_inputs import is_sampled, pictures_file
from qc_node.ledger.kept_inputs import NewKeptInput
from qc_node.ledger.rows import SeriesRow
from qc_node.series.volume.stack import OpenedSeries
from qc_node.spool import Spool

KeptOfVerdict = tuple[str | None, tuple[str, ...]]
"""Spool names of the network input and of the thumbnails."""


def keep_files(spool: Spool, row: SeriesRow, outcome: SeriesOutcome) -> list[KeptOfVerdict]:
    """Store the network input and the thumbnails of every verdict of a series, in their order."""
    series, run = f"{row['study_uid']}/{row['series_uid']}", row["run"]
    kept: list[KeptOfVerdict] = []
    for suffix, network_input, thumbnails in _made(outcome):
        names = tuple(spool.thumbnail_name(series + suffix, run, view) for view in thumbnails)
        for name, picture in zip(names, thumbnails.values(), strict=True):
            spool.store(name, png(picture))
        training = None
        if network_input is not None:
            training = spool.training_name(series + suffix, run)
            spool.store(training, _compressed(network_input))
        kept.append((training, names))
    return kept


def keep_pictures(spool: Spool, row: SeriesRow, opened: OpenedSeries, sampled_share: float) -> NewKeptInput | None:
    """Store pixels of a series that no classifier takes, as far as that is allowed."""
    data = pictures_file(opened)
    if data is None:
        return None
    name = spool.pictures_name(f"{row['study_uid']}/{row['series_uid']}", row["run"])
    spool.store(name, data)
    sampled = is_sampled(spool.patient_key(), row["series_uid"], sampled_share)
    return NewKeptInput(row["series_id"], row["run"], "pictures", name, len(data), sampled)


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """A grey 8-bit picture ``(rows, columns)`` as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture, mode="L").save(buffer, "PNG")
    return buffer.getvalue()


def _made(
    outcome: SeriesOutcome,
) -> Iterator[tuple[str, npt.NDArray[Any] | None, Mapping[str, npt.NDArray[np.uint8]]]]:
    """Of each verdict: what its files are called beside the series, its network input and its thumbnails."""
    if outcome.verdict is None:
        return
    yield "", outcome.network_input, outcome.thumbnails
    for further in outcome.also:
        yield f".{further.verdict.stage}", further.network_input, further.thumbnails


def _compressed(network_input: npt.NDArray[Any]) -> memoryview:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, input=network_input)
    return buffer.getbuffer()
