"""From a volume to what the networks look at.

Two recipes:

``fast`` (the default)
    average down to 4 mm, register to the average head (:mod:`qc_node.classifiers.brain_mri.registration`), then
    sample the central slices of three planes at 1 mm straight from the source voxels, once, trilinear.
    No bias correction: a bias field is a finding, and N4 is the slowest step.  Intensities are divided by
    the white-matter level, not by the maximum, so that one hot voxel rescales nothing.
``linear``
    the paper's (Clinica t1-linear as described in Bottani et al. 2022, section 2.2): N4, affine, 169x208x179
    at 1 mm, min-max.  In :mod:`qc_node.classifiers.brain_mri.linear`, for comparison and for the paper's networks.

Points are LPS millimetres in the frame of the average head, which coincides with MNI space.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from qc_node import domain
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri import values

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

AVERAGE_HEAD = "average_head.npz"
IMAGE_UNIT = 120.0
"""Stored grey value of the average head that means "white matter"."""

CANVAS = 208
"""Side of a slice in mm and pixels."""
ORIGIN_RAS = (-104.0, -119.0, -104.0)
"""Lowest corner of the canvas."""
SLICES_RAS: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("axial", (-22.0, 6.0, 34.0)),
    ("coronal", (-52.0, -20.0, 14.0)),
    ("sagittal", (-24.0, -2.0, 20.0)),
)
"""Planes and slice positions in mm (RAS, as anatomists write them)."""
CENTRE = (0.0, 18.0, 8.0)
"""Middle of the average brain in LPS mm: what transforms turn about."""
CENTRAL = {"axial": 1, "coronal": 1, "sagittal": 1}
"""Index of the mid-plane slice within its plane, for the thumbnails."""

RECIPE: dict[str, Any] = {
    "name": "fast",
    "shrink_mm": [8.0, 4.0],
    "canvas": CANVAS,
    "origin_ras": ORIGIN_RAS,
    "slices_ras": {name: list(p) for name, p in SLICES_RAS},
    "interpolation": "trilinear from source voxels; axes finer than 0.65 mm averaged in pairs first",
    "signed values": "magnitudes, where the background lies at zero",
    "scale": "75th percentile inside the brain of the average head = 1; clipped to [-0.5, 4]",
    "version": 2,
}


def recipe_hash() -> str:
    """Identifies the preprocessing in the model card: SHA-256 of the recipe."""
    return hashlib.sha256(json.dumps(RECIPE, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class AverageHead:
    """The average head and where its tissues are.

    ``channels`` is ``(7, K, J, I)``: mean image (white matter = 1), then the share of people with brain,
    white matter, grey matter, ventricle, vessel and head at each voxel.
    """

    channels: FloatArray
    affine: Matrix
    targets: tuple[reg.Target, reg.Target]
    brain_points: Tensor
    """Points (n, 3) well inside the brain and outside the ventricles, 4 mm apart."""
    shell_points: Tensor
    """Points (n, 3) in what is head but not brain (skull and scalp above the ears), 4 mm apart."""
    brain_rim_points: Tensor
    """Points (n, 3) anywhere in the brain, 4 mm apart: what the image has to cover."""
    ventricle_points: Tensor
    """Points (n, 3) in the lateral ventricles, 2 mm apart."""


def load_average_head(directory: Path) -> AverageHead:
    """The average head of a model folder.

    Raises
    ------
    domain.QcNodeError
        Missing or damaged file.
    """
    path = directory / AVERAGE_HEAD
    try:
        with np.load(path, allow_pickle=False) as stored:
            raw, affine = stored["channels"].astype(np.float32), stored["affine"].astype(np.float64)
    except FileNotFoundError:
        raise domain.QcNodeError(f"The model file {path} is missing.") from None
    except Exception as error:
        raise domain.QcNodeError(f"The model file {path} is damaged: {error}.") from None
    channels = raw / 255.0
    channels[0] = raw[0] / IMAGE_UNIT
    return average_head(channels, affine)


def average_head(channels: FloatArray, affine: Matrix) -> AverageHead:
    """An :class:`AverageHead` from its channels ``(7, K, J, I)``."""
    coarse = np.zeros(channels.shape[1:], dtype=bool)
    coarse[::2, ::2, ::2] = True
    brain, ventricle, head = channels[1], channels[4], channels[6]
    z = (np.arange(channels.shape[1]) * affine[2, 2] + affine[2, 3])[:, None, None]
    return AverageHead(
        channels,
        affine,
        targets_of(channels, affine),
        _points((brain > 0.97) & (ventricle < 0.1) & coarse, affine),
        _points((head > 0.9) & (brain < 0.02) & (z > 0) & coarse, affine),
        _points((brain > 0.6) & coarse, affine),
        _points(ventricle > 0.75, affine),
    )


def _points(mask: npt.NDArray[np.bool_], affine: Matrix) -> Tensor:
    k, j, i = np.nonzero(mask)
    return torch.from_numpy((np.stack([i, j, k], 1) @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32))


def targets_of(channels: FloatArray, affine: Matrix) -> tuple[reg.Target, reg.Target]:
    """Registration targets at 8 and 4 mm.

    The brain weighs most; the face and the neck, which vary and are often cut off, hardly count.
    """
    brain, head = torch.from_numpy(channels[1]), torch.from_numpy(channels[6])
    z = torch.from_numpy((np.arange(channels.shape[1]) * affine[2, 2] + affine[2, 3]).astype(np.float32))
    near = functional.max_pool3d(head[None, None], 9, 1, 4)[0, 0]
    height = torch.sigmoid((z + 50.0) / 12.0)[:, None, None]
    weight = (0.15 * near + 0.25 * head) * height + 0.02 * head
    weight = torch.maximum(weight, functional.max_pool3d(brain[None, None], 3, 1, 1)[0, 0])
    weight = torch.where(weight > 0.03, weight, torch.zeros(()))
    return pooled_targets(torch.from_numpy(channels[0]), weight, affine)


def pooled_targets(values: Tensor, weight: Tensor, affine: Matrix) -> tuple[reg.Target, reg.Target]:
    """Registration targets at 8 and 4 mm of values ``(K, J, I)`` at 2 mm and what each counts."""
    targets = []
    for factor in (4, 2):
        pooled = functional.avg_pool3d(torch.stack([values, weight])[None], factor)[0].numpy()
        step = np.diag([factor, factor, factor, 1.0])
        step[:3, 3] = (factor - 1) / 2
        targets.append(reg.target_of(pooled[0], pooled[1], affine @ step, CENTRE))
    return targets[0], targets[1]


def _head_box(small: reg.Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Top-of-head point and centre of the field of view in mm, or None for an empty image."""
    v = small.values
    low, high = np.percentile(v, [2, 99])
    if not high > low:
        return None
    mask = v > low + 0.18 * (high - low)
    k, j, i = np.nonzero(mask)
    if k.size < 20:
        return None
    points = np.stack([i, j, k], 1) @ small.affine[:3, :3].T + small.affine[:3, 3]
    z = np.sort(points[:, 2])
    cell = abs(float(np.linalg.det(small.affine[:3, :3])))
    # The vertex: the height above which 15 ml of head remain (a bright speck does not count).
    top = z[-max(1, min(z.size, round(15_000 / max(cell, 1e-6))))]
    upper = points[(points[:, 2] <= top) & (points[:, 2] > top - 120.0)]
    centre = upper.mean(0) if len(upper) else points.mean(0)
    size = np.array(v.shape[::-1], dtype=np.float64)
    middle = small.affine[:3, :3] @ ((size - 1) / 2) + small.affine[:3, 3]
    return np.array([centre[0], centre[1], top]), middle


def starts_of(small: reg.Grid, upside_down: bool = False) -> list[Matrix]:
    """Rigid starting poses: vertex aligned, shifted, nodded, and centred on the field of view."""
    box = _head_box(small)
    if box is None:
        return [np.eye(4)]
    top, middle = box
    anchor_average = np.array([0.0, 20.0, 72.0])  # 15 ml below the vertex of the average head
    out = []

    def add(
        anchor: npt.NDArray[np.float64], goal: npt.NDArray[np.float64], turn: tuple[float, float, float]
    ) -> None:
        m = np.eye(4)
        m[:3, :3] = reg.rotation(np.radians(turn))
        m[:3, 3] = goal - m[:3, :3] @ anchor
        out.append(m)

    turns = [
        (180.0, 0.0, 0.0),
        (0.0, 180.0, 0.0),
        (0.0, 0.0, 180.0),
        (90.0, 0.0, 0.0),
        (-90.0, 0.0, 0.0),
        (0.0, 90.0, 0.0),
        (0.0, -90.0, 0.0),
        (0.0, 0.0, 90.0),
        (0.0, 0.0, -90.0),
    ]
    if upside_down:
        for turn in turns:
            add(np.array([0.0, 18.0, 8.0]), middle, turn)
        return out
    for dz in (0.0, -22.0, 18.0):
        add(anchor_average, top + np.array([0.0, 0.0, dz]), (0.0, 0.0, 0.0))
    for pitch in (-18.0, 18.0):
        add(anchor_average, top, (pitch, 0.0, 0.0))
    add(np.array([0.0, 18.0, 8.0]), middle, (0.0, 0.0, 0.0))
    add(np.array([0.0, 18.0, -22.0]), middle, (0.0, 0.0, 0.0))
    return out


def align(
    grid: reg.Grid, targets: tuple[reg.Target, reg.Target], upside_down: bool = False, fine_from: float = -1.0
) -> reg.Alignment:
    """Register an image to the average head.

    Seven starts run a few rigid steps at 8 mm; the two best go on affine at 8 mm, the best at 4 mm.  With
    `upside_down` the starts are turned by 90 and 180 degrees instead: for naming what is wrong with an
    image that did not fit.  Where the fit at 8 mm is below `fine_from` the step at 4 mm is left out.
    """
    coarse_target, fine_target = targets
    fine = reg.shrink(grid, 4.0)
    fine = reg.Grid(values.squash(fine.values), fine.affine)
    coarse = reg.shrink(fine, 8.0)
    channels = reg.gradient_channels(coarse)
    trials = []
    for start in starts_of(coarse, upside_down):
        matrix = reg.refine(channels, coarse.affine, coarse_target, start, 8, rigid=True)
        ncc, inside = reg.evaluate(channels, coarse.affine, coarse_target, matrix)
        trials.append((ncc * min(1.0, inside / 0.8), matrix))
    trials.sort(key=lambda t: -t[0])
    finals = []
    for _, matrix in trials[:2]:
        matrix = reg.refine(channels, coarse.affine, coarse_target, matrix, 10, rigid=True)
        matrix = reg.refine(channels, coarse.affine, coarse_target, matrix, 10, rigid=False)
        ncc, inside = reg.evaluate(channels, coarse.affine, coarse_target, matrix)
        finals.append((ncc * min(1.0, inside / 0.8), matrix))
    score, matrix = max(finals, key=lambda t: t[0])
    fine_channels = reg.gradient_channels(fine)
    if score >= fine_from:
        matrix = reg.refine(fine_channels, fine.affine, fine_target, matrix, 8, rigid=False)
    ncc, inside = reg.evaluate(fine_channels, fine.affine, fine_target, matrix)
    return reg.describe(matrix, ncc, inside)


def slice_points(jitter: Matrix | None = None) -> Tensor:
    """Sampling points of all slices in the average head's frame, ``(S, CANVAS, CANVAS, 3)`` LPS mm.

    Rows run down (superior to inferior, anterior to posterior), columns to the right of the picture
    (patient's right to left; anterior to posterior on sagittal slices).
    """
    steps = np.arange(CANVAS, dtype=np.float64)
    x, y, z = (o + steps for o in ORIGIN_RAS)
    out = []
    for name, positions in SLICES_RAS:
        for p in positions:
            if name == "axial":
                yy, xx = np.meshgrid(y[::-1], x, indexing="ij")
                ras = np.stack([xx, yy, np.full_like(xx, p)], -1)
            elif name == "coronal":
                zz, xx = np.meshgrid(z[::-1], x, indexing="ij")
                ras = np.stack([xx, np.full_like(xx, p), zz], -1)
            else:
                zz, yy = np.meshgrid(z[::-1], y[::-1], indexing="ij")
                ras = np.stack([np.full_like(yy, p), yy, zz], -1)
            out.append(ras * [-1.0, -1.0, 1.0])
    points = np.stack(out)
    if jitter is not None:
        points = points @ jitter[:3, :3].T + jitter[:3, 3]
    return torch.from_numpy(points.astype(np.float32))


def slice_planes() -> Tensor:
    """Plane number of each slice: 0 axial, 1 coronal, 2 sagittal; ``(S,)``."""
    return torch.tensor([n for n, (_, positions) in enumerate(SLICES_RAS) for _ in positions])


def halve_fine_axes(grid: reg.Grid, limit_mm: float = 0.65) -> reg.Grid:
    """Average pairs along axes finer than `limit_mm`, so that sampling at 1 mm skips nothing."""
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    factors = [max(1, min(int(1.3 / max(s, 1e-3)), 8)) if s < limit_mm else 1 for s in spacing]
    factors = [min(f, n) for f, n in zip(factors, grid.values.shape[::-1], strict=True)]
    if max(factors) == 1:
        return grid
    fi, fj, fk = factors
    x = torch.from_numpy(np.ascontiguousarray(grid.values))[None, None]
    step = np.diag([fi, fj, fk, 1.0])
    step[:3, 3] = [(f - 1) / 2 for f in factors]
    return reg.Grid(functional.avg_pool3d(x, (fk, fj, fi))[0, 0].numpy(), grid.affine @ step)


def sample_slices(
    grid: reg.Grid, matrix: Matrix, jitter: Matrix | None = None
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Slices ``(S, CANVAS, CANVAS)`` in source units (0 outside the image) and where the image is."""
    points = slice_points(jitter)
    m = torch.from_numpy(matrix).float()
    flat = points.reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]
    values, inside = reg.sample(torch.from_numpy(np.ascontiguousarray(grid.values))[None], grid.affine, flat)
    shape = points.shape[:3]
    return (values[0] * inside).reshape(shape).numpy(), inside.reshape(shape).numpy()


def white_level(grid: reg.Grid, matrix: Matrix, head: AverageHead) -> float:
    """75th percentile inside the brain: the grey value that becomes 1."""
    m = torch.from_numpy(matrix).float()
    values, inside = reg.sample(
        torch.from_numpy(np.ascontiguousarray(grid.values))[None],
        grid.affine,
        head.brain_points @ m[:3, :3].T + m[:3, 3],
    )
    inner = values[0][inside]
    return float(torch.quantile(inner, 0.75)) if inner.numel() > 100 else float("nan")


def normalise(
    slices: FloatArray, inside: npt.NDArray[np.bool_], level: float, floor: float
) -> npt.NDArray[np.float16]:
    """``(value - floor) / (level - floor)`` clipped to [-0.5, 4]; outside the image 0."""
    scale = level - floor
    if not np.isfinite(scale) or scale <= 0:
        scale = max(float(np.abs(slices).max()), 1e-6)
    out = np.clip((slices - floor) / scale, -0.5, 4.0)
    return np.where(inside, out, 0.0).astype(np.float16)


def thumbnails(slices: npt.NDArray[np.float16]) -> dict[str, npt.NDArray[np.uint8]]:
    """The three mid-plane slices as uint8, 208 x 208, for people to look at."""
    out, start = {}, 0
    for name, positions in SLICES_RAS:
        picture = slices[start + CENTRAL[name]].astype(np.float32)
        out[name] = np.clip(picture * (255.0 / 1.4), 0, 255).astype(np.uint8)
        start += len(positions)
    return out


def network_slices(grid: reg.Grid, matrix: Matrix, head: AverageHead) -> npt.NDArray[np.float16]:
    """Normalised slices of an image with a known transform: the one path that training and service share."""
    grid = halve_fine_axes(grid)
    slices, inside = sample_slices(grid, matrix)
    level = white_level(grid, matrix, head)
    floor = min(0.0, float(np.quantile(grid.values[::4, ::4, ::4], 0.001)))
    return normalise(slices, inside, level, floor)
