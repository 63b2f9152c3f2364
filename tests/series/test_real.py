"""The real series and the interoperability objects beside the project."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom import dcmread

from qc_node.classifiers import catalogue
from qc_node.domain import QcNodeError, Stage
from qc_node.domain.measurable import Radiograph, Slices
from qc_node.series.files.sources import find_series
from qc_node.series.headers.acquisition import technique_of
from qc_node.series.headers.routing import Route, route
from qc_node.series.measurable import measurable
from qc_node.series.volume.stack import open_series

pytestmark = [pytest.mark.data, pytest.mark.xdist_group("real-series")]

EXPECTED = {
    "siemens_trio_adi_s5": (175, Stage.BRAIN_MRI, None),
    "hitachi_lumbar_s7": (11, None, "(0018,0015)"),
    "siemens_prisma_decubitus_s3": (35, None, "(0018,0023)"),
    "ct_crlm1004_2": (41, Stage.CT, None),
    "ct_dcmqa_ph_201": (28, Stage.CT, None),
    "ct_ts_dicom_0": (20, Stage.CT, None),
}


@pytest.fixture(scope="module")
def unpacked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    for archive in sorted((shared_data / "dicom").glob("*.tar.xz")):
        with tarfile.open(archive) as t:
            t.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", EXPECTED)
def test_route_of_each_series(unpacked: Path, name: str) -> None:
    count, stage, tag = EXPECTED[name]
    opened = open_series(sorted((unpacked / name).iterdir()))
    assert len(opened.instances) == count and opened.patient_conflict is None
    where = route(opened, catalogue.accepts())
    assert where.stage == stage
    assert tag is None or tag in str(where.sentence)


@pytest.mark.parametrize("name", [n for n in EXPECTED if n != "siemens_trio_adi_s5"])
def test_same_values_at_the_same_place_as_simpleitk(unpacked: Path, name: str) -> None:
    paths = sorted((unpacked / name).iterdir())
    volume = open_series(paths).volume()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(unpacked / name)))
    image = reader.Execute()
    theirs = sitk.GetArrayFromImage(image)
    ours = volume.voxels * volume.slope + volume.intercept
    assert ours.shape == theirs.shape
    for index in ((0, 0, 0), (volume.shape[2] - 1, volume.shape[1] // 2, volume.shape[0] - 1)):
        there = image.TransformIndexToPhysicalPoint([int(i) for i in index])
        assert (volume.affine @ (*index, 1))[:3] == pytest.approx(there, abs=0.02)
    # GDCM sorts some series the other way round, and its affine with it
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["siemens_prisma_decubitus_s3", "hitachi_lumbar_s7"])
def test_a_silent_header_is_judged(unpacked: Path, tmp_path: Path, name: str) -> None:
    paths = []
    for path in sorted((unpacked / name).iterdir()):
        ds = dcmread(path)
        for keyword in (
            "MRAcquisitionType",
            "BodyPartExamined",
            "SeriesDescription",
            "ProtocolName",
            "ScanningSequence",
        ):
            if keyword in ds:
                delattr(ds, keyword)
        ds.StudyDescription = ""
        paths.append(tmp_path / path.name)
        ds.save_as(paths[-1])
    opened = open_series(paths)
    assert route(opened, catalogue.accepts()) == Route(Stage.BRAIN_MRI)
    assert opened.volume().shape[0] == len(paths)


def test_the_missing_slice_of_the_trio_series_is_said(unpacked: Path) -> None:
    volume = open_series(sorted((unpacked / "siemens_trio_adi_s5").iterdir())).volume()
    assert volume.shape == (176, 192, 192)
    assert any("1 image of 176 missing" in w for w in volume.warnings)


def test_every_interoperability_object_ends_in_a_volume_or_a_sentence(unpacked: Path) -> None:
    paths = sorted((unpacked / "interoperability").iterdir())
    assert len(paths) == 189
    routed = volumes = sentences = 0
    for path in paths:
        for series in find_series([path]):
            try:
                where = series.route(catalogue.accepts())
                routed += where.stage is not None
                sentence = where.sentence or ""
                volume = series.volume()
            except QcNodeError as refusal:
                sentence = str(refusal)
                sentences += 1
            else:
                volumes += 1
                assert volume.shape[0] > 1 and np.isfinite(volume.affine).all()
                continue
            assert sentence.endswith(".") and "\n" not in sentence, path.name
    assert volumes >= 15 and sentences >= 150 and routed >= 40


def test_every_interoperability_object_is_measured_or_says_why_not(unpacked: Path) -> None:
    """Every image of MR, CT, CR and DX that can be decoded is measured, and nothing else is."""
    slices = 0
    radiographs: dict[str, Radiograph] = {}
    sentences: dict[str, str] = {}
    for path in sorted((unpacked / "interoperability").iterdir()):
        for series in find_series([path]):
            if series.opened is None:
                continue
            technique = technique_of(series.opened)
            assert technique.protocol_key.isascii() and len(technique.station) <= 64, path.name
            found = measurable(series.opened)
            if isinstance(found, str):
                assert found.endswith(".") and "\n" not in found, path.name
                sentences[path.name[:3]] = found
            elif isinstance(found, Slices):
                assert technique.modality in ("MR", "CT") and np.isfinite(found.volume.affine).all(), path.name
                slices += 1
            else:
                (one,) = found
                radiographs[path.name[:3]] = one
    assert slices >= 70
    assert radiographs.keys() == {"022", "082", "148", "149", "188"}
    assert sentences["015"] == "The object has no Pixel Data (7FE0,0010)."  # the sixth CR
    assert sentences["072"].startswith("This is an ultrasound series")
    assert [radiographs[n].lossy for n in sorted(radiographs)] == [False, False, True, True, True]
    chest = radiographs["188"]
    assert chest.pixels.dtype == np.uint16 and (chest.lowest, chest.highest) == (0.0, 32767.0)


@pytest.mark.parametrize(
    ("name", "bone", "air"),
    [
        ("148", (0.25, 0.46), (0.25, 0.3)),  # tibia, beside the leg
        ("149", (0.3, 0.45), (0.9, 0.45)),  # acetabulum, between the legs
        ("188", (0.5, 0.46), (0.4, 0.2)),  # spine, lung
    ],
)
def test_bone_is_bright_and_air_is_dark(
    unpacked: Path, name: str, bone: tuple[float, float], air: tuple[float, float]
) -> None:
    (path,) = (unpacked / "interoperability").glob(f"{name}_*")
    found = measurable(open_series([path]))
    assert isinstance(found, tuple)
    picture = found[0].pixels

    def around(place: tuple[float, float]) -> float:
        j, i = (int(share * size) for share, size in zip(place, picture.shape, strict=True))
        return float(np.median(picture[j - 10 : j + 10, i - 10 : i + 10]))

    assert around(bone) > around(air)


def test_archives_give_the_same_series_as_their_folders(shared_data: Path) -> None:
    archive = shared_data / "dicom" / "ct_dcmqa_ph_201.tar.xz"
    results = [(s.instances, s.route(catalogue.accepts()).stage, s.volume().shape) for s in find_series([archive])]
    assert results == [(28, Stage.CT, (28, 512, 512))]


def test_modality_of_each_nifti_is_guessed_right(shared_data: Path) -> None:
    wrong = []
    folders = {"ct/volumes": "CT", "mri/t1w": "MR", "mri/other": "MR", "mri/stripped": "MR"}
    for folder, modality in folders.items():
        for series in find_series(sorted((shared_data / folder).glob("*.nii.gz"))[::4]):
            if series.modality != modality:
                wrong.append(series.source)
    assert not wrong
