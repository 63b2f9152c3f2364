"""Old age: less brain, more fluid, bright spots in the white matter.

On label maps by morphology (cortex gives way to fluid, white matter to ventricle); on real heads grey and white
matter near fluid are pulled to fluid by their shares.  What is changed is the anatomy, so tissue shares and all
that is measured with them follow.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.training.brain_mri.simulation import agent, synthesis
from qc_node.training.brain_mri.simulation.agent import grown
from qc_node.training.brain_mri.simulation.artefacts import smooth_field
from qc_node.training.brain_mri.simulation.tissues import Anatomy

FloatArray = npt.NDArray[np.float32]

VENTRICLES = (4, 43)
_AROUND = (*synthesis.CEREBRAL_WHITE, 11, 50, 10, 49)
"""What may become ventricle: white matter, caudate nucleus, thalamus."""


def aged(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """The same person decades later: 2-6 mm wider ventricles, 0-2 mm wider sulci, stronger at some places."""
    voxel = float(np.mean(np.linalg.norm(anatomy.affine[:3, :3], axis=0)))
    made = (_aged_map if anatomy.image is None else _aged_head)(anatomy, voxel, rng)
    agent.inherit(made, anatomy)
    return made


def _aged_map(anatomy: Anatomy, voxel: float, rng: np.random.Generator) -> Anatomy:
    labels, white, grey = anatomy.labels.copy(), anatomy.white.copy(), anatomy.grey.copy()
    here = smooth_field(labels.shape, rng, 6) > rng.uniform(-1.5, 0.2)

    def give(mask: npt.NDArray[np.bool_], label: int, whiteness: float, greyness: float) -> None:
        labels[mask], white[mask], grey[mask] = label, whiteness, greyness

    ventricle = grown(synthesis.is_in(labels, VENTRICLES), max(1, round(rng.uniform(1.5, 5.5) / voxel)))
    give(ventricle & synthesis.is_in(labels, _AROUND), VENTRICLES[0], 0, 0)
    thinned = grown(synthesis.is_in(labels, (24,)), 1) & synthesis.is_in(labels, synthesis.CORTEX) & here
    give(thinned, 24, 0, 0)
    if rng.random() < 0.6:
        # The cortex keeps some of its thickness: white matter beside it gives way.
        edge = grown(thinned, 2) & synthesis.is_in(labels, synthesis.CEREBRAL_WHITE)
        give(edge & grown(synthesis.is_in(labels, synthesis.CORTEX)), 3, 0, 1)
    return replace(anatomy, labels=labels, white=white, grey=grey)


def _aged_head(anatomy: Anatomy, voxel: float, rng: np.random.Generator) -> Anatomy:
    assert anatomy.image is not None
    image, labels = anatomy.image, anatomy.labels
    white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
    known = synthesis.is_in(labels, VENTRICLES)
    fluid = (image < 0.4) & (known | (grown(grey > 0.5, 1) & ((white + grey) < 0.3)))
    level = float(np.median(image[fluid])) if fluid.sum() > 500 else 0.25
    reach = ndimage.gaussian_filter(fluid.astype(np.float32), rng.uniform(0.7, 1.6) / voxel, truncate=2.5)
    wide = grown(known & (image < 0.5), max(1, round(rng.uniform(1.0, 4.0) / voxel)))
    wide = ndimage.gaussian_filter(wide.astype(np.float32), 0.8 / voxel, truncate=2.5)
    here = np.clip(0.7 + 0.4 * smooth_field(labels.shape, rng, 6), 0, 1.2)
    lost = np.clip(np.maximum(reach * here * rng.uniform(0.8, 2.2), wide), 0, 1) * np.clip(white + grey, 0, 1)
    faded = image + lost * np.minimum(level - image, 0)
    return replace(
        anatomy,
        image=np.asarray(faded, dtype=np.float32),
        white=(white * (1 - lost)).astype(np.float16),
        grey=(grey * (1 - lost)).astype(np.float16),
    )


def hyperintensities(anatomy: Anatomy, rng: np.random.Generator) -> FloatArray:
    """Share of white-matter hyperintensity ``(K, J, I)``: caps around the ventricles and spots further out."""
    shape = anatomy.labels.shape
    white = anatomy.white.astype(np.float32)
    voxel = float(np.mean(np.linalg.norm(anatomy.affine[:3, :3], axis=0)))
    ventricle = synthesis.is_in(anatomy.labels, VENTRICLES)
    caps = grown(ventricle, max(1, round(rng.uniform(1.5, 6.0) / voxel)))
    caps &= smooth_field(shape, rng, 10) > rng.uniform(-0.5, 0.9)
    spots = smooth_field(shape, rng, int(rng.integers(20, 34))) > rng.uniform(1.7, 2.6)
    spread = ndimage.gaussian_filter((caps | spots).astype(np.float32), 0.9 / voxel, truncate=2.5)
    return np.asarray(np.clip(1.3 * spread, 0, 1) * white, dtype=np.float32)


def spotted(image: FloatArray, spots: FloatArray, level: float) -> FloatArray:
    """The image with its hyperintensities at `level` (white matter 1)."""
    return np.asarray(image + spots * (np.float32(level) - image), dtype=np.float32)
