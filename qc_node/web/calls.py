"""How many calls each scanner had, and what they led to: counted from the alarms' rows."""

from __future__ import annotations

from datetime import datetime, timedelta

from qc_node.domain.attention import SEEN, Called, Calls, count_calls
from qc_node.ledger.alarms import NOBODY
from qc_node.ledger.rows import CalledRow
from qc_node.web.settings import WebDeps

LONGEST_DAYS = 366


def calls(deps: WebDeps, days: int = 1) -> list[Calls]:
    """Calls by scanner and day of the node's clock, of the last `days` days (1: today), newest day first."""
    today = datetime.fromtimestamp(deps.clock()).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=min(max(days, 1), LONGEST_DAYS) - 1)
    rows = deps.ledger.alarms.raised_since(since.timestamp())
    return count_calls(_called(deps, row) for row in rows)


def today(deps: WebDeps) -> dict[str, Calls]:
    """Today's calls by scanner."""
    return {one.scanner: one for one in calls(deps)}


def _called(deps: WebDeps, row: CalledRow) -> Called:
    seen = SEEN if row["closed_by"] is not None and row["closed_by"] not in NOBODY else None
    return Called(
        deps.web.stations.name(row["station"], row["calling_ae"]),
        datetime.fromtimestamp(row["raised_at"]).date().isoformat(),
        row["kind"],
        row["answer"] or seen,
    )
