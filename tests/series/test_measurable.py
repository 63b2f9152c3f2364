"""What can be measured of series of every shape, and why nothing is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    XRayAngiographicImageStorage,
)

from qc_node.domain.measurable import Radiograph, Slices
from qc_node.series import measurable as module
from qc_node.series.errors import SeriesRefused
from qc_node.series.measurable import measurable
from qc_node.series.volume import pixels
from qc_node.series.volume.stack import open_series
from tests.series.makers import (
    AXIAL,
    SAGITTAL,
    header,
    make_enhanced,
    make_radiograph,
    make_series,
    put_pixels,
    save,
    voxels,
    write_in,
)

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def slices(paths: list[Path]) -> Slices:
    found = measurable(open_series(paths))
    assert isinstance(found, Slices), found
    return found


def radiographs(*paths: Path) -> tuple[Radiograph, ...]:
    found = measurable(open_series(paths))
    assert isinstance(found, tuple), found
    return found


def sentence(*paths: Path) -> str:
    found = measurable(open_series(paths))
    assert isinstance(found, str) and found.endswith(".") and "\n" not in found
    return found


# -- slices ------------------------------------------------------------------------------------------
def test_a_regular_stack_is_measured_as_it_is_judged(tmp_path: Path) -> None:
    paths = make_series(tmp_path)
    found = slices(paths)
    volume = open_series(paths).volume()
    assert np.array_equal(found.volume.voxels, volume.voxels) and np.array_equal(
        found.volume.affine, volume.affine
    )
    assert (found.groups, found.is_3d, found.thickness_mm) == (1, False, 2.5)


def test_a_decoded_volume_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_series(make_series(tmp_path))
    volume = opened.volume()
    monkeypatch.setattr(pixels, "_read_in_place", lambda *args: pytest.fail("read twice"))
    found = measurable(opened, volume)
    assert isinstance(found, Slices) and found.volume is volume and found.thickness_mm == 2.5


@pytest.mark.parametrize(("stated", "is_3d"), [("3D", True), ("2D", False), (None, True)])
def test_3d_acquisitions(tmp_path: Path, stated: str | None, is_3d: bool) -> None:
    def change(ds: Dataset) -> None:
        if stated:
            ds.MRAcquisitionType = stated

    found = slices([make_enhanced(tmp_path / "e.dcm", voxels((44, 8, 8)), spacing=(1.0, 1.0, 1.0), change=change)])
    assert found.is_3d is is_3d


def test_the_first_of_several_weightings_is_measured(tmp_path: Path) -> None:
    data = voxels((5, 8, 8))
    paths: list[Path] = []
    for n, b in enumerate((1000.0, 0.0, 500.0)):

        def change(k: int, ds: Dataset, b: float = b, n: int = n) -> None:
            ds.DiffusionBValue = b
            ds.InstanceNumber = n * 5 + k

        paths += make_series(tmp_path / str(n), data + np.uint16(n), change=change)
    found = slices(paths)
    assert found.groups == 3 and np.array_equal(found.volume.voxels, data + 1)  # b = 0


def test_weightings_at_uneven_distances(tmp_path: Path) -> None:
    data = voxels((5, 8, 8))
    heights = (0.0, 3.0, 6.0, 11.0, 14.0)
    paths: list[Path] = []
    for n, b in enumerate((0.0, 800.0)):

        def change(k: int, ds: Dataset, b: float = b, n: int = n) -> None:
            ds.DiffusionBValue = b
            ds.InstanceNumber = n * 5 + k
            ds.ImagePositionPatient = [0.0, 0.0, heights[k]]

        paths += make_series(tmp_path / str(n), data + np.uint16(n), change=change)
    assert open_series(paths).stack is None
    found = slices(paths)
    assert found.groups == 2 and np.array_equal(found.volume.voxels, data)
    assert found.volume.spacing_mm == pytest.approx((0.7, 0.8, 3.5))
    assert any("not evenly spaced" in w for w in found.volume.warnings)


def test_slices_of_an_uneven_ct_are_not_interpolated(tmp_path: Path) -> None:
    heights = (0.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0)

    def change(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [0.0, 0.0, heights[k]]

    data = voxels((9, 8, 8))
    paths = make_series(tmp_path, data, "CT", change=change)
    judged = open_series(paths).volume()
    assert len(judged.voxels) == 13
    for found in (slices(paths), measurable(open_series(paths), judged)):
        assert isinstance(found, Slices) and np.array_equal(found.volume.voxels, data)
        assert found.volume.spacing_mm[2] == pytest.approx(3.0)  # reaches over the same 24 mm


def test_the_most_slices_of_several_orientations(tmp_path: Path) -> None:
    few = make_series(tmp_path / "a", voxels((4, 8, 8)), orientation=AXIAL)
    many = make_series(tmp_path / "b", voxels((6, 8, 8)), orientation=SAGITTAL)
    others = make_series(tmp_path / "c", voxels((4, 8, 8)), orientation=CORONAL)
    paths = [*few, *many, *others]
    assert open_series(paths).stack is None
    found = slices(paths)
    assert found.volume.shape == (6, 8, 8)
    assert abs(found.volume.affine[0, 2]) == pytest.approx(2.5)  # sagittal slices follow each other along x
    assert any("8 images of other" in w for w in found.volume.warnings)


def test_images_that_no_tag_tells_apart_are_measured_by_the_first(tmp_path: Path) -> None:
    data = voxels((4, 8, 8))
    paths = make_series(tmp_path / "a", data) + make_series(tmp_path / "b", data[::-1])[:2]
    with pytest.raises(SeriesRefused, match="show something else"):
        open_series(paths).volume()
    assert slices(paths).volume.shape == (4, 8, 8)


def test_a_single_slice(tmp_path: Path) -> None:
    found = slices(make_series(tmp_path, voxels((1, 12, 10)), modality="CT"))
    assert found.volume.shape == (1, 12, 10) and found.volume.spacing_mm == pytest.approx((0.7, 0.8, 2.5))
    assert (found.volume.slope, found.volume.intercept, found.groups) == (1.0, -1024.0, 1)


def test_a_slice_without_a_place(tmp_path: Path) -> None:
    def change(k: int, ds: Dataset) -> None:
        del ds.ImagePositionPatient

    data = voxels((5, 8, 8))
    found = slices(make_series(tmp_path, data, change=change))
    assert np.array_equal(found.volume.voxels, data[2:3])
    assert any("the middle one" in w for w in found.volume.warnings)


def test_enhanced_objects_count_their_echoes(tmp_path: Path) -> None:
    found = slices([make_enhanced(tmp_path / "e.dcm", voxels((4, 8, 8)), echoes=(30.0, 90.0))])
    assert found.volume.shape == (4, 8, 8) and found.groups == 2


def test_an_enhanced_object_of_one_frame(tmp_path: Path) -> None:
    found = slices([make_enhanced(tmp_path / "e.dcm", voxels((1, 8, 8)))])
    assert found.volume.shape == (1, 8, 8)


SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
]


# -- radiographs -------------------------------------------------------------------------------------
PICTURE: npt.NDArray[np.uint16] = np.random.default_rng(3).integers(0, 4096, (72, 64)).astype("<u2")


def test_a_radiograph(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.ImagerPixelSpacing = [0.14, 0.15]

    (found,) = radiographs(make_radiograph(tmp_path / "a.dcm", PICTURE, change, stored=12))
    assert np.array_equal(found.pixels, PICTURE) and found.pixels.dtype == np.uint16
    assert (found.lowest, found.highest, found.spacing_mm) == (0.0, 4095.0, (0.15, 0.14))
    assert not found.for_processing and not found.lossy and found.padding is None


@pytest.mark.parametrize("dtype", ["<u2", "<i2", "u1"])
def test_monochrome_1_is_turned_round(tmp_path: Path, dtype: str) -> None:
    def change(ds: Dataset) -> None:
        ds.PhotometricInterpretation = "MONOCHROME1"
        ds.PixelPaddingValue = 3

    picture = (PICTURE % 200).astype(dtype)
    (found,) = radiographs(make_radiograph(tmp_path / "a.dcm", picture, change, stored=8 if dtype == "u1" else 12))
    low, high = {"<u2": (0, 4095), "<i2": (-2048, 2047), "u1": (0, 255)}[dtype]
    assert found.pixels.dtype == np.dtype(dtype) and (found.lowest, found.highest) == (low, high)
    assert np.array_equal(found.pixels.astype(int), low + high - picture.astype(int))
    assert found.padding == (low + high - 3, low + high - 3)


@pytest.mark.parametrize(
    ("photometric", "intent", "sign", "slope", "turned"),
    [
        ("MONOCHROME2", "FOR PRESENTATION", None, None, False),
        ("MONOCHROME1", "FOR PRESENTATION", None, None, True),
        ("MONOCHROME1", "FOR PRESENTATION", None, -1, False),
        ("MONOCHROME2", "FOR PRESENTATION", 1, None, False),
        ("MONOCHROME2", "FOR PROCESSING", 1, None, True),
        ("MONOCHROME1", "FOR PROCESSING", -1, None, False),
        ("MONOCHROME1", "FOR PROCESSING", None, None, True),
    ],
)
def test_bone_is_bright(
    tmp_path: Path, photometric: str, intent: str, sign: int | None, slope: int | None, turned: bool
) -> None:
    def change(ds: Dataset) -> None:
        ds.PhotometricInterpretation, ds.PresentationIntentType = photometric, intent
        if sign is not None:
            ds.PixelIntensityRelationshipSign = sign
        if slope is not None:
            ds.RescaleSlope, ds.RescaleIntercept = slope, 4095

    (found,) = radiographs(make_radiograph(tmp_path / "a.dcm", PICTURE, change, stored=12))
    assert np.array_equal(found.pixels, 4095 - PICTURE if turned else PICTURE)
    assert found.for_processing is (intent == "FOR PROCESSING")


def test_padding_and_loss_are_told(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = 4095, 4000
        ds.LossyImageCompression = "01"

    (found,) = radiographs(make_radiograph(tmp_path / "a.dcm", PICTURE, change, stored=12))
    assert found.padding == (4000.0, 4095.0) and found.lossy


def test_computed_radiographs_and_mammograms(tmp_path: Path) -> None:
    for sop, modality in (
        (ComputedRadiographyImageStorage, "CR"),
        (DigitalMammographyXRayImageStorageForPresentation, "MG"),
    ):
        path = make_radiograph(tmp_path / f"{modality}.dcm", PICTURE, sop_class=sop, modality=modality)
        assert len(radiographs(path)) == 1


def test_a_broken_image_does_not_hide_the_others(tmp_path: Path) -> None:
    good = make_radiograph(tmp_path / "a.dcm", PICTURE)
    broken = make_radiograph(tmp_path / "b.dcm", PICTURE)
    broken.write_bytes(broken.read_bytes()[:-100])
    assert len(radiographs(good, broken)) == 1
    assert "truncated" in sentence(broken)


def test_no_room_is_made_for_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(ds: Dataset) -> None:
        ds.Rows = ds.Columns = 65535

    monkeypatch.setattr(np, "empty", lambda *args, **kwargs: pytest.fail("8 GB"))
    assert "truncated" in sentence(make_radiograph(tmp_path / "a.dcm", PICTURE, change))


def test_at_most_twelve_images(tmp_path: Path) -> None:
    paths = [make_radiograph(tmp_path / f"{n}.dcm", PICTURE) for n in range(14)]
    assert len(radiographs(*paths)) == 12


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_transfer_syntax_changes_nothing_of_a_radiograph(
    tmp_path: Path, syntax: str, photometric: str
) -> None:
    def change(ds: Dataset) -> None:
        ds.PhotometricInterpretation = photometric

    (plain,) = radiographs(make_radiograph(tmp_path / "a.dcm", PICTURE, change, stored=12))
    (other,) = radiographs(make_radiograph(tmp_path / "b.dcm", PICTURE, change, stored=12, syntax=syntax))
    assert np.array_equal(plain.pixels, other.pixels) and plain.pixels.dtype == other.pixels.dtype
    assert (plain.lowest, plain.highest, other.lossy) == (other.lowest, other.highest, False)


# -- nothing -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sop", "modality", "said"),
    [
        (UltrasoundImageStorage, "US", "This is an ultrasound series: it is kept and can be voted on; nothing is"),
        (XRayAngiographicImageStorage, "XA", "This is an angiography series: it is kept"),
        (SecondaryCaptureImageStorage, "OT", "The modality of this series is OT: it is kept"),
        (SecondaryCaptureImageStorage, "DX", "no MR, CT or X-ray image: it is kept"),
        (SecondaryCaptureImageStorage, "CT", "no MR, CT or X-ray image: it is kept"),
        ("1.2.3.4", "MR", "SOP Class UID (0008,0016) is unknown"),
    ],
)
def test_what_is_not_measured_says_so(tmp_path: Path, sop: str, modality: str, said: str) -> None:
    ds = header(sop, modality)
    put_pixels(ds, PICTURE)
    assert said in sentence(save(ds, tmp_path / "a.dcm"))


def changed(**values: Any) -> Callable[[int, Dataset], None]:
    def change(k: int, ds: Dataset) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return change


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "picture of text"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]}, None),
        ({"ImageType": ["DERIVED", "PRIMARY", "ADC"]}, "a diffusion map"),
        ({"ImageType": ["DERIVED", "PRIMARY", "MIP"]}, "a projection"),
        ({"Manufacturer": "qc-node", "ManufacturerModelName": "qc-node"}, "A qc-node made this series"),
        ({"RescaleSlope": 0}, "Rescale Slope (0028,1053) is 0"),
    ],
)
def test_pictures_that_were_not_acquired(tmp_path: Path, values: dict[str, Any], said: str | None) -> None:
    paths = make_series(tmp_path, change=changed(**values))
    if said is None:
        slices(paths)
    else:
        assert said in sentence(*paths)


def test_a_colour_picture(tmp_path: Path) -> None:
    ds = header("1.2.840.10008.5.1.4.1.1.4", "MR")
    put_pixels(ds, np.zeros((8, 24), "u1"))
    ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 8, 3, "RGB", 0
    assert "colour" in sentence(save(ds, tmp_path / "a.dcm"))


def test_two_patients_are_not_measured(tmp_path: Path) -> None:
    def change(k: int, ds: Dataset) -> None:
        ds.PatientID = f"P{k % 2}"

    assert "Patient ID" in sentence(*make_series(tmp_path, change=change))


def test_a_series_without_an_image(tmp_path: Path) -> None:
    ds = header("1.2.840.10008.5.1.4.1.1.88.11", "SR")
    assert sentence(save(ds, tmp_path / "a.dcm")) == "The series holds no image, so nothing is measured."


@pytest.mark.parametrize("kind", ["MR", "DX"])
@pytest.mark.parametrize("fault", [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), MemoryError()])
def test_faults_of_the_machine_go_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fault: Exception
) -> None:
    paths = make_series(tmp_path) if kind == "MR" else [make_radiograph(tmp_path / "a.dcm", PICTURE)]
    opened = open_series(paths)

    def fail(*args: object) -> None:
        if isinstance(fault, MemoryError):
            raise fault
        raise SeriesRefused("a.dcm cannot be read (Too many open files).") from fault

    monkeypatch.setattr(pixels, "_read_in_place", fail)
    with pytest.raises((SeriesRefused, MemoryError)) as caught:
        measurable(opened)
    assert caught.value is fault or caught.value.__cause__ is fault


def test_every_modality_has_a_sentence_of_its_own() -> None:
    assert module._named("PT") == "This is a PET series"
    assert module._named("") == "The series does not tell its modality"


def test_the_transfer_syntax_changes_nothing_of_slices(tmp_path: Path) -> None:
    data = voxels((3, 72, 64))
    plain = slices(make_series(tmp_path / "plain", data, stored=12)).volume.voxels
    for syntax in SYNTAXES:
        paths = make_series(tmp_path / syntax, data, stored=12)
        for path in paths:
            write_in(dcmread(path), path, syntax)
        assert np.array_equal(slices(paths).volume.voxels, plain), syntax


def test_a_series_of_huge_images_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve mammograms of 60 million pixels in JPEG 2000 would take one and a half minutes."""
    monkeypatch.setattr(module, "MOST_PIXELS", 5000)
    picture = np.arange(60 * 50, dtype="<u2").reshape(60, 50)

    def numbered(n: int) -> Callable[[Dataset], None]:
        def change(ds: Dataset) -> None:
            ds.InstanceNumber = n

        return change

    paths = [make_radiograph(tmp_path / f"{n}.dcm", picture, numbered(n)) for n in range(5)]
    found = measurable(open_series(paths))
    assert isinstance(found, tuple) and len(found) == 2, "the one that reaches the bound is the last"
