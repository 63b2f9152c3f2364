"""Make the pictures of docs/web.md: ``python -m tests.web.screenshots``.

Every image in them is a phantom: nested ellipses, nobody's head.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image

from qc_node.domain import Reason
from qc_node.ledger import Ledger
from qc_node.spool import Spool
from qc_node.web.app import create_app
from qc_node.web.server import serve
from qc_node.web.votes import cases, exchange
from tests.web.browser import Chromium
from tests.web.conftest import Clinic, brain, ct, rejected, undecided
from tests.web.phantom_series import store_series
from tests.web.seventy_days import make_log

TARGET = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDTHS = ((320, 880), (800, 900), (1600, 1000))


class Now:
    """The time of day, some minutes ago while the clinic is being filled."""

    behind = 2400.0

    @property
    def now(self) -> float:
        return time.time() - self.behind

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.behind = max(0.0, self.behind - 300 * seconds)


def fill(clinic: Clinic) -> None:
    """A morning in a department, 70 days of votes, and gradings of two experts."""
    store_series(clinic, "1.2.3", "1.2.3.1", scanner="MR_EAST", slices=60)
    clinic.ledger.studies.describe("1.2.3", "MR-204417", "MRI head, native")
    clinic.judge("1.2.3.1", brain(motion=1), seed=1)
    clinic.receive(
        "1.2.4",
        "1.2.4.1",
        accession="MR-204418",
        description="MRI head with contrast",
        scanner="MR_WEST",
        images=176,
    )
    clinic.judge("1.2.4.1", brain(motion=2, contrast=1, gadolinium=True), seed=2)
    clinic.receive(
        "1.2.5",
        "1.2.5.1",
        accession="CT-88120",
        description="CT abdomen-pelvis with contrast",
        scanner="CT_1",
        modality="CT",
        images=240,
    )
    clinic.judge(
        "1.2.5.1",
        ct("chest"),
        seed=3,
        description="Chest 3.0 Br40",
        warnings=("Ordered: abdomen-pelvis with contrast; found: chest without.",),
        claims={"ordered": ["CT abdomen-pelvis with contrast"]},
    )
    clinic.receive("1.2.6", "1.2.6.1", accession="MR-204419", description="MRI head", scanner="MR_3T", images=192)
    clinic.judge("1.2.6.1", rejected(), seed=4, description="BET_t1_mprage")
    clinic.receive(
        "1.2.7", "1.2.7.1", accession="MR-204420", description="MRI head, native", scanner="MR_3T", images=176
    )
    clinic.judge("1.2.7.1", brain(), seed=5)
    clinic.receive("1.2.9", "1.2.9.1", accession="MR-204421", description="MRI head", scanner="MR_ER", images=160)
    clinic.judge("1.2.9.1", rejected(Reason.COVERAGE, measured=True), seed=6, description="t1_mprage_sag")
    clinic.receive(
        "1.2.10", "1.2.10.1", accession="MR-204422", description="MRI head", scanner="MR_OR", images=150
    )
    clinic.judge("1.2.10.1", undecided(), seed=7, description="T1W_3D_TFE")
    clinic.receive(
        "1.2.8",
        "1.2.8.1",
        accession="XR-5120",
        description="Chest PA",
        scanner="DX_ROOM2",
        modality="DX",
        images=1,
    )
    start = datetime.now(UTC).replace(hour=7, minute=0, second=0, microsecond=0) - timedelta(days=70)
    log = io.StringIO(make_log(start=start)[0])
    exchange.import_rows(clinic.ledger, exchange.read_rows(log, "log.csv"), now=time.time(), add_readers=True)


def keep(name: str, chromium: Chromium) -> None:
    with tempfile.NamedTemporaryFile(suffix=".png") as raw:
        chromium.screenshot(Path(raw.name))
        picture = (
            Image.open(raw.name)
            .convert("RGB")
            .quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        )
        picture.save(TARGET / f"web-{name}.png", optimize=True)


def take(chromium: Chromium, base: str, case: str) -> None:
    for width, height in WIDTHS:
        chromium.resize(width, height)
        chromium.open(f"{base}/panel/{case}")
        chromium.until("return document.querySelector('.vote') && !document.querySelector('.vote').disabled")
        chromium.until("return [...document.images].every((i) => i.complete)")
        keep(f"panel-{width}", chromium)
        chromium.press("2")
        chromium.press("m")
        chromium.until_text("#says", "Saved")
        time.sleep(1.5)
        keep(f"voted-{width}", chromium)
        for key in ("u", "u"):
            chromium.press(key)
        chromium.until("return document.getElementById('queue').textContent === ''")
        for page, ready in (("live", ".card"), ("review", ".row"), ("annotate", "#tier"), ("stats", ".plot")):
            chromium.open(f"{base}/{page}")
            chromium.until("return document.querySelector(arguments[0])?.innerText", ready)
            chromium.until("return [...document.images].every((i) => i.complete || i.loading === 'lazy')")
            time.sleep(0.4)
            keep(f"{page}-{width}", chromium)


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    random.seed(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        clock = Now()
        clinic = Clinic(Ledger(root / "ledger.sqlite"), Spool(root), clock)
        fill(clinic)
        clock.behind = 0.0
        _, token = clinic.reader(name="Dr. M. Bode", role="expert")
        server = serve(create_app(clinic.deps()), "127.0.0.1", 0)
        chromium = Chromium()
        try:
            chromium.open(f"{server.url}/sign-in#{token}")
            chromium.until("return location.pathname === '/panel'")
            take(chromium, server.url, cases.open_study(clinic.deps(), "1.2.3"))
        finally:
            chromium.quit()
            server.stop()


if __name__ == "__main__":
    main()
