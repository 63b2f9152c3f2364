"""Months of measured series behind a made-up clinic: what was usual, new software, a coil that fails."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

from qc_node.domain.measure import Baseline, Measured, Unusual
from qc_node.domain.technique import Technique
from qc_node.ledger.measured import NewMeasured
from tests.web.conftest import Clinic

DAY_S = 86_400.0
USUAL: Mapping[str, tuple[float, float]] = {
    "noise_percent": (2.4, 0.12),
    "noise_air_percent": (1.1, 0.12),
    "nonuniformity": (28.0, 0.08),
    "edge_width_mm": (1.4, 0.05),
    "entropy_focus": (0.52, 0.03),
    "ghost_along_rows": (1.8, 0.2),
    "coverage_hf_mm": (176.0, 0.02),
}
"""Centre and coefficient of variation of what is measured of an MR series."""
SEEN_AFTER = 4
"""Series after which a drift is noticed."""
ELSEWHERE = "ARCHIVE_QR"
"""Who sent them, so that they are on no card."""
PROTOCOL = {"sequence": "gr_ir", "orientation": "sagittal"}


@dataclass(frozen=True)
class Version:
    """Series of one software version, the last `drifting` of them with more noise."""

    software: str
    series: int
    drifting: int = 0


def make_history(clinic: Clinic, station: str, versions: tuple[Version, ...], seed: int = 5) -> None:
    """Series of the months before, oldest first; none of the last four days."""
    rng = random.Random(seed)
    count = sum(version.series for version in versions)
    n = 0
    with clinic.ledger.db.transaction() as conn:
        for version in versions:
            for k in range(version.series):
                n += 1
                at = clinic.clock.now - (4 + 80 * (count - n) / count) * DAY_S
                drifts = k >= version.series - version.drifting
                values = draw(rng, 1.45 if drifts else 1.0)
                study, series = f"1.3.{seed}.{n}", f"1.3.{seed}.{n}.1"
                conn.execute(
                    "INSERT INTO studies (study_uid, first_received, last_received, state, missing)"
                    " VALUES (?, ?, ?, 'closed', '[]')",
                    (study, at, at),
                )
                cursor = conn.execute(
                    "INSERT INTO series (study_uid, series_uid, modality, calling_ae, station, first_received,"
                    " last_received, instances, run, state, closed_at, sentence, claims)"
                    " VALUES (?, ?, 'MR', ?, ?, ?, ?, 176, 1, 'skipped', ?, ?, ?)",
                    (study, series, ELSEWHERE, ELSEWHERE, at, at, at, "No classifier takes this sequence.",
                     json.dumps({"protocol_name": "t1_mprage_sag", "series_description": "t1_mprage_sag"})),
                )  # fmt: skip
                lasted = k - (version.series - version.drifting) + 1
                unusual = (drift(values, lasted),) if drifts and lasted > SEEN_AFTER else ()
                technique = Technique("MR", station, version.software, PROTOCOL)
                new = NewMeasured(cursor.lastrowid or 0, 1, Measured(values), technique, 1, unusual)
                clinic.ledger.measured.add(new, at)


def draw(rng: random.Random, noise: float = 1.0) -> dict[str, float]:
    """What is measured of one series, `noise` times as noisy as usual."""
    values = {name: centre * rng.lognormvariate(0, cv) for name, (centre, cv) in USUAL.items()}
    return values | {"noise_percent": values["noise_percent"] * noise}


def drift(values: Mapping[str, float], since: int) -> Unusual:
    """Noise that has drifted for so many series."""
    return Unusual("noise_percent", values["noise_percent"], 3.6, Baseline(2.4, 0.3, 40), "drift", since)
