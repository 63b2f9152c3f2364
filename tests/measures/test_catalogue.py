"""The catalogue is sound, and the page about it says what it says."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from qc_node.domain.measure import Measure
from qc_node.measures import catalogue, collimation, exposure, radiographs, volumes

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "measures.md").read_text(encoding="utf-8")
MRIQC = {
    *(
        "cjv",
        "cnr",
        "efc",
        "fber",
        "wm2max",
        "qi_1",
        "qi_2",
        "snr",
        "snrd",
        "rpve",
        "inu",
        "tpm_overlap",
        "summary",
    ),
    *(
        "fwhm_avg",
        "fwhm_x",
        "fwhm_y",
        "fwhm_z",
        "inu_med",
        "inu_range",
        "snr_total",
        "snr_wm",
        "snr_gm",
        "snr_csf",
    ),
    *("icvs_wm", "icvs_gm", "icvs_csf", "dvars", "fd_mean", "gsr_x", "gsr_y", "tsnr", "aor", "aqi", "dummy"),
}
"""Names of MRIQC (Esteban et al. 2017), which have its definition or none."""


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measures_page", DOCS / "measures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_name_stands_for_two_measures() -> None:
    parts = [part.measures for part in volumes.PARTS] + [
        collimation.MEASURES,
        exposure.MEASURES,
        radiographs.MEASURES,
    ]
    names = Counter(m.name for part in parts for m in part)
    assert [name for name, count in names.items() if count > 1] == []
    assert names.keys() == catalogue.MEASURES.keys()


@pytest.mark.parametrize("measure", catalogue.MEASURES.values(), ids=lambda m: m.name)
def test_each_measure_is_well_described(measure: Measure) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{2,31}", measure.name)
    assert measure.name not in MRIQC
    assert measure.title and not measure.title.startswith("the ") and not measure.title.endswith(".")
    assert measure.low < measure.high
    assert measure.modalities and measure.modalities <= {"MR", "CT", "CR", "DX", "MG"}
    assert measure.source
    assert "|" not in measure.source + measure.title, "it stands in a table"


def test_the_table_of_the_docs_is_the_catalogue(writer: ModuleType) -> None:
    assert writer.LAWS.keys() == catalogue.MEASURES.keys()
    assert writer.page() == PAGE, "run: python docs/measures.py"


def test_the_page_speaks_of_no_measure_that_is_not_there() -> None:
    text = PAGE.split("<!-- table")[0]
    spoken = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    assert spoken <= catalogue.MEASURES.keys()


def test_the_pictures_are_small() -> None:
    pictures = re.findall(r"\]\((images/measures-[a-z_-]+\.png)\)", PAGE)
    assert len(pictures) >= 3
    for name in pictures:
        assert (DOCS / name).stat().st_size < 150_000, name
        with Image.open(DOCS / name) as picture:
            assert picture.width <= 1600
