"""Artefacts of MRI, made by the physics that makes them, in the acquisition frame.

Every function takes a volume on its acquisition grid and returns the damaged volume; nothing here knows
of template space.  A parameter is not a grade: the same motion near the centre of k-space is far worse
than at its edge (TorchIO#765).  Grades come from the damage that is measured afterwards
(:mod:`qc_node.training.brain_mri.simulation.damage`).

Volumes are float32 ``(K, J, I)``; randomness is a ``numpy.random.Generator``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import fft, ndimage
from torch.nn import functional

from qc_node.classifiers.brain_mri.registration import rotation

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trajectory:
    """Rigid poses during an acquisition.

    Attributes
    ----------
    rotations_deg, translations_mm
        ``(P, 3)`` pose of each segment about the volume's centre, along array axes (k, j, i).
    line_pose
        ``(n_lines,)`` segment in which each phase-encoding line (FFT order, zero frequency first) was
        acquired.
    """

    rotations_deg: npt.NDArray[np.float64]
    translations_mm: npt.NDArray[np.float64]
    line_pose: npt.NDArray[np.int64]


def draw_trajectory(
    n_lines: int, severity: float, rng: np.random.Generator, line_energy: npt.NDArray[np.float64] | None = None
) -> Trajectory:
    """A trajectory of drift, nods or jerks.

    Parameters
    ----------
    n_lines
        Phase-encoding lines of the slow axis.
    severity
        0 .. 1: scales the amplitude (up to about 13 degrees / 10 mm) and the number of moves.
    line_energy
        Energy per line (FFT order); the pose is demeaned with it, so that the head stays where it is and
        position is no cue (TorchIO PR 85).  Default: ``1 / (1 + |frequency|)^2``.
    """
    kind = rng.choice(["drift", "nod", "jerk"])
    poses = int(rng.integers(3, 7)) if kind != "jerk" else int(rng.integers(2, 5))
    amplitude = 0.4 + 13.0 * severity
    if kind == "drift":
        path = np.linspace(0, 1, poses)[:, None] * rng.normal(size=(1, 6))
    elif kind == "nod":
        path = np.sin(np.linspace(0, rng.uniform(1.0, 4.0) * np.pi, poses))[:, None] * rng.normal(size=(1, 6))
        path = path + 0.3 * rng.normal(size=(poses, 6))
    else:
        path = np.cumsum(rng.normal(size=(poses, 6)) * (rng.random((poses, 1)) < 0.7), 0)
    # Nodding about the left-right axis is what heads on a cushion do most.
    path = path / max(float(np.abs(path).max()), 1e-6)
    rotations, translations = amplitude * path[:, :3], 0.75 * amplitude * path[:, 3:]
    # When the lines were acquired: linear, reversed, centre-out, or interleaved as in parallel imaging.
    frequency = fft.fftfreq(n_lines) * n_lines
    order_kind = rng.choice(["linear", "centric", "interleaved"], p=[0.55, 0.2, 0.25])
    if order_kind == "linear":
        order = np.argsort(frequency * rng.choice([-1, 1]))
    elif order_kind == "centric":
        order = np.argsort(np.abs(frequency))
    else:
        rising = np.argsort(frequency)
        order = np.concatenate([rising[::2], rising[1::2]])
    time = np.empty(n_lines)
    time[order] = (np.arange(n_lines) + 0.5) / n_lines
    changes = np.sort(rng.uniform(0.05, 0.95, poses - 1)) if kind == "jerk" else np.arange(1, poses) / poses
    if severity > 0.3 and len(changes):
        # A bad scan is one in which the head moved while the centre of k-space was read.
        changes[int(np.argmin(np.abs(changes - time[0])))] = time[0] + rng.normal(0, 0.04)
        changes = np.sort(changes)
    line_pose = np.searchsorted(changes, time)
    if line_energy is None:
        line_energy = 1.0 / (1.0 + np.abs(frequency)) ** 2
    weight = np.bincount(line_pose, line_energy, minlength=poses)
    weight = weight / weight.sum()
    return Trajectory(rotations - weight @ rotations, translations - weight @ translations, line_pose)


def resample(volume: FloatArray, matrix: npt.NDArray[np.float64], shape: Sequence[int]) -> FloatArray:
    """`volume` on a grid of `shape` (K, J, I); `matrix` (4, 4) takes output (i, j, k) to input (i, j, k).

    Trilinear, air outside.  SimpleITK, because it is five times faster than the alternatives on one core.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume, dtype=np.float32))
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].reshape(-1).tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)
    resampler.SetSize([int(n) for n in reversed(shape)])
    resampler.SetTransform(transform)
    resampler.SetInterpolator(SimpleITK.sitkLinear)
    return np.asarray(SimpleITK.GetArrayFromImage(resampler.Execute(image)), dtype=np.float32)


def posed(
    volume: FloatArray, spacing: Sequence[float], rotation_deg: npt.ArrayLike, translation_mm: npt.ArrayLike
) -> FloatArray:
    """The volume seen with the head rotated and shifted about its centre; axes (k, j, i), trilinear."""
    # Output voxel -> input voxel: x_in = R^-1 (x_out - t), in mm about the centre; then (k,j,i) -> (i,j,k).
    flip = np.eye(3)[::-1]
    inverse = flip @ rotation(np.radians(np.asarray(rotation_deg, dtype=np.float64))).T @ flip
    translation = np.asarray(translation_mm, dtype=np.float64)[::-1]
    scale = np.asarray(spacing, dtype=np.float64)[::-1]
    centre = (np.array(volume.shape[::-1], dtype=np.float64) - 1) / 2
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1 / scale) @ inverse @ np.diag(scale)
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre - np.diag(1 / scale) @ inverse @ translation
    return resample(volume, matrix, volume.shape)


def move(volume: FloatArray, spacing: Sequence[float], axis: int, trajectory: Trajectory) -> FloatArray:
    """Rigid motion during a Cartesian 3D acquisition.

    Along the slow phase axis each line of k-space belongs to the pose in which it was acquired.  Lines mix
    along that axis alone, so one-dimensional transforms give exactly what the full 3D transform would.
    Magnitude of the sum, as the scanner stores it.
    """
    total = np.zeros(volume.shape, dtype=np.complex64)
    shape = [1, 1, 1]
    shape[axis] = -1
    for pose in np.unique(trajectory.line_pose):
        still = not np.any(trajectory.rotations_deg[pose]) and not np.any(trajectory.translations_mm[pose])
        seen = (
            volume
            if still
            else posed(volume, spacing, trajectory.rotations_deg[pose], trajectory.translations_mm[pose])
        )
        lines = fft.fft(seen, axis=axis)
        total += lines * (trajectory.line_pose == pose).reshape(shape)
    return np.asarray(np.abs(fft.ifft(total, axis=axis, overwrite_x=True)), dtype=np.float32)


def line_energy(volume: FloatArray, axis: int) -> npt.NDArray[np.float64]:
    """Energy of each line of k-space along `axis`, FFT order, without the mean."""
    lines = (
        np.abs(fft.fft(volume[:: max(1, volume.shape[0] // 24)] if axis != 0 else volume[:, ::8], axis=axis)) ** 2
    )
    return np.asarray(lines.sum(tuple(a for a in range(3) if a != axis)), dtype=np.float64)


def smooth_field(
    shape: Sequence[int], rng: np.random.Generator, nodes: int = 4, amplitude: float = 1.0
) -> FloatArray:
    """A smooth random field, zero mean, SD about `amplitude`: few nodes, interpolated."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, nodes, nodes, nodes)).astype(np.float32))
    field = functional.interpolate(coarse, tuple(shape), mode="trilinear", align_corners=True)[0, 0].numpy()
    return np.asarray(amplitude * (field - field.mean()) / max(float(field.std()), 1e-6), dtype=np.float32)


def add_noise(
    volume: FloatArray, sigma: float, rng: np.random.Generator, g_factor: FloatArray | None = None
) -> FloatArray:
    """Rician noise: complex Gaussian of SD `sigma` per channel, magnitude (Gudbjartsson & Patz 1995).

    In air the mean becomes ``sigma * sqrt(pi / 2)``; in tissue the SD stays `sigma`.  With `g_factor`
    (mean about 1) the SD varies over the image, as after parallel imaging.
    """
    scale = np.float32(sigma) if g_factor is None else np.float32(sigma) * g_factor
    real = volume + scale * rng.standard_normal(volume.shape, dtype=np.float32)
    imaginary = scale * rng.standard_normal(volume.shape, dtype=np.float32)
    return np.asarray(np.sqrt(real * real + imaginary * imaginary), dtype=np.float32)


def denoise(volume: FloatArray, strength: float) -> FloatArray:
    """A vendor-like smoothing filter: `strength` in voxels (Gaussian SD)."""
    return np.asarray(ndimage.gaussian_filter(volume, strength, truncate=2.5), dtype=np.float32)


def bias(volume: FloatArray, rng: np.random.Generator, amplitude: float) -> FloatArray:
    """Receive field: multiplied by exp of a smooth field of SD `amplitude`."""
    return np.asarray(volume * np.exp(smooth_field(volume.shape, rng, 3, amplitude)), dtype=np.float32)


def ghost(volume: FloatArray, axis: int, period: int, strength: float) -> FloatArray:
    """Periodic modulation of every `period`-th line: `period` copies of the head along `axis`."""
    lines = fft.fft(volume, axis=axis)
    gain = np.ones(volume.shape[axis], dtype=np.float32)
    gain[::period] = 1 - strength
    shape = [1, 1, 1]
    shape[axis] = -1
    return np.asarray(np.abs(fft.ifft(lines * gain.reshape(shape), axis=axis)), dtype=np.float32)


def wrap(volume: FloatArray, axis: int, voxels: int) -> FloatArray:
    """Aliasing: `voxels` at each end of `axis` lie outside the field of view and fold in on the other side."""
    n = volume.shape[axis]
    voxels = min(voxels, n // 2 - 1)
    if voxels <= 0:
        return volume.copy()
    parts = np.split(volume, [voxels, n - voxels], axis=axis)
    inner = parts[1].copy()
    view = np.moveaxis(inner, axis, 0)
    view[-voxels:] += np.moveaxis(parts[0], axis, 0)[-min(voxels, len(view)) :]
    view[:voxels] += np.moveaxis(parts[2], axis, 0)[: min(voxels, len(view))]
    return inner


def spike(volume: FloatArray, rng: np.random.Generator, strength: float) -> FloatArray:
    """One wild sample in k-space: a stripe pattern of amplitude ``strength * mean`` over the image."""
    frequency = rng.uniform(-0.25, 0.25, 3)
    z, y, x = (
        np.exp(2j * np.pi * f * np.arange(n)).astype(np.complex64)
        for f, n in zip(frequency, volume.shape, strict=True)
    )
    height = np.float32(strength * float(volume.mean()))
    return np.asarray(np.abs(volume + height * z[:, None, None] * y[None, :, None] * x), dtype=np.float32)


def truncate_k_space(volume: FloatArray, axis: int, keep: float) -> FloatArray:
    """Keep the central share of k-space along `axis`, zero the rest: Gibbs ringing at edges."""
    n = volume.shape[axis]
    frequency = np.abs(fft.fftfreq(n))
    shape = [1, 1, 1]
    shape[axis] = -1
    kept = fft.fft(volume, axis=axis) * (frequency <= keep / 2).reshape(shape)
    return np.asarray(np.abs(fft.ifft(kept, axis=axis)), dtype=np.float32)


def zero_filled(volume: FloatArray, axis: int, size: int) -> FloatArray:
    """Interpolate `axis` to `size` samples by zeros at the edge of k-space; the first sample stays where it is."""
    n = volume.shape[axis]
    lines = np.moveaxis(fft.rfft(volume, axis=axis), axis, 0)
    padded = np.zeros((size // 2 + 1, *lines.shape[1:]), lines.dtype)
    padded[: len(lines)] = lines
    if n % 2 == 0:
        padded[n // 2] *= 0.5  # the highest frequency of an even length stands for two
    out = fft.irfft(padded, size, axis=0) * (size / n)
    return np.ascontiguousarray(np.clip(np.moveaxis(out, 0, axis), 0, None), dtype=np.float32)


def thick_slices(volume: FloatArray, axis: int, factor: int) -> FloatArray:
    """Average `factor` neighbouring slices: the volume gets shorter along `axis`."""
    n = volume.shape[axis] // factor * factor
    moved = np.moveaxis(volume, axis, 0)[:n]
    averaged = moved.reshape(n // factor, factor, *moved.shape[1:]).mean(1)
    return np.ascontiguousarray(np.moveaxis(averaged, 0, axis), dtype=np.float32)
