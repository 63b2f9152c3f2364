"""A scanner that is not there: where a person lies, what noise and field add, and how the image is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri.simulation import artefacts
from qc_node.training.brain_mri.simulation.tissues import Anatomy

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Acquisition:
    """An image on an acquisition grid and how it lies to the average head and to its source."""

    image: FloatArray
    affine: Matrix
    matrix: Matrix
    """Average head -> this image."""
    to_source: Matrix
    """This image -> the person's own grid, mm."""


def acquire(anatomy: Anatomy, image: FloatArray, rng: np.random.Generator) -> Acquisition:
    """Scan a person on a new grid: orientation, resolution, field of view, pose, size of the head."""
    source_spacing = np.linalg.norm(anatomy.affine[:3, :3], axis=0)
    low = max(0.95, 0.85 * float(source_spacing.min()))
    # Half of the scans are coarse: a sharp protocol's people alone taught that blur is motion.
    finest, coarsest = ((low, 1.4), (max(low, 1.4), 2.1))[int(rng.random() < 0.5)]
    in_plane = rng.uniform(finest, max(coarsest, finest + 0.2))
    through = rng.uniform(max(low, 0.8 * in_plane), max(1.7, 1.2 * in_plane, low + 0.3))
    pose = np.eye(4)
    turn = np.array([rng.normal(-15, 7), rng.normal(0, 4), rng.normal(0, 4)])
    pose[:3, :3] = reg.rotation(np.radians(np.clip(turn, -38, 25)))
    pose[:3, 3] = rng.normal(0, 12, 3)
    size = np.eye(4)
    size[:3, :3] = np.diag(rng.uniform(0.93, 1.07, 3)) @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3)))
    # Average head -> acquisition.
    matrix = pose @ size
    box = np.array(
        [
            [-(80 + rng.uniform(0, 25)), 80 + rng.uniform(0, 25)],
            [-(92 + rng.uniform(0, 30)), 116 + rng.uniform(0, 25)],
            [-(84 + rng.uniform(0, 70)), 92 + rng.uniform(0, 30)],
        ]
    )
    corners = np.stack(np.meshgrid(*box, indexing="ij"), -1).reshape(-1, 3)
    corners = corners @ matrix[:3, :3].T + matrix[:3, 3]
    centre = corners.mean(0)
    # A little tighter than the box of the turned corners, but never into the brain.
    half = 0.9 * (corners.max(0) - corners.min(0)) / 2
    orientation = rng.choice(["sagittal", "axial", "coronal"], p=[0.6, 0.28, 0.12])
    # Columns of the affine: directions of (i, j, k) in LPS.
    directions = {
        "sagittal": np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], dtype=float),
        "axial": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float),
        "coronal": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=float),
    }[str(orientation)].T
    spacing = np.array([in_plane, in_plane, through])
    extent = np.abs(directions.T @ half)
    shape = np.maximum((2 * extent / spacing).astype(int), 16)
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    to_source = anatomy.matrix @ np.linalg.inv(matrix)
    index_to_index = np.linalg.inv(anatomy.affine) @ to_source @ affine
    size_kji = tuple(int(n) for n in shape[::-1])
    resampled = artefacts.resample(image, index_to_index, size_kji)
    if rng.random() < 0.4:
        # A slice is no box: its neighbours lend it some of their signal.
        resampled = ndimage.gaussian_filter1d(resampled, rng.uniform(0.3, 0.6), axis=0, truncate=3.0)
    return Acquisition(resampled, affine, matrix, to_source)


def cropped(scan: Acquisition, brain_points: torch.Tensor, rng: np.random.Generator) -> Acquisition:
    """A smaller field of view at one to three sides (face, neck, ears, back of the scalp) that loses no brain.

    `brain_points` ``(n, 3)`` are the average head's.  What lies outside folds in at the other side where the scan
    was phase-encoded along that axis, weakly, as it lies far from the middle of the coil.
    """
    m = np.linalg.inv(scan.affine) @ scan.matrix
    index = (brain_points.numpy() @ m[:3, :3].T + m[:3, 3])[:, ::-1]  # (k, j, i)
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1]
    image = scan.image
    start = np.zeros(3)
    for _ in range(int(rng.integers(1, 4))):
        axis, at_end = int(rng.integers(3)), bool(rng.random() < 0.5)
        n, margin = image.shape[axis], 8.0 / spacing[axis]
        room = (n - 1 - index[:, axis].max() if at_end else index[:, axis].min()) - margin
        cut = int(room * rng.uniform(0.2, 1.0))
        if cut < 2:
            continue
        view = np.moveaxis(image, axis, 0)
        kept, gone = (view[: n - cut], view[n - cut :]) if at_end else (view[cut:], view[:cut])
        kept = kept.copy()
        if rng.random() < 0.35:
            far = min(cut, round(25.0 / float(spacing[axis])), len(kept))
            weight = np.float32(rng.uniform(0.2, 0.8))
            if at_end:
                kept[:far] += weight * gone[:far]
            else:
                kept[-far:] += weight * gone[-far:]
        image = np.ascontiguousarray(np.moveaxis(kept, 0, axis))
        if not at_end:
            start[axis] += cut
            index[:, axis] -= cut
    affine = scan.affine.copy()
    affine[:3, 3] = affine[:3, :3] @ start[::-1] + affine[:3, 3]
    return Acquisition(image, affine, scan.matrix, scan.to_source)


@dataclass(frozen=True)
class Sender:
    """What was done to the grid before sending: nothing, slices doubled, or k-space filled with zeros."""

    how: str = ""

    def on(self, grid: reg.Grid) -> reg.Grid:
        """The image on the grid that was sent."""
        if self.how == "doubled":
            step = np.diag([1.0, 1.0, 0.5, 1.0])
            step[2, 3] = -0.25
            return reg.Grid(np.repeat(grid.values, 2, 0), grid.affine @ step)
        if self.how == "zero-filled":
            values, step = grid.values, np.eye(4)
            for axis in (1, 2):
                n = values.shape[axis]
                values = artefacts.zero_filled(values, axis, n + n // 2)
                step[2 - axis, 2 - axis] = n / values.shape[axis]
            return reg.Grid(values, grid.affine @ step)
        return grid


def draw_sender(voxels: int, rng: np.random.Generator) -> Sender:
    """Interpolation by the sender, on grids that stay small enough."""
    u = rng.random()
    return Sender("doubled" if u < 0.08 else "zero-filled" if u < 0.15 else "") if voxels < 3e6 else Sender()


def registration_error(rng: np.random.Generator) -> Matrix:
    """A small wrong pose, as registration leaves it; one of eight is three times as wrong."""
    wide = 3.0 if rng.random() < 0.125 else 1.0
    error = np.eye(4)
    turn = np.radians(wide * rng.normal(0, 1.5, 3))
    error[:3, :3] = reg.rotation(turn) @ np.diag(1 + wide * rng.normal(0, 0.015, 3))
    error[:3, 3] = wide * rng.normal(0, 1.8, 3)
    return error


def confound(image: FloatArray, axis: int, rng: np.random.Generator) -> FloatArray:
    """Artefacts outside the three questions, mild, on good and bad images alike."""
    choice = rng.random()
    if choice < 0.3:
        return artefacts.ghost(image, axis, int(rng.integers(2, 5)), rng.uniform(0.02, 0.08))
    if choice < 0.5:
        return artefacts.spike(image, rng, rng.uniform(0.01, 0.04))
    return artefacts.truncate_k_space(image, axis, rng.uniform(0.7, 0.95))


def store(slices: FloatArray, inside: npt.NDArray[np.bool_], rng: np.random.Generator) -> FloatArray:
    """What happens to an image on its way into an archive: masked air, eight bits."""
    if rng.random() < 0.2:
        threshold = 0.12 * float(np.quantile(slices[inside][::11], 0.9))
        small = functional.avg_pool2d(torch.from_numpy(slices)[None], 4)[0].numpy() > threshold
        head = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(s, iterations=3)) for s in small])
        slices = np.where(head.repeat(4, 1).repeat(4, 2), slices, 0.0).astype(np.float32)
    if rng.random() < 0.25:
        top = float(np.quantile(slices[inside][::11], rng.uniform(0.993, 0.9999)))
        slices = np.round(np.clip(slices / max(top, 1e-6), 0, 1) * 255.0).astype(np.float32)
    return slices


class Scanner:
    """Noise and receive field at the slice points.

    Drawing noise for a whole volume to look at fifteen slices of it is waste.  The noise of the voxels
    around each point comes from a bank of white complex noise, read with the same trilinear weights as the
    image is (so fine voxels average it away and coarse ones keep it), at a random place and orientation.
    """

    def __init__(self, points: torch.Tensor, seed: int = 7, side: int = 176) -> None:
        self.points = points.reshape(-1, 3)
        self.shape = tuple(points.shape[:3])
        bank = np.random.default_rng(seed).standard_normal((2, side, side, side), dtype=np.float32)
        self.bank = torch.from_numpy(bank)[None]
        self.side = side

    def spoil(
        self,
        slices: FloatArray,
        inside: npt.NDArray[np.bool_],
        level: float,
        sigma: float,
        affine: Matrix,
        matrix: Matrix,
        rng: np.random.Generator,
        receive: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """``(image with noise and bias, the same before the noise)``; `receive` is the coil's sensitivity.

        `sigma` is the SD of the interpolated noise over `level`; the voxels' own is about twice that.
        """
        before = slices if receive is None else slices * receive
        if rng.random() < 0.55:
            before = before * np.exp(self._field(rng, rng.uniform(0.03, 0.2)))
        index = np.linalg.inv(affine) @ matrix
        turn = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
        m = torch.from_numpy(turn @ index[:3, :3]).float()
        offset = torch.from_numpy(rng.uniform(0, self.side, 3)).float()
        unit = (2 * (self.points @ m.T + offset) + 1) / self.side - 1
        noise = functional.grid_sample(
            self.bank, unit[None, None, None], "bilinear", "reflection", align_corners=False
        )[0, :, 0, 0].numpy()
        scale: Any = np.float32(sigma * level / 0.55)
        if rng.random() < 0.4:
            scale = scale * np.exp(self._field(rng, 0.25))
        real = before + scale * noise[0].reshape(self.shape)
        spoilt = np.sqrt(real**2 + (scale * noise[1].reshape(self.shape)) ** 2)
        if rng.random() < 0.12:
            width = (0.0, *([rng.uniform(0.3, 0.7)] * 2))
            spoilt, before = ndimage.gaussian_filter(spoilt, width), ndimage.gaussian_filter(before, width)
        return np.where(inside, spoilt, 0).astype(np.float32), np.where(inside, before, 0).astype(np.float32)

    def _field(self, rng: np.random.Generator, amplitude: float) -> FloatArray:
        """A smooth field over the head, SD about `amplitude`, at the slice points."""
        nodes = torch.from_numpy(rng.standard_normal((1, 1, 3, 3, 3)).astype(np.float32))
        unit = self.points / 120.0
        values = functional.grid_sample(nodes, unit[None, None, None], "bilinear", "border", align_corners=True)
        field = values[0, 0, 0, 0].numpy().reshape(self.shape)
        return np.asarray(amplitude * (field - field.mean()) / max(float(field.std()), 1e-6), dtype=np.float32)
