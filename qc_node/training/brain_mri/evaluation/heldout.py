"""The held-out set: people never trained on, whole volumes, prepared as a patient's series is.

Unlike the training pack this simulates at full volume (noise in every voxel, no known transform) and runs
the classifier's own preparation, so that what is measured is what the node does.  Rung R0 is label maps, R1
real heads with simulated artefacts; the real items are in :mod:`qc_node.training.brain_mri.evaluation.evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.classifiers.brain_mri import linear, preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier
from qc_node.training.brain_mri.simulation import artefacts, damage, rejects, scanner, synthesis
from qc_node.training.brain_mri.simulation.compose import Look, compose
from qc_node.training.brain_mri.simulation.simulator import Simulated, Simulator

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HeldOutCase(Simulated):
    """One simulated volume of a held-out person; None where not defined."""

    certain: str | None
    """Reason of a certain reject by the classifier's checks."""
    ncc: float | None


def simulate(simulator: Simulator, person: int, seed: int) -> tuple[HeldOutCase, reg.Grid]:
    """One volume of a person: a straight reject in three of ten, else any mixture of grades."""
    rng = np.random.default_rng([seed, 99])
    anatomy = simulator.people[person]
    if rng.random() < 0.3:
        reason, grid = rejects.draw(anatomy, simulator.priors, rng)
        return HeldOutCase(anatomy.person, anatomy.kind, seed, reason, None, None, None, None, None, None), grid
    gadolinium = bool(rng.random() < 0.5)
    clean = rng.random() < 0.25
    motion_grade, contrast_grade, noise_grade = (
        (0, 0, 0) if clean else (int(g) for g in rng.choice(3, 3, p=[0.5, 0.25, 0.25]))
    )
    share = float(rng.uniform(*((0.9, 1.1), (0.08, 0.4), (-0.35, 0.1))[contrast_grade]))
    look = Look(gadolinium, share, 1.0, float(rng.uniform(1.2, 2.2)))
    image = compose(anatomy, look, simulator.priors, rng)
    scan = scanner.Acquisition(image, anatomy.affine, anatomy.matrix, np.eye(4))
    if anatomy.kind == "map":
        scan = scanner.acquire(anatomy, image, rng)
    still = scan.image
    if rng.random() < 0.5:
        still = artefacts.bias(still, rng, rng.uniform(0.03, 0.2))
    tissues = simulator.tissues(anatomy, scan, np.eye(4))
    still_grid = reg.Grid(still, scan.affine)
    still_slices, _ = preprocess.sample_slices(still_grid, scan.matrix)
    level, _ = damage.tissue_levels(still_slices, tissues[0], tissues[1])
    contrast = damage.contrast_left(still_slices, tissues[0], tissues[1])
    moved, matrix, motion = still, scan.matrix, 0.0
    if motion_grade or (not clean and rng.random() < 0.2):
        axis = int(rng.integers(0, 3))
        severity = float(rng.uniform(*((0.01, 0.1), (0.3, 0.9), (0.8, 1.8))[motion_grade]))
        spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1]
        trajectory = artefacts.draw_trajectory(
            still.shape[axis], severity, rng, artefacts.line_energy(still, axis)
        )
        moved = artefacts.move(still, tuple(spacing), axis, trajectory)
        matrix = damage.realign(reg.Grid(moved, scan.affine), still_grid, simulator.head.brain_points, scan.matrix)
    moved_slices, _ = preprocess.sample_slices(reg.Grid(moved, scan.affine), matrix)
    if moved is not still:
        motion = damage.motion_damage(moved_slices, still_slices, tissues[0], tissues[2])
    low, high = ((0.002, 0.05), (0.075, 0.19), (0.2, 0.5))[noise_grade]
    sigma = float(np.exp(rng.uniform(np.log(low), np.log(high)))) * level
    spread = np.exp(artefacts.smooth_field(moved.shape, rng, 3, 0.25)) if rng.random() < 0.4 else None
    noisy = artefacts.add_noise(moved, sigma, rng, spread)
    noisy_slices, _ = preprocess.sample_slices(reg.Grid(noisy, scan.affine), matrix)
    noise = damage.noise_level(noisy_slices, moved_slices, tissues[2], level)
    measured = (float(motion), float(contrast), noise)
    case = HeldOutCase(anatomy.person, anatomy.kind, seed, "ok", int(gadolinium), *measured, None, None)
    return case, reg.Grid(noisy, scan.affine)


def build(
    out: Path,
    paths: list[Path],
    priors: synthesis.Priors,
    classifier: BrainMriClassifier,
    per_person: int,
    first_seed: int = 500_000,
    log: Callable[[str], None] = print,
) -> None:
    """Simulate and prepare `per_person` volumes of each person; one file per volume, kept if there."""
    out.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(paths, priors, classifier.head)
    for n in range(per_person):
        for index, anatomy in enumerate(simulator.people):
            seed = first_seed + 1000 * index + n
            path = out / f"{anatomy.person}-{seed}.npz"
            if path.exists():
                continue
            case, grid = simulate(simulator, index, seed)
            volume = domain.Volume(grid.values, grid.affine, modality="MR")
            prepared = classifier.prepare(volume)
            row = asdict(case) | {
                "certain": prepared.certain.value if prepared.certain else None,
                "ncc": prepared.measures.ncc,
            }
            whole = linear.volume_in_template(volume, classifier.head, "fast", 2.0)
            temporary = path.with_suffix(".tmp.npz")
            np.savez(
                temporary,
                slices=prepared.network_input,
                volume=np.round(whole * 255).astype(np.uint8),
                row=json.dumps(row),
            )
            temporary.replace(path)
        log(f"held-out set: {n + 1} of {per_person} volumes per person")


@dataclass(frozen=True)
class HeldOut:
    """A held-out set in memory: slices ``(n, S, H, W)`` float16, volumes ``(n, 85, 104, 90)`` uint8."""

    slices: npt.NDArray[np.float16]
    volumes: npt.NDArray[np.uint8]
    cases: list[HeldOutCase]


def load(out: Path) -> HeldOut:
    """A held-out set, by file name.

    Raises
    ------
    domain.QcNodeError
        The folder holds none.
    """
    slices, volumes, cases = [], [], []
    for path in sorted(out.glob("*.npz")):
        if path.name.endswith(".tmp.npz"):
            continue
        with np.load(path, allow_pickle=False) as f:
            slices.append(f["slices"])
            volumes.append(f["volume"])
            row: dict[str, Any] = json.loads(str(f["row"]))
            cases.append(HeldOutCase(**row))
    if not cases:
        raise domain.QcNodeError(f"There is no held-out set in {out}.")
    return HeldOut(np.stack(slices), np.stack(volumes), cases)
