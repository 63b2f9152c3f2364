"""Whole heads in Hounsfield units from label maps, plain and enhanced.

Real head CT with contrast is not at hand, so heads are made from 1 mm label maps with scalp, skull,
vessels and mucosa (SynthSeg, Apache-2.0; labels above 500 are extracerebral).  Tissue values are those of
textbooks and vary per head.  What could be mistaken for contrast is put into both classes: fresh
haemorrhage (60-90 HU), calcified pineal gland and plexus, dental metal, dense veins in a plain scan.
Everything measured on these heads is *simulated*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain import Volume
from qc_node.training.label_maps import read_label_map

_WHITE = (2, 41, 7, 46, 77, 85, 251, 252, 253, 254, 255)
_GREY = (3, 42, 8, 47, 10, 11, 12, 13, 17, 18, 26, 28, 49, 50, 51, 52, 53, 54, 58, 60, 136, 137, 163, 164)
_FLUID = (4, 5, 14, 15, 24, 43, 44, 72)
_ARTERY, _VEIN, _EYE, _SOFT, _MUSCLE, _MUCOSA, _SKIN = 502, 514, 506, 507, 508, 509, 511
_CORD, _CORTICAL, _CANCELLOUS, _OPTIC = 512, 515, 516, 530
_PLEXUS = (31, 63)
_CEREBRAL_VESSEL = (30, 62)


@dataclass(frozen=True)
class Head:
    """One made head."""

    volume: Volume
    vertex_mm: float
    """Distance of the vertex from the top of the volume."""
    skull_base_mm: float
    enhanced: bool


def read_labels(path: Path) -> npt.NDArray[np.int16]:
    """A label map as ``(z, y, x)``: cranial first, anterior first, the patient's right first; 1 mm."""
    labels, _ = read_label_map(path)
    return np.ascontiguousarray(labels[::-1])


def make_head(labels: npt.NDArray[np.int16], *, enhanced: bool, rng: np.random.Generator) -> Head:
    """One head in HU from `labels`.

    Parameters
    ----------
    labels
        ``(z, y, x)`` as :func:`read_labels` returns it.
    enhanced
        With intravenous contrast: an arterial (CTA) or a later phase, drawn from `rng`.
    rng
        Source of every choice.

    Returns
    -------
    Head
        At 2 mm in plane, 2-5 mm between slices, turned by up to 15 degrees, from above the vertex down to
        between the skull base and the chin.
    """
    labels = _with_branches(labels, rng)
    value = _tissue_values(enhanced, rng)
    table = np.full(int(labels.max()) + 1, value["other"], np.float32)
    for label in np.unique(labels):
        table[label] = value.get(int(label), value["other"])
    hu = table[labels]
    soft = labels == _SOFT
    # Fat and muscle of the face share one label: a smooth random field decides which is where.
    field = ndimage.zoom(rng.normal(size=tuple(n // 8 + 2 for n in labels.shape)).astype(np.float32), 8, order=1)
    field = field[tuple(slice(0, n) for n in labels.shape)]
    hu[soft] = np.where(field[soft] > rng.uniform(-0.3, 0.3), value["muscle"], value["fat"])
    brain = np.isin(labels, _WHITE + _GREY)
    _add_lesions(hu, brain, rng)
    if rng.random() < 0.4:
        _add_teeth(hu, labels, rng)
    hu = _halved(hu)
    small = _halved(labels.astype(np.float32), mean=False)
    hu = ndimage.gaussian_filter(hu, rng.uniform(0.2, 0.7))
    skull = np.clip(hu - 200, 0, None)
    hu += rng.uniform(0, 0.02) * ndimage.gaussian_filter(skull, 4)  # cupping next to bone
    angles = rng.normal(0, [12.0, 5.0, 8.0])
    hu, moved = _turned(hu, angles, -1000.0, 1), _turned(small, angles, 0.0, 0)
    tissue = moved > 0
    rows = np.flatnonzero(tissue.any((1, 2)))
    stem = np.flatnonzero((moved == 16).any((1, 2)))
    vertex, base = int(rows[0]), int(stem[-1])
    start = max(0, vertex - int(rng.integers(0, 12)))
    end = min(len(hu), base + int(rng.integers(-8, 35)), int(rows[-1]) + 1)
    hu = hu[start:end]
    step = int(rng.choice([1, 1, 2]))
    hu = hu[: len(hu) // step * step].reshape(-1, step, *hu.shape[1:]).mean(1)
    hu += rng.normal(0, rng.uniform(2, 12), hu.shape).astype(np.float32)
    spacing = 2.0 * step
    affine = np.diag([2.0, 2.0, -spacing, 1.0])
    return Head(
        Volume(np.clip(hu, -1024, 3071).astype(np.int16), affine, modality="CT"),
        (vertex - start) * 2.0,
        (base - start) * 2.0,
        enhanced,
    )


def _with_branches(labels: npt.NDArray[np.int16], rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """`labels` with the vessels that the maps lack: branches in cisterns and sulci, and plexus.

    The maps know the large sinuses and the carotid arteries.  A branch is where two smooth random fields
    are both near zero, which is a curve, inside the fluid around the brain; thicker near the base.
    """
    out = labels.copy()
    fluid = labels == 24
    wall = (labels == _CORTICAL) | (labels == _CANCELLOUS)
    grown = ndimage.binary_dilation((labels == _ARTERY) | (labels == _VEIN), iterations=1) & ~wall & (labels > 0)
    near_vein = ndimage.binary_dilation(labels == _VEIN, iterations=2)
    out[grown] = np.where(near_vein[grown], _VEIN, _ARTERY)
    shape = labels.shape
    crop = tuple(slice(0, n) for n in shape)
    fields = [
        ndimage.zoom(rng.normal(size=tuple(n // 14 + 3 for n in shape)).astype(np.float32), 14, order=1)[crop]
        for _ in range(2)
    ]
    stem = np.flatnonzero((labels == 16).any((1, 2)))
    if stem.size:
        above_base = np.abs(np.arange(shape[0]) - stem[0] - 10.0)
        width = np.where(above_base < 25, rng.uniform(0.14, 0.24), rng.uniform(0.05, 0.12)).astype(np.float32)
        curve = (np.abs(fields[0]) < width[:, None, None]) & (np.abs(fields[1]) < width[:, None, None])
        brain_near = ndimage.binary_dilation(np.isin(labels, _GREY), iterations=4)
        out[curve & fluid & brain_near] = _ARTERY if rng.random() < 0.7 else _VEIN
    ventricle = np.isin(labels, (4, 43))
    out[ventricle & (fields[0] > 0.5)] = _PLEXUS[0]
    return out


def _tissue_values(enhanced: bool, rng: np.random.Generator) -> Mapping[int | str, float]:
    blood = rng.uniform(35, 62)
    arterial, venous, brain, mucosa = blood, blood + rng.uniform(0, 8), 0.0, 0.0
    if enhanced:
        if rng.random() < 0.5:
            arterial, venous, brain = rng.uniform(200, 420), rng.uniform(90, 280), rng.uniform(1, 4)
        else:
            arterial = rng.uniform(95, 190)
            venous, brain = arterial * rng.uniform(0.9, 1.2), rng.uniform(2, 6)
        mucosa = rng.uniform(10, 50)
    shift = rng.normal(0, 3)
    value: dict[int | str, float] = {0: -1000.0, "other": 40.0}
    value |= {label: rng.normal(28, 2) + brain * 0.5 + shift for label in _WHITE}
    grey = rng.normal(37, 2) + brain + shift
    value |= dict.fromkeys(_GREY, grey)
    value |= dict.fromkeys(_FLUID, rng.normal(6, 3) + shift)
    value |= {_ARTERY: arterial, _VEIN: venous, _MUCOSA: rng.normal(40, 10) + mucosa, _EYE: rng.normal(8, 4)}
    value |= {_SKIN: rng.uniform(-20, 60), _MUSCLE: 55.0 + mucosa * 0.3, _CORD: 35.0, _OPTIC: 25.0, 16: grey - 4}
    value |= {_CORTICAL: rng.uniform(900, 1500), _CANCELLOUS: rng.uniform(250, 700)}
    value |= dict.fromkeys(_PLEXUS, rng.uniform(30, 60) + (rng.uniform(20, 60) if enhanced else 0))
    value |= dict.fromkeys(_CEREBRAL_VESSEL, arterial)
    value |= {"muscle": rng.normal(52, 6) + mucosa * 0.2, "fat": rng.normal(-95, 10)}
    value |= {165: rng.uniform(700, 1200), 258: rng.uniform(-30, 40), 259: 30.0}  # the map without vessels
    return value


def _add_lesions(hu: npt.NDArray[np.float32], brain: npt.NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Haemorrhage, calcification or infarct, whether or not the head is enhanced."""
    inside = np.argwhere(brain[::4, ::4, ::4]) * 4
    for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.5 else 0):
        kind = rng.choice(["blood", "lime", "infarct"])
        radius = rng.uniform(1, 4) if kind == "lime" else rng.uniform(5, 28)
        centre = inside[rng.integers(len(inside))]
        box = tuple(slice(max(0, int(c - radius)), int(c + radius) + 1) for c in centre)
        grid = np.ogrid[box]
        near = sum(((g - c) / (radius * rng.uniform(0.6, 1))) ** 2 for g, c in zip(grid, centre, strict=True)) <= 1
        target = {"blood": rng.uniform(58, 90), "lime": rng.uniform(120, 600), "infarct": rng.uniform(12, 25)}[
            kind
        ]
        hu[box] = np.where(near & brain[box], target, hu[box])


def _add_teeth(hu: npt.NDArray[np.float32], labels: npt.NDArray[np.int16], rng: np.random.Generator) -> None:
    """Dental metal in the lower front of the bone."""
    bone = np.argwhere(labels[::3, ::3, ::3] == _CORTICAL) * 3
    low = bone[bone[:, 0] > np.quantile(bone[:, 0], 0.9)]
    front = low[low[:, 1] < np.quantile(low[:, 1], 0.4)]
    if not len(front):
        return
    for _ in range(int(rng.integers(1, 6))):
        z, y, x = front[rng.integers(len(front))]
        hu[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] = 3000.0


def _halved(array: npt.NDArray[np.float32], *, mean: bool = True) -> npt.NDArray[np.float32]:
    z, y, x = (n // 2 * 2 for n in array.shape)
    if not mean:
        return np.ascontiguousarray(array[:z:2, :y:2, :x:2])
    halved: npt.NDArray[np.float32] = array[:z, :y, :x].reshape(z // 2, 2, y // 2, 2, x // 2, 2).mean((1, 3, 5))
    return halved


def _turned(
    array: npt.NDArray[np.float32], degrees: npt.NDArray[np.float64], outside: float, order: int
) -> npt.NDArray[np.float32]:
    a, b, c = np.radians(degrees)
    about_x = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])  # z-y plane: nodding
    about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    matrix = about_x @ about_y @ about_z
    centre = (np.array(array.shape) - 1) / 2
    turned: npt.NDArray[np.float32] = ndimage.affine_transform(
        array, matrix, centre - matrix @ centre, order=order, cval=outside
    )
    return turned
