"""Whole heads from label maps: anatomy from people, intensities from measured T1 priors.

The label maps (SynthSeg, Apache-2.0) name 54 structures, among them arteries, veins, mucosa, bone and
skin, so gadolinium, poor contrast, other sequences and stripped or segmented images can all be made from
real anatomy.  Intensities are drawn from the priors that come with the maps: mean and SD of a Gaussian
per class, themselves Gaussian over people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.float32]

WHITE = (2, 41, 7, 46, 16, 28, 60, 251, 252, 253, 254, 255)
GREY = (3, 42, 8, 47, 10, 11, 12, 13, 17, 18, 26, 49, 50, 51, 52, 53, 54, 58)
CORTEX = (3, 42)
CEREBRAL_WHITE = (2, 41)
FLUID = (4, 5, 14, 15, 24, 43, 44, 72)
LESION = (25, 57)
ARTERY, VEIN, VESSEL = (502,), (514,), (30, 62, 85)
MUCOSA, EYES, SKIN, OTHER_TISSUE, MUSCLE = (509,), (506,), (511,), (507,), (508,)
BONE = (515, 516)
"""Label numbers: FreeSurfer's, and 502-530 of SimNIBS charm for what lies outside the brain."""


@dataclass(frozen=True)
class Priors:
    """Measured T1 intensities: for each label the mean and SD of its class, with their spread over people."""

    labels: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    means: npt.NDArray[np.float64]
    """(2, n_classes): mean and spread of the class mean."""
    stds: npt.NDArray[np.float64]


def load_priors(folder: Path) -> Priors:
    """Priors from the folder ``priors`` beside the label maps."""
    return Priors(
        np.load(folder / "generation_labels.npy").astype(np.int64),
        np.load(folder / "generation_classes_contrast_specific.npy").astype(np.int64),
        np.load(folder / "prior_means_t1.npy"),
        np.load(folder / "prior_stds_t1.npy"),
    )


def is_in(labels: npt.NDArray[np.int16], wanted: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Mask of voxels whose label is one of `wanted` (lookup table; faster than ``np.isin``)."""
    table = np.zeros(1024, dtype=bool)
    table[list(wanted)] = True
    return np.asarray(table[labels])


def class_tables(
    priors: Priors, rng: np.random.Generator | None, spread: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Lookup tables label -> mean and label -> SD, each of length 1024.

    Without `rng` the prior means; with it one draw per class, `spread` times as wide as measured.
    """
    means, stds = priors.means[0].copy(), priors.stds[0].copy()
    if rng is not None:
        means = means + spread * priors.means[1] * rng.standard_normal(means.size)
        stds = stds + spread * priors.stds[1] * rng.standard_normal(stds.size)
    mean_table, std_table = np.zeros(1024, np.float32), np.zeros(1024, np.float32)
    mean_table[priors.labels] = np.clip(means, 0, None)[priors.classes]
    std_table[priors.labels] = np.clip(stds, 1, None)[priors.classes]
    return mean_table, std_table


def paint(
    labels: npt.NDArray[np.int16],
    mean_table: FloatArray,
    std_table: FloatArray,
    rng: np.random.Generator | None,
    texture: float = 0.35,
    blur_voxels: float = 0.6,
) -> FloatArray:
    """Fill a label map with tissue.

    The class SD of the priors holds noise, partial volume and texture together; only the share `texture`
    is painted, smoothed over about 2 voxels so that it is tissue and not noise (noise is an artefact and
    added later, with a measured amount).  A slight blur stands for partial volume.
    """
    image = mean_table[labels]
    if rng is not None and texture > 0:
        field = ndimage.gaussian_filter(rng.standard_normal(labels.shape, dtype=np.float32), 1.2)
        image = image + texture * std_table[labels] * field / max(float(field.std()), 1e-6)
    if blur_voxels > 0:
        image = ndimage.gaussian_filter(image, blur_voxels)
    return np.asarray(np.clip(image, 0, None), dtype=np.float32)
