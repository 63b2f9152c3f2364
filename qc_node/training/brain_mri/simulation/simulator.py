"""Drawing images: a person, a look, a motion and a scanner become what the network sees, and what was done to it.

One *base* is a person, a look and a motion; each base gives a few *variants* that differ in noise, bias
field, confounders and registration error.  Everything follows from a seed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from qc_node.classifiers.brain_mri import linear, preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri.simulation import artefacts, damage, rejects, scanner, synthesis
from qc_node.training.brain_mri.simulation.compose import Look, compose, draw_share, pull, relook
from qc_node.training.brain_mri.simulation.tissues import Anatomy, lighter

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Slices = npt.NDArray[np.float16]

BLOCK = 8
"""Side in mm of the squares in which the local motion error is kept."""

VOLUME_SHAPE = (85, 104, 90)
"""The paper's grid at 2 mm, ``(x, y, z)``: what its networks see where 1 mm costs too much."""

STILLS = 3
"""Images of one look without motion."""
AIMS = ((0, 1), (1, 2), (1, 2), (2, 2), (0, 2))
"""Motions of one base: slight 0, moderate 1, severe 2 were aimed at; the measure decides.

Few per base: half as many bases cost a tenth of the accuracy, half as many images of each cost little."""


@dataclass(frozen=True, slots=True)
class Simulated:
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


@dataclass(frozen=True, slots=True)
class PackRow(Simulated):
    """One image of a pack."""

    native: bool
    """Sampled on the person's own grid (not re-acquired)."""


@dataclass(frozen=True)
class Picture:
    """One simulated image as it is kept.

    Attributes
    ----------
    slices
        ``(S, H, W)`` float16, normalised as the classifier does it.
    error
        ``(S, H / 8, W / 8)`` float16: RMS difference to the still twin in squares of 8 mm, in the units of
        `slices`; nan where there is no twin (straight rejects).
    volume
        ``(85, 104, 90)`` uint8, white matter at 128, or None: kept for some images only.
    """

    row: PackRow
    slices: Slices
    error: Slices
    volume: npt.NDArray[np.uint8] | None = None


def _brain_mask(head: preprocess.AverageHead, points: torch.Tensor) -> npt.NDArray[np.bool_]:
    """Which slice points lie well inside the average brain."""
    channels = torch.from_numpy(np.ascontiguousarray(head.channels[[1, 4]]))
    values, _ = reg.sample(channels, head.affine, points.reshape(-1, 3))
    return np.asarray(((values[0] > 0.97) & (values[1] < 0.1)).reshape(points.shape[:3]).numpy())


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
        self.people = [lighter(Anatomy.load(p), voxels) for p in paths]
        self.reject_share = 0.57
        # Half of the images from real heads, a tenth from real brains in painted heads, the rest painted.
        share = {"head": 0.5, "hybrid": 0.12, "map": 0.38}
        kinds = [a.kind for a in self.people]
        weights = np.array([share[k] / kinds.count(k) for k in kinds])
        self.weights = weights / weights.sum()
        self.priors = priors
        self.head = head
        self.points = preprocess.slice_points()
        self.scanner = scanner.Scanner(self.points)
        self.volume_points = volume_points()
        self.volume_scanner = scanner.Scanner(self.volume_points)
        self.brain_mask = _brain_mask(head, self.points)

    def base(self, seed: int, person: int | None = None) -> list[Picture]:
        """Images of one base."""
        rng = np.random.default_rng(seed)
        index = int(rng.choice(len(self.people), p=self.weights)) if person is None else person
        anatomy = self.people[index]
        # A base of quality gives seven images, one of rejects three; a third of the images are rejects.
        return (
            self._rejects(anatomy, rng, seed)
            if rng.random() < self.reject_share
            else self._quality(anatomy, rng, seed)
        )

    def _rejects(self, anatomy: Anatomy, rng: np.random.Generator, seed: int) -> list[Picture]:
        reason, grid = rejects.draw(anatomy, self.priors, rng)
        matrix = preprocess.align(grid, self.head.targets).matrix
        row = PackRow(anatomy.person, anatomy.kind, seed, reason, None, None, None, None, False)
        out = []
        for n in range(3):
            pose = matrix @ scanner.registration_error(rng)
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

    def _quality(self, anatomy: Anatomy, rng: np.random.Generator, seed: int) -> list[Picture]:
        """Still images of one look in three contrasts; then the same person moving."""
        look = Look(bool(rng.random() < 0.5), dose=float(rng.uniform(1.15, 2.3)))
        image = compose(anatomy, look, self.priors, rng)
        native = anatomy.kind != "map" and rng.random() < 0.5
        if native:
            scan = scanner.Acquisition(image, anatomy.affine, anatomy.matrix, np.eye(4))
        else:
            scan = scanner.acquire(anatomy, image, rng)
        still = scan.image
        if rng.random() < 0.15:
            still = scanner.confound(still, int(rng.integers(0, 3)), rng)
        out: list[Picture] = []
        for n in range(STILLS):
            error = scanner.registration_error(rng)
            if rng.random() < 0.05:
                error = np.linalg.inv(scan.matrix) @ self._registered(still, scan)
            tissues = self.tissues(anatomy, scan, error)
            grid = reg.Grid(still, scan.affine)
            slices, inside = preprocess.sample_slices(grid, scan.matrix @ error)
            share = draw_share(rng)
            whole = None
            if n == 0:
                whole = self._sample_volume(grid, scan.matrix @ error)
                shares = self.tissues(anatomy, scan, error, self.volume_points)
                # The same draws as for the slices: one image, looked at twice.
                whole = (relook(whole[0], shares, share, copy.deepcopy(rng)), whole[1])
            looked = relook(slices, tissues, share, rng)
            out += self._expose(
                anatomy, scan, looked, inside, tissues, look.gadolinium, 0.0, seed, native, rng, whole=whole
            )
        for aim in AIMS[int(rng.integers(len(AIMS)))]:
            out += self._moving(anatomy, scan, still, look, aim, seed, native, rng)
        return out

    def _moving(
        self,
        anatomy: Anatomy,
        scan: scanner.Acquisition,
        still: FloatArray,
        look: Look,
        aim: int,
        seed: int,
        native: bool,
        rng: np.random.Generator,
    ) -> list[Picture]:
        """One motion, two exposures; small motions (`aim` 0) too, so that grade 0 is not only "untouched"."""
        white, grey = self._native_tissues(anatomy, scan)
        looked = pull(still, white, grey, draw_share(rng), rng)
        axis = int(rng.integers(0, 3))
        severity = float(rng.uniform(*((0.02, 0.5), (0.3, 0.9), (0.8, 1.8))[aim]))
        spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1]
        energy = artefacts.line_energy(looked, axis)
        trajectory = artefacts.draw_trajectory(looked.shape[axis], severity, rng, energy)
        moved = artefacts.move(looked, tuple(spacing), axis, trajectory)
        still_grid, moved_grid = reg.Grid(looked, scan.affine), reg.Grid(moved, scan.affine)
        matrix = damage.realign(moved_grid, still_grid, self.head.brain_points, scan.matrix)
        tissues = self.tissues(anatomy, scan, np.eye(4))
        still_slices, _ = preprocess.sample_slices(still_grid, scan.matrix)
        moved_slices, _ = preprocess.sample_slices(moved_grid, matrix)
        motion = damage.motion_damage(moved_slices, still_slices, tissues[0], tissues[2])
        contrast = damage.contrast_left(still_slices, tissues[0], tissues[1])
        out: list[Picture] = []
        for n in range(2):
            error = scanner.registration_error(rng)
            if rng.random() < 0.05:
                error = np.linalg.inv(matrix) @ self._registered(moved, scan)
            slices, inside = preprocess.sample_slices(moved_grid, matrix @ error)
            twin, _ = preprocess.sample_slices(still_grid, scan.matrix @ error)
            whole = self._sample_volume(moved_grid, matrix @ error) if n == 0 else None
            tissues = self.tissues(anatomy, scan, error)
            out += self._expose(
                anatomy,
                scan,
                slices,
                inside,
                tissues,
                look.gadolinium,
                motion,
                seed,
                native,
                rng,
                contrast,
                twin,
                whole,
            )
        return out

    def _expose(
        self,
        anatomy: Anatomy,
        scan: scanner.Acquisition,
        slices: FloatArray,
        inside: npt.NDArray[np.bool_],
        tissues: tuple[FloatArray, FloatArray, FloatArray],
        gadolinium: bool,
        motion: float,
        seed: int,
        native: bool,
        rng: np.random.Generator,
        contrast: float | None = None,
        twin: FloatArray | None = None,
        whole: tuple[FloatArray, npt.NDArray[np.bool_]] | None = None,
    ) -> list[Picture]:
        """Noise, bias field and storage of one image; measures what was done."""
        white, grey, brain = tissues
        level, _ = damage.tissue_levels(slices, white, grey)
        if not level > 0:
            return []
        if contrast is None:
            contrast = damage.contrast_left(slices, white, grey)
        ranges = ((0.001, 0.03), (0.045, 0.11), (0.12, 0.32))[int(rng.choice(3, p=[0.42, 0.3, 0.28]))]
        sigma = float(np.exp(rng.uniform(*np.log(ranges))))
        spoilt, before = self.scanner.spoil(slices, inside, level, sigma, scan.affine, scan.matrix, rng)
        noise = damage.noise_level(spoilt, before, brain, level)
        gained, _ = _levels(spoilt, inside, self.brain_mask)
        spoilt = scanner.store(spoilt, inside, rng)
        top, floor = _levels(spoilt, inside, self.brain_mask)
        row = PackRow(
            anatomy.person,
            anatomy.kind,
            seed,
            "ok",
            int(gadolinium),
            float(motion),
            float(contrast),
            noise,
            native,
        )
        picture = preprocess.normalise(spoilt, inside, top, floor)
        error = _no_error(picture, 0.0) if twin is None else local_error(slices, twin, brain, gained)
        volume = None
        if whole is not None:
            body, _ = self.volume_scanner.spoil(*whole, level, sigma, scan.affine, scan.matrix, rng)
            volume = _volume_bytes(body, gained, min(0.0, float(body.min())))
        return [Picture(row, picture, error, volume)]

    def _registered(self, image: FloatArray, scan: scanner.Acquisition) -> Matrix:
        return preprocess.align(reg.Grid(image, scan.affine), self.head.targets).matrix

    def tissues(
        self,
        anatomy: Anatomy,
        scan: scanner.Acquisition,
        error: Matrix,
        points: torch.Tensor | None = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """White, grey and brain shares at the slice points (or at other `points`, ``(a, b, c, 3)``)."""
        at = self.points if points is None else points
        m = torch.from_numpy(scan.to_source @ scan.matrix @ error).float()
        flat = at.reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]
        stack = torch.from_numpy(np.stack([anatomy.white, anatomy.grey]).astype(np.float32))
        values, inside = reg.sample(stack, anatomy.affine, flat)
        shares = (values * inside).reshape(2, *at.shape[:3]).numpy()
        return shares[0], shares[1], shares.sum(0)

    def _native_tissues(self, anatomy: Anatomy, scan: scanner.Acquisition) -> tuple[FloatArray, FloatArray]:
        white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
        if scan.image.shape == white.shape and np.array_equal(scan.affine, anatomy.affine):
            return white, grey
        index = np.linalg.inv(anatomy.affine) @ scan.to_source @ scan.affine
        shape = scan.image.shape
        return artefacts.resample(white, index, shape), artefacts.resample(grey, index, shape)


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
    """White matter at 128, as the recipe ``fast`` of :mod:`qc_node.classifiers.brain_mri.linear` has it at 0.5."""
    scale = level - floor if np.isfinite(level) and level > floor else max(float(np.abs(volume).max()), 1e-6)
    return np.clip(np.round((volume - floor) / scale * 128.0), 0, 255).astype(np.uint8)


def _levels(
    slices: FloatArray, inside: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """White level and floor as the classifier takes them, from the slices themselves."""
    inner = slices[brain & inside]
    level = float(np.quantile(inner[::7], 0.75)) if inner.size > 100 else float("nan")
    return level, min(0.0, float(slices[::4, ::4, ::4].min()))
