"""How long the node takes to make each page: 1,000 series of 100 stations, 50,000 votes, one warm process.

Run as ``python -m benchmarks.pages [--times N] [--keep FILE]``.  Printed are the median and the slowest time of
each page and API, the time of the very first request (caches empty), the statements that SQLite ran, and the size.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from fastapi.testclient import TestClient

from qc_node.ledger import Ledger
from qc_node.spool import Spool
from qc_node.web.app import WebDeps, create_app
from tests.part_settings import web_options
from tests.web.busy_department import NOW, BusyDepartment, make
from tests.web.counting import counted_statements

TARGET_MS = 300.0


def addresses(made: BusyDepartment) -> dict[str, list[str]]:
    """What people of each role open."""
    return {
        "radiologist": [
            "/panel",
            f"/panel/{made.case}",
            f"/api/cases/{made.case}",
            "/help",
            "/api/recent",
            "/stats",
            "/stats?period=30",
            "/stats?period=all",
            "/stats/measures",
            "/me",
            "/api/me/figures",
            "/api/stats",
            "/api/stats/trends",
            "/stats/trends.csv",
            "/stats/votes.csv",
        ],
        "technologist": ["/live", "/api/board"],
        "expert": ["/review", "/api/review", "/review.csv", "/annotate", "/api/annotate"],
        "operator": ["/operations", "/api/operations"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="make the ledger here, or take it from here")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, counted_statements() as statements:
        path = said.keep or Path(temporary) / "ledger.sqlite"
        made = make(Ledger(path))
        deps = WebDeps(
            ledger=Ledger(path),
            spool=Spool(Path(temporary)),
            clock=lambda: NOW,
            web=web_options(requests_per_minute=1 << 20),
        )
        print(f"{'page':<26}{'first ms':>9}{'median ms':>10}{'slowest':>9}{'SQL':>7}{'kB':>8}")
        slow = []
        for role, pages in addresses(made).items():
            client = TestClient(create_app(deps), base_url="http://127.0.0.1:8080", follow_redirects=False)
            with client:
                client.headers["authorization"] = f"Bearer {made.tokens[role]}"
                for address in pages:
                    took = []
                    for _ in range(said.times + 1):
                        before, begun = statements.count, time.perf_counter()
                        answer = client.get(address)
                        took.append(1000 * (time.perf_counter() - begun))
                        ran = statements.count - before
                    if answer.status_code != 200:
                        print(f"{address:<26} answered {answer.status_code}")
                        continue
                    first, rest = took[0], took[1:]
                    print(
                        f"{address:<26}{first:>9.0f}{statistics.median(rest):>10.0f}{max(rest):>9.0f}"
                        f"{ran:>7}{len(answer.content) / 1024:>8.0f}"
                    )
                    if statistics.median(rest) > TARGET_MS:
                        slow.append(address)
        print(f"Slower than {TARGET_MS:g} ms: {', '.join(slow) or 'none'}.")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
