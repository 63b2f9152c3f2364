"""A ledger that has seen years of images: rows as the node writes them, removed as retention does it.

Per series of 200 images: a study of three series, claims, a verdict of the shipped brain MRI or CT classifier with
numbers that do not repeat, network input and thumbnails that are still kept, thirty measures in one of 280
charts, a report that was delivered and committed, and the events on the way.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qc_node.ledger import Ledger
from qc_node.measures.catalogue import MEASURES
from qc_node.operations import retention
from qc_node.spool import Spool

PER_SERIES, SERIES_PER_STUDY = 200, 3
START = 1.6e9
SERIES_APART_S = 30.0
AT_ONCE = 100
"""Series of one transaction."""

BRAIN = ("straight_reject", "gadolinium", "motion", "contrast", "noise", "tier")
BODY_PARTS = ("brain", "neck", "chest", "abdomen", "abdomen_pelvis", "other")


@dataclass(frozen=True)
class Grown:
    """A ledger and what it has seen."""

    ledger: Ledger
    spool: Spool
    removed: int
    live: int
    bytes_of_removed: int
    """What the file had grown by when all that was removed was removed, without pages that are free."""

    @property
    def bytes_allowed(self) -> int:
        """Ten for each removed instance; for each series 2 KiB, and 256 bytes for what was measured of it."""
        return 10 * self.removed + (2048 + 256) * -(-self.removed // PER_SERIES)


def grow(folder: Path, removed: int, live: int = 0, *, files: bool = False) -> Grown:
    """Make a data folder that has seen `removed` and `live` instances.

    With `files` each live instance has a file (of no bytes) under its name, as the start finds them.
    """
    ledger, spool = Ledger(folder / "ledger.sqlite"), Spool(folder)
    conn = ledger.db.conn
    conn.execute("PRAGMA synchronous=OFF")
    before = used_bytes(conn)
    numbers = range(-(-(removed + live) // PER_SERIES))
    gone = numbers[: -(-removed // PER_SERIES)]
    for n in gone[::AT_ONCE]:
        _write(ledger, spool, range(n, min(n + AT_ONCE, len(gone))), removed)
    grown = used_bytes(conn) - before
    for n in numbers[len(gone) :: AT_ONCE]:
        _write(ledger, spool, range(n, min(n + AT_ONCE, len(numbers))), 0)
    if files:
        _touch(ledger, spool)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.close()
    return Grown(ledger, spool, removed, live, grown)


def used_bytes(conn: sqlite3.Connection) -> int:
    """Of the ledger's file, without pages that are free for the next rows."""
    pages, free, size = (
        conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _write(ledger: Ledger, spool: Spool, numbers: range, removed: int) -> None:
    with ledger.db.transaction() as conn:
        for n in numbers:
            _series(conn, spool, n)
            if n * PER_SERIES < removed:
                _remove(ledger, n, min(PER_SERIES, removed - n * PER_SERIES))


def _remove(ledger: Ledger, n: int, count: int) -> None:
    """What retention does with a series, but for the files, which are not there."""
    numbers = ledger.removals.begin(n + 1, _time(n), START + 1e9)
    assert numbers is not None
    for first in range(0, count, retention.AT_ONCE):
        ledger.removals.condense(n + 1, numbers[first : min(first + retention.AT_ONCE, count)], START + 1e9)
    ledger.removals.end(n + 1)


def _touch(ledger: Ledger, spool: Spool) -> None:
    for name in ledger.removals.named("images"):
        spool.folder_of(name)
        (spool.root / name).touch()


def _uid(*parts: object) -> str:
    """A UID of 64 characters that says nothing, as pydicom makes them."""
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:16], "big")
    return f"1.2.826.0.1.3680043.8.498.{number}"[:64]


def _time(n: int) -> float:
    return START + n * SERIES_APART_S + 12.345


def names_of(n: int) -> tuple[str, str]:
    """Study and Series Instance UID of the n-th series."""
    return _uid("study", n // SERIES_PER_STUDY), _uid("series", n)


def image_uid(n: int, number: int) -> str:
    """SOP Instance UID of an image of the n-th series."""
    return _uid("image", n, number)


def _series(conn: sqlite3.Connection, spool: Spool, n: int) -> None:
    study, series = names_of(n)
    rng, at = random.Random(n), _time(n)
    brain = n % 2 == 0
    claims = json.dumps(_claims(rng, n, brain))
    conn.execute(
        "INSERT OR IGNORE INTO studies (study_uid, accession_number, description, first_received, last_received,"
        " state, closed_by, closed_at) VALUES (?,?,?,?,?,'closed','quiet',?)",
        (study, f"A{n // SERIES_PER_STUDY:09}", "MRI" if brain else "CT chest", at - 20, at, at + 300),
    )
    conn.execute(
        "INSERT INTO series (series_id, study_uid, series_uid, modality, calling_ae, first_received,"
        " last_received, instances, expected, expected_rule, run, state, closed_by, closed_at, claimed_at,"
        " attempts, stage, claims)"
        " VALUES (?,?,?,?,?,?,?,?,?,'ImagesInAcquisition (0020,1002)',1,'reported',?,?,?,1,?,?)",
        (
            *(n + 1, study, series, "MR" if brain else "CT", f"SCANNER{n % 7}", at - 20, at),
            *(PER_SERIES, PER_SERIES, "header: ImagesInAcquisition (0020,1002)", at + 0.1, at + 0.2),
            *("brain_mri" if brain else "ct", claims),
        ),
    )
    conn.executemany(
        "INSERT INTO instances (sop_instance_uid, series_id, sop_class_uid, transfer_syntax_uid, calling_ae, path,"
        " bytes, received_at) VALUES (?,?,'1.2.840.10008.5.1.4.1.1.4','1.2.840.10008.1.2.1',?,?,135000,?)",
        _images(spool, n, at),
    )
    _judged(conn, spool, n, _verdict(rng, brain), claims, at)


MEASURED_OF = ("MR", "CT")
"""Every other series is of each."""


PARAMETERS = ("repetition_time", "echo_time", "flip_angle", "bandwidth", "pixel_mm", "slice_mm", "field_t", "mas")


def _names(n: int) -> list[str]:
    """Of the measures of this series."""
    return [m.name for m in MEASURES.values() if MEASURED_OF[n % 2] in m.modalities]


def _measure(conn: sqlite3.Connection, n: int, at: float) -> None:
    """What was measured of a series: one chart for each of seven scanners and forty protocols."""
    rng = random.Random(n)
    key = (f"SCANNER{n % 7}", f"body_part=x|kernel=B{n % 40}|orientation=axial|sequence=gr_ir", "VE11")
    conn.execute(
        "INSERT OR IGNORE INTO charts (modality, station, protocol, software, opened_at) VALUES ('MR',?,?,?,?)",
        (*key, at),
    )
    conn.execute(
        "INSERT INTO measured (series_id, run, chart_id, at, version, body_size, parameters, measures, unmeasured,"
        " unusual, departures, findings, seconds) VALUES (?, 1, (SELECT chart_id FROM charts WHERE station = ? AND"
        " protocol = ? AND software = ?), ?, 1, 301.5, ?, ?, ?, '[]', '[]', '[]', 1.25)",
        (
            *(n + 1, *key, at + 0.7, json.dumps({name: round(rng.random() * 100, 2) for name in PARAMETERS})),
            json.dumps({name: float(f"{rng.random() * 10:.5g}") for name in _names(n)}),
            json.dumps({name: f"There is too little {name} in the image." for name in ("metal", "tissue")}),
        ),
    )


def _images(spool: Spool, n: int, at: float) -> Iterator[Sequence[object]]:
    study, series = names_of(n)
    for number in range(PER_SERIES):
        uid = image_uid(n, number)
        yield uid, n + 1, f"SCANNER{n % 7}", spool.image_name(study, series, uid), at - 20 + number / 10


def _judged(conn: sqlite3.Connection, spool: Spool, n: int, verdict: object, claims: str, at: float) -> None:
    study, series = names_of(n)
    pictures = [spool.thumbnail_name(f"{study}/{series}", 1, view) for view in ("axial", "coronal", "sagittal")]
    timings = {step: random.Random(n).random() for step in ("read", "preprocess", "infer", "total")}
    conn.executemany(
        "INSERT INTO events (series_id, run, at, event, detail) VALUES (?,1,?,?,?)",
        [
            (n + 1, at + 0.1, "closed", "header: ImagesInAcquisition (0020,1002)"),
            (n + 1, at + 0.7, "judged", None),
        ],
    )
    conn.execute(
        "INSERT INTO verdicts (series_id, run, stage, verdict, claims, warnings, timings, source_path, judged_at,"
        " report_after, training_path, thumbnails) VALUES (?,1,?,?,?,'[]',?,?,?,?,?,?)",
        (
            *(n + 1, "ct" if n % 2 else "brain_mri", json.dumps(verdict), claims, json.dumps(timings)),
            *(spool.image_name(study, series, image_uid(n, 0)), at + 0.7, at + 0.7),
            *(spool.training_name(f"{study}/{series}", 1), json.dumps(pictures)),
        ),
    )
    _measure(conn, n, at)
    report = f"2.25.{int.from_bytes(hashlib.sha256(series.encode()).digest()[:16], 'big')}"
    conn.execute(
        "INSERT INTO reports VALUES (?,'1.2.840.10008.5.1.4.1.1.88.33',?,?,1,'sr',?,NULL,?)",
        (report, n + 1, study, spool.report_name(report), at + 0.8),
    )
    number = conn.execute(
        "INSERT INTO deliveries (sop_instance_uid, destination, state, attempts, next_attempt_at, created_at,"
        " sent_at, committed_at) VALUES (?,'PACS','committed',1,?,?,?,?)",
        (report, at + 0.8, at + 0.8, at + 0.9, at + 60),
    ).lastrowid
    conn.execute(
        "INSERT INTO commitments (delivery_id, transaction_uid, asked_at, answered_at, outcome)"
        " VALUES (?,?,?,?,'committed')",
        (number, f"2.25.{random.Random(-n).getrandbits(128)}", at + 30, at + 60),
    )


def _claims(rng: random.Random, n: int, brain: bool) -> dict[str, object]:
    makers = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems", "CANON_MEC")
    names = (
        ("T1 MPRAGE sag iso", "T2 TSE tra 3mm", "FLAIR cor fs", "DWI b0 b1000 ADC")
        if brain
        else ("Abdomen 1.5 B30f venous", "Thorax 5.0 B70f Lunge", "Head 2.5 mm", "TopoGram 0.6 T20s")
    )
    name = f"{rng.choice(names)} {rng.randrange(1, 40)}"
    return {
        "modality": "MR" if brain else "CT",
        "manufacturer": rng.choice(makers),
        "model_name": f"Model {n % 11}",
        "station_name": f"SCANNER{n % 7}",
        "field_strength_t": rng.choice((1.5, 3.0)),
        "series_description": name,
        "protocol_name": name,
        "study_description": "MRI brain" if brain else "CT chest abdomen",
        "body_part_examined": "BRAIN" if brain else "ABDOMEN",
        "scanning_sequence": ["GR", "IR"],
        "image_type": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"],
        "acquisition_type": "3D",
        "slice_thickness_mm": rng.choice((0.9, 1.0, 1.3, 2.5)),
        "contrast_words": False,
        "gadolinium_words": False,
    }


def _verdict(rng: random.Random, brain: bool) -> dict[str, object]:
    if brain:
        model, stage = "qc-node-brain-mri", "brain_mri"
        asked = [(q, {str(k): rng.random() for k in range(3)} if q != "tier" else {}) for q in BRAIN]
    else:
        model, stage = "ct-slices", "ct"
        asked = [("body_part", {part: rng.random() * 1e-3 for part in BODY_PARTS})]
        asked.append(("contrast_enhanced", {"yes": rng.random(), "no": rng.random()}))
    findings = [
        {"question": q, "value": rng.randrange(3), "probabilities": p, "reason": None, "abstained": None}
        for q, p in asked
    ]
    sha256 = hashlib.sha256(model.encode()).hexdigest()
    return {
        "stage": stage,
        "model": {"name": model, "version": "0.6.0", "sha256": sha256},
        "findings": findings,
        "coverage": None,
        "warnings": [],
    }
