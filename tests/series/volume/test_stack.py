"""Files of one series become the right voxels at the right place, or a sentence that names the tag."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from qc_node.domain import Volume
from qc_node.series.volume.stack import SeriesRefused, open_series
from tests.series.makers import (
    AXIAL,
    SAGITTAL,
    header,
    item,
    make_enhanced,
    make_series,
    put_pixels,
    save,
    voxels,
)


def volume_of(paths: list[Path]) -> Volume:
    return open_series(paths).volume()


def refusal_of(paths: list[Path]) -> str:
    with pytest.raises(SeriesRefused) as caught:
        volume_of(paths)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


# -- order and place ---------------------------------------------------------------------------------
def test_slices_are_sorted_by_position_whatever_their_numbers(tmp_path: Path) -> None:
    data = voxels()
    volume = volume_of(make_series(tmp_path, data, order=[3, 0, 5, 1, 4, 2]))
    assert np.array_equal(volume.voxels, data)
    assert volume.voxels.dtype == np.uint16 and volume.voxels.flags.c_contiguous
    assert volume.spacing_mm == pytest.approx((0.7, 0.8, 2.5))
    assert volume.warnings == ()


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)])
def test_affine_leads_each_voxel_to_where_the_header_puts_it(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    volume = volume_of(make_series(tmp_path, orientation=orientation, origin=(5.0, -7.0, 11.0)))
    row, col = np.array(orientation[:3]), np.array(orientation[3:])
    i, j, k = 3, 4, 2
    there = np.array((5.0, -7.0, 11.0)) + row * 0.7 * i + col * 0.8 * j + np.cross(row, col) * 2.5 * k
    assert (volume.affine @ (i, j, k, 1))[:3] == pytest.approx(there, abs=1e-5)
    assert np.linalg.det(volume.affine[:3, :3]) > 0


def test_header_and_evidence_begin_with_the_geometrically_first_image(tmp_path: Path) -> None:
    paths = make_series(tmp_path, order=[5, 4, 3, 2, 1, 0])
    opened = open_series(paths)
    assert opened.header.ImagePositionPatient[2] == 30.0
    assert opened.header_path == paths[5]
    assert "PixelData" not in opened.header
    uids = [str(dcmread(p).SOPInstanceUID) for p in reversed(paths)]
    assert [r.sop_instance_uid for r in opened.instances] == uids
    assert opened.modality == "MR" and opened.patient_conflict is None


def test_tilted_gantry_shears_the_affine_and_is_said(tmp_path: Path) -> None:
    volume = volume_of(make_series(tmp_path, modality="CT", shear=(0.0, 0.9, 0.0)))
    assert volume.affine[:3, 2] == pytest.approx((0.0, 0.9, 2.5), abs=1e-5)
    assert any("tilted gantry" in w and "19.8 degrees" in w for w in volume.warnings)


def test_rounded_positions_are_still_even(tmp_path: Path) -> None:
    def round_position(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [-10, -20, round(30 + 0.625 * k, 1)]

    volume = volume_of(make_series(tmp_path, voxels((40, 8, 8)), change=round_position))
    assert volume.spacing_mm[2] == pytest.approx(0.625, abs=1e-3)


def test_a_missing_slice_is_interpolated_and_said(tmp_path: Path) -> None:
    data = voxels((40, 8, 8))
    paths = make_series(tmp_path, data)
    volume = volume_of(paths[:17] + paths[18:])
    assert volume.shape == (40, 8, 8)
    between = (data[16].astype(float) + data[18]) / 2
    assert np.abs(volume.voxels[17] - between).max() <= 0.5
    assert np.array_equal(volume.voxels[18:], data[18:])
    assert any("1 image of 40 missing" in w and "(0020,0032)" in w for w in volume.warnings)


# -- refused geometry --------------------------------------------------------------------------------
def drop(keyword: str) -> Callable[[int, Dataset], None]:
    def change(_: int, ds: Dataset) -> None:
        delattr(ds, keyword)

    return change


def put(keyword: str, value: object) -> Callable[[int, Dataset], None]:
    def change(_: int, ds: Dataset) -> None:
        setattr(ds, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        (drop("ImagePositionPatient"), "(0020,0032)"),
        (drop("ImageOrientationPatient"), "(0020,0037)"),
        (drop("PixelSpacing"), "(0028,0030)"),
        (put("PixelSpacing", [0, 1]), "(0028,0030)"),
        (put("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "(0020,0037)"),
        (drop("Rows"), "(0028,0010)"),
        (drop("PixelData"), "(7FE0,0010)"),
        (put("PhotometricInterpretation", "RGB"), "(0028,0004)"),
        (put("BitsAllocated", 12), "(0028,0100)"),
        (put("BitsStored", 17), "(0028,0101)"),
        (put("RescaleSlope", 0), "(0028,1053)"),
        (put("ImagePositionPatient", [1, 2, 3]), "(0020,0032)"),
    ],
)
def test_refusal_names_the_tag(tmp_path: Path, change: Callable[[int, Dataset], None], tag: str) -> None:
    assert tag in refusal_of(make_series(tmp_path, change=change))


def test_one_slice_is_not_a_volume(tmp_path: Path) -> None:
    assert "one slice is not a volume" in refusal_of(make_series(tmp_path, voxels((1, 8, 8))))


def test_gap_is_named_with_its_width(tmp_path: Path) -> None:
    paths = make_series(tmp_path, voxels((12, 8, 8)))
    sentence = refusal_of(paths[:4] + paths[8:])
    assert "gap of 12.50 mm between slices 4 and 5" in sentence and "(0020,0032)" in sentence


def test_uneven_spacing_is_refused(tmp_path: Path) -> None:
    def wander(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, k * 2.5 + 0.1 * k * k]

    assert "not evenly spaced" in refusal_of(make_series(tmp_path, change=wander))


def test_sideways_wandering_is_refused(tmp_path: Path) -> None:
    def wander(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [4.0 * (k % 2), 0, k * 2.5]

    assert "wanders sideways" in refusal_of(make_series(tmp_path, change=wander))


def test_three_planes_in_one_series_are_refused(tmp_path: Path) -> None:
    paths = [
        *make_series(tmp_path / "a", voxels((5, 8, 8))),
        *make_series(tmp_path / "s", voxels((5, 8, 8)), orientation=SAGITTAL),
        *make_series(tmp_path / "c", voxels((5, 8, 8)), orientation=(1, 0, 0, 0, 0, -1)),
    ]
    assert "(0020,0037) takes 3 values" in refusal_of(paths)


def test_a_scout_among_the_slices_is_left_out_and_said(tmp_path: Path) -> None:
    data = voxels((9, 16, 20))
    scout = make_series(tmp_path / "scout", voxels((1, 40, 30)), orientation=SAGITTAL, modality="CT")
    volume = volume_of(make_series(tmp_path / "ct", data, modality="CT") + scout)
    assert np.array_equal(volume.voxels, data)
    assert any("(0028,0010)" in w and "1 image left out of 10" in w for w in volume.warnings)


def test_two_patients_in_one_series_are_refused_without_naming_them(tmp_path: Path) -> None:
    paths = make_series(tmp_path, change=lambda k, ds: setattr(ds, "PatientID", "ANNA" if k else "BERTA"))
    opened = open_series(paths)
    assert opened.patient_conflict and "(0010,0020)" in opened.patient_conflict
    sentence = refusal_of(paths)
    assert sentence == opened.patient_conflict and "ANNA" not in sentence and "BERTA" not in sentence


def test_a_patient_id_that_some_files_lack_is_no_second_patient(tmp_path: Path) -> None:
    paths = make_series(tmp_path, change=lambda k, ds: setattr(ds, "PatientID", "P1" if k else ""))
    assert open_series(paths).patient_conflict is None


def test_spelling_of_a_name_is_no_second_patient(tmp_path: Path) -> None:
    def spell(k: int, ds: Dataset) -> None:
        ds.PatientID = ""
        ds.PatientName = "Doe^Jane" if k else "DOE JANE "

    assert open_series(make_series(tmp_path, change=spell)).patient_conflict is None


# -- several stacks in one series --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("keyword", "first", "second", "tag"),
    [
        ("EchoTime", 2.5, 8.0, "(0018,0081)"),
        ("TemporalPositionIdentifier", 1, 2, "(0020,0100)"),
        ("AcquisitionNumber", 3, 4, "(0020,0012)"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"], "(0008,0008)"),
        ("DiffusionBValue", 0.0, 1000.0, "(0018,9087)"),
    ],
)
def test_first_of_two_stacks_is_judged_and_said(
    tmp_path: Path, keyword: str, first: object, second: object, tag: str
) -> None:
    one, two = voxels((6, 8, 8)), voxels((6, 8, 8)) + 5000
    paths = make_series(tmp_path / "b", two, change=put(keyword, second))
    paths += make_series(tmp_path / "a", one, change=put(keyword, first))
    opened = open_series(paths)
    assert len(opened.instances) == 12
    volume = opened.volume()
    assert np.array_equal(volume.voxels, one)
    assert any(tag in w and "takes 2 values" in w for w in volume.warnings)


def test_water_is_judged_before_fat(tmp_path: Path) -> None:
    fat, water = voxels((6, 8, 8)) + 5000, voxels((6, 8, 8))
    paths = make_series(tmp_path / "f", fat, change=put("ImageType", ["DERIVED", "PRIMARY", "DIXON", "FAT"]))
    paths += make_series(tmp_path / "w", water, change=put("ImageType", ["DERIVED", "PRIMARY", "DIXON", "WATER"]))
    assert np.array_equal(volume_of(paths).voxels, water)


def test_larger_stack_wins_over_the_first(tmp_path: Path) -> None:
    whole = voxels((9, 8, 8))
    paths = make_series(tmp_path / "a", voxels((4, 8, 8)) + 1, change=put("AcquisitionNumber", 1))
    paths += make_series(tmp_path / "b", whole, change=put("AcquisitionNumber", 2))
    assert np.array_equal(volume_of(paths).voxels, whole)


def test_a_few_slices_that_share_a_tag_do_not_stand_for_the_series(tmp_path: Path) -> None:
    def stray(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [0, 0, 2.5 * k + (0.9 * (k % 3) if k > 2 else 0)]
        ds.TriggerTime = 1 if k < 3 else 10 + k

    assert "not evenly spaced" in refusal_of(make_series(tmp_path, voxels((16, 8, 8)), change=stray))


def test_acquisition_per_slice_is_one_stack(tmp_path: Path) -> None:
    data = voxels()
    volume = volume_of(make_series(tmp_path, data, change=lambda k, ds: setattr(ds, "AcquisitionNumber", k)))
    assert np.array_equal(volume.voxels, data) and not volume.warnings


def test_repetitions_without_a_tag_are_told_apart_by_instance_number(tmp_path: Path) -> None:
    one, two = voxels((6, 8, 8)), voxels((6, 8, 8)) + 5000
    paths = make_series(tmp_path / "a", one)
    paths += make_series(
        tmp_path / "b", two, change=lambda k, ds: setattr(ds, "InstanceNumber", ds.InstanceNumber + 6)
    )
    volume = volume_of(paths)
    assert np.array_equal(volume.voxels, one)
    assert any("imaged 2 times" in w and "(0020,0013)" in w for w in volume.warnings)


def test_copies_are_tolerated_and_contradictions_are_not(tmp_path: Path) -> None:
    data = voxels((6, 8, 8))
    paths = make_series(tmp_path / "a", data)
    copy = make_series(tmp_path / "b", data[:2])
    assert any("copies" in w for w in volume_of(paths + copy).warnings)
    other = make_series(tmp_path / "c", data[:2] + 1)
    assert "no tag tells them apart" in refusal_of(paths + other)


def test_the_same_file_twice_counts_once(tmp_path: Path) -> None:
    paths = make_series(tmp_path)
    opened = open_series([*paths, paths[0]])
    assert len(opened.instances) == len(paths)
    assert any("(0008,0018)" in w for w in opened.warnings)
    assert opened.volume().shape[0] == len(paths)


def test_an_unreadable_file_among_the_slices_is_said(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "a")
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"no DICOM at all")
    opened = open_series([junk, *paths])
    assert any("junk.dcm" in w for w in opened.warnings)
    assert opened.volume().shape[0] == len(paths)
    with pytest.raises(SeriesRefused, match=re.escape("junk.dcm")):
        open_series([junk])


# -- values ------------------------------------------------------------------------------------------
def test_common_rescale_is_kept_and_not_applied(tmp_path: Path) -> None:
    data = voxels(dtype="<i2")
    volume = volume_of(make_series(tmp_path, data, modality="CT", change=put("PixelPaddingValue", -2000)))
    assert (volume.slope, volume.intercept, volume.padding_value) == (1.0, -1024.0, -2000.0)
    assert volume.voxels.dtype == np.int16 and np.array_equal(volume.voxels, data)


def test_slopes_of_their_own_become_float(tmp_path: Path) -> None:
    data = voxels()

    def own_slope(k: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 1 + k, -k
        ds.PixelPaddingValue = 3

    volume = volume_of(make_series(tmp_path, data, change=own_slope))
    k = np.arange(6)[:, None, None]
    expected = data.astype(np.float32) * (1 + k) - k
    inside = data != 3
    assert volume.voxels.dtype == np.float32 and (volume.slope, volume.intercept) == (1.0, 0.0)
    assert np.allclose(volume.voxels[inside], expected[inside])
    assert np.all(volume.voxels[~inside] == volume.padding_value)
    assert any("(0028,1053)" in w for w in volume.warnings)


@pytest.mark.parametrize(
    ("dtype", "kept"), [("|u1", "|u1"), ("<i2", "<i2"), ("<u2", "<u2"), ("<i4", "<f4"), ("|i1", "<f4")]
)
def test_stored_types(tmp_path: Path, dtype: str, kept: str) -> None:
    data = voxels(dtype="<i4", high=100).astype(dtype)
    volume = volume_of(make_series(tmp_path, data))
    assert volume.voxels.dtype.str == kept
    assert np.array_equal(volume.voxels.astype(np.int64), data)


def test_signed_twelve_bits_without_sign_extension(tmp_path: Path) -> None:
    true = (voxels(dtype="<i4", high=4096) - 2048).astype("<i2")
    raw = (true.view("<u2") & 0x0FFF).view("<i2")
    assert np.array_equal(volume_of(make_series(tmp_path, raw, stored=12)).voxels, true)


def test_overlay_bits_above_the_stored_ones_are_masked(tmp_path: Path) -> None:
    true = voxels(high=4096)
    dirty = true | np.uint16(0x4000)
    volume = volume_of(make_series(tmp_path, dirty, stored=12))
    assert np.array_equal(volume.voxels, true)
    assert any("(0028,0101)" in w for w in volume.warnings)


def test_high_bit_at_the_top(tmp_path: Path) -> None:
    true = voxels(high=4096)
    volume = volume_of(make_series(tmp_path, (true << 4).astype("<u2"), stored=12, change=put("HighBit", 15)))
    assert np.array_equal(volume.voxels, true)


def test_float_pixels(tmp_path: Path) -> None:
    data = voxels().astype(np.float32) / 7

    def as_float(k: int, ds: Dataset) -> None:
        del ds.PixelData
        ds.FloatPixelData = data[k].tobytes()
        ds.BitsAllocated = 32

    assert np.array_equal(volume_of(make_series(tmp_path, change=as_float)).voxels, data)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    data = voxels(high=4096)
    volume = volume_of(
        make_series(tmp_path, data, stored=12, change=put("PhotometricInterpretation", "MONOCHROME1"))
    )
    assert np.array_equal(volume.voxels, 4095 - data)
    assert any("inverted" in w for w in volume.warnings)


def body(hu: bool = True) -> np.ndarray:
    """A CT of a warm cylinder in air, stored with intercept -1024."""
    data = np.full((6, 32, 32), 24, "<u2")
    data[:, 8:24, 8:24] = 1064
    return data


def test_monochrome1_ct_keeps_its_hounsfield_units_unless_they_were_turned_too(tmp_path: Path) -> None:
    mono = put("PhotometricInterpretation", "MONOCHROME1")
    straight = volume_of(make_series(tmp_path / "a", body(), modality="CT", stored=12, change=mono))
    assert np.array_equal(straight.voxels, body())
    turned = volume_of(make_series(tmp_path / "b", 4095 - body(), modality="CT", stored=12, change=mono))
    assert np.array_equal(turned.voxels, body())


def test_ct_without_rescale_is_said_and_put_right_where_air_tells(tmp_path: Path) -> None:
    def bare(_: int, ds: Dataset) -> None:
        del ds.RescaleSlope, ds.RescaleIntercept

    offset = volume_of(make_series(tmp_path / "a", body(), modality="CT", change=bare))
    assert offset.intercept == -1024 and any("(0028,1052)" in w for w in offset.warnings)
    in_hu = (body().astype(int) - 1024).astype("<i2")
    plain = volume_of(make_series(tmp_path / "b", in_hu, modality="CT", change=bare))
    assert plain.intercept == 0 and any("taken as Hounsfield units" in w for w in plain.warnings)


def test_padding_range_becomes_one_value(tmp_path: Path) -> None:
    data = voxels(dtype="<i2")
    data[:, 0, :4] = [-2000, -1990, -1980, -1000]

    def ranged(_: int, ds: Dataset) -> None:
        ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = -2000, -1980

    volume = volume_of(make_series(tmp_path, data, modality="CT", change=ranged))
    assert volume.padding_value == -2000
    assert volume.voxels[0, 0, :4].tolist() == [-2000, -2000, -2000, -1000]


# -- transfer syntaxes -------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<i2"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(tmp_path: Path, syntax: str, dtype: str) -> None:
    data = voxels((4, 6, 8), "<i4", 200).astype(dtype)
    if syntax == ExplicitVRBigEndian:
        stored = data.byteswap() if data.dtype.itemsize == 2 else data

        def swapped(k: int, ds: Dataset) -> None:
            ds.PixelData = stored[k].tobytes()

        paths = make_series(tmp_path, data, syntax=syntax, change=swapped)
    else:
        paths = make_series(tmp_path, data, syntax=syntax)
    assert np.array_equal(volume_of(paths).voxels, data)


@pytest.mark.parametrize("stored", [12, 16])
@pytest.mark.parametrize("dtype", ["<u2", "<i2"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_syntaxes(tmp_path: Path, syntax: str, dtype: str, stored: int) -> None:
    data = voxels((3, 64, 64), "<i4", 2000).astype(dtype)
    if dtype == "<i2" and syntax != JPEGLSLossless:
        data -= 700
    paths = make_series(tmp_path, data, stored=stored)
    for path in paths:
        ds = dcmread(path)
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(path)
    assert np.array_equal(volume_of(paths).voxels, data)


def test_a_syntax_without_decoder_is_named(tmp_path: Path) -> None:
    paths = make_series(tmp_path, voxels((2, 8, 8)))
    for path in paths:
        ds = dcmread(path)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")  # MPEG2
        ds.save_as(path)
    assert "MPEG2" in refusal_of(paths)


def test_garbage_in_a_compressed_frame_is_one_sentence(tmp_path: Path) -> None:
    paths = make_series(tmp_path, voxels((2, 8, 8)))
    for path in paths:
        ds = dcmread(path)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = HTJ2KLossless
        ds.save_as(path)
    assert "High-Throughput JPEG 2000" in refusal_of(paths)


@pytest.mark.parametrize("cut", [1, 100, 250])
def test_truncated_pixels_are_one_sentence(tmp_path: Path, cut: int) -> None:
    paths = make_series(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-cut])
    sentence = refusal_of(paths)
    assert "(7FE0,0010)" in sentence and "truncated" in sentence


@pytest.mark.parametrize("cut", [9, 200])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_truncated_compressed_pixels_are_one_sentence(tmp_path: Path, syntax: str, cut: int) -> None:
    paths = make_series(tmp_path, voxels((3, 64, 64)))
    for path in paths:
        ds = dcmread(path)
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(path)
    paths[1].write_bytes(paths[1].read_bytes()[:-cut])
    sentence = refusal_of(paths)
    assert "(7FE0,0010) is truncated" in sentence and paths[1].name in sentence


# -- magnitude and phase -----------------------------------------------------------------------------
def test_magnitude_and_phase_told_apart_by_complex_image_component_alone(tmp_path: Path) -> None:
    data = voxels()
    phases = make_series(tmp_path / "a", data[::-1].copy(), change=put("ComplexImageComponent", "PHASE"))
    magnitudes = make_series(tmp_path / "b", data, change=put("ComplexImageComponent", "MAGNITUDE"))
    for paths in (phases + magnitudes, magnitudes + phases):
        volume = volume_of(paths)
        assert np.array_equal(volume.voxels, data), "the magnitude is judged, whichever came first"
        (warning,) = volume.warnings
        assert "Complex Image Component (0008,9208) takes 2 values" in warning and "MAGNITUDE" in warning


def test_magnitude_and_phase_in_one_enhanced_object(tmp_path: Path) -> None:
    data = voxels()

    def interleave(ds: Dataset) -> None:
        for number, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
            component = "PHASE" if number < len(data) else "MAGNITUDE"
            frame.MRImageFrameTypeSequence = item(
                FrameType=["ORIGINAL", "PRIMARY", "BOTH", "NONE"], ComplexImageComponent=component
            )

    twice = np.concatenate([data[::-1], data])
    places = [*range(len(data)), *range(len(data))]
    path = make_enhanced(tmp_path / "e.dcm", twice, change=interleave)
    ds = dcmread(path)
    for frame, place in zip(ds.PerFrameFunctionalGroupsSequence, places, strict=True):
        frame.PlanePositionSequence[0].ImagePositionPatient = [-10.0, -20.0, 30.0 + 2.5 * place]
    ds.save_as(path)
    volume = volume_of([path])
    assert np.array_equal(volume.voxels, data)
    assert any("(0008,9208) takes 2 values" in w for w in volume.warnings)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_the_header_that_stands_for_a_series_does_not_depend_on_file_names(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """The spool has other names than a disk, and both must give one reason for the same images."""
    paths = []
    for number, name in enumerate(names):
        ds = header(UID("1.2.840.10008.5.1.4.1.1.4"), "MR")
        ds.SOPInstanceUID = f"1.2.3.4.5.{number}"
        ds.InstanceNumber = 1
        ds.SeriesDescription = f"AX FSE {number}"
        put_pixels(ds, voxels()[number])
        paths.append(save(ds, tmp_path / f"{name}.dcm"))
    for order in (paths, paths[::-1]):
        assert open_series(order).header.SeriesDescription == "AX FSE 0"


# -- many frames in one object -----------------------------------------------------------------------
def test_enhanced_frames_are_sorted_by_position(tmp_path: Path) -> None:
    data = voxels()
    opened = open_series([make_enhanced(tmp_path / "e.dcm", data, order=[5, 2, 0, 1, 4, 3])])
    assert len(opened.instances) == 1
    volume = opened.volume()
    assert np.array_equal(volume.voxels, data)
    assert volume.spacing_mm == pytest.approx((0.7, 0.8, 2.5))


def test_enhanced_frames_with_slopes_of_their_own(tmp_path: Path) -> None:
    data = voxels()
    volume = volume_of([make_enhanced(tmp_path / "e.dcm", data, slopes=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])])
    assert np.allclose(volume.voxels, data * np.arange(1, 7)[:, None, None])


def test_first_echo_of_an_enhanced_object_is_judged(tmp_path: Path) -> None:
    data = voxels()
    volume = volume_of([make_enhanced(tmp_path / "e.dcm", data, echoes=[2.0, 6.0])])
    assert np.array_equal(volume.voxels, data)
    assert any("(0018,0081) takes 2 values" in w for w in volume.warnings)


def test_compressed_enhanced_object(tmp_path: Path) -> None:
    data = voxels()
    path = make_enhanced(tmp_path / "e.dcm", data, order=[1, 0, 2, 3, 5, 4])
    ds = dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path)
    assert np.array_equal(volume_of([path]).voxels, data)


@pytest.mark.parametrize(
    ("keyword", "value", "tag"),
    [("NumberOfFrames", 7, "(0028,0008)"), ("NumberOfFrames", 10**9, "(0028,0008)")],
)
def test_frames_that_do_not_add_up(tmp_path: Path, keyword: str, value: int, tag: str) -> None:
    path = make_enhanced(tmp_path / "e.dcm", voxels(), change=lambda ds: setattr(ds, keyword, value))
    assert tag in refusal_of([path])


def test_multi_frame_without_functional_groups(tmp_path: Path) -> None:
    def strip(ds: Dataset) -> None:
        del ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence

    assert "(5200,9230)" in refusal_of([make_enhanced(tmp_path / "e.dcm", voxels(), change=strip)])


def mosaic(path: Path, data: np.ndarray, tell: bool = True) -> Path:
    """A Siemens mosaic of five tiles in a 3 x 3 picture."""
    count, rows, columns = data.shape
    picture = np.zeros((3 * rows, 3 * columns), data.dtype)
    for n in range(count):
        picture[n // 3 * rows : (n // 3 + 1) * rows, n % 3 * columns : (n % 3 + 1) * columns] = data[n]
    ds = header("1.2.840.10008.5.1.4.1.1.4", "MR")
    ds.Manufacturer = "SIEMENS"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    # the position of the picture as if it were one huge slice
    ds.ImagePositionPatient = [-2.0 * columns, -2.0 * rows, 7.0]
    ds.ImageOrientationPatient = list(AXIAL)
    ds.PixelSpacing = [2.0, 2.0]
    ds.SpacingBetweenSlices = 3.5
    put_pixels(ds, picture)
    if tell:
        block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0A, "US", count)
    return save(ds, path)


def test_mosaic_is_taken_apart(tmp_path: Path) -> None:
    data = voxels((5, 8, 10))
    volume = volume_of([mosaic(tmp_path / "m.dcm", data)])
    assert np.array_equal(volume.voxels, data)
    assert volume.affine[:3, 3] == pytest.approx((0.0, 0.0, 7.0))
    assert volume.spacing_mm == pytest.approx((2.0, 2.0, 3.5))


def test_mosaic_that_does_not_tell_its_tiles(tmp_path: Path) -> None:
    assert "(0029,1010)" in refusal_of([mosaic(tmp_path / "m.dcm", voxels((5, 8, 10)), tell=False)])


def test_undefined_length_sequences_do_not_lead_the_scan_astray(tmp_path: Path) -> None:
    data = voxels()

    def nested(k: int, ds: Dataset) -> None:
        ds.ReferencedImageSequence = item(ReferencedSOPInstanceUID="9.9", ImagePositionPatient=[9, 9, 9])
        ds["ReferencedImageSequence"].is_undefined_length = True
        ds.ReferencedImageSequence[0].is_undefined_length_sequence_item = True

    for name, syntax in (("e", "1.2.840.10008.1.2.1"), ("i", ImplicitVRLittleEndian)):
        assert np.array_equal(
            volume_of(make_series(tmp_path / name, data, change=nested, syntax=syntax)).voxels, data
        )


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian])
def test_files_without_preamble_and_meta_information(tmp_path: Path, syntax: str) -> None:
    data = voxels()
    paths = make_series(tmp_path, data, syntax=syntax)
    for path in paths:
        content = path.read_bytes()
        # group length (0002,0000) tells where the data set begins
        length = int.from_bytes(content[140:144], "little")
        path.write_bytes(content[144 + length :])
    assert np.array_equal(volume_of(paths).voxels, data)


def test_a_wrong_transfer_syntax_is_seen_through(tmp_path: Path) -> None:
    data = voxels()
    paths = make_series(tmp_path, data, syntax="1.2.840.10008.1.2.1")
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1))
    assert np.array_equal(volume_of(paths).voxels, data)
