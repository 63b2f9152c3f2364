"""Faults planted in real CT, from the physics of each: metal with its streaks, a field that is too small."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
from scipy import ndimage

from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices

Floats = npt.NDArray[np.float32]

WATER_PER_MM = 0.02
"""Attenuation of water at about 70 keV."""

METAL_PER_MM = 0.6
"""That of a light metal or a thin wire of a heavy one."""

QUANTA = 3e4
HARDENING = 0.03


def slices_of(
    hu: npt.NDArray[np.floating], spacing_mm: tuple[float, float, float], thickness_mm: float | None = None
) -> Slices:
    """Slices ``(K, J, I)`` with the distances of (columns, rows, slices)."""
    return Slices(Volume(np.rint(hu).astype(np.int16), np.diag([*spacing_mm, 1.0]), modality="CT"), thickness_mm)


def read_archive(path: Path) -> tuple[Floats, tuple[float, float, float]]:
    """HU ``(K, J, I)`` of a series in a tar archive, and the distances of (columns, rows, slices)."""
    with tarfile.open(path) as archive:
        members = (archive.extractfile(member) for member in archive if member.isfile())
        objects = [pydicom.dcmread(io.BytesIO(member.read()), force=True) for member in members if member]
    images = sorted((one for one in objects if "PixelData" in one), key=lambda one: one.ImagePositionPatient[2])
    hu = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in images])
    rows, columns = (float(mm) for mm in images[0].PixelSpacing)
    apart = images[1].ImagePositionPatient[2] - images[0].ImagePositionPatient[2]
    return hu.astype(np.float32), (columns, rows, float(apart))


def read_nifti(path: Path) -> tuple[Floats, tuple[float, float, float]]:
    """HU ``(K, J, I)`` of a NIfTI volume, and the distances of (columns, rows, slices)."""
    image = nib.Nifti1Image.from_filename(str(path))
    i, j, k = (float(mm) for mm in image.header.get_zooms()[:3])
    return np.ascontiguousarray(np.asarray(image.dataobj, np.float32).T), (i, j, k)


def with_metal(plane: Floats, spacing_mm: float, at: tuple[int, int], radius_mm: float, seed: int) -> Floats:
    """One slice with a rod of metal, and the streaks of what went wrong on the rays through it.

    Rays through metal are hardened (their attenuation is short of its sum by a part of its square) and starved
    (noise that grows with their whole attenuation).  Filtered back projection is linear, so the image of the error
    alone is added to the slice.
    """
    y, x = np.indices(plane.shape)
    metal = np.hypot(y - at[0], x - at[1]) * spacing_mm < radius_mm
    paths = project(np.where(metal, METAL_PER_MM, 0.0).astype(np.float32)) * spacing_mm
    body = project((plane / 1000 + 1).clip(0, 3) * np.float32(WATER_PER_MM)) * spacing_mm
    photons = QUANTA * np.exp(-(paths + body).clip(0, 10))
    starved = np.random.default_rng(seed).normal(0, 1, paths.shape) / np.sqrt(photons) * (paths > 0.05)
    error = (
        back_project((starved - HARDENING * paths * (paths + body)).astype(np.float32), plane.shape) / spacing_mm
    )
    return np.where(metal, 3071, plane + 1000 * error / WATER_PER_MM).clip(-1024, 3071).astype(np.float32)


ANGLES = np.arange(0, 180, 1.0)


def project(attenuation: Floats) -> Floats:
    """Parallel projections ``(angles, bins)`` of a square image, per pixel length."""
    return np.stack([ndimage.rotate(attenuation, a, reshape=False, order=1).sum(axis=0) for a in ANGLES])


def back_project(sinogram: Floats, shape: tuple[int, ...]) -> Floats:
    """Filtered back projection (ramp with Hann window)."""
    frequencies = np.fft.rfftfreq(sinogram.shape[1])
    ramp = 2 * frequencies * (0.5 + 0.5 * np.cos(2 * np.pi * frequencies))
    filtered = np.fft.irfft(np.fft.rfft(sinogram, axis=1) * ramp, sinogram.shape[1], axis=1)
    image = np.zeros(shape)
    for angle, line in zip(ANGLES, filtered, strict=True):
        image += ndimage.rotate(np.broadcast_to(line, shape), -angle, reshape=False, order=1)
    return (image * np.pi / (2 * len(ANGLES))).astype(np.float32)


def cropped(hu: Floats, columns: int) -> Floats:
    """A field that lacks so many columns at each side."""
    return hu[:, :, columns : hu.shape[2] - columns]
