"""The QC summary as people see it: in OHIF 3.12.10 and in Orthanc's own viewer, over a real Orthanc."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from qc_node.domain.wording import Card, Tone
from qc_node.report.summary_picture import SIDE, SummaryPage, draw
from tests.peers.fixtures import StartOrthanc
from tests.peers.orthanc import Orthanc
from tests.peers.process import require, wait_for
from tests.peers.viewers import OhifServer, plugin
from tests.report.sources import as_bytes, report, source
from tests.report.test_summary import summary
from tests.web.browser import Chromium

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("viewers")]

Pixels = npt.NDArray[np.uint8]

FOOTER = ("Judged 2026-01-02 03:04 by QCNODE", "qc-test 0.1.0 (01234567)")
VIEWS = {
    view: np.tile(np.linspace(20, 230, 128, dtype=np.uint8), (128, 1)) for view in ("axial", "coronal", "sagittal")
}
POOR = draw(
    SummaryPage(
        "MR, series 5, 3 images",
        Card("Poor quality", Tone.POOR, "Severe motion.", True, "Very likely (99 %)", "Look at the images."),
        views=VIEWS,
        footer=FOOTER,
    )
)
GOOD = draw(SummaryPage("MR, series 6, 3 images", Card("Good quality", Tone.GOOD), views=VIEWS, footer=FOOTER))


def study() -> list[Dataset]:
    """An image, its report, and the pictures for it and for another series."""
    image = dcmread(str(get_testdata_file("MR_small.dcm")))
    header = source()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "PatientName"):
        setattr(image, keyword, header[keyword].value)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    other = source(SeriesInstanceUID="1.2.826.0.1.3680043.10.999.1.2", SeriesNumber="6")
    pictures = [summary(picture=POOR), summary(other, picture=GOOD, instance_number=2)]
    return [image, report(summary="tier 3 (poor)"), *pictures]


@pytest.fixture
def archive(start_orthanc: StartOrthanc) -> Orthanc:
    """An Orthanc with DICOMweb and its web viewer, that has the study."""
    plugins = [plugin("libOrthancDicomWeb.so"), plugin("libOrthancWebViewer.so")]
    orthanc = start_orthanc(options={"Plugins": plugins, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}})
    for ds in study():
        orthanc.upload(as_bytes(ds))
    return orthanc


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    require("chromium", "chromedriver")
    # OHIF draws with WebGL; a machine without a graphics card does that in software
    browser = Chromium("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
    yield browser
    browser.quit()


@pytest.fixture
def ohif_over(archive: Orthanc) -> Iterator[str]:
    server = OhifServer(archive)
    yield server.url
    server.stop()


# -- what is seen ------------------------------------------------------------------------------------
def area_of(browser: Chromium, selector: str, tmp_path: Path) -> Pixels:
    """What the browser shows in an element."""
    path = tmp_path / "screen.png"
    browser.screenshot(path)
    box = browser.script(
        "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [r.left, r.top, r.right, r.bottom]",
        selector,
    )
    left, top, right, bottom = (round(side) for side in box)
    return np.asarray(Image.open(path).convert("RGB").crop((left, top, right, bottom)))


def fitted(picture: Pixels, shape: tuple[int, ...]) -> Pixels:
    """`picture` as a viewer fits it into an area of this shape: whole, in the middle, on black."""
    height, width = shape[:2]
    side = min(height, width)
    scaled = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    whole = Image.new("RGB", (width, height))
    whole.paste(scaled, ((width - side) // 2, (height - side) // 2))
    return np.asarray(whole)


PLAYER = 90
"""Rows from the top, in CSS pixels, down to which OHIF's player lies over an image; they are not compared."""


def likeness(shown: Pixels, picture: Pixels) -> float:
    """Correlation of what is shown with the picture, over all colours, in blocks of four by four; 1 is the same.

    A viewer may be off by one pixel, which tells a sharp letter from itself, and a block not.
    """
    expected = fitted(picture, shown.shape)
    one, other = (
        np.asarray(Image.fromarray(part[PLAYER:]).reduce(4)).astype(np.float64).ravel()
        for part in (shown, expected)
    )
    return float(np.corrcoef(one, other)[0, 1])


def words_in(shown: Pixels) -> str:
    """What tesseract, which never saw the words, reads."""
    (tesseract,) = require("tesseract")
    enlarged = Image.fromarray(shown).convert("L").resize((2 * shown.shape[1], 2 * shown.shape[0]))
    buffer = io.BytesIO()
    enlarged.point(lambda value: 255 - value).save(buffer, "PNG")
    done = subprocess.run(
        [tesseract, "-", "-", "--psm", "11"], input=buffer.getvalue(), capture_output=True, timeout=60, check=True
    )
    return " ".join(done.stdout.decode().split())


def settled(look: Callable[[], Pixels], like: Pixels, least: float = 0.97) -> Pixels:
    """What is shown, once it is like `like`."""
    shown: list[Pixels] = []

    def seen() -> bool:
        shown.append(look())
        return likeness(shown[-1], like) > least

    wait_for(seen, timeout=90.0, every=1.0)
    return shown[-1]


def press_if_there(browser: Chromium, words: str) -> None:
    browser.script(
        "[...document.querySelectorAll('button, a')].find(e => e.innerText.trim() === arguments[0])?.click()",
        words,
    )


def open_series(browser: Chromium, description: str) -> None:
    """Double-click the series in OHIF's study browser, as a reader does: again where OHIF was not ready for it."""
    entry = (
        "[...document.querySelectorAll('[data-cy^=study-browser-thumbnail]')]"
        ".find(e => e.innerText.includes(arguments[0]))"
    )
    browser.until(f"return {entry}", description, seconds=120)

    def opened() -> bool:
        dismiss(browser)
        browser.script(
            f"const found = {entry}; for (const e of [found, found.firstElementChild])"
            " e?.dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))",
            description,
        )
        time.sleep(3)
        return description in browser.text("[data-cy=viewport-grid]")

    wait_for(opened, timeout=120.0)


def dismiss(browser: Chromium) -> None:
    """OHIF's tour and its notice, whenever they come."""
    for words in ("Skip all", "Confirm and hide"):
        press_if_there(browser, words)


CANVAS = "[data-cy=viewport-grid] canvas"
OVER_IT = "[data-cy^=viewport-overlay], [data-cy^=cine], .cine-player"
"""OHIF's own words and its player lie over the picture."""


def unobstructed(browser: Chromium, tmp_path: Path) -> Pixels:
    """What OHIF shows of an image."""
    dismiss(browser)
    browser.script("document.querySelectorAll(arguments[0]).forEach(e => e.style.visibility = 'hidden')", OVER_IT)
    return area_of(browser, CANVAS, tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (900, 640)])
def test_ohif_shows_the_picture_and_its_words_are_legible(
    ohif_over: str, chromium: Chromium, tmp_path: Path, width: int, height: int
) -> None:
    chromium.resize(width, height)
    chromium.open(f"{ohif_over}/viewer?StudyInstanceUIDs={source().StudyInstanceUID}")
    open_series(chromium, "QC summary")
    shown = settled(lambda: unobstructed(chromium, tmp_path), POOR)
    assert likeness(shown, GOOD) < likeness(shown, POOR), "worst first"
    read = words_in(shown)
    for words in ("Poor quality", "Severe motion", "not for diagnosis"):
        assert words in read, read


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_orthancs_own_viewer_shows_the_picture(archive: Orthanc, chromium: Chromium, tmp_path: Path) -> None:
    series = next(s for s in archive.get("/series?expand") if s["MainDicomTags"]["Modality"] == "OT")
    chromium.resize(1100, 900)
    chromium.open(f"{archive.url}/web-viewer/app/viewer.html?series={series['ID']}")
    chromium.until("return document.querySelector('canvas')", seconds=60)
    shown = settled(lambda: area_of(chromium, "canvas", tmp_path), POOR)
    read = words_in(shown)
    assert "Poor quality" in read and "not for diagnosis" in read, read


def test_orthanc_decodes_the_picture_as_it_was_drawn(archive: Orthanc) -> None:
    """The short form: what Orthanc hands to its viewers, pixel by pixel, by REST and by DICOMweb."""
    found: dict[str, Any] = {}
    for series in archive.get("/series?expand"):
        if series["MainDicomTags"]["Modality"] == "OT":
            assert series["MainDicomTags"]["SeriesDescription"] == "QC summary"
            for instance in series["Instances"]:
                number = archive.get(f"/instances/{instance}")["MainDicomTags"]["InstanceNumber"]
                found[number] = archive.fetch(f"/instances/{instance}/preview")
    assert sorted(found) == ["1", "2"]
    for number, picture in (("1", POOR), ("2", GOOD)):
        preview = np.asarray(Image.open(io.BytesIO(found[number])).convert("RGB"))
        assert preview.shape == (SIDE, SIDE, 3) and np.array_equal(preview, picture)
    uid = source().StudyInstanceUID
    listed = archive.get(f"/dicom-web/studies/{uid}/series?includefield=SeriesDescription")
    assert "QC summary" in {s["0008103E"]["Value"][0] for s in listed if "0008103E" in s}


def test_the_words_of_the_picture_are_read_by_a_program_at_512_pixels() -> None:
    half = np.asarray(Image.fromarray(POOR).resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS))
    read = words_in(half)
    for words in ("Poor quality", "Severe motion", "Very likely", "not for diagnosis"):
        assert words in read, read
