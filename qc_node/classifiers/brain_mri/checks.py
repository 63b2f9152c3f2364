"""Cheap, certain checks before any network: what no threshold on a probability should decide.

Two rounds: on the volume as it came (slices, spacing, extent, values), and after registration to the
average head (coverage, what is left outside the brain, how well it fits).  Each answers with a reason or
says nothing; a network decides the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.brain_mask import BrainFound
from qc_node.classifiers.brain_mri.preprocess import AverageHead
from qc_node.classifiers.brain_mri.resampled import measured_spacing
from qc_node.classifiers.brain_mri.tissue_order import Order
from qc_node.domain import Reason, Volume

FloatArray = npt.NDArray[np.float32]

MIN_SLICES = 40
"""Fewer slices are a 2D acquisition (Bottani et al. 2022, section 2.1)."""
MAX_SPACING_MM = 2.6
"""Coarser in any direction is not a 3D T1w; the coarsest real 3D heads at hand have 2 mm."""
MAX_MEASURED_MM = 3.0
"""Slices that were made from such as are thicker; a sender may well have brought 1.3 mm to 1."""
MIN_EXTENT_MM = 110.0
"""A whole brain does not fit into less, whatever the direction (adult brains measure 130-180 mm)."""
MAX_LABELS = 20
"""An image with as few values is a segmentation."""
MAX_FLAT_SHARE = 0.5
"""Share of foreground voxels that equal their three neighbours exactly; real images stay below 0.2."""
MAX_BAD_SHARE = 0.2
PITCH_DEG = (-45.0, 13.0)
"""Nodding that occurs (chin up is negative; people lie at -5 to -27 degrees against MNI space)."""
MAX_TURN_DEG = 26.0
"""Roll and yaw that occur."""


@dataclass(frozen=True)
class AtPlace:
    """What was measured where the head was placed.

    Attributes
    ----------
    lost_brain
        Share of the average brain that lies outside the image or in blanked voxels.
    shell_share
        Share of the places of skull and scalp inside the image that have signal.
    pitch_deg, turn_deg
        Nodding about the left-right axis; roll and yaw together.
    scales
        Size against the average head per direction, ascending.
    """

    lost_brain: float
    shell_share: float
    pitch_deg: float
    turn_deg: float
    scales: tuple[float, float, float]


@dataclass(frozen=True)
class Measures:
    """What was measured on one image; None where it was not reached or not needed.

    Attributes
    ----------
    measured_spacing_mm
        Distance of planes that carry something of their own, see
        :func:`qc_node.classifiers.brain_mri.resampled.measured_spacing`.
    ncc, evened_ncc
        Correlation with the average head as the image is, and of an evened copy.
    mask
        What the second opinion marked.
    at, by_mask
        Where the head lies by grey values (by the mask where these say nothing), and by the mask alone.
    turned
        Whether the head fits much better turned by 90 or 180 degrees, by two means.
    cut_above
        Whether the upper edge of the image cuts through something as wide as a head.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, float, float] | None = None
    bad_share: float = 0.0
    n_values: int | None = None
    flat_share: float | None = None
    measured_spacing_mm: tuple[float, float, float] | None = None
    ncc: float | None = None
    evened_ncc: float | None = None
    mask: BrainFound | None = None
    at: AtPlace | None = None
    by_mask: AtPlace | None = None
    turned: bool = False
    cut_above: bool = False
    order: Order | None = None
    stripes: float = 0.0


def before_registration(volume: Volume, values: FloatArray, bad_share: float) -> tuple[Measures, Reason | None]:
    """Measures on the volume as it came, and the reason of a certain reject.

    Parameters
    ----------
    values
        Finite float32 copy of the voxels, see :func:`qc_node.classifiers.brain_mri.values.clean_values`.
    """
    spacing = volume.spacing_mm
    measures = Measures(values.shape, spacing, bad_share)
    if values.size == 0 or bad_share > MAX_BAD_SHARE:
        return measures, Reason.BLANK
    if not np.isfinite(volume.affine).all() or abs(float(np.linalg.det(volume.affine[:3, :3]))) < 1e-6:
        return measures, Reason.GEOMETRY
    inner = values[:: max(1, values.shape[0] // 64), ::2, ::2]
    low, high = float(inner.min()), float(inner.max())
    if not high > low:
        return measures, Reason.BLANK
    if min(values.shape) < MIN_SLICES:
        return measures, Reason.TOO_FEW_SLICES
    if max(spacing) > MAX_SPACING_MM:
        return measures, Reason.THICK_SLICES
    if min(n * s for n, s in zip(values.shape[::-1], spacing, strict=True)) < MIN_EXTENT_MM:
        return measures, Reason.FIELD_OF_VIEW
    n_values = len(np.unique(inner[::2, ::2, ::2]))
    flat = flat_share(values)
    own = measured_spacing(values, spacing)
    measures = Measures(values.shape, spacing, bad_share, n_values, flat, own)
    if n_values <= MAX_LABELS or flat > MAX_FLAT_SHARE:
        return measures, Reason.SEGMENTED
    if max(own) > MAX_MEASURED_MM:
        return measures, Reason.THICK_SLICES
    return measures, None


def flat_share(values: FloatArray) -> float:
    """Share of foreground voxels on a few slices whose neighbours have exactly the same value."""
    k = values.shape[0]
    equal = total = 0
    background = _background(values)
    bright = 0.03 * abs(float(np.quantile(values[:: max(1, k // 32), ::4, ::4], 0.98)) - background)
    for s in range(k // 5, k - 1, max(1, k // 12)):
        here = values[s, :-1, :-1]
        front = np.abs(here - background) > bright
        same = (here == values[s, 1:, :-1]) & (here == values[s, :-1, 1:]) & (here == values[s + 1, :-1, :-1])
        equal += int((same & front).sum())
        total += int(front.sum())
    return equal / total if total > 500 else 0.0


def _background(values: FloatArray) -> float:
    """The most frequent value at the borders."""
    faces = np.concatenate(
        [values[0, ::4, ::4].ravel(), values[-1, ::4, ::4].ravel(), values[::4, 0, ::4].ravel()]
    )
    unique, counts = np.unique(faces, return_counts=True)
    return float(unique[counts.argmax()])


def at_place(grid: reg.Grid, matrix: npt.NDArray[np.float64], head: AverageHead) -> AtPlace:
    """What can be measured where the head lies.

    Parameters
    ----------
    grid
        The image at about 4 mm, as it is or evened.
    matrix
        From the average head's frame to the image.
    """
    m = torch.from_numpy(matrix).float()
    channels = torch.from_numpy(np.ascontiguousarray(grid.values, dtype=np.float32))[None]

    def at(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, inside = reg.sample(channels, grid.affine, points @ m[:3, :3].T + m[:3, 3])
        return values[0], inside

    inner, inner_inside = at(head.brain_points)
    level = float(torch.quantile(inner[inner_inside], 0.75)) if int(inner_inside.sum()) > 100 else float("nan")
    brain, brain_inside = at(head.brain_rim_points)
    floor = float(np.quantile(grid.values, 0.02))
    blank = brain <= floor + 0.02 * (level - floor) if np.isfinite(level) else torch.ones_like(brain_inside)
    lost = float((~brain_inside | blank).float().mean())
    shell, shell_inside = at(head.shell_points)
    with_signal = shell > floor + 0.12 * (level - floor)
    shell_share = float((with_signal & shell_inside).float().sum() / shell_inside.float().sum().clamp_min(1.0))
    singular = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return AtPlace(
        lost, shell_share, *pitch_and_turn(matrix), (float(singular[2]), float(singular[1]), float(singular[0]))
    )


def pitch_and_turn(matrix: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Rotation of the head in degrees: nodding about the left-right axis, and roll and yaw together."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    r = u @ vt
    if np.linalg.det(r) < 0:
        return 0.0, 180.0
    angle = float(np.arccos(np.clip((np.trace(r) - 1) / 2, -1, 1)))
    axis = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    norm = float(np.linalg.norm(axis))
    if norm < 1e-9:
        return 0.0, float(np.degrees(angle))
    vector = np.degrees(angle) * axis / norm
    return float(vector[0]), float(np.hypot(vector[1], vector[2]))
