"""One pass over a CT volume: three projections on three planes, and a coarse copy of the body.

ImageQC-net (Yoo et al. 2022) looks at a maximum intensity projection (MIP), an average intensity
projection (AIP) and a mid-plane in each of the axial, coronal and sagittal directions.  Pictures of these nine
kinds are made here while the slices go by once, together with a 4 mm copy of the body (the *coarse volume*) that
the anatomy and contrast networks read.  No second copy of the volume is made: the largest temporary is one slab of
slices.

The AIP here is not the paper's.  It is a body-only AIP: the mean over the body's voxels along a ray.  A plain mean
also counts the air around the patient: on two series the mean grey was 0.33 against 0.13 and 0.30 against 0.04,
and the pictures correlated by 0.46 to 0.80 only.

Physical choices, each with a phantom test:

- Directions come from the affine (LPS), so a feet-first or coronal acquisition gives the same pictures.
- A tilted gantry (sheared affine) is undone by moving each slice to where it was in the patient.
- Couch, mattress and gown are removed slab by slab: what is thinner than 12 mm or not attached to the
  largest pieces of tissue is air.  A voxel outside the body counts neither for the MIP nor for the AIP.
- HU are clipped to [-1024, 3071]; padding, NaN and infinity are air.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from qc_node.classifiers.ct.body import body_mask
from qc_node.classifiers.ct.calibration import AIR, Calibration, calibrate, hounsfield
from qc_node.domain import Volume

COARSE_MM = 4.0
"""Edge of a voxel of the coarse volume in mm: openKBP's own resolution, and enough for an aorta."""
GRID = 96
"""Rows and columns of the coarse volume: 384 mm, a trunk without arms."""
PLANES = ("axial", "coronal", "sagittal")
METHODS = ("mip", "aip", "mid")
CONVERSIONS = tuple(f"{method}_{plane}" for method in METHODS for plane in PLANES)
"""The nine kinds of picture of ImageQC-net, with a body-only AIP."""

Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Projections:
    """What one pass over the volume leaves.

    Attributes
    ----------
    images
        Conversion name to ``(rows, columns)`` float32 in HU, oriented for display: coronal and sagittal
        head up, axial and coronal with the patient's right on the left, sagittal facing left.
    spacing_mm
        Plane to ``(row, column)`` spacing.
    coarse
        ``(Z, GRID, GRID)`` int16 in HU at 4 mm: index 0 is the most cranial slice, rows run anterior to
        posterior, columns from the patient's right to left; outside the body :data:`AIR`.
    tissue_ml_per_slice
        ``(Z,)`` body volume of each coarse slice in mL, before the crop to the grid.
    edge_fraction
        ``(Z,)`` share of the field-of-view border that is body: a truncated field of view.
    extent_mm
        Length of the volume along the body axis.
    calibration
        How stored values became HU, and whether they are believable.
    warnings
        One sentence for each peculiarity.
    """

    images: Mapping[str, Image]
    spacing_mm: Mapping[str, tuple[float, float]]
    coarse: npt.NDArray[np.int16]
    tissue_ml_per_slice: npt.NDArray[np.float32]
    edge_fraction: npt.NDArray[np.float32]
    extent_mm: float
    calibration: Calibration
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Geometry:
    """Array axes ``(k, j, i)`` against patient axes ``(z, y, x)``."""

    world_axis: tuple[int, int, int]
    """For each array axis (k, j, i): 0 = x (left), 1 = y (posterior), 2 = z (superior)."""
    flip: tuple[bool, bool, bool]
    """For each array axis: does it run against display order (superior first, anterior first, right first)?"""
    spacing: tuple[float, float, float]
    """Perpendicular spacing along (k, j, i) in mm."""
    shift_mm: tuple[float, float]
    """How far each slice lies from the one before, in the plane, along (j, i): the gantry tilt."""
    oblique_deg: float


def _geometry(affine: npt.NDArray[np.float64]) -> _Geometry:
    vectors = np.asarray(affine, dtype=np.float64)[:3, :3].T[::-1]  # rows: k, j, i
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.isfinite(vectors)) or np.any(lengths < 1e-6):
        vectors, lengths = np.diag([1.0, 1.0, 1.0])[::-1].copy(), np.ones(3)
    row, column = vectors[1] / lengths[1], vectors[2] / lengths[2]
    normal = np.cross(column, row)
    area = np.linalg.norm(normal)
    normal = normal / area if area > 1e-6 else vectors[0] / lengths[0]
    step = float(vectors[0] @ normal)
    if abs(step) < 1e-6:
        step = float(lengths[0])
    in_plane = vectors[0] - step * normal
    unit = np.stack([normal * np.sign(step), row, column])
    # The assignment of array axes to patient axes that agrees best; a greedy choice fails near 45 degrees.
    best = max(
        ((a, b, c) for a in range(3) for b in range(3) for c in range(3) if {a, b, c} == {0, 1, 2}),
        key=lambda p: sum(abs(unit[n, axis]) for n, axis in enumerate(p)),
    )
    # Display order: z from superior (decreasing), y from anterior (increasing), x from right (increasing).
    flip = tuple((unit[n, axis] > 0) == (axis == 2) for n, axis in enumerate(best))
    worst = min(abs(unit[n, axis]) for n, axis in enumerate(best))
    return _Geometry(
        best,
        (flip[0], flip[1], flip[2]),
        (abs(step), float(lengths[1]), float(lengths[2])),
        (float(in_plane @ row), float(in_plane @ column)),
        float(np.degrees(np.arccos(min(1.0, worst)))),
    )


def area_weights(count: int, spacing: float, target: float = COARSE_MM) -> sparse.csr_matrix:
    """Weights ``(rows, count)`` that average `count` samples of `spacing` mm into cells of `target` mm.

    Every cell is the exact overlap-weighted mean; the grid is centred on the samples.
    """
    cells = max(1, round(count * spacing / target))
    start = (count * spacing - cells * target) / 2
    edges = start + np.arange(cells + 1) * target
    samples = np.arange(count + 1) * spacing
    rows, columns, values = [], [], []
    for cell in range(cells):
        low, high = max(edges[cell], 0.0), min(edges[cell + 1], samples[-1])
        first, last = int(low / spacing), min(count - 1, int(np.ceil(high / spacing)) - 1)
        for index in range(first, max(first, last) + 1):
            overlap = min(high, samples[index + 1]) - max(low, samples[index])
            rows.append(cell)
            columns.append(index)
            values.append(max(overlap, 1e-9))
    matrix = sparse.csr_matrix((values, (rows, columns)), shape=(cells, count), dtype=np.float32)
    return sparse.csr_matrix(sparse.diags(1.0 / np.asarray(matrix.sum(1)).ravel()) @ matrix)


def project(volume: Volume) -> Projections:
    """Project `volume` in one pass.

    Parameters
    ----------
    volume
        Any regular stack; ``modality`` is not looked at.

    Returns
    -------
    Projections
        Also for absurd input: a blank or one-slice volume gives blank or one-slice pictures.
    """
    geo = _geometry(volume.affine)
    calibration = calibrate(volume)
    warnings = [*calibration.warnings]
    if geo.oblique_deg > 20:
        warnings.append(f"The volume is turned by {geo.oblique_deg:.0f} degrees against the body axes.")
    K, J, I = volume.shape  # noqa: E741
    sk, sj, si = geo.spacing
    # Thin slices are averaged to about 4 mm as they come; thick ones are kept and interpolated at the end.
    per_slab = max(1, round(COARSE_MM / sk))
    weights_j, weights_i = area_weights(J, sj), area_weights(I, si)
    nearest_j = np.minimum((np.arange(J) + 0.5) / J * weights_j.shape[0], weights_j.shape[0] - 1).astype(int)
    nearest_i = np.minimum((np.arange(I) + 0.5) / I * weights_i.shape[0], weights_i.shape[0] - 1).astype(int)

    top = np.full((J, I), AIR, np.int16)
    total, seen, visited = (np.zeros((J, I), np.int32) for _ in range(3))
    mid_kj = np.full((K, J), AIR, np.int16)
    mid_ki = np.full((K, I), AIR, np.int16)
    mid_ji = np.full((J, I), AIR, np.int16)
    max_kj, max_ki = mid_kj.copy(), mid_ki.copy()
    mean_kj = np.full((K, J), AIR, np.float32)
    mean_ki = np.full((K, I), AIR, np.float32)
    slabs, areas, edges = [], [], []
    for first, stack in _slabs(volume, calibration, geo, per_slab):
        mean = stack[0].astype(np.float32) if len(stack) == 1 else np.mean(stack, axis=0, dtype=np.float32)
        small = np.asarray((weights_i @ (weights_j @ mean).T).T, dtype=np.float32)
        mask = body_mask(small)
        slabs.append(np.where(mask, small, AIR).astype(np.int16))
        areas.append(mask.sum() * COARSE_MM**2)
        edges.append(_edge_fraction(mask, small))
        rows = np.flatnonzero(np.any(mask, axis=1, keepdims=True)[nearest_j, 0])
        columns = np.flatnonzero(np.any(mask, axis=0, keepdims=True)[0, nearest_i])
        if not rows.size:
            continue
        # Work only where there is body: half of a usual field of view is air.
        js, iz = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        fine = mask[nearest_j[js]][:, nearest_i[iz]]
        per_row, per_column = fine.sum(1), fine.sum(0)
        air_row, air_column = (fine.shape[1] - per_row) * AIR, (fine.shape[0] - per_column) * AIR
        seen[js, iz] += fine * np.int32(len(stack))
        visited[js, iz] += len(stack)
        for offset, raw in enumerate(stack):
            k = first + offset
            inside = np.where(fine, raw[js, iz], np.int16(AIR))
            total[js, iz] += inside
            # The air outside the body took part in the sums: take it out again.
            row_sum, column_sum = inside.sum(1, dtype=np.int32), inside.sum(0, dtype=np.int32)
            mean_kj[k, js] = np.where(per_row > 0, (row_sum - air_row) / np.maximum(per_row, 1), AIR)
            mean_ki[k, iz] = np.where(per_column > 0, (column_sum - air_column) / np.maximum(per_column, 1), AIR)
            np.maximum(top[js, iz], inside, out=top[js, iz])
            max_kj[k, js], max_ki[k, iz] = inside.max(1), inside.max(0)
            if iz.start <= I // 2 < iz.stop:
                mid_kj[k, js] = inside[:, I // 2 - iz.start]
            if js.start <= J // 2 < js.stop:
                mid_ki[k, iz] = inside[J // 2 - js.start]
            if k == K // 2:
                mid_ji[js, iz] = inside
    total -= (visited - seen) * AIR
    mean_ji = np.where(seen > 0, total / np.maximum(seen, 1), AIR).astype(np.float32)

    # Array plane (axes that stay) -> pictures; the axis that was summed over names the anatomical plane.
    planes: dict[int, dict[str, npt.NDArray[Any]]] = {
        0: {"mip": top, "aip": mean_ji, "mid": mid_ji},
        1: {"mip": max_ki, "aip": mean_ki, "mid": mid_ki},
        2: {"mip": max_kj, "aip": mean_kj, "mid": mid_kj},
    }
    images: dict[str, Image] = {}
    spacing: dict[str, tuple[float, float]] = {}
    for summed, pictures in planes.items():
        plane = {2: "axial", 1: "coronal", 0: "sagittal"}[geo.world_axis[summed]]
        axes = [n for n in range(3) if n != summed]
        for method, picture in pictures.items():
            shown, spacing[plane] = _display(picture.astype(np.float32), axes, geo)
            images[f"{method}_{plane}"] = shown
    coarse, tissue_ml, edge, extent = _coarse(slabs, areas, edges, geo, per_slab * sk, K * sk)
    return Projections(images, spacing, coarse, tissue_ml, edge, extent, calibration, tuple(warnings))


def _slabs(
    volume: Volume, calibration: Calibration, geo: _Geometry, per_slab: int
) -> Iterator[tuple[int, list[npt.NDArray[np.int16]]]]:
    """The slices in HU, `per_slab` at a time, each moved to its place in the plane."""
    K = volume.shape[0]
    for first in range(0, K, per_slab):
        stack = []
        for k in range(first, min(K, first + per_slab)):
            hu = hounsfield(volume, k, calibration)
            offset = k - (K - 1) / 2
            dj = round(offset * geo.shift_mm[0] / geo.spacing[1])
            di = round(offset * geo.shift_mm[1] / geo.spacing[2])
            stack.append(_moved(hu, dj, di) if dj or di else hu)
        yield first, stack


def _moved(hu: npt.NDArray[np.int16], dj: int, di: int) -> npt.NDArray[np.int16]:
    J, I = hu.shape  # noqa: E741
    out = np.full_like(hu, AIR)
    if abs(dj) < J and abs(di) < I:
        out[max(0, dj) : J + min(0, dj), max(0, di) : I + min(0, di)] = hu[
            max(0, -dj) : J + min(0, -dj), max(0, -di) : I + min(0, -di)
        ]
    return out


def _edge_fraction(mask: npt.NDArray[np.bool_], small: npt.NDArray[np.float32]) -> float:
    """Share of the border of the field of view (square, or the circle that scanners fill) that is body."""
    ny, nx = mask.shape
    if min(ny, nx) < 8:
        return 0.0
    square = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]]).mean()
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    rows = np.clip(np.rint((ny - 1) / 2 * (1 + 0.955 * np.sin(angles))), 0, ny - 1).astype(int)
    columns = np.clip(np.rint((nx - 1) / 2 * (1 + 0.955 * np.cos(angles))), 0, nx - 1).astype(int)
    # A circular field of view shows in exactly constant corners.
    n = max(2, min(ny, nx) // 12)
    corners = [small[:n, :n], small[:n, -n:], small[-n:, :n], small[-n:, -n:]]
    round_field = all(float(np.ptp(c)) == 0.0 for c in corners) and abs(ny - nx) <= 2
    return float(max(square, mask[rows, columns].mean())) if round_field else float(square)


def _display(picture: Image, axes: list[int], geo: _Geometry) -> tuple[Image, tuple[float, float]]:
    """Flip and transpose so that rows run down the patient (or back) and columns to the left (or back)."""
    for position, axis in enumerate(axes):
        if geo.flip[axis]:
            picture = np.flip(picture, position)
    # Rows: z before y before x.
    if geo.world_axis[axes[0]] < geo.world_axis[axes[1]]:
        picture, axes = picture.T, axes[::-1]
    return np.ascontiguousarray(picture), (geo.spacing[axes[0]], geo.spacing[axes[1]])


def _coarse(
    slabs: list[npt.NDArray[np.int16]],
    areas: list[float],
    edges: list[float],
    geo: _Geometry,
    slab_mm: float,
    length_mm: float,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32], npt.NDArray[np.float32], float]:
    """Stack the slabs at exactly 4 mm, in display order, cut to the grid around the body."""
    stack = np.stack(slabs)
    cells = max(1, round(length_mm / COARSE_MM))
    centres = (np.arange(cells) + 0.5) * (length_mm / cells) / slab_mm - 0.5
    stack = _interpolate(stack, centres)
    edge = np.interp(centres, np.arange(len(edges)), edges)
    order = [geo.world_axis.index(axis) for axis in (2, 1, 0)]
    for axis in range(3):
        if geo.flip[axis]:
            stack = np.flip(stack, axis)
    if geo.flip[0]:
        edge = edge[::-1]
    stack = stack.transpose(order)
    if order[0] != 0:  # Not an axial acquisition: the border was measured in other planes.
        edge = np.full(stack.shape[0], float(np.mean(edge)))
    inside = stack > AIR
    tissue_ml = inside.sum((1, 2)) * COARSE_MM**3 / 1000.0
    out = np.full((stack.shape[0], GRID, GRID), AIR, np.int16)
    if inside.any():
        _paste(out, stack, [_middle(inside.sum((0, 2))), _middle(inside.sum((0, 1)))])
    return out, tissue_ml.astype(np.float32), edge.astype(np.float32), stack.shape[0] * COARSE_MM


def _interpolate(stack: npt.NDArray[np.int16], centres: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    at = np.clip(centres, 0, len(stack) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(stack) - 1)
    part = (at - low)[:, None, None].astype(np.float32)
    mixed = stack[low] * (1 - part) + stack[high] * part
    # Where one neighbour is outside the body take the nearer slice: half air is no tissue.
    nearer = np.where(part < 0.5, stack[low], stack[high])
    outside = (stack[low] == AIR) | (stack[high] == AIR)
    result: npt.NDArray[np.int16] = np.where(outside, nearer, np.rint(mixed)).astype(np.int16)
    return result


def _middle(profile: npt.NDArray[np.int64]) -> int:
    """The index that has half of `profile` on each side: hardly moved by an arm or a truncated slice."""
    return int(np.searchsorted(np.cumsum(profile), profile.sum() / 2))


def _paste(out: npt.NDArray[np.int16], stack: npt.NDArray[np.int16], centre: list[int]) -> None:
    source, target = [], []
    for size, middle in zip(stack.shape[1:], centre, strict=True):
        start = middle - GRID // 2
        source.append(slice(max(0, start), min(size, start + GRID)))
        target.append(slice(max(0, -start), max(0, -start) + source[-1].stop - source[-1].start))
    out[:, target[0], target[1]] = stack[:, source[0], source[1]]
