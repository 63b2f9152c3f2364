"""NIfTI files become the volume that NiBabel itself makes of them; broken ones become one sentence."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qc_node.domain import QcNodeError
from qc_node.series.files.nifti import NiftiRefused, guess_modality, read_nifti

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE = np.array([[0.0, -2.0, 0.1, 5.0], [1.0, 0.1, 0.0, -7.0], [0.0, 0.2, 3.0, 11.0], [0.0, 0.0, 0.0, 1.0]])


def image(dtype: Any = "<i2", kind: Any = nib.Nifti1Image) -> Any:
    data = np.random.default_rng(3).integers(0, 100, (5, 4, 3)).astype(dtype)
    return kind(data, AFFINE)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", ">f4", "<f8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_same_voxels_and_place_as_nibabel(tmp_path: Path, kind: Any, dtype: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    made = image(dtype, kind)
    if dtype.startswith(">"):
        made = kind(np.asanyarray(made.dataobj), AFFINE, header=made.header.as_byteswapped(">"))
        made.set_data_dtype(np.dtype(dtype))
    nib.save(made, path)
    volume = read_nifti(path, "MR")
    read: Any = nib.load(path)
    assert np.array_equal(volume.voxels.transpose(2, 1, 0), np.asanyarray(read.dataobj))
    assert volume.affine == pytest.approx(LPS @ read.affine, abs=1e-5)
    assert volume.voxels.dtype.newbyteorder("<").str[1:] in ("u1", "i2", "u2", "f4")
    assert volume.voxels.flags.c_contiguous and volume.modality == "MR" and not volume.warnings


def test_scale_factors_are_kept_apart(tmp_path: Path) -> None:
    made = image()
    made.header.set_slope_inter(2.5, -10)
    nib.save(made, tmp_path / "x.nii")
    volume = read_nifti(tmp_path / "x.nii", "MR")
    assert (volume.slope, volume.intercept) == (2.5, -10)


@pytest.mark.parametrize("qfac", [1, -1])
def test_qform_alone(tmp_path: Path, qfac: int) -> None:
    rotation = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, float(qfac)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([1.0, 2.0, 3.0])
    affine[:3, 3] = (4, 5, 6)
    made = nib.Nifti1Image(np.zeros((5, 4, 3), "<i2"), None)
    made.header.set_qform(affine, 1)
    made.header.set_sform(None, 0)
    nib.save(made, tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii", "MR").affine == pytest.approx(LPS @ affine, abs=1e-5)


def test_a_quaternion_a_little_too_long_is_cut_to_length_one(tmp_path: Path) -> None:
    made = nib.Nifti1Image(np.zeros((5, 4, 3), "<i2"), None)
    made.header.set_qform(np.diag([-1.0, -2.0, 3.0, 1.0]), 1)
    made.header.set_sform(None, 0)
    nib.save(made, tmp_path / "x.nii")
    data = bytearray((tmp_path / "x.nii").read_bytes())
    assert struct.unpack_from("<3f", data, 256) == (0, 0, 1)
    struct.pack_into("<3f", data, 256, 0, 0, 1.0001)  # as some converters round it
    struct.pack_into("<f", data, 76, 0.0)  # qfac of files older than it
    (tmp_path / "x.nii").write_bytes(data)
    assert read_nifti(tmp_path / "x.nii", "MR").affine == pytest.approx(np.diag([1.0, 2.0, 3.0, 1.0]), abs=1e-5)


def test_unknown_orientation_is_said(tmp_path: Path) -> None:
    made = nib.Nifti1Image(np.zeros((5, 4, 3), "<i2"), None)
    made.header["pixdim"][1:4] = (1, 2, 3)
    made.header["qform_code"] = made.header["sform_code"] = 0
    nib.save(made, tmp_path / "x.nii")
    volume = read_nifti(tmp_path / "x.nii", "MR")
    assert volume.spacing_mm == pytest.approx((1, 2, 3))
    assert any("sform_code" in w for w in volume.warnings)


def test_micrometres_become_millimetres(tmp_path: Path) -> None:
    made = nib.Nifti1Image(np.zeros((5, 4, 3), "<i2"), np.diag([500.0, 500.0, 700.0, 1.0]))
    made.header.set_xyzt_units("micron")
    nib.save(made, tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii", "MR").spacing_mm == pytest.approx((0.5, 0.5, 0.7))


@pytest.mark.parametrize(
    ("shape", "dtype", "word"),
    [
        ((5, 4, 3, 2), "<i2", "several volumes"),
        ((5, 4, 1), "<i2", "one slice"),
        ((5, 4), "<i2", "one slice"),
        ((5, 4, 3), "<c8", "complex"),
        ((5, 4, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "colour"),
    ],
)
def test_what_is_no_volume_of_scalars(tmp_path: Path, shape: tuple[int, ...], dtype: Any, word: str) -> None:
    nib.save(nib.Nifti1Image(np.zeros(shape, dtype), np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(NiftiRefused, match=word):
        read_nifti(tmp_path / "x.nii.gz")


def test_a_fourth_dimension_of_one_is_a_volume(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((5, 4, 3, 1), "<i2"), np.eye(4)), tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii", "MR").shape == (3, 4, 5)


@pytest.mark.parametrize("cut", [1, 100, 300, 347])
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_files(tmp_path: Path, cut: int, packed: bool) -> None:
    path = tmp_path / ("x.nii.gz" if packed else "x.nii")
    nib.save(image(), tmp_path / "whole.nii")
    data = (tmp_path / "whole.nii").read_bytes()
    path.write_bytes(gzip.compress(data[:-cut]) if packed else data[:-cut])
    with pytest.raises(NiftiRefused, match=r"truncated|not a NIfTI"):
        read_nifti(path)
    if packed:
        path.write_bytes(gzip.compress(data)[:-cut])
        with pytest.raises(QcNodeError):
            read_nifti(path)


def test_a_header_that_claims_terabytes_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    nib.save(image(), tmp_path / "x.nii")
    data = bytearray((tmp_path / "x.nii").read_bytes())
    data[42:48] = b"\xff\x7f" * 3
    (tmp_path / "x.nii").write_bytes(data)
    with pytest.raises(NiftiRefused, match="too large"):
        read_nifti(tmp_path / "x.nii")


def test_a_short_file_that_claims_gigabytes_takes_none(tmp_path: Path) -> None:
    nib.save(image(), tmp_path / "x.nii")
    data = bytearray((tmp_path / "x.nii").read_bytes())
    struct.pack_into("<3h", data, 42, 1290, 1290, 1290)  # 4 GiB
    (tmp_path / "x.nii").write_bytes(data)
    program = """
import resource, sys
from pathlib import Path
from qc_node.series.files.nifti import NiftiRefused, read_nifti
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_nifti(Path(sys.argv[1]))
except NiftiRefused as refusal:
    print(refusal)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "x.nii")]
    sentence, mebibytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sentence.endswith("is truncated: the voxels end too early.")
    assert int(mebibytes) < 200


def test_modality_is_guessed_by_hounsfield_units() -> None:
    rng = np.random.default_rng(1)
    ct = np.full((20, 40, 40), -1000.0)
    ct[:, 10:30, 10:30] = rng.normal(40, 20, (20, 20, 20))
    assert guess_modality(ct)[0] == "CT"
    assert guess_modality((ct + 1024).astype("<u2"), 1, -1024)[0] == "CT"
    assert guess_modality(np.abs(ct))[0] == "MR"
    assert guess_modality(rng.normal(0, 1, (9, 9, 9)))[0] == "MR"
    assert guess_modality(np.full((3, 3, 3), np.nan))[0] == "MR"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 359), st.integers(0, 255)), min_size=1, max_size=12))
def test_mutated_headers_end_in_a_volume_or_a_sentence(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    source = tmp_path / "good.nii"
    if not source.exists():
        nib.save(image(), source)
    data = bytearray(source.read_bytes())
    for place, value in changes:
        data[place] = value
    broken = tmp_path / "broken.nii"
    broken.write_bytes(data)
    try:
        volume = read_nifti(broken)
    except QcNodeError as refusal:
        assert str(refusal).endswith(".") and "\n" not in str(refusal)
    else:
        assert np.isfinite(volume.affine).all() and min(volume.spacing_mm) > 0
