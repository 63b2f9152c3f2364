"""What must hold whatever happened: pure functions of what was seen, which say what is wrong in sentences.

1. Each acknowledged object is on disk and in the ledger (:func:`lost`).
2. Each judged series has exactly one current report at the PACS (:func:`wrong_reports`).
3. Nothing waits without a visible reason (:func:`unexplained`).
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pydicom

from qc_node.ledger.rows import AnyRow
from tests.end_to_end.faults.modality import Acknowledged, digest_of

REPORTED = ("reported",)
DELIVERED = ("sent", "committed")


@dataclass(frozen=True)
class Bounds:
    """For how long something may wait without being asked why, in seconds; from the node's own settings."""

    receiving: float = 600.0
    working: float = 60.0
    study: float = 900.0
    commitment: float = 120.0


@dataclass(frozen=True)
class Seen:
    """What an inspector sees from outside, at one time.

    Attributes
    ----------
    at
        Seconds since the epoch.
    tables
        Rows of the ledger by table; of ``series`` with ``report_after`` of the routed verdict.
    read
        The bytes of a file of the data folder, by its name in the ledger; None where there is none.
    held, altered
        What the PACS keeps, and what it was sent again with other bytes (:class:`ScriptedPacs`).
    failing
        Checks of ``/readyz`` that do not pass, and their sentences.
    metrics
        Samples of ``/metrics``.
    outbox
        Reasons that ``qc-node outbox list`` gives, by delivery.
    commitment
        Whether the PACS is asked for storage commitment.
    """

    at: float
    acknowledged: Sequence[Acknowledged]
    tables: Mapping[str, Sequence[AnyRow]]
    read: Callable[[str], bytes | None]
    held: Mapping[str, bytes] = field(default_factory=dict)
    altered: Sequence[str] = ()
    failing: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    outbox: Mapping[int, str] = field(default_factory=dict)
    commitment: bool = False
    bounds: Bounds = Bounds()


def broken(seen: Seen) -> list[str]:
    """Every sentence of every invariant."""
    return [*lost(seen), *wrong_reports(seen), *unexplained(seen)]


# -- 1: acknowledged objects -----------------------------------------------------------------------------
def lost(seen: Seen) -> list[str]:
    """Acknowledged objects that the ledger does not name, or whose bytes are not on the disk.

    Each content that was acknowledged under a UID must be there; which of several is the current one is another
    question.  Images of a series that retention emptied may be gone, and their rows.
    """
    paths = defaultdict(list)
    for row in seen.tables["instances"]:
        paths[row["sop_instance_uid"]].append(row["path"])
    emptied = {row["series_uid"] for row in seen.tables["series"] if row["images_removed_at"] is not None}
    wanted = dict.fromkeys(item for item in seen.acknowledged if item.series_uid not in emptied)
    return [sentence for item in wanted if (sentence := _missing(item, paths[item.sop_instance_uid], seen.read))]


def _missing(item: Acknowledged, paths: Sequence[str], read: Callable[[str], bytes | None]) -> str | None:
    if not paths:
        return f"{item.sop_instance_uid} was acknowledged and is not in the ledger"
    files = [data for path in paths if (data := read(path)) is not None]
    if not files:
        return f"{item.sop_instance_uid} was acknowledged, is in the ledger and not on the disk"
    if all(digest_of(data[-item.length :]) != item.digest for data in files):
        return f"{item.sop_instance_uid} is on the disk with other bytes than were acknowledged"
    return None


# -- 2: reports at the PACS ------------------------------------------------------------------------------
@dataclass(frozen=True)
class _HeldReport:
    uid: str
    evidence: frozenset[str]
    predecessors: frozenset[str]


def wrong_reports(seen: Seen) -> list[str]:
    """Reports that the PACS should have and has not, has twice, or has with something else in them."""
    reports = {row["sop_instance_uid"]: row for row in seen.tables["reports"]}
    said = [f"the PACS holds {uid}, which the ledger does not know" for uid in seen.held if uid not in reports]
    said += [f"the PACS got {uid} again with other bytes" for uid in seen.altered]
    for row in seen.tables["deliveries"]:
        if row["state"] in DELIVERED and row["sop_instance_uid"] not in seen.held:
            said.append(f"{row['sop_instance_uid']} counts as {row['state']}, and the PACS does not hold it")
    for series in seen.tables["series"]:
        if series["state"] in REPORTED:
            said += _wrong_report_of(series, seen, reports)
    return said


def _wrong_report_of(series: AnyRow, seen: Seen, reports: Mapping[str, AnyRow]) -> Iterator[str]:
    name = f"series {series['series_uid']}"
    mine = {uid for uid, row in reports.items() if row["series_id"] == series["series_id"] and row["kind"] == "sr"}
    newest = max(mine, key=lambda uid: int(reports[uid]["run"]), default=None)
    if newest is None:
        yield f"{name} is reported, and there is no report"
        return
    states = {row["state"] for row in seen.tables["deliveries"] if row["sop_instance_uid"] in mine}
    if not states <= set(DELIVERED):
        return  # not all there yet, or never: the third invariant asks why
    held = [_summary(seen.held[uid]) for uid in mine & seen.held.keys()]
    current = [r for r in held if not any(r.uid in other.predecessors for other in held)]
    if [r.uid for r in current] != [newest]:
        yield f"{name} has {len(current)} current reports at the PACS"
    elif series["images_removed_at"] is None and current[0].evidence != _images_of(series, seen):
        yield f"{name}: its current report names other images than the ledger"


def _images_of(series: AnyRow, seen: Seen) -> set[str]:
    rows = seen.tables["instances"]
    return {
        r["sop_instance_uid"] for r in rows if r["series_id"] == series["series_id"] and not r["superseded_at"]
    }


@lru_cache(maxsize=100_000)
def _summary(data: bytes) -> _HeldReport:
    ds = pydicom.dcmread(io.BytesIO(data))
    return _HeldReport(
        str(ds.SOPInstanceUID),
        frozenset(_referenced(ds.get("CurrentRequestedProcedureEvidenceSequence", ()))),
        frozenset(_referenced(ds.get("PredecessorDocumentsSequence", ()))),
    )


def _referenced(studies: Iterable[pydicom.Dataset]) -> Iterator[str]:
    for study in studies:
        for series in study.ReferencedSeriesSequence:
            yield from (str(item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence)


# -- 3: what waits ---------------------------------------------------------------------------------------
def unexplained(seen: Seen) -> list[str]:
    """Rows that are in no end state, or ended badly, and of which nobody can see why."""
    return [*_series_without_reason(seen), *_studies_without_reason(seen), *_deliveries_without_reason(seen)]


def unfinished(seen: Seen) -> list[str]:
    """Everything that is still on its way, whether or not one can see why."""
    series = [
        f"series {row['series_uid']} is {row['state']}"
        for row in seen.tables["series"]
        if row["state"] in ("receiving", "queued", "judging", "judged")
    ]
    return series + [
        f"delivery {r['id']} is pending" for r in seen.tables["deliveries"] if r["state"] == "pending"
    ]


SINCE = {"receiving": "last_received", "queued": "closed_at", "judging": "claimed_at", "judged": "report_after"}
"""Since when a series waits in each of its states."""


def _series_without_reason(seen: Seen) -> Iterator[str]:
    for row in seen.tables["series"]:
        state = row["state"]
        if state in ("failed", "skipped") and not row["sentence"]:
            yield f"series {row['series_uid']} is {state} without a sentence"
        if state not in SINCE:
            continue
        waits = seen.at - (row[SINCE[state]] or 0.0)
        bound = seen.bounds.receiving if state == "receiving" else seen.bounds.working
        shown = seen.metrics.get(f'qc_node_queue_oldest_seconds{{queue="{state}"}}', 0.0) >= waits - 5.0
        if waits > bound and not (shown or seen.failing.keys() & {"ledger", "disk", "worker"}):
            yield f"series {row['series_uid']} is {state} for {waits:.0f} s, and nothing says so"


def _studies_without_reason(seen: Seen) -> Iterator[str]:
    for row in seen.tables["studies"]:
        if row["state"] == "open" and seen.at - row["last_received"] > seen.bounds.study:
            yield f"study {row['study_uid']} is open for too long"


def _deliveries_without_reason(seen: Seen) -> Iterator[str]:
    owed = seen.metrics.get("qc_node_commitments_open_oldest_seconds", 0.0)
    shown = seen.metrics.get("qc_node_outbox_oldest_seconds", 0.0)
    for row in seen.tables["deliveries"]:
        waits = seen.at - row["created_at"]
        listed = seen.outbox.get(row["id"], "")
        name = f"delivery {row['id']}"
        if row["state"] == "failed" and not listed:
            yield f"{name} has failed without a sentence"
        if row["state"] == "pending" and waits > seen.bounds.working and not (listed and shown >= waits - 5.0):
            yield f"{name} is pending for {waits:.0f} s, and nothing says why"
        uncommitted = seen.commitment and row["state"] == "sent"
        sent_for = seen.at - (row["sent_at"] or seen.at)
        if (
            uncommitted
            and sent_for > seen.bounds.commitment
            and not (owed >= sent_for - 65.0 or row["last_error"])
        ):
            yield f"{name} is sent for {sent_for:.0f} s without a promise, and nothing says so"
