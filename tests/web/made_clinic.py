"""Two nodes with made-up clinics behind their pages: a morning in a department, and nothing yet.

Every image is a phantom: nested ellipses, nobody's head.
"""

from __future__ import annotations

import io
import json
import random
import re
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydicom.uid import ComprehensiveSRStorage

from qc_node.domain import Reason
from qc_node.domain.measure import Baseline, Departure, ImageFinding, Unusual
from qc_node.domain.technique import Technique
from qc_node.ledger import Ledger
from qc_node.ledger.deliveries import WrittenObject
from qc_node.spool import Spool
from qc_node.web.app import create_app
from qc_node.web.server import ServerHandle, serve
from qc_node.web.votes import cases, exchange
from tests.web.cable import Cable
from tests.web.conftest import Clinic, brain, ct, rejected, undecided
from tests.web.measured_history import PROTOCOL, Version, draw, drift, make_history
from tests.web.phantom_series import store_series
from tests.web.seventy_days import make_log


class Now:
    """The time of day, some minutes ago while the clinic is being filled."""

    behind = 2400.0

    @property
    def now(self) -> float:
        return time.time() - self.behind

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.behind = max(0.0, self.behind - 150 * seconds)


def fill(clinic: Clinic) -> None:
    """A morning in a department, 70 days of votes, and gradings of two experts."""
    store_series(clinic, "1.2.3", "1.2.3.1", scanner="MR_EAST", slices=60)
    clinic.ledger.studies.describe("1.2.3", "MR-204417", "MRI head, native")
    clinic.judge("1.2.3.1", brain(motion=1), seed=1)

    def arrive(study: str, accession: str, description: str, scanner: str, modality: str, images: int) -> str:
        series = f"{study}.1"
        clinic.receive(
            study,
            series,
            accession=accession,
            description=description,
            scanner=scanner,
            modality=modality,
            images=images,
        )
        return series

    series = arrive("1.2.4", "MR-204418", "MRI head with contrast", "MR_WEST", "MR", 176)
    clinic.judge(series, brain(motion=2, contrast=1, gadolinium=True), seed=2)
    series = arrive("1.2.5", "CT-88120", "CT abdomen-pelvis with contrast", "CT_1", "CT", 240)
    clinic.judge(
        series,
        ct("chest"),
        seed=3,
        description="Chest 3.0 Br40",
        warnings=("Ordered: abdomen-pelvis with contrast; found: chest without.",),
        claims={"ordered": ["CT abdomen-pelvis with contrast"]},
    )
    series = arrive("1.2.6", "MR-204419", "MRI head", "MR_3T", "MR", 192)
    clinic.judge(series, rejected(), seed=4, description="BET_t1_mprage")
    series = arrive("1.2.7", "MR-204420", "MRI head, native", "MR_3T", "MR", 176)
    clinic.judge(series, brain(), seed=5)
    series = arrive("1.2.11", "MR-204423", "تصوير الدماغ بالرنين المغناطيسي", "MR_WEST", "MR", 28)
    clinic.judge(series, brain(), seed=8, description="סריקת ראש T1")
    series = arrive("1.2.9", "MR-204421", "MRI head", "MR_ER", "MR", 160)
    clinic.judge(series, rejected(Reason.COVERAGE, measured=True), seed=6, description="t1_mprage_sag")
    series = arrive("1.2.10", "MR-204422", "MRI head", "MR_OR", "MR", 150)
    clinic.judge(series, undecided(), seed=7, description="T1W_3D_TFE")
    arrive("1.2.8", "XR-5120", "Chest PA", "DX_ROOM2", "DX", 1)
    series = arrive("1.2.12", "CT-88121", "CT abdomen-pelvis", "CT_1", "CT", 96)
    row = clinic.ledger.series.get(series)
    assert row is not None
    clinic.ledger.series.close(row["series_id"], row["last_received"], "quiet", clinic.clock.now)
    clinic.ledger.series.finish(
        row["series_id"], 1, "failed", clinic.clock.now, sentence="The pixels of image 17 cannot be decoded."
    )
    measure(clinic)
    deliver(clinic)
    for study in ("1.2.20", "1.2.21"):
        arrive(study, "MR-TWICE", "MRI head, two procedures", "MR_EAST", "MR", 20)
    start = datetime.now(UTC).replace(hour=7, minute=0, second=0, microsecond=0) - timedelta(days=70)
    log = io.StringIO(make_log(start=start)[0].replace("r2,Potsdam", "bode,Potsdam"))
    exchange.import_rows(clinic.ledger, exchange.read_rows(log, "log.csv"), now=time.time(), add_readers=True)


def measure(clinic: Clinic) -> None:
    """What was measured this morning, after months of two scanners: a drift, an outlier, a changed parameter."""
    make_history(clinic, "MR_EAST", (Version("VE11C", 70), Version("XA30", 60, drifting=14)))
    make_history(clinic, "MR_3T", (Version("5.7.1", 12),), seed=6)
    rng = random.Random(1)
    east, west = Technique("MR", "MR_EAST", "XA30", PROTOCOL), Technique("MR", "MR_3T", "5.7.1", PROTOCOL)
    clinic.ledger.series.note_claims(clinic.number("1.2.3.1"), {"protocol_name": "t1_mprage_sag"})
    values = draw(rng, 1.45)
    clinic.measure("1.2.3.1", values, east, unusual=(drift(values, 15),), departures=(ECHO_TIME,))
    far = draw(rng) | {"ghost_along_rows": 9.4}
    outlier = Unusual("ghost_along_rows", 9.4, 9.3, Baseline(1.8, 0.36, 60))
    clinic.measure("1.2.7.1", far, west, unusual=(outlier,), unmeasured={"tissue_overlap": NO_TISSUES})
    clinic.measure("1.2.6.1", {}, None, unmeasured={"*": "The images are a segmentation: nothing is measured."})
    noisy = ImageFinding("noise", "There is far more noise than usual.")
    clinic.measure("1.2.10.1", draw(rng), west, findings=(noisy,))


ECHO_TIME = Departure("echo_time", "95", "30", 0.98, 60)
NO_TISSUES = "The head does not fit the average head well enough."


def deliver(clinic: Clinic) -> None:
    """Reports are written and sent to two destinations: one has taken all but one, the other is away."""
    outbox = clinic.ledger.deliveries
    for n in (3, 4, 5, 6, 7, 9, 10, 11):
        series = clinic.number(f"1.2.{n}.1")
        written = WrittenObject(
            f"1.2.{n}.1.99", str(ComprehensiveSRStorage), series, f"1.2.{n}", 1, "sr", f"reports/{n}.dcm"
        )
        outbox.post([written], ["PACS", "ARCHIVE"], clinic.clock.now, reported=(series, 1))
    for row in outbox.unfinished():
        if row["destination"] == "ARCHIVE":
            outbox.retry(row["id"], clinic.clock.now + 300, "Nobody answers at 10.0.0.7:104.")
        elif row["study_uid"] == "1.2.5":
            outbox.failed(row["id"], "Refused: 0x0122, SOP class not supported.")
        else:
            outbox.sent(row["id"], clinic.clock.now)


def disagree(site: Site) -> None:
    """Two experts see one series differently: one rejects it, so both have to sit together."""
    number = site.clinic.verdict("1.2.3.1")["id"]
    for login, answer in (
        ("bode", {"straight_reject": True}),
        ("kern", {"straight_reject": False, "gadolinium": False, "motion": 1, "contrast": 0, "noise": 0}),
    ):
        body = json.dumps({"key": f"grading-{login}", **answer}).encode()
        headers = {"authorization": f"Bearer {site.tokens[login]}", "content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(site.url(f"/api/annotate/{number}"), body, headers))


READERS = {
    "bode": ("Dr. M. Bode", "expert"),
    "kern": ("دكتورة كرن", "expert"),
    "long": ("Prof. Dr. Wilhelmine von Hohenstein-Ahlberg", "technologist"),
    "oper": ("Ola Per", "operator"),
}
"""Name and role of who can sign in, by login."""

PIN = "271828"


@dataclass
class Site:
    """A node's pages in a real server, and the personal links of its readers."""

    clinic: Clinic
    server: ServerHandle
    cable: Cable
    tokens: dict[str, str]

    def url(self, address: str) -> str:
        opened = re.sub(r"\{(.+?)\}", lambda m: cases.open_study(self.clinic.deps(), m[1]), address)
        return self.cable.url + opened


def _open_site(root: Path, *, filled: bool) -> Site:
    clock = Now()
    clinic = Clinic(Ledger(root / "ledger.sqlite"), Spool(root), clock)
    tokens = {}
    for login, (name, role) in READERS.items():
        _, tokens[login] = clinic.reader(login, name=name, role=role, pin=PIN)
    if filled:
        fill(clinic)
    clock.behind = 0.0
    app = create_app(clinic.deps(requests_per_minute=100_000, votes_per_minute=10_000, sign_ins_per_minute=10_000))
    server = serve(app, "127.0.0.1", 0)
    site = Site(clinic, server, Cable(server.port), tokens)
    if filled:
        disagree(site)
    return site


@contextmanager
def open_sites() -> Iterator[dict[str, Site]]:
    """The two nodes that the states are on, by name."""
    with tempfile.TemporaryDirectory() as temporary:
        sites = {}
        for name in ("day", "empty"):
            folder = Path(temporary) / name
            folder.mkdir()
            sites[name] = _open_site(folder, filled=name == "day")
        try:
            yield sites
        finally:
            for site in sites.values():
                site.cable.close()
                site.server.stop()
