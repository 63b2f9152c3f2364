"""Heads to measure: made ones that need no data, and the real ones beside the project; noise to plant in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices
from qc_node.series.files.nifti import read_nifti

REAL = (
    "mri/t1w/ds000011-sub-02_sub-02_T1w.nii.gz",
    "mri/t1w_gadolinium/VS-SEG-001_t1_mpr_gd_1mm.nii.gz",
    "mri/t1w/T1_head-A_T1_head_2mm.nii.gz",
    "mri/other/ds000011-sub-01_sub-01_inplaneT2.nii.gz",
    "mri/other/openms-patient04_study1_FLAIR.nii.gz",
    "mri/other/openms-long-patient12_study1_T1W.nii.gz",
    "mri/nichart/Subj11_FL.nii.gz",
    "mri/other/M2208_M2208_T2w.nii.gz",
)
"""T1, T1 with gadolinium, T2 and FLAIR, 3D and 2D, with air and with blanked air, of eight protocols."""


def real(folder: Path, name: str) -> Slices:
    return Slices(read_nifti(folder / name, "MR"))


def made(
    noise: float = 4.0,
    shape: tuple[int, int, int] = (48, 96, 80),
    spacing_mm: float = 2.0,
    field: float = 0.0,
    seed: int = 0,
) -> Slices:
    """An ellipsoid of two tissues under a coil, magnitudes of a complex image, as int16."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.sqrt(sum((x / r) ** 2 for x, r in zip(axes, (0.8, 0.7, 0.65), strict=True)))
    tissue = np.where(ndimage.gaussian_filter(rng.standard_normal(shape), 6) > 0, 420.0, 360.0)
    signal = np.where(radius < 1, ndimage.gaussian_filter(tissue, 1.5), 0.0) * np.exp(field * axes[1])
    x = rng.normal(signal, noise)
    y = rng.normal(0.0, noise, shape)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    return Slices(Volume(np.rint(np.hypot(x, y)).astype(np.int16), affine, modality="MR"), spacing_mm, True)


def planted(slices: Slices, sigma: float, seed: int = 1) -> Slices:
    """With complex noise of standard deviation `sigma` per channel: what a shorter scan would have measured."""
    rng = np.random.default_rng(seed)
    volume = slices.volume
    x = volume.voxels.astype(np.float32) * np.float32(volume.slope) + np.float32(volume.intercept)
    x += rng.standard_normal(x.shape, dtype=np.float32) * np.float32(sigma)
    y = rng.standard_normal(x.shape, dtype=np.float32) * np.float32(sigma)
    return with_voxels(slices, np.hypot(x, y))


def with_voxels(slices: Slices, voxels: npt.NDArray[np.generic]) -> Slices:
    """The same slices with other rescaled values."""
    volume = replace(slices.volume, voxels=voxels, slope=1.0, intercept=0.0, padding_value=None)
    return replace(slices, volume=volume)
