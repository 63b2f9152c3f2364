"""Two hundred absurd series end in values within their range, or in sentences: never in a traceback or NaN."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from qc_node.domain.measurable import Radiograph, Slices
from qc_node.series.errors import NotDicom, SeriesRefused
from qc_node.series.headers.acquisition import exposed_views, technique_of
from qc_node.series.headers.retakes import likely_retakes
from qc_node.series.measurable import measurable
from qc_node.series.volume.stack import OpenedSeries, open_series
from tests.series.makers import make_enhanced, make_radiograph, make_series

SERIES, AT_ONCE = 200, 10

SHAPES = ((1, 1, 1), (1, 3, 3), (2, 1, 64), (4, 40, 40), (3, 90, 2), (24, 8, 8), (1, 64, 64), (5, 17, 33))
NUMBERS = ("NaN", "inf", "0", "-1", "1e30", "1e-30", "-1e300", "", "many", "1\\2\\3\\4\\5\\6\\7")
VECTORS = (
    *("0\\0", "-1\\1", "1e-7\\1e-7", "1e6\\1e6", "NaN\\1", "1", "", "0.5\\500", "1\\1\\1", "x\\y"),
    *(
        "0\\0\\0",
        "NaN\\0\\0",
        "1e9\\-1e9\\1e9",
        "0\\0\\0\\0\\0\\0",
        "1\\0\\0\\1\\0\\0",
        "2\\0\\0\\0\\2\\0",
        "0.6\\0.8\\0\\-0.8\\0.6\\0",
    ),
)
DECIMALS = tuple(
    word
    for words in (
        "RescaleSlope RescaleIntercept SliceThickness SpacingBetweenSlices EchoTime RepetitionTime InversionTime",
        "KVP Exposure XRayTubeCurrent PatientSize PatientWeight BodyPartThickness ExposureIndex DeviationIndex",
        "InstanceNumber AcquisitionNumber NumberOfFrames",
    )
    for word in words.split()
)
VECTORED = ("PixelSpacing", "ImagerPixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
SHORTS = (
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "Rows",
    "Columns",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
TEXTS = ("PhotometricInterpretation", "AcquisitionTime", "ViewPosition", "SoftwareVersions", "ImageType")
WORDS = ("MONOCHROME1", "", "\\\\\\", "\x00\x01", "99999999", "A" * 70, "ORIGINAL\\PRIMARY")


def picture(rng: np.random.Generator, shape: tuple[int, int, int], dtype: str) -> npt.NDArray[Any]:
    """Pixels of one of eight kinds that no scanner should make."""
    info = np.iinfo(dtype)
    flat = np.zeros(shape, dtype)
    match int(rng.integers(8)):
        case 0:
            return flat
        case 1:
            return np.full(shape, info.max, dtype)
        case 2:
            return np.full(shape, info.min, dtype)
        case 3:
            flat.reshape(-1)[int(rng.integers(flat.size))] = info.max
            return flat
        case 4:
            return np.where(np.indices(shape).sum(axis=0) % 2, info.max, info.min).astype(dtype)
        case 5:
            return np.broadcast_to(np.linspace(0, 100, shape[2]), shape).astype(dtype)
        case 6:
            return rng.integers(0, 2, shape).astype(dtype)
        case _:
            return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def put(ds: Dataset, keyword: str, value: bytes) -> None:
    """Set an attribute to bytes that pydicom would not write."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    vr = "US" if keyword.startswith("PixelPadding") else dictionary_VR(keyword)
    vr = "LO" if vr == "IS" else vr  # pydicom does not write an IS that is no number; see below
    value += b" " * (len(value) % 2)
    ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def as_integer_strings(path: Path) -> None:
    """Give values that were written as LO the VR that they should have."""
    data = path.read_bytes()
    for keyword in DECIMALS:
        if dictionary_VR(keyword) == "IS":
            tag = Tag(tag_for_keyword(keyword) or 0)
            head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
            data = data.replace(head + b"LO", head + b"IS")
    path.write_bytes(data)


def spoil(rng: np.random.Generator, ds: Dataset) -> None:
    """Up to three values that are none."""
    for _ in range(int(rng.integers(4))):
        kind = int(rng.integers(4))
        if kind == 0:
            put(ds, str(rng.choice(DECIMALS)), str(rng.choice(NUMBERS)).encode())
        elif kind == 1:
            put(ds, str(rng.choice(VECTORED)), str(rng.choice(VECTORS)).encode())
        elif kind == 2:
            short = rng.choice([0, 1, 2, 7, 9, 15, 16, 17, 255, 32768, 65535])
            put(ds, str(rng.choice(SHORTS)), int(short).to_bytes(2, "little"))
        else:
            put(ds, str(rng.choice(TEXTS)), str(rng.choice(WORDS)).encode())


def absurd(folder: Path, seed: int) -> list[Path]:
    """One series; the same seed makes the same."""
    rng = np.random.default_rng(seed)
    dtype = str(rng.choice(["u1", "<i2", "<u2"]))
    data = picture(rng, SHAPES[int(rng.integers(len(SHAPES)))], dtype)
    alike = bool(rng.integers(2))  # the same fault in every image, or another one in each
    state = int(rng.integers(1 << 30))

    def change(k: int, ds: Dataset) -> None:
        spoil(np.random.default_rng(state if alike else state + k), ds)

    match int(rng.integers(4)):
        case 0 | 1 as n:
            paths = make_series(folder, data, ("MR", "CT")[n], change=change)
        case 2:
            paths = [make_enhanced(folder / "e.dcm", data, change=partial(change, 0))]
        case _:
            modality = str(rng.choice(["DX", "CR", "MG"]))
            paths = [
                make_radiograph(folder / f"{k}.dcm", one, partial(change, k), modality=modality)
                for k, one in enumerate(data[:3])
            ]
    for path in paths:
        as_integer_strings(path)
    if rng.random() < 0.1:
        paths[0].write_bytes(paths[0].read_bytes()[: -max(1, data[0].nbytes // 2)])
    return paths


def check(found: Slices | tuple[Radiograph, ...] | str) -> None:
    """What measures may rely on."""
    if isinstance(found, str):
        assert found.endswith(".") and "\n" not in found
    elif isinstance(found, Slices):
        assert found.volume.voxels.ndim == 3 and found.volume.voxels.size and found.groups >= 1
        assert np.isfinite(found.volume.affine).all() and min(found.volume.spacing_mm) > 0
        assert np.isfinite([found.volume.slope, found.volume.intercept]).all()
        assert found.thickness_mm is None or found.thickness_mm > 0
    else:
        for one in found:
            assert one.pixels.ndim == 2 and one.pixels.size and one.lowest <= one.highest
            assert one.lowest <= one.pixels.min() and one.pixels.max() <= one.highest
            assert one.spacing_mm is None or min(one.spacing_mm) > 0
            assert one.padding is None or one.padding[0] <= one.padding[1]


def measure(found: Slices | tuple[Radiograph, ...], opened: OpenedSeries) -> None:
    """Every measure is a number within its range, or a sentence."""
    catalogue = importlib.import_module("qc_node.measures.catalogue")
    module, function = (
        ("volumes", "measure_volume") if isinstance(found, Slices) else ("radiographs", "measure_radiographs")
    )
    measured = getattr(importlib.import_module(f"qc_node.measures.{module}"), function)(
        found, technique_of(opened)
    )
    for name, value in measured.values.items():
        of = catalogue.MEASURES[name]
        assert math.isfinite(value) and of.low <= value <= of.high, (name, value)
    for name, sentence in measured.unmeasured.items():
        assert (name == "*" or name in catalogue.MEASURES) and sentence.endswith(".") and "\n" not in sentence


def look(paths: Sequence[Path], measuring: bool) -> str:
    """Everything that the engine asks of a series; which kind of answer there was."""
    try:
        opened = open_series(paths)
        technique = technique_of(opened)
        likely_retakes(exposed_views(opened))
        assert all(isinstance(v, str) or math.isfinite(v) for v in technique.parameters.values())
        assert all(math.isfinite(v) for v in technique.stated.values())
        found = measurable(opened)
    except (SeriesRefused, NotDicom) as refusal:
        assert str(refusal).endswith(".")
        return "refused"
    check(found)
    if isinstance(found, str):
        return "sentence"
    if measuring:
        measure(found, opened)
    return "slices" if isinstance(found, Slices) else "radiographs"


@pytest.fixture(scope="module")
def measuring() -> bool:
    """Whether the measures are there."""
    try:
        importlib.import_module("qc_node.measures.catalogue")
        importlib.import_module("qc_node.measures.volumes")
        importlib.import_module("qc_node.measures.radiographs")
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", range(0, SERIES, AT_ONCE))
def test_absurd_series(tmp_path: Path, first: int, measuring: bool) -> None:
    for seed in range(first, first + AT_ONCE):
        paths = absurd(tmp_path / str(seed), seed)
        try:
            look(paths, measuring)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


@pytest.mark.filterwarnings("ignore")
def test_the_absurd_series_are_not_all_refused(tmp_path: Path) -> None:
    kinds = [look(absurd(tmp_path / str(seed), seed), False) for seed in range(24)]
    assert {"slices", "radiographs", "sentence"} <= set(kinds)


def test_float_pixels_with_nan(tmp_path: Path) -> None:
    (path,) = make_series(tmp_path, np.zeros((1, 8, 8), "<u2"))
    ds = dcmread(path)
    del ds.PixelData
    values = np.full((8, 8), np.nan, "<f4")
    values[2:4] = np.inf
    values[5] = 7
    ds.FloatPixelData, ds.BitsAllocated = values.tobytes(), 32
    ds.save_as(path)
    found = measurable(open_series([path]))
    assert isinstance(found, Slices) and np.isnan(found.values(0)).any()
