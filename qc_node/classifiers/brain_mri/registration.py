"""Affine registration of a head to the average head, fast enough for two cores.

Gauss-Newton on intensity differences with a free gain and offset (so the vendor's units do not matter),
Huber weights (so enhancing vessels, lesions and missing parts do not pull), several starts at 8 mm,
refinement at 4 mm.  The measured alternatives (mutual information from one start, SimpleITK) took 2.5-25 s
and failed on necks; see docs/training-brain-mri.md.

Points are LPS millimetres throughout.  A transform is a ``(4, 4)`` matrix from the frame of the average
head to the frame of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Voxels ``(K, J, I)`` with the affine from ``(i, j, k, 1)`` to LPS mm."""

    values: FloatArray
    affine: Matrix


@dataclass(frozen=True)
class Target:
    """What to register to: points (n, 3) in mm, their values and weights, for one resolution."""

    points: Tensor
    values: Tensor
    weights: Tensor
    centre: Tensor


@dataclass(frozen=True, slots=True)
class Alignment:
    """Result of a registration.

    Attributes
    ----------
    matrix
        ``(4, 4)`` from the average head's frame to the image, mm.
    ncc
        Weighted correlation of image and average head inside the head, in [-1, 1].
    inside
        Share of the target's points that lie inside the image.
    rotation_deg
        Angle of the rotation part.
    scales
        Singular values of the linear part, ascending.
    """

    matrix: Matrix
    ncc: float
    inside: float
    rotation_deg: float
    scales: tuple[float, float, float]


def shrink(grid: Grid, target_mm: float) -> Grid:
    """Average neighbouring voxels until the spacing is about `target_mm` (never interpolates)."""
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    factors = [
        max(1, min(round(target_mm / max(s, 1e-6)), n))
        for s, n in zip(spacing, grid.values.shape[::-1], strict=True)
    ]
    fi, fj, fk = factors
    x = torch.from_numpy(np.ascontiguousarray(grid.values, dtype=np.float32))[None, None]
    pooled = functional.avg_pool3d(x, (fk, fj, fi))[0, 0].numpy()
    step = np.diag([fi, fj, fk, 1.0])
    step[:3, 3] = [(f - 1) / 2 for f in factors]
    return Grid(pooled, grid.affine @ step)


def sample(channels: Tensor, affine: Matrix, points: Tensor) -> tuple[Tensor, Tensor]:
    """Trilinear values of ``(C, K, J, I)`` at points ``(n, 3)`` in mm, and which points are inside.

    Outside the volume values are those of the nearest edge voxel; ask the second result.
    """
    inverse = torch.from_numpy(np.linalg.inv(affine)).float()
    size = torch.tensor(channels.shape[:0:-1], dtype=torch.float32)  # (I, J, K)
    index = points @ inverse[:3, :3].T + inverse[:3, 3]
    inside = ((index > -0.5) & (index < size - 0.5)).all(1)
    normalised = (2 * index + 1) / size - 1
    values = functional.grid_sample(
        channels[None], normalised[None, None, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return values[0, :, 0, 0], inside


def gradient_channels(grid: Grid) -> Tensor:
    """Value and its three derivatives along LPS mm: ``(4, K, J, I)``."""
    v = torch.from_numpy(np.ascontiguousarray(grid.values, dtype=np.float32))
    padded = functional.pad(v[None, None], (1, 1, 1, 1, 1, 1), mode="replicate")[0, 0]
    dk = (padded[2:, 1:-1, 1:-1] - padded[:-2, 1:-1, 1:-1]) / 2
    dj = (padded[1:-1, 2:, 1:-1] - padded[1:-1, :-2, 1:-1]) / 2
    di = (padded[1:-1, 1:-1, 2:] - padded[1:-1, 1:-1, :-2]) / 2
    to_mm = torch.from_numpy(np.linalg.inv(grid.affine[:3, :3])).float()  # d(ijk)/d(mm)
    stacked = torch.stack([di, dj, dk])
    return torch.cat([v[None], torch.einsum("am,akji->mkji", to_mm, stacked)])


def target_of(values: FloatArray, weights: FloatArray, affine: Matrix, centre: npt.ArrayLike) -> Target:
    """Points of a target grid where `weights` is positive."""
    k, j, i = np.nonzero(weights > 0)
    points = np.stack([i, j, k], 1) @ affine[:3, :3].T + affine[:3, 3]
    return Target(
        torch.from_numpy(points.astype(np.float32)),
        torch.from_numpy(values[k, j, i].astype(np.float32)),
        torch.from_numpy(weights[k, j, i].astype(np.float32)),
        torch.as_tensor(np.asarray(centre, dtype=np.float32)),
    )


def _weighted_ncc(a: Tensor, b: Tensor, w: Tensor) -> float:
    total = w.sum().clamp_min(1e-6)
    a = a - (w * a).sum() / total
    b = b - (w * b).sum() / total
    norm = ((w * a * a).sum() * (w * b * b).sum()).sqrt()
    return float((w * a * b).sum() / norm.clamp_min(1e-12))


def evaluate(channels: Tensor, affine: Matrix, target: Target, matrix: Matrix) -> tuple[float, float]:
    """``(ncc, share of the weight that lies inside the image)`` of a transform."""
    m = torch.from_numpy(matrix).float()
    values, inside = sample(channels[:1], affine, target.points @ m[:3, :3].T + m[:3, 3])
    w = target.weights * inside
    return _weighted_ncc(values[0], target.values, w), float(w.sum() / target.weights.sum())


def refine(
    channels: Tensor,
    affine: Matrix,
    target: Target,
    matrix: Matrix,
    iterations: int,
    rigid: bool,
    stiffness: float = 0.02,
) -> Matrix:
    """Gauss-Newton steps from `matrix`.

    Parameters
    ----------
    channels, affine
        Moving image from :func:`gradient_channels`.
    rigid
        Six parameters instead of twelve.
    stiffness
        Weight that pulls the linear part of an affine step towards a rotation; keeps flat or empty images
        from collapsing.
    """
    points, weights, centre = target.points, target.weights, target.centre
    x = points - centre
    ones = torch.ones(len(x))
    n_params = 6 if rigid else 12
    current = matrix.copy()
    for _ in range(iterations):
        m = torch.from_numpy(current).float()
        sampled, inside = sample(channels, affine, points @ m[:3, :3].T + m[:3, 3])
        value, gradient = sampled[0], sampled[1:].T  # (n,), (n, 3)
        w = weights * inside
        total = w.sum()
        if total < 0.1 * weights.sum():
            return current
        # Gain and offset of the target that explain the image best, then Huber weights on what is left.
        mean_v, mean_t = (w * value).sum() / total, (w * target.values).sum() / total
        dv, dt = value - mean_v, target.values - mean_t
        gain = (w * dv * dt).sum() / (w * dt * dt).sum().clamp_min(1e-12)
        residual = dv - gain * dt
        scale = 1.5 * (w * residual.abs()).sum() / total + 1e-9
        w = w * (scale / residual.abs().clamp_min(1e-9)).clamp_max(1.0)
        if rigid:
            lx = x @ m[:3, :3].T
            jacobian = torch.cat([torch.linalg.cross(lx, gradient), gradient], 1)
        else:
            jacobian = torch.cat([(gradient[:, :, None] * x[:, None, :]).reshape(-1, 9), gradient], 1)
        columns = torch.cat([jacobian, -target.values[:, None], -ones[:, None]], 1).double()
        weighted = columns * w[:, None].double()
        normal = weighted.T @ columns
        right = -(weighted.T @ residual.double())
        diagonal = normal.diagonal().clone()
        damping = 1e-4 * diagonal
        normal = normal + torch.diag(damping + 1e-12 * diagonal.max() + 1e-12)
        if not rigid:
            linear = current[:3, :3]
            u, _, vt = np.linalg.svd(linear)
            pull = torch.from_numpy((linear - u @ vt).reshape(-1))
            strength = stiffness * diagonal[:9].mean()
            normal[:9, :9] += torch.eye(9, dtype=torch.float64) * strength
            right[:9] -= strength * pull
        try:
            step = torch.linalg.solve(normal, right)[:n_params].numpy()
        except RuntimeError:  # torch's LinAlgError: singular
            return current
        if not np.isfinite(step).all():
            return current
        current = _apply_step(current, step, centre.numpy().astype(np.float64), rigid)
        if np.abs(step[-3:]).max() < 0.02 and np.abs(step[:-3]).max() < 2e-4:
            break
    return current


def _apply_step(
    matrix: Matrix, step: npt.NDArray[np.float64], centre: npt.NDArray[np.float64], rigid: bool
) -> Matrix:
    """The transform after a step; parameters act about the target's centre."""
    linear = matrix[:3, :3]
    moved_centre = linear @ centre + matrix[:3, 3]
    if rigid:
        angle = float(np.linalg.norm(step[:3]))
        if angle > 0.2:
            step = np.concatenate([step[:3] * 0.2 / angle, step[3:]])
        new_linear = rotation(step[:3]) @ linear
    else:
        new_linear = linear + np.clip(step[:9].reshape(3, 3), -0.1, 0.1)
    shift = step[-3:]
    length = float(np.linalg.norm(shift))
    if length > 15.0:
        shift = shift * 15.0 / length
    out = np.eye(4)
    out[:3, :3] = new_linear
    out[:3, 3] = moved_centre + shift - new_linear @ centre
    return out


def rotation(vector: npt.ArrayLike) -> Matrix:
    """Rotation matrix of a rotation vector in radians (Rodrigues)."""
    v = np.asarray(vector, dtype=np.float64)
    angle = float(np.linalg.norm(v))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = v / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k))


def describe(matrix: Matrix, ncc: float, inside: float) -> Alignment:
    """An :class:`Alignment` with the geometry of `matrix` spelt out."""
    u, s, vt = np.linalg.svd(matrix[:3, :3])
    r = u @ vt
    angle = 180.0 if np.linalg.det(r) < 0 else float(np.degrees(np.arccos(np.clip((np.trace(r) - 1) / 2, -1, 1))))
    return Alignment(matrix, ncc, inside, angle, (float(s[2]), float(s[1]), float(s[0])))
