"""NIfTI-1 and NIfTI-2 single files (``.nii``, ``.nii.gz``) become a Volume.

NiBabel reads the header: fields, byte order, types, quaternions.  What is added here is for files that strangers
made: every field is checked before memory is taken for it, and each fault is one sentence that names the field.

The voxels are read here and not by NiBabel, because it takes the whole memory that a header claims, and touches
it, before it finds that the file is shorter.  They are stored with the first index fastest, which is the C order
``(k, j, i)`` of :class:`~qc_node.domain.Volume`.  The affine points to RAS+ millimetres, which two signs turn into
LPS.

Source: nifti1.h and nifti2.h (nifti.nimh.nih.gov).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qc_node.domain import QcNodeError, Volume
from qc_node.series.files.archives import decompressed

Header: TypeAlias = Any
"""A ``nibabel.Nifti1Header``; NiBabel annotates its images, but not its headers."""

MAX_BYTES = 8 << 30
"""Largest volume that is read; a header can claim anything."""

_PART_BYTES = 1 << 20
"""Voxels are read in parts of about this size, so that memory grows with what the file really holds."""

_REFUSED_TYPES = {
    1: "1-bit",
    32: "complex",
    128: "RGB colour",
    1536: "128-bit float",
    1792: "complex",
    2048: "complex",
    2304: "RGBA colour",
}
_KEPT = ("u1", "i2", "u2")
_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Low three bits of ``xyzt_units``: unknown (taken as mm), metre, millimetre, micrometre."""

_UNKNOWN_ORIENTATION = (
    "sform_code and qform_code are 0: the orientation is unknown and taken as right-anterior-superior."
)


class NiftiRefused(QcNodeError):
    """A NIfTI file is broken or not one volume of scalars; one sentence that names the header field."""


@dataclass(frozen=True)
class _Layout:
    """What a volume needs of a header, checked.

    Attributes
    ----------
    shape
        ``(K, J, I)``.
    dtype
        Type of the stored voxels, with their byte order.
    offset
        Byte of the first voxel.
    affine
        ``(i, j, k, 1)`` to LPS millimetres.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: npt.NDArray[np.float64]
    warnings: tuple[str, ...]


def is_nifti(path: Path) -> bool:
    """Whether `path` is named like a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti(path: Path, modality: str | None = None) -> Volume:
    """The volume in the NIfTI file at `path`.

    Parameters
    ----------
    modality
        ``"MR"`` or ``"CT"``; None guesses from the values and says so in a warning.

    Raises
    ------
    NiftiRefused
        Not NIfTI, truncated, not three-dimensional, colour or complex values, no usable affine.
    """
    layout = _layout(path, _header(path))
    voxels = _voxels(path, layout)
    warnings = list(layout.warnings)
    if modality is None:
        modality, why = guess_modality(voxels, layout.slope, layout.intercept)
        warnings.append(why)
    return Volume(
        voxels=voxels,
        affine=layout.affine,
        slope=layout.slope,
        intercept=layout.intercept,
        modality=modality,
        warnings=tuple(warnings),
    )


def guess_modality(voxels: npt.NDArray[Any], slope: float = 1.0, intercept: float = 0.0) -> tuple[str, str]:
    """CT or MR by the range of values, and the sentence that says so.

    Hounsfield units tell themselves: nothing lies far below -1024 but padding, air lies around -1000 and soft
    tissue around 0.
    """
    step = [max(1, n // 96) for n in voxels.shape]
    sample = voxels[:: step[0], :: step[1], :: step[2]].astype(np.float32) * slope + intercept
    sample = sample[np.isfinite(sample)]
    if sample.size:
        air = float(np.mean((sample > -1100) & (sample < -850)))
        soft = float(np.mean((sample > -200) & (sample < 300)))
        if air > 0.01 and soft > 0.01 and sample.min() > -4200 and sample.max() < 40_000:
            return (
                "CT",
                "The file does not tell its modality; its values look like Hounsfield units, so CT is assumed.",
            )
        if soft > 0.05 and -1100 <= sample.min() < -500 and 200 < sample.max() < 5000:
            return (
                "CT",
                "The file does not tell its modality; its values look like Hounsfield units, so CT is assumed.",
            )
    return (
        "MR",
        "The file does not tell its modality; its values do not look like Hounsfield units, so MR is assumed.",
    )


def _opened(path: Path) -> IO[bytes]:
    try:
        return decompressed(path)
    except OSError as error:
        raise NiftiRefused(f"{path} cannot be read ({error.strerror}).") from None


def _read(path: Path, file: IO[bytes], n: int) -> bytes:
    """The next `n` bytes, or what there still is."""
    try:
        return file.read(n)
    except OSError as error:
        raise NiftiRefused(f"{path} cannot be read ({error}).") from None
    except MemoryError:
        raise NiftiRefused(f"{path}: a part of {n} bytes does not fit into memory.") from None
    except Exception as error:  # zlib, lzma and bz2 each have their own
        raise NiftiRefused(f"{path} is broken ({error or type(error).__name__}).") from None


# --- The header --------------------------------------------------------------------------------------------


def _header(path: Path) -> Header:
    """The header as it stands in the file; a Nifti2Header is a Nifti1Header with wider fields."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    with _opened(path) as file:
        start = _read(path, file, Nifti2Header.sizeof_hdr)
    kinds: tuple[Any, ...] = (Nifti1Header, Nifti2Header)
    for kind in kinds:
        size = kind.sizeof_hdr
        for order in "<>":
            if len(start) >= size and start[:4] == np.array(size, f"{order}i4").tobytes():
                # Unchecked: NiBabel's own check mends fields silently and writes to a logger.
                header = kind(start[:size], order, check=False)
                _check_magic(path, header)
                return header
    raise NiftiRefused(f"{path} is not a NIfTI file (sizeof_hdr is neither 348 nor 540).")


def _check_magic(path: Path, header: Header) -> None:
    magic = header["magic"].item()
    if magic == header.single_magic:
        return
    if magic == header.pair_magic:
        what = "its image lies in another file (.hdr/.img)"
    else:
        what = "it is Analyze" if header.sizeof_hdr == 348 else f"its magic is {magic!r}"
    raise NiftiRefused(f"{path} is not a single-file NIfTI: {what}.")


def _layout(path: Path, header: Header) -> _Layout:
    dtype = _stored_type(path, header)
    shape = _shape(path, header, dtype.itemsize)
    offset = header["vox_offset"].item()
    if not (np.isfinite(offset) and 0 <= offset < 1 << 40):
        raise NiftiRefused(f"{path}: vox_offset is {offset}.")
    affine, warnings = _affine(path, header)
    return _Layout(shape, dtype, int(offset), *_scale(header), affine, warnings)


def _stored_type(path: Path, header: Header) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code in _REFUSED_TYPES:
        raise NiftiRefused(f"{path}: datatype {code} holds {_REFUSED_TYPES[code]} values, which are not judged.")
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError:
        raise NiftiRefused(f"{path}: datatype {code} is unknown.") from None
    if dtype.kind not in "iuf":
        raise NiftiRefused(f"{path}: datatype {code} is unknown.")
    return dtype


def _shape(path: Path, header: Header, itemsize: int) -> tuple[int, int, int]:
    """``(K, J, I)`` by ``dim``, which NiBabel would read as a surface of FreeSurfer in some cases."""
    dim = header["dim"].tolist()
    count = dim[0]
    if not 1 <= count <= 7 or any(n < 1 for n in dim[1 : count + 1]):
        raise NiftiRefused(f"{path}: dim is {dim}, which is no size of an image.")
    if any(n > 1 for n in dim[4 : count + 1]):
        size = "x".join(map(str, dim[1 : count + 1]))
        raise NiftiRefused(f"{path}: dim is {size}; a series of several volumes is not judged, give one volume.")
    i, j, k = (*dim[1 : min(count, 3) + 1], 1, 1)[:3]
    if min(i, j, k) < 2:
        raise NiftiRefused(f"{path}: dim is {i}x{j}x{k}, and one slice is not a volume.")
    if i * j * k * itemsize > MAX_BYTES:
        raise NiftiRefused(f"{path}: dim claims {i}x{j}x{k} voxels, which is too large to read.")
    return k, j, i


def _scale(header: Header) -> tuple[float, float]:
    """``scl_slope`` and ``scl_inter``; a slope of 0 means that there are none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    usable = slope != 0 and np.isfinite(slope) and np.isfinite(intercept)
    return (slope, intercept) if usable else (1.0, 0.0)


def _affine(path: Path, header: Header) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """``(i, j, k, 1)`` to LPS millimetres, and what is to be said about it."""
    with np.errstate(all="ignore"):
        affine, warnings = _to_ras(header)
        affine[:3] *= _TO_MM.get(int(header["xyzt_units"]) & 7, 1.0)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        directions = affine[:3, :3] / np.where(spacing > 0, spacing, 1)
        spans = np.isfinite(affine).all() and np.isfinite(spacing).all() and abs(np.linalg.det(directions)) >= 1e-3
    if not spans:
        raise NiftiRefused(f"{path}: the affine (srow, quatern, pixdim) does not span a volume.")
    affine[:2] *= -1  # RAS+ to LPS
    return affine, warnings


def _to_ras(header: Header) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Voxel to RAS+ by sform, else qform, else pixdim alone (methods 3, 2 and 1 of nifti1.h)."""
    if header["sform_code"] > 0:
        return header.get_sform(), ()
    if header["qform_code"] > 0:
        return _mended(header).get_qform(), ()
    return np.diag([*np.abs(header["pixdim"][1:4].astype(np.float64)), 1.0]), (_UNKNOWN_ORIENTATION,)


def _mended(header: Header) -> Header:
    """A copy whose quaternion NiBabel accepts: as in nifti1_io.c, signs are dropped and too long is cut to 1."""
    header = header.copy()
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    parts = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    for axis, part in zip("bcd", parts / max(1.0, float(np.linalg.norm(parts))), strict=True):
        header[f"quatern_{axis}"] = part
    return header


# --- The voxels --------------------------------------------------------------------------------------------


def _voxels(path: Path, layout: _Layout) -> npt.NDArray[Any]:
    """``(K, J, I)`` in the stored type where the contract of Volume has it, else float32."""
    stored = layout.dtype
    kept = stored.newbyteorder("=") if stored.str[1:] in _KEPT else np.dtype(np.float32)
    try:
        voxels: npt.NDArray[Any] = np.empty(layout.shape, kept)
    except MemoryError:
        raise NiftiRefused(f"{path}: a volume of {layout.shape[::-1]} does not fit into memory.") from None
    step = max(1, _PART_BYTES // (stored.itemsize * voxels[0].size))
    with _opened(path) as file, np.errstate(over="ignore", invalid="ignore"):
        _skip(path, file, layout.offset)
        for first in range(0, len(voxels), step):
            part = voxels[first : first + step]
            data = _read(path, file, part.size * stored.itemsize)
            if len(data) < part.size * stored.itemsize:
                raise NiftiRefused(f"{path} is truncated: the voxels end too early.")
            part[...] = np.frombuffer(data, stored).reshape(part.shape)
    return voxels


def _skip(path: Path, file: IO[bytes], n: int) -> None:
    while n > 0:
        got = len(_read(path, file, min(n, 1 << 20)))
        if not got:
            raise NiftiRefused(f"{path} is truncated: it ends before vox_offset.")
        n -= got
