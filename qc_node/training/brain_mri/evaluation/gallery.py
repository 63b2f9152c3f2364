"""Pictures of every artefact at every grade, for the docs: made from the average head, so of nobody.

``python -m qc_node.training.brain_mri.evaluation.gallery models/brain-mri docs/images/brain-mri``
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.brain_mri import grading, preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.domain import Question
from qc_node.training.brain_mri.simulation import artefacts, damage
from qc_node.training.brain_mri.simulation.compose import pull

FloatArray = npt.NDArray[np.float32]


class Gallery:
    """The average head as a person: sharpened, on a 1.25 mm grid, with its tissue shares."""

    def __init__(self, head: preprocess.AverageHead) -> None:
        self.head = head
        c = head.channels
        scale = 1.6
        zoomed = [ndimage.zoom(c[n], scale, order=1) for n in (0, 2, 3, 5, 6)]
        image, white, grey, vessel, inside = zoomed
        # People's folds differ, so their average is soft: sharpen, and pull the tissues apart.
        image = image + 1.2 * (image - ndimage.gaussian_filter(image, 2.0))
        image = image + 0.25 * white - 0.12 * grey
        self.image = np.asarray(np.clip(image, 0, None) * (inside > 0.2), dtype=np.float32)
        self.white = np.clip(white / 0.75, 0, 1).astype(np.float32)
        self.grey = np.clip(grey / 0.55, 0, 1).astype(np.float32)
        self.vessel = np.clip(vessel * 2.5, 0, 1).astype(np.float32)
        self.affine = head.affine @ np.diag([1 / scale, 1 / scale, 1 / scale, 1.0])
        self.spacing = (2 / scale,) * 3
        self.tissues = tuple(self._slices(t) for t in (self.white, self.grey, np.maximum(self.white, self.grey)))

    def _slices(self, volume: FloatArray) -> FloatArray:
        return preprocess.sample_slices(reg.Grid(volume, self.affine), np.eye(4))[0]

    def view(self, volume: FloatArray) -> FloatArray:
        """Mid axial, coronal and sagittal slices side by side, as the classifier sees them."""
        slices = preprocess.network_slices(reg.Grid(volume, self.affine), np.eye(4), self.head)
        return np.hstack(list(preprocess.thumbnails(slices).values())).astype(np.float32)

    def moved(self, severity: float, seed: int) -> tuple[FloatArray, float]:
        """The head moving during the scan, and the measured damage."""
        rng = np.random.default_rng(seed)
        axis = seed % 3
        energy = artefacts.line_energy(self.image, axis)
        trajectory = artefacts.draw_trajectory(self.image.shape[axis], severity, rng, energy)
        volume = artefacts.move(self.image, self.spacing, axis, trajectory)
        grid, still = reg.Grid(volume, self.affine), reg.Grid(self.image, self.affine)
        matrix = damage.realign(grid, still, self.head.brain_points, np.eye(4))
        slices, _ = preprocess.sample_slices(grid, matrix)
        return volume, damage.motion_damage(slices, self._slices(self.image), self.tissues[0], self.tissues[2])

    def noisy(self, sigma: float) -> tuple[FloatArray, float]:
        """Rician noise, and its measured level."""
        volume = artefacts.add_noise(self.image, sigma, np.random.default_rng(3))
        before = self._slices(self.image)
        level, _ = damage.tissue_levels(before, *self.tissues[:2])
        return volume, damage.noise_level(self._slices(volume), before, self.tissues[2], level)

    def faded(self, share: float) -> tuple[FloatArray, float]:
        """Less difference between grey and white matter, and what is left of it."""
        volume = pull(self.image, self.white, self.grey, share, np.random.default_rng(4))
        return volume, damage.contrast_left(self._slices(volume), *self.tissues[:2])

    def enhanced(self) -> FloatArray:
        """Gadolinium in the venous sinuses."""
        bright = ndimage.gaussian_filter(self.vessel, 0.6)
        return np.asarray(np.maximum(self.image, self.image * (1 - bright) + 1.8 * bright), dtype=np.float32)


def _find(question: Question, grade: int, trials: list[tuple[FloatArray, float]]) -> tuple[FloatArray, float]:
    """The trial whose damage lies deepest inside a grade."""
    fitting = [t for t in trials if grading.grade_of(question, t[1]) == grade]
    if not fitting:
        raise ValueError(f"no trial of {question.value} reached grade {grade}: {[round(t[1], 3) for t in trials]}")
    return fitting[len(fitting) // 2]


def draw(models: Path, out: Path) -> list[Path]:
    """Write one PNG per question, and one of other artefacts; returns their paths."""
    from PIL import Image, ImageDraw

    out.mkdir(parents=True, exist_ok=True)
    gallery = Gallery(preprocess.load_average_head(models))
    plain = gallery.image
    trials = {
        Question.MOTION: [(plain, 0.0), *(gallery.moved(0.3 + 0.12 * n, n) for n in range(16))],
        Question.NOISE: [gallery.noisy(s) for s in (0.01, 0.12, 0.4)],
        Question.CONTRAST: [gallery.faded(s) for s in (1.0, 0.1, -0.12)],
    }
    written = []

    def save(name: str, rows: list[tuple[str, FloatArray]]) -> None:
        tiles = []
        for label, picture in rows:
            tile = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
            ImageDraw.Draw(tile).text((5, 4), label, fill=255)
            tiles.append(np.asarray(tile))
        path = out / f"{name}.png"
        Image.fromarray(np.vstack(tiles)).save(path, optimize=True)
        written.append(path)

    for question, made in trials.items():
        rows = []
        for grade in range(3):
            volume, measured = _find(question, grade, made)
            rows.append((f"{question.value} {grade}: measured {measured:.3f}", gallery.view(volume)))
        save(question.value, rows)
    save("gadolinium", [("without", gallery.view(plain)), ("with gadolinium", gallery.view(gallery.enhanced()))])
    rng = np.random.default_rng(5)
    others = [
        ("bias field", artefacts.bias(plain, rng, 0.35)),
        ("ghosts", artefacts.ghost(plain, 1, 3, 0.3)),
        ("spike", artefacts.spike(plain, rng, 0.15)),
        ("Gibbs ringing", artefacts.truncate_k_space(plain, 1, 0.35)),
        ("truncated", np.where(np.arange(plain.shape[0])[:, None, None] > plain.shape[0] * 0.6, 0, plain)),
        ("skull-stripped", plain * (ndimage.zoom(gallery.head.channels[1], 1.6, order=1) > 0.4)),
    ]
    save("other", [(label, gallery.view(np.asarray(v, dtype=np.float32))) for label, v in others])
    return written


if __name__ == "__main__":
    for written_path in draw(Path(sys.argv[1]), Path(sys.argv[2])):
        print(written_path)
