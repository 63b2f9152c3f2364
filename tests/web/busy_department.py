"""A made-up department after a busy year: 100 stations, 1,000 series, 50,000 votes.  The same with every making.

Rows are written in bulk, because a year through the program would take minutes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qc_node.domain import Reason, Verdict, needs_attention, verdict_to_json
from qc_node.ledger import Ledger
from qc_node.web.access import readers
from tests.web.conftest import brain, ct, rejected, undecided

NOW = 1_790_000_000.0
DAY_S = 86_400.0
SITES = ("Berlin", "Potsdam", "Nuernberg", "Hoechstadt", "Fuerth")
PROTOCOLS = ("t1_mprage_sag", "T1W_3D_TFE", "Head 5.0 Br40", "Abdomen 3.0 Br40", "Chest 1.0 Br60")
MANUFACTURERS = ("Siemens Healthineers", "GE MEDICAL SYSTEMS", "Philips")
LEVELS = ("good", "acceptable", "poor")
ANSWERS = ("repeated", "patient moved", "noted", None)


@dataclass(frozen=True)
class BusyDepartment:
    """What was made: bearer tokens of a reader of each role, and names to ask for."""

    tokens: dict[str, str]
    case: str
    series_uid: str
    votes: int
    series: int


def handle_of(study: int) -> str:
    """The opaque handle of a study, of the length that real ones have."""
    return f"{study:022}"


def verdicts(rng: random.Random, modality: str) -> Verdict:
    """A verdict as they fall: most are fine."""
    if modality == "CT":
        return ct(rng.choice(("chest", "abdomen")), rng.random() < 0.5)
    kind = rng.random()
    if kind < 0.07:
        return rejected(rng.choice((Reason.COVERAGE, Reason.SKULL_STRIPPED, Reason.MOTION)))
    if kind < 0.12:
        return undecided()
    motion, contrast, noise = rng.choices((0, 1, 2), (0.7, 0.22, 0.08), k=3)
    return brain(motion, contrast, noise, gadolinium=rng.random() < 0.3)


def make(
    ledger: Ledger,
    *,
    now: float = NOW,
    series: int = 1000,
    stations: int = 100,
    votes: int = 50_000,
    people: int = 30,
    days: int = 365,
    seed: int = 12,
) -> BusyDepartment:
    """Fill an empty ledger."""
    rng = random.Random(seed)
    tokens: dict[str, str] = {}
    who: list[tuple[str, str, str]] = []
    for n in range(people):
        role = "technologist" if n % 6 == 5 else "expert" if n == 1 else "radiologist"
        site = SITES[n % len(SITES)]
        reader, token = readers.add(
            ledger, f"r{n}", name=f"Reader {n}", site=site, role=role, at=now - days * DAY_S
        )
        tokens.setdefault(role, token)
        who.append((reader.reader_id, role, site))
    _, tokens["operator"] = readers.add(ledger, "ops", name="Operator", site="Berlin", role="operator", at=now)
    with ledger.db.transaction():
        _series(ledger, rng, now, series, stations, days)
        _measured(ledger, rng, now, series, stations)
        _votes(ledger, rng, now, votes, series, who, days)
    ledger.db.conn.execute("ANALYZE")
    return BusyDepartment(tokens, handle_of(3), "1.2.826.0.2.3.1", votes, series)


def _fill(ledger: Ledger, table: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
    marks = ",".join("?" * len(columns.split(",")))
    ledger.db.conn.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def _series(ledger: Ledger, rng: random.Random, now: float, count: int, stations: int, days: int) -> None:
    table: dict[str, list[tuple[Any, ...]]] = {
        name: []
        for name in ("studies", "series", "verdicts", "events", "reports", "deliveries", "alarms", "labels")
    }
    for n in range(1, count + 1):
        # every station has sent in the last three days, the rest is spread over the year
        age = rng.uniform(0.1, 2.5) if n <= stations else rng.uniform(0.1, days) ** 1.0
        at = now - age * DAY_S
        station, modality = f"STATION_{n % stations:03}", "CT" if n % 3 == 0 else "MR"
        study, uid = f"1.2.826.0.2.{n}", f"1.2.826.0.2.{n}.1"
        claims = {
            "series_description": PROTOCOLS[n % len(PROTOCOLS)],
            "protocol_name": PROTOCOLS[n % len(PROTOCOLS)],
            "station_name": station,
            "manufacturer": MANUFACTURERS[n % 3],
            "ordered": ["MRI head, native"],
        }
        state = "reported"
        if n % 50 == 7:
            state = rng.choice(("receiving", "queued", "judging", "skipped", "failed"))
        sentence = "The classifier stopped 3 times while judging this series." if state == "failed" else None
        table["studies"].append((study, f"A{n:06}", "MRI head", at, at, "closed", "[]"))
        table["series"].append(
            (n, study, uid, modality, f"AE_{n % 10}", station, at, at, 180, 1, state, at + 5, at + 6, sentence,
             "brain_mri" if modality == "MR" else "ct", json.dumps(claims))
        )  # fmt: skip
        table["events"].append((n, 1, at, state, None))
        if state != "reported":
            continue
        verdict = verdicts(rng, modality)
        pictures = [f"thumbnails/{n:016x}-{view}.png" for view in ("axial", "coronal", "sagittal")]
        table["verdicts"].append(
            (n, 1, verdict.stage.value, json.dumps(verdict_to_json(verdict)), json.dumps(claims), "[]",
             json.dumps({"total": 1.4}), "x", at + 10, at + 10, json.dumps(pictures))
        )  # fmt: skip
        sop = f"2.25.{n}"
        table["reports"].append(
            (sop, "1.2.840.10008.5.1.4.1.1.88.33", n, study, 1, "sr", f"reports/{sop}", at + 11)
        )
        delivery = "pending" if n % 40 == 1 else "failed" if n % 90 == 2 else "committed"
        error = None if delivery == "committed" else "PACS answered 0xA700 (out of resources)."
        table["deliveries"].append((sop, "ARCHIVE", delivery, 1, at + 20, at + 11, at + 12, error))
        if needs_attention(verdict):
            answered = None if n <= 60 else rng.choice(ANSWERS)
            closed = at + 600 if n > 60 else None
            table["alarms"].append(
                (n, 1, f"AE_{n % 10}", station, at + 11, closed, "board" if closed else None, answered)
            )
        if n % 4 == 0 and modality == "MR":
            table["labels"].append((n, 1, "straight_reject", "no", "no", at + 900))
    _fill(ledger, "studies", "study_uid,accession_number,description,first_received,last_received,state,missing",
          table["studies"])  # fmt: skip
    _fill(ledger, "series", "series_id,study_uid,series_uid,modality,calling_ae,station,first_received,"
          "last_received,instances,run,state,closed_at,claimed_at,sentence,stage,claims",
          table["series"])  # fmt: skip
    _fill(ledger, "events", "series_id,run,at,event,detail", table["events"])
    _fill(ledger, "verdicts", "series_id,run,stage,verdict,claims,warnings,timings,source_path,judged_at,"
          "report_after,thumbnails", table["verdicts"])  # fmt: skip
    _fill(ledger, "reports", "sop_instance_uid,sop_class_uid,series_id,study_uid,run,kind,path,created_at",
          table["reports"])  # fmt: skip
    _fill(ledger, "deliveries", "sop_instance_uid,destination,state,attempts,next_attempt_at,created_at,sent_at,"
          "last_error", table["deliveries"])  # fmt: skip
    _fill(
        ledger, "alarms", "series_id,run,calling_ae,station,raised_at,closed_at,closed_by,answer", table["alarms"]
    )
    grader = next(row["reader_id"] for row in ledger.readers.all() if row["role"] == "expert")
    _fill(ledger, "labels", "series_id,run,question,found,label,at,reader_id",
          [(*row, grader) for row in table["labels"]])  # fmt: skip
    _fill(ledger, "quarantine", "path,reason,calling_ae,received_at",
          [(f"quarantine/{n}", "No DICOM object.", "AE_1", now - n * 3600) for n in range(12)])  # fmt: skip


MEASURED = {
    "noise_air": (20.0, 0.15), "sharpness_mm": (1.2, 0.05), "ghost": (2.0, 0.2), "uniformity": (30.0, 0.1),
}  # fmt: skip
"""Usual values of some measures, and how far they vary."""


def _measured(ledger: Ledger, rng: random.Random, now: float, count: int, stations: int) -> None:
    """A chart for each station and software, and what was measured of its series; some of it is unusual."""
    charts, rows = [], []
    for n in range(1, stations + 1):
        for version in (1, 2):
            charts.append((2 * n + version, "MR", f"STATION_{n % stations:03}", f"VE{version}", "sequence=gr_ir",
                           now - (400 - 100 * version) * DAY_S))  # fmt: skip
    for n in range(1, count + 1):
        values = {name: centre * rng.lognormvariate(0, cv) for name, (centre, cv) in MEASURED.items()}
        normal = {"centre": 20.0, "spread": 3.0, "series": 60}
        kind = "drift" if n % 20 == 4 else "outlier"
        unusual = [{"measure": "noise_air", "value": 60.0, "z": 9.1, "kind": kind, "since": 9, "baseline": normal}]
        departures = [{"parameter": "echo_time", "value": "95", "usual": "30", "share": 0.97}]
        rows.append(
            (n, 1, 2 * (n % stations or stations) + 1 + n % 2, now - rng.random() * 2 * DAY_S, 1,
             json.dumps({"echo_time": 30.0}), json.dumps(values), json.dumps({}),
             json.dumps(unusual if n % 10 == 4 else []), json.dumps(departures if n % 15 == 3 else []), 0.4)
        )  # fmt: skip
    _fill(ledger, "charts", "chart_id,modality,station,software,protocol,opened_at", charts)
    _fill(ledger, "measured", "series_id,run,chart_id,at,version,parameters,measures,unmeasured,unusual,"
          "departures,seconds", rows)  # fmt: skip


def _votes(
    ledger: Ledger, rng: random.Random, now: float, count: int, series: int, who: Sequence[tuple[str, str, str]],
    days: int,
) -> None:  # fmt: skip
    studies = max(series, count * 3 // 5)
    modality = ["CT" if n % 3 == 0 else "MR" for n in range(studies + 1)]
    _fill(ledger, "cases", "handle,subject,study_uid,modality,created_at",
          [(handle_of(n), f"1.2.826.0.2.{n}", f"1.2.826.0.2.{n}", modality[n], now - days * DAY_S)
           for n in range(1, studies + 1)])  # fmt: skip
    shown: list[tuple[Any, ...]] = []
    votes: list[tuple[Any, ...]] = []
    acts: list[tuple[Any, ...]] = []
    at = [now - rng.random() * days * DAY_S for _ in range(count)]
    for number, voted_at in enumerate(sorted(at), 1):
        reader_id, role, site = rng.choice(who)
        study = rng.randint(1, series) if rng.random() < 0.1 else rng.randint(1, studies)
        vote = rng.choices(LEVELS, (0.75, 0.19, 0.06))[0]
        ms = int(rng.lognormvariate(8.3, 0.6))
        shown.append(
            (f"p{number}", handle_of(study), reader_id, site, modality[study], voted_at - ms / 1000, "panel")
        )
        votes.append(
            (number, f"key-{number:08}", reader_id, role, f"1.2.826.0.2.{study}", site, modality[study], vote,
             voted_at, voted_at + 0.1, ms, "panel", int(rng.random() < 0.2), f"p{number}")
        )  # fmt: skip
        if vote != "good" and rng.random() < 0.7:
            acts.append((number, "reasons", json.dumps([rng.choice(("motion", "noise", "coverage"))]), reader_id,
                         role, voted_at, None))  # fmt: skip
        if rng.random() < 0.01:
            acts.append((number, "withdrawal", None, reader_id, role, voted_at + 5, f"undo-{number:08}"))
    for n in range(count // 4):
        reader_id, _, site = rng.choice(who)
        study = rng.randint(1, studies)
        shown.append((f"q{n}", handle_of(study), reader_id, site, modality[study],
                      now - rng.random() * days * DAY_S, "panel"))  # fmt: skip
    _fill(ledger, "presentations", "id,handle,reader_id,site,modality,at,how", shown)
    _fill(ledger, "votes", "id,key,reader_id,role,study_uid,site,modality,vote,voted_at,received_at,ms_to_vote,"
          "source,verdict_visible,presentation", votes)  # fmt: skip
    _fill(ledger, "vote_acts", "id,vote_id,kind,value,reader_id,role,at,key,received_at,source,verdict_visible",
          [(count + n, *act, act[5], "panel", 0) for n, act in enumerate(acts, 1)])  # fmt: skip
