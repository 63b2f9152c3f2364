"""How long the review page waits: ``python benchmarks/review.py [SERIES] [VOTES]``.

A ledger with so many series of 100 stations (default 1,000) and votes (default 50,000) is made in a temporary
folder; then each kind of search is asked of the application, and the slowest of five answers is printed.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from qc_node.domain import verdict_to_json
from qc_node.ledger import Ledger
from qc_node.spool import Spool
from qc_node.web.app import WebDeps, create_app
from tests.part_settings import web_options
from tests.web.conftest import brain, ct, rejected, undecided

STATIONS = 100
START = 1.7e9
VERDICTS = [
    json.dumps(verdict_to_json(v))
    for v in (brain(), brain(motion=1), brain(noise=2), rejected(), undecided(), ct(), ct("abdomen", True))
]
KINDS = ("T1 MPRAGE sag", "T1 SPACE tra", "T1 BRAVO", "MPRAGE post", "localizer", "Thorax 5.0", "Abdomen 3.0")


def fill(ledger: Ledger, series: int, votes: int) -> None:
    """Series, each of a study of its own, nine of ten judged; and votes of 23 readers."""
    rng = random.Random(1)
    conn = ledger.db.conn
    conn.execute("PRAGMA synchronous=OFF")
    conn.execute("BEGIN")
    for n in range(series):
        at, kind = START + 60.0 * n, n % 7
        state = "skipped" if n % 20 == 7 else "failed" if n % 100 == 9 else "reported"
        station = f"STATION{rng.randrange(STATIONS):03}"
        claims = json.dumps({"series_description": f"{KINDS[kind]} {n % 97}", "station_name": station})
        conn.execute(
            "INSERT INTO studies (study_uid, accession_number, description, first_received, last_received, state)"
            " VALUES (?,?,'MRI head',?,?,'closed')",
            (f"1.2.826.0.1.{n}", f"A{n:09}", at, at),
        )
        conn.execute(
            "INSERT INTO series (series_id, study_uid, series_uid, modality, calling_ae, station, first_received,"
            " last_received, instances, state, stage, sentence, claims) VALUES (?,?,?,?,?,?,?,?,180,?,?,?,?)",
            (
                *(n + 1, f"1.2.826.0.1.{n}", f"1.2.826.0.1.{n}.1", "CT" if kind > 4 else "MR", "PACS", station),
                *(at, at, state, "ct" if kind > 4 else "brain_mri"),
                *("A localizer." if state != "reported" else None, claims),
            ),
        )
        if state == "reported":
            conn.execute(
                "INSERT INTO verdicts (series_id, run, stage, verdict, claims, warnings, timings, source_path,"
                " judged_at, report_after) VALUES (?,1,?,?,?,'[]','{}','',?,?)",
                (n + 1, "ct" if kind > 4 else "brain_mri", VERDICTS[kind], claims, at, at),
            )
    for n in range(23):
        row = (f"r{n}", f"r{n}", f"R {n}", "Potsdam", "radiologist", f"reader-{n}")
        conn.execute(
            "INSERT INTO readers (reader_id, login, name, site, role, pseudonym, created_at)"
            " VALUES (?,?,?,?,?,?,1)",
            row,
        )
    for n in range(votes):
        conn.execute(
            "INSERT INTO votes (key, reader_id, role, study_uid, site, modality, vote, voted_at, received_at,"
            " source, verdict_visible) VALUES (?,?,'radiologist',?,'Potsdam','MR','good',?,?,'panel',0)",
            (f"k{n}", f"r{n % 23}", f"1.2.826.0.1.{n % series}", START, START),
        )
    conn.execute("COMMIT")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def main(series: int, votes: int) -> None:
    """Fill a ledger and ask."""
    middle = series // 2
    day = {"since": START + 60.0 * middle, "until": START + 60.0 * middle + 86400}
    asked: dict[str, dict[str, Any]] = {
        "the newest 50": {},
        "accession number": {"text": f"A{middle:09}"},
        "its beginning": {"text": f"A{middle:09}"[:-1]},
        "series UID": {"text": f"1.2.826.0.1.{middle}.1"},
        "a UID that nobody has": {"text": "1.2.3.4.5.6.7"},
        "a word in many": {"text": "mprage"},
        "words in none": {"text": "no such words"},
        "modality": {"modality": "CT"},
        "a modality that nobody has": {"modality": "XA"},
        "scanner": {"scanner": "STATION042"},
        "tier 3": {"verdict": "tier3"},
        "not reviewed": {"show": "not_reviewed"},
        "skipped": {"show": "skipped"},
        "failed": {"show": "failed"},
        "a day": day,
        "a day's rejects": {**day, "verdict": "reject"},
    }
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        fill(ledger, series, votes)
        deps = WebDeps(ledger=ledger, spool=Spool(Path(folder)), web=web_options(), on_vote=lambda *_: None)
        base = "http://127.0.0.1:8080"
        with TestClient(create_app(deps), base_url=base, headers={"origin": base}) as client:
            print(f"{series:,} series, {votes:,} votes; the slowest of five answers, and processor time")
            for name, wanted in asked.items():
                slowest, busiest, found = 0.0, 0.0, {}
                for _ in range(5):
                    began, busy = time.perf_counter(), time.process_time()
                    found = client.post("/api/review/search", json=wanted).json()
                    slowest = max(slowest, time.perf_counter() - began)
                    busiest = max(busiest, time.process_time() - busy)
                total = f"{'more than ' if found['more_than'] else ''}{found['total']:,}"
                times = f"{1000 * slowest:6.0f} ms {1000 * busiest:6.0f} ms"
                print(f"{name:28} {times}   {len(found['rows'])} of {total}")
            if series <= 20_000:
                began = time.perf_counter()
                text = client.post("/review/series.csv", data={"search": "{}"}).text
                print(f"{'table of all':28} {time.perf_counter() - began:6.1f} s    {text.count(chr(10)):,} lines")
            began = time.perf_counter()
            client.get("/api/review/filters")
            print(f"{'scanners':28} {1000 * (time.perf_counter() - began):6.0f} ms")


if __name__ == "__main__":
    sizes = [int(size) for size in sys.argv[1:3]]
    main(*(sizes + [1_000, 50_000][len(sizes) :]))
