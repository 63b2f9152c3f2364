"""The pack: simulated acquisitions, cached as what the network sees, with what was measured on them.

One *base* is a person, a look and a motion; each base gives a few *variants* that differ in noise, bias
field, confounders and registration error.  Everything follows from a seed.

A pack is a folder of shards ``shard-0000.npz`` (slices float16 ``(n, S, H, W)``) with ``rows`` as JSON.
It is derived from people's images: it is kept outside the repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from qc_node.brain_mri import preprocess
from qc_node.brain_mri import registration as reg
from qc_node.learning import brain_mri_anatomy as anatomy_module
from qc_node.learning import brain_mri_artefacts as artefacts
from qc_node.learning import brain_mri_compose as compose_module
from qc_node.learning import brain_mri_damage as damage_module
from qc_node.learning import brain_mri_rejects as rejects
from qc_node.learning import brain_mri_synthesis as synthesis

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


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
    own_noise: float | None
    native: bool
    """Sampled on the person's own grid (not re-acquired)."""


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
    resampled = artefacts.resample(image, index_to_index, tuple(int(n) for n in shape[::-1]))
    return Acquisition(resampled, affine, matrix, to_source)


def _head_mask(image: FloatArray, threshold: float) -> npt.NDArray[np.bool_]:
    """Rough mask of the head with a rim, in blocks of four voxels."""
    from scipy import ndimage

    coarse = functional.avg_pool3d(torch.from_numpy(image)[None, None], 4, ceil_mode=True)[0, 0].numpy()
    mask = ndimage.binary_dilation(ndimage.binary_closing(coarse > threshold, iterations=2), iterations=1)
    fine = mask.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    return np.asarray(fine[: image.shape[0], : image.shape[1], : image.shape[2]])


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

    def __init__(self, paths: list[Path], priors: synthesis.Priors, head: preprocess.AverageHead) -> None:
        self.people = [anatomy_module.load(p) for p in paths]
        # Half of the images from real heads, a tenth from real brains in painted heads, the rest painted.
        share = {"head": 0.5, "hybrid": 0.12, "map": 0.38}
        kinds = [a.kind for a in self.people]
        weights = np.array([share[k] / kinds.count(k) for k in kinds])
        self.weights = weights / weights.sum()
        self.priors = priors
        self.head = head

    def base(self, seed: int, variants: int = 2, person: int | None = None) -> list[tuple[Row, FloatArray]]:
        """Images of one base: rows and normalised slices."""
        rng = np.random.default_rng(seed)
        index = int(rng.choice(len(self.people), p=self.weights)) if person is None else person
        anatomy = self.people[index]
        if rng.random() < 0.27:
            return self._rejects(anatomy, rng, seed, variants)
        return self._quality(anatomy, rng, seed, variants)

    def _rejects(
        self, anatomy: anatomy_module.Anatomy, rng: np.random.Generator, seed: int, variants: int
    ) -> list[tuple[Row, FloatArray]]:
        out = []
        for _ in range(variants):
            reason, grid = rejects.draw(anatomy, self.priors, rng)
            slices = self.view(grid, preprocess.align(grid, self.head.targets).matrix)
            out.append(
                (Row(anatomy.person, anatomy.kind, seed, reason, None, None, None, None, None, False), slices)
            )
        return out

    def view(self, grid: reg.Grid, matrix: Matrix) -> npt.NDArray[np.float16]:
        """Slices as the reader makes them."""
        return preprocess.network_slices(grid, matrix, self.head)

    def _quality(
        self, anatomy: anatomy_module.Anatomy, rng: np.random.Generator, seed: int, variants: int
    ) -> list[tuple[Row, FloatArray]]:
        gadolinium = bool(rng.random() < 0.5)
        grades = rng.integers(0, 3, 3)  # aimed at, per question; the measured damage decides
        clean = rng.random() < 0.25
        shares = ((0.85, 1.15), (0.28, 0.62), (-0.12, 0.25))[int(grades[1])]
        share = 1.0 if clean else float(rng.uniform(*shares))
        look = compose_module.Look(
            gadolinium,
            share,
            float(np.exp(rng.normal(0, 0.12))) if rng.random() < 0.5 else 1.0,
            float(rng.uniform(1.15, 2.3)),
        )
        image = compose_module.compose(anatomy, look, self.priors, rng)
        native = anatomy.kind != "map" and rng.random() < 0.5
        if native:
            scan = Acquisition(image, anatomy.affine, anatomy.matrix, np.eye(4))
        else:
            scan = acquire(anatomy, image, rng)
        still = scan.image
        if rng.random() < 0.6:
            still = artefacts.bias(still, rng, rng.uniform(0.03, 0.22))
        moved, motion = still, 0.0
        wants_motion = not clean and grades[0] > 0
        small_motion = not clean and not wants_motion and rng.random() < 0.3
        points = self._tissue_points(anatomy, scan)
        if wants_motion or small_motion:
            # Readout is never the slow axis; the slow axis is one of the two phase axes.
            axis = int(rng.integers(0, 3))
            low, high = (0.01, 0.08) if small_motion else (0.12, 0.5) if grades[0] == 1 else (0.4, 1.0)
            severity = float(rng.uniform(low, high))
            spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1]
            trajectory = artefacts.draw_trajectory(
                still.shape[axis], severity, rng, artefacts.line_energy(still, axis)
            )
            moved = artefacts.move(still, tuple(spacing), axis, trajectory)
        still_grid = reg.Grid(still, scan.affine)
        matrix = scan.matrix
        clean_slices, _ = preprocess.sample_slices(still_grid, matrix)
        white, grey, brain = points
        if moved is not still:
            matrix = damage_module.realign(
                reg.Grid(moved, scan.affine), still_grid, self.head.brain_points, scan.matrix
            )
            moved_slices, _ = preprocess.sample_slices(reg.Grid(moved, scan.affine), matrix)
            motion = damage_module.motion_damage(moved_slices, clean_slices, white, grey, brain)
        level, _ = damage_module.tissue_levels(clean_slices, white, grey)
        contrast = damage_module.contrast_left(clean_slices, white, grey)
        own = damage_module.own_noise(clean_slices, white, level)
        moved_slices, _ = preprocess.sample_slices(reg.Grid(moved, scan.affine), matrix)
        out = []
        for n in range(variants):
            grade = int(grades[2]) if n == 0 else int(rng.integers(0, 3))
            noisy, noise = self._with_noise(
                moved, moved_slices, scan, matrix, brain, level, 0 if clean else grade, rng
            )
            noisy = self._confound(noisy, anatomy, scan, rng)
            grid = reg.Grid(noisy, scan.affine)
            if rng.random() < 0.3:
                used = preprocess.align(grid, self.head.targets).matrix
            else:
                used = matrix @ registration_error(rng)
            row = Row(anatomy.person, anatomy.kind, seed, "ok", int(gadolinium), float(motion), float(contrast), noise,
                      own, native)  # fmt: skip
            out.append((row, self.view(grid, used)))
        return out

    def _tissue_points(
        self, anatomy: anatomy_module.Anatomy, scan: Acquisition
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """White, grey and brain shares at the slice points."""
        to_source = scan.to_source @ scan.matrix
        stack = np.stack([anatomy.white, anatomy.grey]).astype(np.float32)
        points = preprocess.slice_points()
        m = torch.from_numpy(to_source).float()
        flat = points.reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]
        values, inside = reg.sample(torch.from_numpy(stack), anatomy.affine, flat)
        tissues = (values * inside).reshape(2, *points.shape[:3]).numpy()
        return tissues[0], tissues[1], tissues.sum(0)

    def _with_noise(
        self, moved: FloatArray, before: FloatArray, scan: Acquisition, matrix: Matrix, brain: FloatArray,
        level: float, grade: int, rng: np.random.Generator,
    ) -> tuple[FloatArray, float]:  # fmt: skip
        low, high = ((0.002, 0.045), (0.07, 0.17), (0.19, 0.5))[grade]
        sigma = float(np.exp(rng.uniform(np.log(low), np.log(high)))) * level
        # Interpolation to 1 mm averages noise of fine voxels away and leaves that of coarse ones.
        spread = np.exp(artefacts.smooth_field(moved.shape, rng, 3, 0.25)) if rng.random() < 0.4 else None
        noisy = artefacts.add_noise(moved, sigma, rng, spread)
        if rng.random() < 0.12:
            strength = rng.uniform(0.3, 0.7)
            noisy = artefacts.denoise(noisy, strength)
            before, _ = preprocess.sample_slices(reg.Grid(artefacts.denoise(moved, strength), scan.affine), matrix)
        after, _ = preprocess.sample_slices(reg.Grid(noisy, scan.affine), matrix)
        return noisy, damage_module.noise_level(after, before, brain, level)

    def _confound(
        self, image: FloatArray, anatomy: anatomy_module.Anatomy, scan: Acquisition, rng: np.random.Generator
    ) -> FloatArray:
        """Things that happen to good and bad images alike and must not decide."""
        choice = rng.random()
        axis = int(rng.integers(0, 3))
        if choice < 0.05:
            image = artefacts.ghost(image, axis, int(rng.integers(2, 5)), rng.uniform(0.02, 0.08))
        elif choice < 0.09:
            image = artefacts.spike(image, rng, rng.uniform(0.01, 0.05))
        elif choice < 0.15:
            image = artefacts.truncate_k_space(image, axis, rng.uniform(0.7, 0.95))
        if rng.random() < 0.2:
            # Vendors' masks: the air becomes exactly zero.
            level = float(np.quantile(image[::4, ::4, ::4], 0.9))
            image = np.where(_head_mask(image, 0.12 * level), image, 0.0)
        if rng.random() < 0.25:
            top = float(np.quantile(image[::3, ::3, ::3], rng.uniform(0.993, 0.9999)))
            image = np.round(np.clip(image / max(top, 1e-6), 0, 1) * 255.0)
        return np.asarray(image, dtype=np.float32)


def build(
    out: Path, paths: list[Path], priors: synthesis.Priors, head: preprocess.AverageHead, seeds: range,
    variants: int = 2, shard_size: int = 50, log: Any = print,
) -> None:  # fmt: skip
    """Write shards of `shard_size` images until `seeds` are used up; finished shards are kept."""
    import time

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(paths, priors, head)
    per_shard = max(1, shard_size // variants)
    started = time.monotonic()
    for number, first in enumerate(range(seeds.start, seeds.stop, per_shard)):
        path = out / f"shard-{first:06d}.npz"
        if path.exists():
            continue
        rows, slices = [], []
        for seed in range(first, min(first + per_shard, seeds.stop)):
            for row, picture in simulator.base(seed, variants):
                rows.append(asdict(row))
                slices.append(picture)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, slices=np.stack(slices), rows=json.dumps(rows))
        temporary.replace(path)
        log(f"{path.name}: {len(rows)} images, {(time.monotonic() - started) / (number + 1):.0f} s per shard")


def shards(folder: Path) -> Iterator[tuple[npt.NDArray[np.float16], list[Row]]]:
    """Slices and rows of every finished shard, in order."""
    for path in sorted(folder.glob("shard-??????.npz")):
        with np.load(path, allow_pickle=False) as f:
            yield f["slices"], [Row(**r) for r in json.loads(str(f["rows"]))]
