"""What is normal, learnt on real tables of MRIQC's metrics: tails and correlations that nobody simulated."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.normal import Comparison, PastSeries, compare

LOWER = ("cjv", "efc", "fwhm_avg", "fwhm_x", "fwhm_y", "fwhm_z", "inu_range", "qi_1", "qi_2")
HIGHER = (
    "cnr",
    "fber",
    "snr_csf",
    "snr_gm",
    "snr_wm",
    "snr_total",
    "snrd_csf",
    "snrd_gm",
    "snrd_wm",
    "snrd_total",
)
MEASURES = {
    name: Measure(
        name, name, Unit.ONE, better, 0, 1 if name == "qi_1" else float("inf"), frozenset({"MR"}), "MRIQC"
    )
    for names, better in ((LOWER, Better.LOWER), (HIGHER, Better.HIGHER))
    for name in names
}
SITES = (("abide", "NYU"), ("abide", "UM"), ("abide", "UCLA"), ("ds030", "BMC"), ("ds030", "CCN"))

pytestmark = pytest.mark.data


def rows(shared: Path, table: str) -> list[dict[str, str]]:
    with (shared / "votes" / f"{table}.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def values(row: dict[str, str]) -> dict[str, float]:
    return {name: float(row[name]) for name in MEASURES if row[name] not in ("", "n/a")}


def compared(series: list[PastSeries]) -> Iterator[Comparison]:
    for number in range(40, len(series)):
        yield compare(series[number].values, None, series[:number], MEASURES)


def farthest(found: Comparison) -> float:
    return max(z if MEASURES[name].better is Better.LOWER else -z for name, z in found.z.items())


def of_motion(shared: Path, acquisition: str, score: str) -> list[Comparison]:
    """MR-ART's scans of one kind, compared with its standard ones."""
    table = rows(shared, "mr_art")
    usual = [PastSeries(values(row)) for row in table if row["acquisition"] == "standard"]
    chosen = [row for row in table if (row["acquisition"], row["score"]) == (acquisition, score)]
    return [compare(values(row), None, usual, MEASURES) for row in chosen]


@pytest.mark.slow
def test_real_heads_in_any_order_call_seldom(shared_data: Path) -> None:
    rng = np.random.default_rng(0)
    calls, series = 0, 0
    for table, site in SITES:
        past = [PastSeries(values(row)) for row in rows(shared_data, table) if row["site"] == site]
        for _ in range(3):
            shuffled = [past[number] for number in rng.permutation(len(past))]
            found = [bool(one.unusual) for one in compared(shuffled)]
            calls += sum(now and not any(found[max(0, at - 20) : at]) for at, now in enumerate(found))
            series += len(found)
    assert calls / series * 1200 <= 3


def test_scans_with_strong_motion_lie_far_out_and_usual_ones_do_not_call(shared_data: Path) -> None:
    assert not any(one.unusual for one in of_motion(shared_data, "standard", "1"))
    usual, moved = (
        np.median([farthest(one) for one in of_motion(shared_data, *kind)])
        for kind in (("standard", "1"), ("headmotion2", "3"))
    )
    assert usual < 2.5
    assert moved > 4
