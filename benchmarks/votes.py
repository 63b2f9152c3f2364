"""Figures of the web pages, loopback only.

Run as ``python benchmarks/votes.py [statistics] [load] [board] [import]`` (all by default).

- ``statistics``: all figures of 100,000 votes.
- ``load``: 200 open panels and 20 votes per second for ``--seconds`` (60), beside two niced busy processes
  that stand for the classifier; then every vote is looked for in the ledger.
- ``board``: from a verdict to 200 open boards.
- ``import``: the 70-day log of 1,527 votes.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import io
import json
import os
import random
import statistics as stats
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from qc_node.ledger import Ledger, NewVote  # noqa: E402
from qc_node.spool import Spool  # noqa: E402
from qc_node.web.access import readers, security  # noqa: E402
from qc_node.web.app import WebDeps, create_app  # noqa: E402
from qc_node.web.server import serve  # noqa: E402
from qc_node.web.statistics.overview import overview  # noqa: E402
from qc_node.web.votes import cases, exchange  # noqa: E402
from tests.part_settings import web_options  # noqa: E402
from tests.web.conftest import Clinic, brain  # noqa: E402
from tests.web.seventy_days import make_log  # noqa: E402

SECRET = "only for this benchmark, thirty-two bytes"
PANELS, PER_SECOND = 200, 20


class Clock:
    """The time of day under the names that the tests use."""

    now = property(lambda self: time.time())

    def __call__(self) -> float:
        return time.time()

    def forward(self, seconds: float) -> None:
        """Time passes by itself."""


def clinic_in(folder: Path) -> Clinic:
    return Clinic(Ledger(folder / "ledger.sqlite"), Spool(folder), Clock())


def deps(clinic: Clinic) -> WebDeps:
    return WebDeps(ledger=clinic.ledger, spool=clinic.spool, web=web_options(secret=SECRET))


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure_statistics(count: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        clinic, rng = clinic_in(Path(temporary)), random.Random(1)
        people = [
            readers.add(clinic.ledger, f"r{n}", name=f"R {n}", site=f"site{n % 5}", at=0)[0] for n in range(40)
        ]
        rows = []
        for n in range(count):
            who = people[rng.randrange(40)]
            vote = rng.choices(["good", "acceptable", "poor"], [0.75, 0.19, 0.06])[0]
            rows.append(
                NewVote(
                    key=f"k{n}",
                    reader_id=who.reader_id,
                    role=who.role,
                    site=who.site,
                    modality=rng.choice(["MR", "CT", "DX"]),
                    vote=vote,
                    voted_at=1.7e9 + n * 300,
                    received_at=1.7e9 + n * 300,
                    source="import",
                    study_uid=f"1.2.{rng.randrange(80_000)}",
                    ms_to_vote=rng.randrange(500, 20_000),
                    reasons=("motion",) if vote == "poor" else (),
                )
            )
        clinic.ledger.votes.add(rows)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            found = overview(clinic.ledger)
            times.append(time.perf_counter() - start)
        print(f"statistics of {count:,} votes ({found.all.votes:,} stand): median {stats.median(times):.2f} s")


def measure_import() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        clinic, (text, expected) = clinic_in(Path(temporary)), make_log()
        start = time.perf_counter()
        done = exchange.import_rows(
            clinic.ledger, exchange.read_rows(io.StringIO(text), "log.csv"), now=time.time(), add_readers=True
        )
        took = time.perf_counter() - start
        found = overview(clinic.ledger).all
        same = (found.by_modality, found.by_site, found.by_vote) == (
            expected.by_modality,
            expected.by_site,
            expected.by_vote,
        )
        print(
            f"import of {done.votes:,} votes and {done.presented:,} presentations: {took:.2f} s;"
            f" counts {'exact' if same else 'WRONG'}, {found.days} days"
        )


def cookie_of(ledger: Ledger, reader: readers.Reader) -> str:
    token = security.new_handle()
    ledger.sessions.start(security.hash_token(token), reader.reader_id, time.time(), "link")
    return f"{security.COOKIE}={security.session_cookie(SECRET, token)}"


async def open_streams(port: int, path: str, cookies: list[str], stop: asyncio.Event, heard: list[float]) -> None:
    """Keep one event stream open per cookie; note when a ``card`` arrives."""

    async def one(cookie: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n"
        writer.write(request.encode())
        while not stop.is_set():
            try:
                line = await asyncio.wait_for(reader.readline(), 1.0)
            except TimeoutError:
                continue
            if not line:
                return
            if line.startswith(b"event: card"):
                heard.append(time.time())
        writer.close()

    await asyncio.gather(*(one(cookie) for cookie in cookies))


def server_process(folder: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def serve_until_told(folder: Path) -> None:
    clinic = clinic_in(folder)
    app = create_app(deps(clinic))
    handle = serve(app, "127.0.0.1", 0)
    print(handle.port, flush=True)
    for line in sys.stdin:
        if line.startswith("judge "):
            series = line.split()[1]
            clinic.judge(series, brain(motion=1))
            start = time.time()
            app.state.board.publish(clinic.number(series))
            print(start, flush=True)
    handle.stop()


def measure_load(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clinic = clinic_in(folder)
        for n in range(20):
            clinic.receive(f"1.2.{n}", f"1.2.{n}.1")
        people = [readers.add(clinic.ledger, f"r{n}", name=f"R {n}", site="s", at=0)[0] for n in range(PANELS)]
        cookies = [cookie_of(clinic.ledger, p) for p in people]
        handles = [cases.open_study(deps(clinic), f"1.2.{n}") for n in range(20)]
        busy = [subprocess.Popen(["nice", "-n", "19", sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        process, port = server_process(folder)
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        streams = threading.Thread(
            target=lambda: loop.run_until_complete(open_streams(port, "/panel-events", cookies, stop, [])),
            daemon=True,
        )
        streams.start()
        time.sleep(3)
        shown, local, times, answers = {}, threading.local(), [], []

        def post(cookie: str, path: str, body: dict[str, object] | None) -> tuple[int, dict[str, object], float]:
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            data = json.dumps(body).encode() if body is not None else b""
            headers = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
            start = time.perf_counter()
            local.connection.request("POST", path, data, headers)
            answer = local.connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text), time.perf_counter() - start

        def vote(n: int) -> None:
            who, case = n % PANELS, handles[(n // PANELS) % len(handles)]
            if (who, case) not in shown:
                shown[who, case] = post(cookies[who], f"/api/cases/{case}/show", None)[1]["presentation"]
            body = {
                "key": f"load-{n:08}",
                "case": case,
                "presentation": shown[who, case],
                "vote": ("good", "acceptable", "poor")[n % 3],
            }
            repeats = 2 if n % 10 == 0 else 1  # every tenth is sent twice, as after a lost answer
            for _ in range(repeats):
                status, _, took = post(cookies[who], "/api/votes", body)
                answers.append(status)
                times.append(took)

        total = int(seconds * PER_SECOND)
        with ThreadPoolExecutor(16) as pool:
            start = time.perf_counter()
            for n in range(total):
                time.sleep(max(0.0, start + n / PER_SECOND - time.perf_counter()))
                pool.submit(vote, n)
        loop.call_soon_threadsafe(stop.set)
        streams.join(5)
        for p in busy:
            p.terminate()
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)
        keys = sorted(row["key"] for row in Ledger(folder / "ledger.sqlite").votes.all())
        wanted = [f"load-{n:08}" for n in range(total)]
        kept = "none lost or doubled" if keys == wanted else f"LEDGER HAS {len(keys)} OF {total}"
        print(
            f"load: {PANELS} open panels, {total} votes at {PER_SECOND}/s beside two niced busy processes: {kept};"
            f" answer p50 {1000 * quantile(times, 0.5):.0f} ms, p95 {1000 * quantile(times, 0.95):.0f} ms,"
            f" max {1000 * max(times):.0f} ms; refused {sum(a >= 300 for a in answers)}"
        )


def measure_board(rounds: int = 20) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clinic = clinic_in(folder)
        for n in range(rounds):
            clinic.receive(f"1.2.{n}", f"1.2.{n}.1")
        process, port = server_process(folder)
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        heard: list[float] = []
        threading.Thread(
            target=lambda: loop.run_until_complete(open_streams(port, "/live/events", [""] * PANELS, stop, heard)),
            daemon=True,
        ).start()
        time.sleep(3)
        slowest = []
        assert process.stdin is not None and process.stdout is not None
        for n in range(rounds):
            heard.clear()
            process.stdin.write(f"judge 1.2.{n}.1\n")
            process.stdin.flush()
            start = float(process.stdout.readline())
            end = time.monotonic() + 10
            while len(heard) < PANELS and time.monotonic() < end:
                time.sleep(0.005)
            slowest.append(max(heard) - start if len(heard) == PANELS else float("inf"))
        loop.call_soon_threadsafe(stop.set)
        process.stdin.close()
        process.wait(20)
        print(
            f"board: verdict to the last of {PANELS} open boards, {rounds} times: median"
            f" {1000 * stats.median(slowest):.0f} ms, max {1000 * max(slowest):.0f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["statistics", "import", "board", "load"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve_until_told(arguments.serve)
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    measures: dict[str, Callable[[], None]] = {
        "statistics": measure_statistics,
        "import": measure_import,
        "board": measure_board,
        "load": lambda: measure_load(arguments.seconds),
    }
    for what in arguments.what:
        measures[what]()


if __name__ == "__main__":
    main()
