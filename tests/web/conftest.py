"""Web pages with a ledger of its own, readers, and series judged by hand-written verdicts (phantoms only)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from qc_node.domain import (
    GRADED,
    Finding,
    ModelIdentity,
    Question,
    Reason,
    Stage,
    Verdict,
    tier_finding,
)
from qc_node.domain.attention import Notice
from qc_node.domain.measure import Measured
from qc_node.domain.technique import Technique
from qc_node.ledger import Ledger, Received
from qc_node.ledger.measured import NewMeasured
from qc_node.ledger.rows import VerdictRow
from qc_node.spool import Spool
from qc_node.web.access import readers
from qc_node.web.app import WebDeps, create_app
from tests.ledger.makers import number_of
from tests.part_settings import SECRET, web_options
from tests.peers import require
from tests.web.browser import Chromium

__all__ = ["SECRET"]

BASE = "http://127.0.0.1:8080"
MODEL = ModelIdentity("phantom", "1", "ab" * 32)


class AnyClock(Protocol):
    """What a clinic needs of a clock."""

    @property
    def now(self) -> float: ...

    def __call__(self) -> float: ...

    def forward(self, seconds: float) -> None: ...


@dataclass
class Clock:
    """A clock that stands still until told otherwise."""

    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


def head_phantom(seed: int, size: int = 192) -> np.ndarray:
    """Nested ellipses with texture: a picture of nobody's head, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]

    def ellipse(cx: float, cy: float, a: float, b: float) -> np.ndarray:
        inside: np.ndarray = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
        return inside

    image = np.zeros((size, size))
    image[ellipse(0, 0, 0.78, 0.92)] = 0.85
    image[ellipse(0, 0, 0.72, 0.86)] = 0.1
    image[ellipse(0, 0, 0.68, 0.82)] = 0.45
    wobble = 0.5 + 0.5 * np.sin(9 * np.arctan2(y, x) + seed) * 0.3
    image[(ellipse(0, 0, 0.68, 0.82)) & (np.hypot(x / 0.68, y / 0.82) < 0.75 + 0.12 * wobble)] = 0.66
    image[ellipse(-0.14, 0, 0.09, 0.3) | ellipse(0.14, 0, 0.09, 0.3)] = 0.12
    image += rng.normal(0, 0.025, image.shape) * (image > 0.05)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


@cache
def head_picture(seed: int) -> bytes:
    return png(head_phantom(seed))


def brain(motion: int = 0, contrast: int = 0, noise: int = 0, gadolinium: bool = False) -> Verdict:
    """A brain verdict with these grades."""

    def graded(question: Question, grade: int) -> Finding:
        return Finding(question, grade, {str(g): 0.9 if g == grade else 0.05 for g in range(3)})

    grades = [
        graded(q, g)
        for q, g in ((Question.MOTION, motion), (Question.CONTRAST, contrast), (Question.NOISE, noise))
    ]
    reject = Finding(Question.STRAIGHT_REJECT, False, {"yes": 0.02, "no": 0.98})
    gado = Finding(Question.GADOLINIUM, gadolinium, {"yes": float(gadolinium), "no": 1.0 - gadolinium})
    return Verdict(Stage.BRAIN_MRI, MODEL, (reject, gado, *grades, tier_finding(grades)))


def rejected(reason: Reason = Reason.SKULL_STRIPPED, measured: bool = False) -> Verdict:
    """A straight reject, by a network or by what was measured."""
    probabilities = {} if measured else {"yes": 0.97, "no": 0.03}
    return Verdict(Stage.BRAIN_MRI, MODEL, (Finding(Question.STRAIGHT_REJECT, True, probabilities, reason),))


def undecided(why: str = "The image fits the average head too poorly to be judged.") -> Verdict:
    """A brain verdict that answers nothing."""
    asked = (Question.STRAIGHT_REJECT, Question.GADOLINIUM, *GRADED, Question.TIER)
    return Verdict(Stage.BRAIN_MRI, MODEL, tuple(Finding(q, None, abstained=why) for q in asked))


def ct(part: str = "chest", enhanced: bool = False) -> Verdict:
    probabilities = {"chest": 0.02, "abdomen": 0.02, part: 0.96}
    return Verdict(
        Stage.CT,
        MODEL,
        (
            Finding(Question.BODY_PART, part, probabilities),
            Finding(Question.CONTRAST_ENHANCED, enhanced, {"yes": float(enhanced), "no": 1.0 - enhanced}),
        ),
    )


@dataclass
class Clinic:
    """A made-up clinic: its ledger and spool, and verbs that fill them."""

    ledger: Ledger
    spool: Spool
    clock: AnyClock
    counted: list[tuple[str, str, str]] = field(default_factory=list)
    called: list[tuple[str, str]] = field(default_factory=list)
    told: list[Notice] = field(default_factory=list)

    def deps(self, **web: Any) -> WebDeps:
        return WebDeps(
            ledger=self.ledger,
            spool=self.spool,
            clock=self.clock,
            web=web_options(**web),
            on_vote=lambda *v: self.counted.append(v),
            on_call=lambda *v: self.called.append(v),
            notify=self.told.append,
        )

    def receive(
        self,
        study: str,
        series: str,
        *,
        scanner: str = "MR_EAST",
        modality: str = "MR",
        images: int = 3,
        accession: str | None = None,
        description: str | None = None,
        station: str = "",
    ) -> None:
        self.clock.forward(1)
        self.ledger.instances.add(
            [
                Received(
                    f"{series}.{n}",
                    "1.2.840.10008.5.1.4.1.1.4",
                    series,
                    study,
                    "1.2.840.10008.1.2.1",
                    modality,
                    scanner,
                    f"images/{series}.{n}",
                    100,
                    self.clock.now,
                    station=station,
                )
                for n in range(1, images + 1)
            ]
        )
        if accession or description:
            self.ledger.studies.describe(study, accession, description)

    def judge(
        self,
        series: str,
        verdict: Verdict,
        *,
        description: str = "t1_mprage_sag",
        seed: int = 1,
        warnings: tuple[str, ...] = (),
        claims: dict[str, Any] | None = None,
        routed: bool = True,
    ) -> None:
        row = self.ledger.series.get(series)
        assert row is not None
        if row["state"] == "receiving":
            assert self.ledger.series.close(row["series_id"], row["last_received"], "test", self.clock.now)
        names = []
        for n, view in enumerate(("axial", "coronal", "sagittal", "axial-mip", "coronal-mip", "sagittal-mip")):
            name = self.spool.thumbnail_name(series, row["run"], view)
            (self.spool.root / name).write_bytes(head_picture(seed * 10 + n))  # fsync is the spool's own test
            names.append(name)
        self.ledger.verdicts.add(
            row["series_id"],
            row["run"],
            verdict,
            claims={"series_description": description, **(claims or {})},
            warnings=warnings,
            timings={"total": 1.0},
            source_path="x",
            at=self.clock.now,
            report_after=self.clock.now,
            thumbnails=names,
            routed=routed,
        )
        if not routed:
            return
        stage = verdict.stage.value
        self.ledger.series.finish(row["series_id"], row["run"], "judged", self.clock.now, stage=stage)

    def measure(self, series: str, values: Mapping[str, float], technique: Technique | None, **more: Any) -> None:
        """Keep what was measured of a series, with what :class:`NewMeasured` takes besides."""
        row = self.ledger.series.get(series)
        assert row is not None
        measured = Measured(values, more.pop("unmeasured", {}))
        new = NewMeasured(row["series_id"], row["run"], measured, technique, 1, **more)
        self.ledger.measured.add(new, self.clock.now)

    def verdict(self, series: str) -> VerdictRow:
        """The newest verdict of a series that was judged."""
        row = self.ledger.verdicts.get(self.number(series))
        assert row is not None
        return row

    def number(self, series: str) -> int:
        """The ``series_id`` of a series."""
        return number_of(self.ledger, series)

    def reader(
        self,
        login: str = "mbh",
        *,
        name: str = "M. Bode",
        site: str = "Potsdam",
        role: str = "radiologist",
        **more: Any,
    ) -> tuple[readers.Reader, str]:
        return readers.add(self.ledger, login, name=name, site=site, role=role, at=self.clock.now, **more)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    require("chromium")
    require("chromedriver")
    browser = Chromium()
    yield browser
    browser.quit()


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    """An empty clinic."""
    return Clinic(Ledger(tmp_path / "ledger.db"), Spool(tmp_path / "data"), Clock())


class Browser(TestClient):
    """A client that behaves like a page of ours: cookies, and the Origin that a browser would send."""

    app: FastAPI

    def sign_in(self, token: str) -> None:
        answer = self.post("/api/sign-in", json={"token": token})
        assert answer.status_code == 200, answer.text

    def show(self, case: str, how: str = "panel") -> dict[str, Any]:
        answer = self.post(f"/api/cases/{case}/show?how={how}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def vote(self, shown: dict[str, Any], vote: str, key: str, **more: Any) -> httpx.Response:
        body = {"key": key, "vote": vote, "case": shown["case"], "presentation": shown["presentation"], **more}
        answer: httpx.Response = self.post("/api/votes", json=body)
        return answer


Browse = Callable[..., Browser]
"""Takes an application, or what :class:`WebOptions` takes."""


@pytest.fixture
def browse(clinic: Clinic) -> Iterator[Browse]:
    """A function that opens a browser on pages made with these web settings."""
    opened: list[Browser] = []

    def start(app: FastAPI | None = None, **web: Any) -> Browser:
        client = Browser(
            app or create_app(clinic.deps(**web)), base_url=BASE, headers={"origin": BASE}, follow_redirects=False
        )
        client.__enter__()
        opened.append(client)
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)
