"""The pack: simulated acquisitions, cached as what the network sees, with what was measured on them.

One *base* is a person, a look and a motion; each base gives a few *variants* that differ in noise, bias
field, confounders and registration error.  Everything follows from a seed.

A pack is a folder of shards ``shard-0000.npz`` (slices float16 ``(n, S, H, W)``, the local motion error
``(n, S, H / 8, W / 8)``, whole volumes at 2 mm of some images for the paper's networks) with ``rows`` as
JSON.  It is derived from people's images: it is kept outside the repository.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from qc_node.brain_mri import linear, preprocess
from qc_node.brain_mri import registration as reg
from qc_node.learning import brain_mri_anatomy as anatomy_module
from qc_node.learning import brain_mri_artefacts as artefacts
from qc_node.learning import brain_mri_compose as compose_module
from qc_node.learning import brain_mri_damage as damage_module
from qc_node.learning import brain_mri_rejects as rejects
from qc_node.learning import brain_mri_synthesis as synthesis

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Slices = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Row:
    """What is known about one simulated image; None where not defined (straight rejects)."""

    person: str
    kind: str
    seed: int
    reject: str
    """"ok" or the reason of a straight reject, as in :class:`qc_node.domain.Reason`."""
    gadolinium: int | None
    motion: float | None
    contrast: float | None
    noise: float | None
    native: bool
    """Sampled on the person's own grid (not re-acquired)."""


BLOCK = 8
"""Side in mm of the squares in which the local motion error is kept."""

VOLUME_SHAPE = (85, 104, 90)
"""The paper's grid at 2 mm, ``(x, y, z)``: what its networks see where 1 mm costs too much."""


@dataclass(frozen=True)
class Picture:
    """One simulated image as it is kept.

    Attributes
    ----------
    slices
        ``(S, H, W)`` float16, normalised as the reader does it.
    error
        ``(S, H / 8, W / 8)`` float16: RMS difference to the still twin in squares of 8 mm, in the units of
        `slices`; nan where there is no twin (straight rejects).
    volume
        ``(85, 104, 90)`` uint8, white matter at 128, or None: kept for some images only.
    """

    row: Row
    slices: Slices
    error: Slices
    volume: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Acquisition:
    """An image on an acquisition grid and how it lies to the average head and to its source."""

    image: FloatArray
    affine: Matrix
    matrix: Matrix
    """Average head -> this image."""
    to_source: Matrix
    """This image -> the person's own grid, mm."""


def acquire(anatomy: anatomy_module.Anatomy, image: FloatArray, rng: np.random.Generator) -> Acquisition:
    """Scan a person on a new grid: orientation, resolution, field of view, pose, size of the head."""
    source_spacing = np.linalg.norm(anatomy.affine[:3, :3], axis=0)
    low = max(0.95, 0.85 * float(source_spacing.min()))
    in_plane = rng.uniform(low, max(1.4, low + 0.2))
    through = rng.uniform(low, max(1.7, low + 0.3))
    pose = np.eye(4)
    turn = np.array([rng.normal(-15, 7), rng.normal(0, 4), rng.normal(0, 4)])
    pose[:3, :3] = reg.rotation(np.radians(np.clip(turn, -38, 25)))
    pose[:3, 3] = rng.normal(0, 12, 3)
    size = np.eye(4)
    size[:3, :3] = np.diag(rng.uniform(0.93, 1.07, 3)) @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3)))
    # Average head -> acquisition.
    matrix = pose @ size
    box = np.array(
        [[-(80 + rng.uniform(0, 25)), 80 + rng.uniform(0, 25)],
         [-(92 + rng.uniform(0, 30)), 116 + rng.uniform(0, 25)],
         [-(84 + rng.uniform(0, 70)), 92 + rng.uniform(0, 30)]]
    )  # fmt: skip
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
    return Acquisition(resampled, affine, matrix, to_source)


def _brain_mask(head: preprocess.AverageHead, points: torch.Tensor) -> npt.NDArray[np.bool_]:
    """Which slice points lie well inside the average brain."""
    channels = torch.from_numpy(np.ascontiguousarray(head.channels[[1, 4]]))
    values, _ = reg.sample(channels, head.affine, points.reshape(-1, 3))
    return np.asarray(((values[0] > 0.97) & (values[1] < 0.1)).reshape(points.shape[:3]).numpy())


def lighter(anatomy: anatomy_module.Anatomy, limit: int = 6_200_000) -> anatomy_module.Anatomy:
    """The same person on a coarser grid where the own one has more voxels than `limit`."""
    shape = np.array(anatomy.labels.shape)
    if shape.prod() <= limit:
        return anatomy
    factor = float((shape.prod() / (0.8 * limit)) ** (1 / 3))
    size = tuple(int(n) for n in shape / factor)
    step = np.diag([*(np.array(shape, dtype=float) / size)[::-1], 1.0])
    step[:3, 3] = (np.diag(step)[:3] - 1) / 2
    nearest = np.ix_(*(np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1)
                       for m, n in zip(size, shape, strict=True)))  # fmt: skip
    image = anatomy.image
    return anatomy_module.Anatomy(
        anatomy.person,
        anatomy.kind,
        None if image is None else artefacts.resample(image, step, size),
        np.ascontiguousarray(anatomy.labels[nearest]),
        artefacts.resample(anatomy.white.astype(np.float32), step, size).astype(np.float16),
        artefacts.resample(anatomy.grey.astype(np.float32), step, size).astype(np.float16),
        anatomy.affine @ step,
        anatomy.matrix,
    )


def registration_error(rng: np.random.Generator) -> Matrix:
    """A small wrong pose, as registration leaves it."""
    error = np.eye(4)
    error[:3, :3] = reg.rotation(np.radians(rng.normal(0, 1.5, 3))) @ np.diag(1 + rng.normal(0, 0.015, 3))
    error[:3, 3] = rng.normal(0, 1.8, 3)
    return error


class Simulator:
    """Draws images of a list of people.

    Parameters
    ----------
    people
        Anatomies (cached files are loaded once and kept).
    """

    def __init__(
        self, paths: list[Path], priors: synthesis.Priors, head: preprocess.AverageHead, voxels: int = 6_200_000
    ) -> None:
        self.people = [lighter(anatomy_module.load(p), voxels) for p in paths]
        self.reject_share = 0.57
        # Half of the images from real heads, a tenth from real brains in painted heads, the rest painted.
        share = {"head": 0.5, "hybrid": 0.12, "map": 0.38}
        kinds = [a.kind for a in self.people]
        weights = np.array([share[k] / kinds.count(k) for k in kinds])
        self.weights = weights / weights.sum()
        self.priors = priors
        self.head = head
        self.points = preprocess.slice_points()
        self.scanner = Scanner(self.points)
        self.volume_points = volume_points()
        self.volume_scanner = Scanner(self.volume_points)
        self.brain_mask = _brain_mask(head, self.points)

    def base(self, seed: int, person: int | None = None) -> list[Picture]:
        """Images of one base."""
        rng = np.random.default_rng(seed)
        index = int(rng.choice(len(self.people), p=self.weights)) if person is None else person
        anatomy = self.people[index]
        # A base of quality gives fifteen images, one of rejects three; a fifth of the images are rejects.
        return (
            self._rejects(anatomy, rng, seed)
            if rng.random() < self.reject_share
            else self._quality(anatomy, rng, seed)
        )

    def _rejects(self, anatomy: anatomy_module.Anatomy, rng: np.random.Generator, seed: int) -> list[Picture]:
        reason, grid = rejects.draw(anatomy, self.priors, rng)
        matrix = preprocess.align(grid, self.head.targets).matrix
        row = Row(anatomy.person, anatomy.kind, seed, reason, None, None, None, None, False)
        out = []
        for n in range(3):
            pose = matrix @ registration_error(rng)
            slices, inside = preprocess.sample_slices(grid, pose)
            level, floor = _levels(slices, inside, self.brain_mask)
            sigma = rng.uniform(0.0, 0.06)
            spoilt, _ = self.scanner.spoil(slices, inside, level, sigma, grid.affine, matrix, rng)
            volume = None
            if n == 0:
                whole, there = self._sample_volume(grid, pose)
                whole, _ = self.volume_scanner.spoil(whole, there, level, sigma, grid.affine, matrix, rng)
                volume = _volume_bytes(whole, level, floor)
            picture = preprocess.normalise(spoilt, inside, level, floor)
            out.append(Picture(row, picture, _no_error(picture, np.nan), volume))
        return out

    def _sample_volume(self, grid: reg.Grid, pose: Matrix) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """The image on the 2 mm grid, 0 outside, and where it is."""
        m = torch.from_numpy(pose).float()
        flat = self.volume_points.reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]
        values, inside = reg.sample(torch.from_numpy(np.ascontiguousarray(grid.values))[None], grid.affine, flat)
        return (values[0] * inside).reshape(VOLUME_SHAPE).numpy(), inside.reshape(VOLUME_SHAPE).numpy()

    def _quality(self, anatomy: anatomy_module.Anatomy, rng: np.random.Generator, seed: int) -> list[Picture]:
        """Still images of one look in many contrasts; then the same person moving."""
        look = compose_module.Look(bool(rng.random() < 0.5), dose=float(rng.uniform(1.15, 2.3)))
        image = compose_module.compose(anatomy, look, self.priors, rng)
        native = anatomy.kind != "map" and rng.random() < 0.5
        if native:
            scan = Acquisition(image, anatomy.affine, anatomy.matrix, np.eye(4))
        else:
            scan = acquire(anatomy, image, rng)
        still = scan.image
        if rng.random() < 0.15:
            still = _confound(still, int(rng.integers(0, 3)), rng)
        out: list[Picture] = []
        for n in range(5):
            error = registration_error(rng)
            if rng.random() < 0.05:
                error = np.linalg.inv(scan.matrix) @ self._registered(still, scan)
            tissues = self._tissues(anatomy, scan, error)
            grid = reg.Grid(still, scan.affine)
            slices, inside = preprocess.sample_slices(grid, scan.matrix @ error)
            share = _draw_share(rng)
            whole = None
            if n < 2:
                whole = self._sample_volume(grid, scan.matrix @ error)
                shares = self._tissues(anatomy, scan, error, self.volume_points)
                # The same draws as for the slices: one image, looked at twice.
                whole = (_relook(whole[0], shares, share, copy.deepcopy(rng)), whole[1])
            looked = _relook(slices, tissues, share, rng)
            out += self._expose(anatomy, scan, looked, inside, tissues, look.gadolinium, 0.0, seed, native, rng,
                                whole=whole)  # fmt: skip
        for aim in AIMS:
            out += self._moving(anatomy, scan, still, look, aim, seed, native, rng)
        return out

    def _moving(
        self, anatomy: anatomy_module.Anatomy, scan: Acquisition, still: FloatArray, look: compose_module.Look,
        aim: int, seed: int, native: bool, rng: np.random.Generator,
    ) -> list[Picture]:  # fmt: skip
        """One motion, two exposures; small motions (`aim` 0) too, so that grade 0 is not only "untouched"."""
        white, grey = self._native_tissues(anatomy, scan)
        looked = _pull(still, white, grey, _draw_share(rng), rng)
        axis = int(rng.integers(0, 3))
        severity = float(rng.uniform(*((0.02, 0.5), (0.3, 0.9), (0.8, 1.8))[aim]))
        spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1]
        energy = artefacts.line_energy(looked, axis)
        trajectory = artefacts.draw_trajectory(looked.shape[axis], severity, rng, energy)
        moved = artefacts.move(looked, tuple(spacing), axis, trajectory)
        still_grid, moved_grid = reg.Grid(looked, scan.affine), reg.Grid(moved, scan.affine)
        matrix = damage_module.realign(moved_grid, still_grid, self.head.brain_points, scan.matrix)
        tissues = self._tissues(anatomy, scan, np.eye(4))
        still_slices, _ = preprocess.sample_slices(still_grid, scan.matrix)
        moved_slices, _ = preprocess.sample_slices(moved_grid, matrix)
        damage = damage_module.motion_damage(moved_slices, still_slices, tissues[0], tissues[2])
        contrast = damage_module.contrast_left(still_slices, tissues[0], tissues[1])
        out: list[Picture] = []
        for n in range(2):
            error = registration_error(rng)
            if rng.random() < 0.05:
                error = np.linalg.inv(matrix) @ self._registered(moved, scan)
            slices, inside = preprocess.sample_slices(moved_grid, matrix @ error)
            twin, _ = preprocess.sample_slices(still_grid, scan.matrix @ error)
            whole = self._sample_volume(moved_grid, matrix @ error) if n == 0 else None
            tissues = self._tissues(anatomy, scan, error)
            out += self._expose(anatomy, scan, slices, inside, tissues, look.gadolinium, damage, seed, native, rng,
                                contrast, twin, whole)  # fmt: skip
        return out

    def _expose(
        self, anatomy: anatomy_module.Anatomy, scan: Acquisition, slices: FloatArray,
        inside: npt.NDArray[np.bool_], tissues: tuple[FloatArray, FloatArray, FloatArray], gadolinium: bool,
        motion: float, seed: int, native: bool, rng: np.random.Generator, contrast: float | None = None,
        twin: FloatArray | None = None, whole: tuple[FloatArray, npt.NDArray[np.bool_]] | None = None,
    ) -> list[Picture]:  # fmt: skip
        """Noise, bias field and storage of one image; measures what was done."""
        white, grey, brain = tissues
        level, _ = damage_module.tissue_levels(slices, white, grey)
        if not level > 0:
            return []
        if contrast is None:
            contrast = damage_module.contrast_left(slices, white, grey)
        ranges = ((0.001, 0.03), (0.045, 0.11), (0.12, 0.32))[int(rng.choice(3, p=[0.42, 0.3, 0.28]))]
        sigma = float(np.exp(rng.uniform(*np.log(ranges))))
        spoilt, before = self.scanner.spoil(slices, inside, level, sigma, scan.affine, scan.matrix, rng)
        noise = damage_module.noise_level(spoilt, before, brain, level)
        gained, _ = _levels(spoilt, inside, self.brain_mask)
        spoilt = _store(spoilt, inside, rng)
        top, floor = _levels(spoilt, inside, self.brain_mask)
        row = Row(anatomy.person, anatomy.kind, seed, "ok", int(gadolinium), float(motion), float(contrast), noise,
                  native)  # fmt: skip
        picture = preprocess.normalise(spoilt, inside, top, floor)
        error = _no_error(picture, 0.0) if twin is None else local_error(slices, twin, brain, gained)
        volume = None
        if whole is not None:
            body, _ = self.volume_scanner.spoil(*whole, level, sigma, scan.affine, scan.matrix, rng)
            volume = _volume_bytes(body, gained, min(0.0, float(body.min())))
        return [Picture(row, picture, error, volume)]

    def _registered(self, image: FloatArray, scan: Acquisition) -> Matrix:
        return preprocess.align(reg.Grid(image, scan.affine), self.head.targets).matrix

    def _tissues(
        self, anatomy: anatomy_module.Anatomy, scan: Acquisition, error: Matrix, points: torch.Tensor | None = None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """White, grey and brain shares at the slice points (or at other `points`, ``(a, b, c, 3)``)."""
        at = self.points if points is None else points
        m = torch.from_numpy(scan.to_source @ scan.matrix @ error).float()
        flat = at.reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]
        stack = torch.from_numpy(np.stack([anatomy.white, anatomy.grey]).astype(np.float32))
        values, inside = reg.sample(stack, anatomy.affine, flat)
        shares = (values * inside).reshape(2, *at.shape[:3]).numpy()
        return shares[0], shares[1], shares.sum(0)

    def _native_tissues(self, anatomy: anatomy_module.Anatomy, scan: Acquisition) -> tuple[FloatArray, FloatArray]:
        white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
        if scan.image.shape == white.shape and np.array_equal(scan.affine, anatomy.affine):
            return white, grey
        index = np.linalg.inv(anatomy.affine) @ scan.to_source @ scan.affine
        shape = scan.image.shape
        return artefacts.resample(white, index, shape), artefacts.resample(grey, index, shape)


AIMS = (0, 1, 1, 2, 2)
"""Motions of one base: one slight, two moderate, two severe were aimed at; the measure decides."""


def volume_points() -> torch.Tensor:
    """LPS mm of the 2 mm grid in the average head's frame, ``(85, 104, 90, 3)``."""
    axes = [torch.arange(n) * 2.0 + o for n, o in zip(VOLUME_SHAPE, linear.ORIGIN_LPS, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).float()


def local_error(moved: FloatArray, still: FloatArray, brain: FloatArray, level: float) -> Slices:
    """RMS difference of slices ``(S, H, W)`` in squares of :data:`BLOCK` mm, over `level`, after the best gain."""
    inside = brain > 0.9
    a, b = moved[inside], still[inside]
    gain = float((a * b).sum() / max(float((b * b).sum()), 1e-9)) if a.size else 1.0
    difference = torch.from_numpy((moved / max(gain, 1e-6) - still) ** 2)[None]
    mean = functional.avg_pool2d(difference, BLOCK)[0]
    return (mean.sqrt() / max(level, 1e-6)).numpy().astype(np.float16)


def _no_error(picture: Slices, value: float) -> Slices:
    s, h, w = picture.shape
    return np.full((s, h // BLOCK, w // BLOCK), value, dtype=np.float16)


def _volume_bytes(volume: FloatArray, level: float, floor: float) -> npt.NDArray[np.uint8]:
    """White matter at 128, as the recipe ``fast`` of :mod:`qc_node.brain_mri.linear` has it at 0.5."""
    scale = level - floor if np.isfinite(level) and level > floor else max(float(np.abs(volume).max()), 1e-6)
    return np.clip(np.round((volume - floor) / scale * 128.0), 0, 255).astype(np.uint8)


def _draw_share(rng: np.random.Generator) -> float:
    """Share of the white-grey difference that is left: three levels aimed at, the measure decides."""
    low, high = ((0.7, 1.15), (0.08, 0.4), (-0.35, 0.1))[int(rng.choice(3, p=[0.4, 0.3, 0.3]))]
    return float(rng.uniform(low, high))


def _pull(
    image: FloatArray, white: FloatArray, grey: FloatArray, share: float, rng: np.random.Generator
) -> FloatArray:
    """Pull white and grey matter together; works on volumes and on slices."""
    w_level, g_level = damage_module.tissue_levels(image, white, grey)
    if not np.isfinite(w_level - g_level):
        return image
    middle = g_level + rng.uniform(0.2, 0.9) * (w_level - g_level)
    part = np.float32(1 - share)
    return np.asarray(image + part * (white * (middle - w_level) + grey * (middle - g_level)), dtype=np.float32)


def _relook(
    slices: FloatArray, tissues: tuple[FloatArray, FloatArray, FloatArray], share: float, rng: np.random.Generator
) -> FloatArray:
    image = _pull(slices, tissues[0], tissues[1], share, rng)
    if rng.random() < 0.4:
        image = np.clip(image, 0, None) ** np.float32(np.exp(rng.normal(0, 0.15)))
    if rng.random() < 0.06:
        # Everything fades towards grey, air included: a window baked into the voxels.
        image = image + np.float32(rng.uniform(0.2, 1.5)) * float(image[tissues[2] > 0.9].mean())
    return image


def _levels(
    slices: FloatArray, inside: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """White level and floor as the reader takes them, from the slices themselves."""
    inner = slices[brain & inside]
    level = float(np.quantile(inner[::7], 0.75)) if inner.size > 100 else float("nan")
    return level, min(0.0, float(slices[::4, ::4, ::4].min()))


def _confound(image: FloatArray, axis: int, rng: np.random.Generator) -> FloatArray:
    """Artefacts outside the three questions, mild, on good and bad images alike."""
    choice = rng.random()
    if choice < 0.3:
        return artefacts.ghost(image, axis, int(rng.integers(2, 5)), rng.uniform(0.02, 0.08))
    if choice < 0.5:
        return artefacts.spike(image, rng, rng.uniform(0.01, 0.04))
    return artefacts.truncate_k_space(image, axis, rng.uniform(0.7, 0.95))


def _store(slices: FloatArray, inside: npt.NDArray[np.bool_], rng: np.random.Generator) -> FloatArray:
    """What happens to an image on its way into an archive: masked air, eight bits."""
    from scipy import ndimage

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
        self, slices: FloatArray, inside: npt.NDArray[np.bool_], level: float, sigma: float, affine: Matrix,
        matrix: Matrix, rng: np.random.Generator,
    ) -> tuple[FloatArray, FloatArray]:  # fmt: skip
        """``(image with noise and bias, the same before the noise)``.

        `sigma` is the SD of the interpolated noise over `level`; the voxels' own is about twice that.
        """
        before = slices
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
            from scipy import ndimage

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


def build(
    out: Path, paths: list[Path], priors: synthesis.Priors, head: preprocess.AverageHead, seeds: range,
    bases_per_shard: int = 8, log: Any = print,
) -> None:  # fmt: skip
    """Write shards of `bases_per_shard` bases until `seeds` are used up; finished shards are kept."""
    import time

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(paths, priors, head)
    started = time.monotonic()
    for number, first in enumerate(range(seeds.start, seeds.stop, bases_per_shard)):
        path = out / f"shard-{first:06d}.npz"
        if path.exists():
            continue
        pictures = [
            p for seed in range(first, min(first + bases_per_shard, seeds.stop)) for p in simulator.base(seed)
        ]
        whole = [n for n, p in enumerate(pictures) if p.volume is not None]
        temporary = path.with_suffix(".tmp.npz")
        np.savez(
            temporary,
            slices=np.stack([p.slices for p in pictures]),
            errors=np.stack([p.error for p in pictures]),
            volumes=np.stack([p.volume for p in pictures if p.volume is not None]),
            volume_of=np.array(whole),
            rows=json.dumps([asdict(p.row) for p in pictures]),
        )
        temporary.replace(path)
        log(f"{path.name}: {len(pictures)} images, {(time.monotonic() - started) / (number + 1):.0f} s per shard")


@dataclass(frozen=True)
class Shard:
    """One finished file of a pack, as :func:`build` wrote it; arrays are read when asked for."""

    path: Path
    rows: list[Row]

    def array(self, name: str) -> npt.NDArray[Any]:
        """``slices``, ``errors``, ``volumes`` or ``volume_of`` (the row of each volume)."""
        with np.load(self.path, allow_pickle=False) as f:
            return np.asarray(f[name])


def shards(folder: Path) -> Iterator[Shard]:
    """Every finished shard of a pack, in order."""
    for path in sorted(folder.glob("shard-??????.npz")):
        with np.load(path, allow_pickle=False) as f:
            yield Shard(path, [Row(**r) for r in json.loads(str(f["rows"]))])
