"""A made-up log of the size of Juneja et al.: 6 readers, 5 centres, 70 days, 1,527 votes on MR, CT and X-ray."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

START = datetime(2018, 3, 5, 7, 0, tzinfo=UTC)
READERS = {
    "r1": "Berlin",
    "r2": "Potsdam",
    "r3": "Nuernberg",
    "r4": "Hoechstadt",
    "r5": "Potsdam",
    "r6": "Fuerth",
}
VOTES = {"r1": 511, "r2": 402, "r3": 255, "r4": 171, "r5": 120, "r6": 68}
PRESENTED = {"r1": 640, "r2": 670, "r3": 300, "r4": 520, "r5": 430, "r6": 240}
SECONDS = 4.0


@dataclass
class Expected:
    """What was put in, counted while it was written."""

    by_modality: Counter[str] = field(default_factory=Counter)
    by_site: Counter[str] = field(default_factory=Counter)
    by_vote: Counter[str] = field(default_factory=Counter)
    by_day: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rows: int = 0


def make_log(seed: int = 1, start: datetime = START) -> tuple[str, Expected]:
    """The log as CSV, and what it holds; `start` is in the morning, UTC."""
    rng = random.Random(seed)
    rows, expected, number = [], Expected(), 0
    for reader, presented in PRESENTED.items():
        # The first and the last study are voted on, so that the log spans all 70 days.
        voted = {0, presented - 1, *rng.sample(range(1, presented - 1), VOTES[reader] - 2)}
        for n in range(presented):
            number += 1
            day = 0 if n == 0 else 69 if n == presented - 1 else rng.randrange(70)
            shown = start + timedelta(days=day, minutes=rng.randrange(600), seconds=rng.randrange(60))
            modality = rng.choices(["MR", "CT", "DX"], [0.62, 0.23, 0.15])[0]
            row: dict[str, str | int] = {
                "reader": reader,
                "site": READERS[reader],
                "modality": modality,
                "study_instance_uid": f"1.2.826.0.1.{number}",
                "presented_at": shown.isoformat(),
            }
            if n in voted:
                at = shown + timedelta(seconds=SECONDS)
                vote = rng.choices(["good", "acceptable", "poor"], [0.75, 0.19, 0.06])[0]
                reason = rng.choice(["motion", "noise", "coverage"]) if vote != "good" else ""
                row |= {
                    "vote": vote,
                    "voted_at": at.isoformat(),
                    "ms_to_vote": int(SECONDS * 1000),
                    "reasons": reason,
                }
                expected.by_modality[modality] += 1
                expected.by_site[READERS[reader]] += 1
                expected.by_vote[vote] += 1
                expected.by_day[(at - start.replace(hour=0)).days] += 1
                if reason:
                    expected.reasons[reason] += 1
            rows.append(row)
    expected.rows = len(rows)
    rng.shuffle(rows)
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream,
        [
            "reader",
            "site",
            "modality",
            "study_instance_uid",
            "presented_at",
            "vote",
            "voted_at",
            "ms_to_vote",
            "reasons",
        ],
    )
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue(), expected
