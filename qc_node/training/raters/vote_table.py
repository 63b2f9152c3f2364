"""Tables of image-quality metrics and votes, as mriqc-learn keeps them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qc_node.domain import QcNodeError
from qc_node.training.raters import consensus

GRADES = 3
EXCLUDE = 2
LEVELS = {"1": 0, "0": 1, "-1": 2, "n/a": consensus.MISSING, "": consensus.MISSING}
"""The vote column of mriqc-learn's tables to our grades: 0 accept, 1 doubtful, 2 exclude."""

FACTORS = ("site", "scanner", "field", "sex", "age", "has_ghost")
"""Columns that describe the scan or the person and are never given to the model."""

PROTOCOL = ("size_", "spacing_")
"""Matrix and voxel size tell a protocol, not a quality: left out, which leaves the 62 metrics of the facts."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VoteTable:
    """Scans with metrics and votes.

    Attributes
    ----------
    sites
        ``(n,)`` where each scan was made.
    votes
        ``(n, n_raters)`` grades, :data:`consensus.MISSING` where a rater did not vote.
    values
        ``(n, n_metrics)`` in the units of MRIQC (millimetres, ratios, grey values).
    factors
        Level of each of :data:`FACTORS` that the table has, per scan; None where unknown.
    """

    rater_names: tuple[str, ...]
    metric_names: tuple[str, ...]
    sites: npt.NDArray[np.str_]
    votes: consensus.Votes
    values: FloatArray
    factors: Mapping[str, list[str | None]]


def read_table(path: Path) -> VoteTable:
    """Read a tab-separated table of mriqc-learn: ``subject_id``, ``site``, ``rater_*``, metrics."""
    if not path.is_file():
        raise QcNodeError(f"{path}: there is no such table of votes.")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    names = list(rows[0]) if rows else []
    voters = [n for n in names if n.startswith("rater_")]
    if "site" not in names or not voters:
        raise QcNodeError(f"{path}: a column 'site', one or more columns 'rater_*' and a row are needed.")
    told = {"subject_id", *voters, *FACTORS}
    metrics = [n for n in names if n not in told and not n.startswith(PROTOCOL)]
    try:
        values = np.array([[float(row[m]) for m in metrics] for row in rows])
        votes = np.array([[LEVELS[row[v].removesuffix(".0")] for v in voters] for row in rows], dtype=np.int64)
    except (KeyError, ValueError) as error:
        raise QcNodeError(f"{path}: {error} is neither a metric nor a vote (1, 0, -1 or n/a).") from None
    if not np.isfinite(values).all():
        missing = [m for m, good in zip(metrics, np.isfinite(values).all(0), strict=True) if not good]
        raise QcNodeError(f"{path}: values are missing in {', '.join(missing)}.")
    factors = {f: [row[f] if row[f] not in ("", "n/a") else None for row in rows] for f in FACTORS if f in names}
    if "age" in factors:
        factors["age"] = thirds(factors["age"])
    sites = np.array([row["site"] for row in rows])
    return VoteTable(tuple(n.replace("_", " ") for n in voters), tuple(metrics), sites, votes, values, factors)


def thirds(ages: Sequence[str | None]) -> list[str | None]:
    """Ages in years to three groups of about one size, named by their limits."""
    known = np.array([float(a) for a in ages if a is not None])
    if not known.size:
        return [None] * len(ages)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    named = (f"up to {low:g}", f"{low:g}-{high:g}", f"over {high:g}")
    return [None if a is None else named[int(float(a) > low) + int(float(a) > high)] for a in ages]
