"""NIfTI-1 and NIfTI-2 single files (``.nii``, ``.nii.gz``) become a Volume.

Written after the format's own headers (nifti1.h, nifti2.h; nifti.nimh.nih.gov): voxels are stored with the
first index fastest, which is the C order ``(k, j, i)`` of :class:`~qc_node.domain.Volume`, and the affine
points to RAS+ millimetres, which two signs turn into LPS.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from qc_node.domain import QcNodeError, Volume
from qc_node.series.files.archives import ArchiveRefused, decompressed

MAX_BYTES = 8 << 30
"""Largest volume that is read; a header can claim anything."""

_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
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


class NiftiRefused(QcNodeError):
    """A NIfTI file is broken or not one volume of scalars; one sentence that names the header field."""


@dataclass(frozen=True)
class NiftiHeader:
    """The fields that a volume needs."""

    order: str
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


def read_header(path: Path) -> NiftiHeader:
    """The header of the NIfTI file at `path`; see :func:`read_nifti` for errors."""
    with _opened(path) as file:
        return _header(path, file)


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
    with _opened(path) as file:
        header = _header(path, file)
        voxels = _voxels(path, file, header)
    warnings = list(header.warnings)
    if modality is None:
        modality, why = guess_modality(voxels, header.slope, header.intercept)
        warnings.append(why)
    return Volume(
        voxels=voxels,
        affine=header.affine,
        slope=header.slope,
        intercept=header.intercept,
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
    try:
        return file.read(n)
    except (OSError, EOFError, ValueError, ArchiveRefused) as error:
        raise NiftiRefused(f"{path} cannot be read ({error}).") from None
    except Exception as error:  # zlib, lzma and bz2 each have their own
        raise NiftiRefused(f"{path} is broken ({type(error).__name__}: {error}).") from None


def _header(path: Path, file: IO[bytes]) -> NiftiHeader:
    start = _read(path, file, 540)
    for order in "<>":
        if len(start) >= 348 and struct.unpack_from(order + "i", start)[0] == 348:
            return _nifti1(path, start, order)
        if len(start) >= 540 and struct.unpack_from(order + "i", start)[0] == 540:
            return _nifti2(path, start, order)
    raise NiftiRefused(f"{path} is not a NIfTI file (sizeof_hdr is neither 348 nor 540).")


def _nifti1(path: Path, h: bytes, order: str) -> NiftiHeader:
    if h[344:348] != b"n+1\0":
        what = "its image lies in another file (.hdr/.img)" if h[344:348] == b"ni1\0" else "it is Analyze"
        raise NiftiRefused(f"{path} is not a single-file NIfTI: {what}.")
    u = struct.Struct
    dim = u(order + "8h").unpack_from(h, 40)
    datatype = u(order + "h").unpack_from(h, 70)[0]
    pixdim = u(order + "8f").unpack_from(h, 76)
    offset, slope, inter = u(order + "3f").unpack_from(h, 108)
    qform, sform = u(order + "2h").unpack_from(h, 252)
    quaternion = u(order + "6f").unpack_from(h, 256)
    rows = u(order + "12f").unpack_from(h, 280)
    return _checked(
        path, order, dim, datatype, pixdim, offset, slope, inter, qform, sform, quaternion, rows, h[123]
    )


def _nifti2(path: Path, h: bytes, order: str) -> NiftiHeader:
    if h[4:8] != b"n+2\0":
        raise NiftiRefused(f"{path} is not a single-file NIfTI-2.")
    u = struct.Struct
    datatype = u(order + "h").unpack_from(h, 12)[0]
    dim = u(order + "8q").unpack_from(h, 16)
    pixdim = u(order + "8d").unpack_from(h, 104)
    offset = u(order + "q").unpack_from(h, 168)[0]
    slope, inter = u(order + "2d").unpack_from(h, 176)
    qform, sform = u(order + "2i").unpack_from(h, 344)
    quaternion = u(order + "6d").unpack_from(h, 352)
    rows = u(order + "12d").unpack_from(h, 400)
    units = u(order + "i").unpack_from(h, 500)[0]
    return _checked(
        path, order, dim, datatype, pixdim, offset, slope, inter, qform, sform, quaternion, rows, units
    )


def _checked(
    path: Path,
    order: str,
    dim: tuple[int, ...],
    datatype: int,
    pixdim: tuple[float, ...],
    offset: float,
    slope: float,
    inter: float,
    qform: int,
    sform: int,
    quaternion: tuple[float, ...],
    rows: tuple[float, ...],
    units: int,
) -> NiftiHeader:
    warnings: list[str] = []
    count = dim[0]
    if not 1 <= count <= 7 or any(n < 1 for n in dim[1 : count + 1]):
        raise NiftiRefused(f"{path}: dim is {list(dim)}, which is no size of an image.")
    if datatype in _REFUSED_TYPES:
        raise NiftiRefused(
            f"{path}: datatype {datatype} holds {_REFUSED_TYPES[datatype]} values, which are not judged."
        )
    if datatype not in _TYPES:
        raise NiftiRefused(f"{path}: datatype {datatype} is unknown.")
    extra = [n for n in dim[4 : count + 1] if n > 1]
    if extra:
        size = "x".join(map(str, dim[1 : count + 1]))
        raise NiftiRefused(f"{path}: dim is {size}; a series of several volumes is not judged, give one volume.")
    shape = (dim[3] if count > 2 else 1, dim[2] if count > 1 else 1, dim[1])
    if min(shape) < 2:
        raise NiftiRefused(f"{path}: dim is {'x'.join(map(str, shape[::-1]))}, and one slice is not a volume.")
    dtype = np.dtype(order + _TYPES[datatype])
    if int(np.prod([float(n) for n in shape])) * dtype.itemsize > MAX_BYTES:
        raise NiftiRefused(
            f"{path}: dim claims {'x'.join(map(str, shape[::-1]))} voxels, which is too large to read."
        )
    if not (np.isfinite(offset) and 0 <= offset < 1 << 40):
        raise NiftiRefused(f"{path}: vox_offset is {offset}.")
    if not (np.isfinite(slope) and np.isfinite(inter)) or slope == 0:
        slope, inter = 1.0, 0.0
    affine = _affine(path, pixdim, qform, sform, quaternion, rows, warnings)
    affine[:3] *= _TO_MM.get(units & 7, 1.0)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (
        not np.isfinite(affine).all()
        or abs(np.linalg.det(affine[:3, :3] / np.where(spacing > 0, spacing, 1))) < 1e-3
    ):
        raise NiftiRefused(f"{path}: the affine (srow, quatern, pixdim) does not span a volume.")
    affine[:2] *= -1  # RAS+ to LPS
    return NiftiHeader(order, shape, dtype, int(offset), float(slope), float(inter), affine, tuple(warnings))


def _affine(
    path: Path,
    pixdim: tuple[float, ...],
    qform: int,
    sform: int,
    q: tuple[float, ...],
    rows: tuple[float, ...],
    warnings: list[str],
) -> npt.NDArray[np.float64]:
    """Voxel to RAS+ by sform, else qform, else pixdim alone (methods 3, 2 and 1 of nifti1.h)."""
    affine = np.eye(4)
    if sform > 0:
        affine[:3] = np.array(rows, dtype=np.float64).reshape(3, 4)
        return affine
    spacing = np.abs(np.array(pixdim[1:4], dtype=np.float64))
    if qform > 0:
        b, c, d = q[:3]
        a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        spacing[2] *= -1.0 if pixdim[0] < 0 else 1.0
        affine[:3, :3] = rotation * spacing
        affine[:3, 3] = q[3:6]
        return affine
    warnings.append(
        "sform_code and qform_code are 0: the orientation is unknown and taken as right-anterior-superior."
    )
    affine[:3, :3] = np.diag(spacing)
    return affine


def _voxels(path: Path, file: IO[bytes], header: NiftiHeader) -> npt.NDArray[Any]:
    skip = header.offset - min(540, header.offset)
    if header.offset < 540:
        # the header was read with a little of what follows it; begin again where the voxels lie
        file.close()
        file = _opened(path)
        skip = header.offset
    with file:
        while skip > 0:
            got = len(_read(path, file, min(skip, 1 << 20)))
            if not got:
                raise NiftiRefused(f"{path} is truncated: it ends before vox_offset.")
            skip -= got
        kept = header.dtype.str[1:] in _KEPT
        try:
            voxels: npt.NDArray[Any] = np.empty(header.shape, header.dtype if kept else np.float32)
        except MemoryError:
            raise NiftiRefused(f"{path}: a volume of {header.shape[::-1]} does not fit into memory.") from None
        for plane in voxels:
            data = plane if kept else np.empty(plane.shape, header.dtype)
            _fill(path, file, data)
            if not kept:
                with np.errstate(over="ignore", invalid="ignore"):
                    plane[...] = data
    if voxels.dtype.byteorder == ">":
        voxels = voxels.byteswap(inplace=True).view(voxels.dtype.newbyteorder("<"))
    return voxels


def _fill(path: Path, file: IO[bytes], plane: npt.NDArray[Any]) -> None:
    view = memoryview(plane.view(np.uint8).reshape(-1))  # type: ignore[arg-type]
    while view:
        try:
            n = file.readinto(view)  # type: ignore[attr-defined]
        except Exception as error:  # zlib, lzma and bz2 each have their own
            raise NiftiRefused(f"{path} is broken ({error or type(error).__name__}).") from None
        if not n:
            raise NiftiRefused(f"{path} is truncated: the voxels end too early.")
        view = view[n:]
