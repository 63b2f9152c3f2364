"""Heads that belong to nobody: made from the average head that ships with the MRI model.

The tissue shares of the average head are folded along a random smooth field, so that cortex and ventricles
get individual edges, and painted with the intensities of T1w or with Hounsfield units.  The bad series is the
same kind of head after simulated motion in k-space, with much noise.  What the models make of them is their
business: nothing here tells them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from qc_node.classifiers.brain_mri.preprocess import load_average_head
from qc_node.demo.datasets import Sample
from qc_node.training.brain_mri.simulation.artefacts import Trajectory, add_noise, move, smooth_field

FloatArray = npt.NDArray[np.float32]

MR_SPACING_MM = (1.2, 1.2, 1.3)
CT_SPACING_MM = (2.5, 0.9, 0.9)
"""Of the grids, along (inferior-superior, anterior-posterior, right-left)."""
FOLDING_MM = 6.0
"""How far the individual head departs from the average one."""
GOOD_NOISE, BAD_NOISE = 0.02, 0.25
"""Standard deviation of the noise in each channel; white matter is 1."""
PHASE_AXIS = 1
"""Anterior-posterior: the slow phase axis of the sample that moved."""
FOLD_MM = 22.0
"""Distance of two independent folds."""


class SampleHead:
    """One invented head on a grid of its own.

    Parameters
    ----------
    models_dir
        Holds ``brain-mri/average_head.npz``.
    spacing_mm
        ``(k, j, i)`` of the wanted grid, axes (inferior-superior, anterior-posterior, right-left).
    """

    def __init__(self, models_dir: Path, spacing_mm: tuple[float, float, float], rng: np.random.Generator) -> None:
        average = load_average_head(models_dir / "brain-mri")
        own = np.abs(np.diag(average.affine)[:3])[::-1]
        shape = tuple(int(n * a / s) for n, a, s in zip(average.channels.shape[1:], own, spacing_mm, strict=True))
        self.spacing_mm = spacing_mm
        self.origin = average.affine[:3, 3]
        where = self._fold(shape, spacing_mm, own, rng)
        size = torch.tensor(average.channels.shape[1:], dtype=torch.float32)
        points = (2 * torch.from_numpy(where) + 1) / size[:, None, None, None] - 1
        grid = points.flip(0).movedim(0, -1)[None]
        channels = torch.from_numpy(average.channels)[None]
        folded = functional.grid_sample(channels, grid, "bilinear", "zeros", align_corners=False)[0].numpy()
        names = ("image", "brain", "white", "grey", "ventricle", "vessel", "head")
        self.maps: dict[str, FloatArray] = dict(zip(names, folded, strict=True))
        self.texture = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.2)
        self.texture /= self.texture.std()

    @staticmethod
    def _fold(
        shape: tuple[int, ...],
        spacing: tuple[float, float, float],
        own: npt.NDArray[np.float64],
        rng: np.random.Generator,
    ) -> FloatArray:
        """Where each voxel lies in the average head, in its voxels ``(3, K, J, I)``."""
        where = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))
        nodes = max(4, int(max(n * s for n, s in zip(shape, spacing, strict=True)) / FOLD_MM))
        for axis in range(3):
            field = smooth_field(shape, rng, nodes, FOLDING_MM / 3)
            where[axis] = (where[axis] * spacing[axis] + field) / own[axis]
        return np.asarray(where, np.float32)

    def crisp(self, name: str, width: float = 0.12) -> FloatArray:
        """A tissue share with the soft edge of the average made sharp."""
        share = self.maps[name]
        return np.asarray(1.0 / (1.0 + np.exp(-(share - 0.45) / width)), np.float32)

    def t1w(self) -> FloatArray:
        """T1w intensities, white matter about 1."""
        brain, white, ventricle = self.crisp("brain"), self.crisp("white"), self.crisp("ventricle", 0.06)
        tissue = 0.62 + 0.38 * white
        tissue = tissue * (1 - ventricle) + 0.18 * ventricle
        rim = np.clip(1 - np.abs(self.maps["brain"] - 0.45) / 0.25, 0, 1) * (self.maps["white"] < 0.3)
        tissue = tissue - 0.3 * rim
        head = self.crisp("head")
        outside = self.maps["image"] * head
        values = brain * tissue + (1 - brain) * outside
        return np.asarray(np.clip(values * (1 + 0.02 * self.texture), 0, None), np.float32)

    def hounsfield(self) -> FloatArray:
        """Hounsfield units of an unenhanced head: the skull is a shell that follows the brain."""
        inside = ndimage.binary_closing(self.maps["brain"] > 0.35, iterations=4)
        inside = np.stack([ndimage.binary_fill_holes(s) for s in inside])
        distance = ndimage.distance_transform_edt(~inside, sampling=self.spacing_mm)
        head = self.maps["head"] > 0.5
        depth = ndimage.distance_transform_edt(head, sampling=self.spacing_mm)
        hu = np.full(head.shape, -1000.0, np.float32)
        hu[head] = 45
        hu[head & (depth < 6)] = -80
        hu[head & (depth < 2)] = 20
        shell = head & (distance > 2.5) & (distance < 9) & (depth > 3)
        hu[shell] = 550
        hu[shell & ((distance < 4.5) | (distance > 7))] = 1100
        hu[head & (distance <= 2.5)] = 10
        tissue = 37 - 9 * self.crisp("white")
        tissue = tissue + (6 - tissue) * self.crisp("ventricle", 0.06)
        hu[inside] = tissue[inside]
        return np.asarray(hu + 2 * self.texture, np.float32)

    def affine(self) -> npt.NDArray[np.float64]:
        """``(i, j, k)`` to LPS mm."""
        affine = np.diag([*self.spacing_mm[::-1], 1.0])
        affine[:3, 3] = self.origin
        return affine


def samples(models_dir: Path, seed: int = 1) -> Iterator[Sample]:
    """A good brain T1w, one spoilt by motion, and a head CT."""
    rng = np.random.default_rng(seed)
    good = SampleHead(models_dir, MR_SPACING_MM, rng)
    yield _t1w("brain MRI, patient kept still", "1", good, good.t1w(), rng)
    bad = SampleHead(models_dir, MR_SPACING_MM, rng)
    still = bad.t1w()
    moved = move(still, bad.spacing_mm, PHASE_AXIS, nodding(still.shape[PHASE_AXIS]))
    yield _t1w("brain MRI, patient restless and a coil element broken", "2", bad, moved, rng, BAD_NOISE)
    head = SampleHead(models_dir, CT_SPACING_MM, rng)
    noisy = head.hounsfield() + rng.normal(0, 5, head.texture.shape)
    yield Sample(
        title="head CT",
        modality="CT",
        voxels=np.clip(np.rint(noisy), -1024, 3071).astype(np.int16),
        affine=head.affine(),
        patient_id="DEMO3",
        patient_name="Demo^Three",
        accession_number="DEMO-3",
        study_description="CT head without contrast",
        series_description="Head 2.5 mm",
        body_part="HEAD",
        station="DEMO-CT",
    )


def nodding(lines: int, nods: int = 15, degrees: float = 8.0, slip_mm: float = 6.0) -> Trajectory:
    """A head that goes up and down while the lines of k-space are acquired in order."""
    phase = np.where(np.arange(nods) % 2, 0.5, -0.5)
    rotations, translations = np.zeros((nods, 3)), np.zeros((nods, 3))
    rotations[:, 2] = degrees * phase
    translations[:, 0] = slip_mm * phase
    order = np.argsort(np.argsort(np.fft.fftfreq(lines)))
    return Trajectory(rotations, translations, (order * nods) // lines)


def _t1w(
    title: str,
    number: str,
    head: SampleHead,
    values: FloatArray,
    rng: np.random.Generator,
    noise: float = GOOD_NOISE,
) -> Sample:
    """Sagittal slices as an MPRAGE is acquired, 12 bit."""
    noisy = add_noise(values, noise, rng)
    affine = head.affine()
    sagittal = np.ascontiguousarray(noisy[::-1].transpose(2, 0, 1))  # (right-left, superior-inferior, AP)
    turned = np.eye(4)
    turned[:3, 0], turned[:3, 1], turned[:3, 2] = affine[:3, 1], -affine[:3, 2], affine[:3, 0]
    turned[:3, 3] = affine[:3, 3] + affine[:3, 2] * (noisy.shape[0] - 1)
    return Sample(
        title=title,
        modality="MR",
        voxels=np.clip(np.rint(sagittal * 600), 0, 4095).astype(np.int16),
        affine=turned,
        patient_id=f"DEMO{number}",
        patient_name=f"Demo^{'One' if number == '1' else 'Two'}",
        accession_number=f"DEMO-{number}",
        study_description="MRI brain",
        series_description="T1 MPRAGE sag 3D",
        body_part="BRAIN",
        station="DEMO-MR",
    )
