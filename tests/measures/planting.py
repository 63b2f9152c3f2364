"""Faults planted into real slices in steps, each as its cause in the scanner would make it; simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices

Voxels = npt.NDArray[np.float32]


def load(path: Path, modality: str, *, is_3d: bool) -> Slices:
    """A NIfTI file as slices ``(K, J, I)``, HU for CT."""
    image: Any = nib.load(path)
    voxels = np.ascontiguousarray(np.asarray(image.dataobj).T)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine)
    volume = Volume(voxels, affine, modality=modality)
    return Slices(volume, thickness_mm=volume.spacing_mm[2], is_3d=is_3d)


def with_voxels(slices: Slices, voxels: npt.NDArray[np.generic], **others: Any) -> Slices:
    return replace(slices, volume=replace(slices.volume, voxels=voxels, **others))


def floats(slices: Slices) -> Voxels:
    return slices.volume.voxels.astype(np.float32)


def air_of(slices: Slices) -> float:
    return -1000.0 if slices.volume.modality == "CT" else 0.0


def signal_of(slices: Slices) -> float:
    """How far the brighter half of the object lies above air, about."""
    values = floats(slices) - air_of(slices)
    return float(np.median(values[values > values.mean()]))


def magnitude(slices: Slices, values: Voxels) -> Slices:
    """MR images are magnitudes."""
    return with_voxels(slices, np.abs(values) if slices.volume.modality == "MR" else values)


def blurred(slices: Slices, pixels: float) -> Slices:
    """A Gaussian of `pixels` in the plane, and across slices where they are as close."""
    across = pixels if slices.is_3d else 0.0
    return with_voxels(slices, ndimage.gaussian_filter(floats(slices), (across, pixels, pixels)))


def ghosted(slices: Slices, share: float) -> Slices:
    """Every second line of k-space along the columns is `share` stronger: a copy half the field of view away."""
    values = floats(slices)
    return magnitude(slices, values + share * np.roll(values, values.shape[1] // 2, axis=1))


def striped(slices: Slices, share: float) -> Slices:
    """One row through the middle of the object is brighter by `share` of its signal in all slices."""
    values = floats(slices)
    brightness = (values - air_of(slices)).clip(0).sum(axis=(0, 2))
    row = int(np.searchsorted(np.cumsum(brightness), 0.45 * brightness.sum()))
    values[:, row] += share * signal_of(slices)
    return with_voxels(slices, values)


def spiked(slices: Slices, share: float) -> Slices:
    """One point of k-space holds a spike: a wave of amplitude `share` of the signal over everything."""
    values = floats(slices)
    k, j, i = (np.arange(n, dtype=np.float32).reshape(s) for n, s in zip(values.shape, SHAPES, strict=True))
    angle = 2 * np.pi * (0.21 * i + 0.17 * j + (0.13 * k if slices.is_3d else 0))
    wave = np.float32(share * signal_of(slices)) * np.cos(angle)
    return magnitude(slices, np.asarray(values + wave, np.float32))


SHAPES = (-1, 1, 1), (1, -1, 1), (1, 1, -1)


def noisy(slices: Slices, share: float) -> Slices:
    """Rician noise (MR) or Gaussian (CT), sigma as `share` of the signal."""
    values, sigma = floats(slices), share * signal_of(slices)
    rng = np.random.default_rng(5)
    real = values + rng.normal(0, sigma, values.shape).astype(np.float32)
    if slices.volume.modality != "MR":
        return with_voxels(slices, real)
    return with_voxels(slices, np.hypot(real, rng.normal(0, sigma, values.shape).astype(np.float32)))


def displaced(slices: Slices, mm: float) -> Slices:
    """Every second slice, as in interleaved acquisition, lies `mm` aside along the rows."""
    values = floats(slices)
    pixels = mm / slices.volume.spacing_mm[0]
    values[1::2] = ndimage.shift(values[1::2], (0, 0, pixels), order=1, mode="nearest")
    return with_voxels(slices, values)


def flickering(slices: Slices, share: float) -> Slices:
    """Every second slice is brighter by `share`."""
    values = floats(slices)
    values[1::2] *= 1 + share
    return with_voxels(slices, values)


def one_slice_dark(slices: Slices, share: float) -> Slices:
    """The middle slice lost `share` of its signal."""
    values = floats(slices)
    values[len(values) // 2] *= 1 - share
    return with_voxels(slices, values)


Plant = Callable[[Slices, float], Slices]
PLANTS: dict[str, tuple[Plant, str, tuple[float, ...]]] = {
    "blur": (blurred, "edge_width_mm", (0.7, 1.0, 1.5, 2.0)),
    "ghost": (ghosted, "ghost_along_columns", (0.02, 0.05, 0.1)),
    "stripe": (striped, "line_level", (0.2, 0.4, 0.8)),
    "spike": (spiked, "wave_level", (0.04, 0.08, 0.16)),
}
"""What is planted, which measure it moves, in which steps."""
BETWEEN: dict[str, tuple[Plant, str, tuple[float, ...]]] = {
    "displaced": (displaced, "slice_shift", (2.0, 3.0, 4.0)),
    "flicker": (flickering, "slice_jump", (0.1, 0.2, 0.4)),
    "dark slice": (one_slice_dark, "slice_jump", (0.2, 0.4, 0.6)),
}
"""The same for stacks of slices that were acquired one after another."""
