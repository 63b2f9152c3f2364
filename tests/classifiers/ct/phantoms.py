"""Hand-made volumes whose projections can be written down beforehand."""

from __future__ import annotations

import numpy as np

from qc_node.domain import Volume

SPACING = (2.0, 1.0, 1.0)
SHAPE = (60, 120, 140)


def body(shape: tuple[int, int, int] = SHAPE, air: int = -1000) -> np.ndarray:
    """An elliptic cylinder of water (0 HU) in air, in (k, j, i)."""
    _, j, i = shape
    y, x = np.mgrid[:j, :i]
    ellipse = ((y - (j - 1) / 2) / (0.35 * j)) ** 2 + ((x - (i - 1) / 2) / (0.38 * i)) ** 2 <= 1
    voxels = np.full(shape, air, np.int16)
    voxels[:, ellipse] = 0
    return voxels


def with_markers(voxels: np.ndarray) -> np.ndarray:
    """Adds a long bone off centre (+800), an air pocket (-1000) and a bright ball right-anterior-cranial."""
    out = voxels.copy()
    out[:, 80:88, 66:74] = 800
    out[20:30, 40:60, 90:110] = -1000
    out[50:55, 35:40, 40:45] = 400
    return out


def volume(voxels: np.ndarray, spacing: tuple[float, float, float] = SPACING, **changes: object) -> Volume:
    """`voxels` with slices running head-ward, rows back, columns left: the usual axial CT."""
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    return Volume(np.ascontiguousarray(voxels), **{"affine": affine, "modality": "CT", **changes})  # type: ignore[arg-type]
