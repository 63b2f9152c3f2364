"""What of a 4 mm slice is patient: no couch, no blanket, but lung even where a small field of view opens it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

TISSUE = -350
"""HU above which a 4 mm voxel holds more tissue than air."""

_CROSS = ndimage.generate_binary_structure(2, 1)


def body_mask(coarse_slice: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which 4 mm pixels of one axial, coronal or sagittal slab are patient.

    Opening removes what is thinner than 12 mm (couch shell, tubes, blanket); of the pieces left, those of
    at least 4 % of the largest stay (trunk and arms, both legs), are grown back by 24 mm within tissue
    (so that a thin chest wall closes again) and have their holes (lung, bowel gas) filled.  So is lung that the
    border of a small field of view cuts open.
    """
    tissue = coarse_slice > TISSUE
    # Mirror beyond the border, so that a body cut by the field of view is not eroded there.
    core = ndimage.binary_opening(np.pad(tissue, 2, mode="edge"), _CROSS)[2:-2, 2:-2]
    labels, count = ndimage.label(core)
    if not count:
        return np.zeros_like(core)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = sizes >= max(6, 0.04 * sizes.max())
    body = ndimage.binary_dilation(keep[labels], _CROSS, iterations=6, mask=tissue)
    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(body)
    return filled | _open_lung(coarse_slice, filled)


_LEAST_LUNG = 100
"""Pixels (16 cm2) from which on an open region is looked at: gaps between a limb and its couch are smaller."""
_LUNG = ((-850.0, 0.9), (-960.0, 1.5), (-985.0, 4.0))
"""Median HU of a region, and how much longer than its outline along the border that along the body must be.

Lung of -850 HU and denser is mistaken for nothing but foam; emphysema comes close to room air, and must be all
but enclosed."""


def _open_lung(coarse_slice: npt.NDArray[np.float32], body: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Lung that reaches the border of the field of view: not a hole, but neither outside the patient.

    Room air has another density; foam and clothes between body and border are long along the border and
    seldom walled in, where lung is surrounded by chest wall and mediastinum.
    """
    found = np.zeros_like(body)
    if not (body[0].any() or body[-1].any() or body[:, 0].any() or body[:, -1].any()):
        return found
    border = np.zeros_like(body)
    border[[0, -1]] = border[:, [0, -1]] = True
    labels, count = ndimage.label(~body)
    for label in range(1, count + 1):
        region = labels == label
        if region.sum() < _LEAST_LUNG:
            continue
        median, edge = float(np.median(coarse_slice[region])), (region & border).sum()
        wall = (ndimage.binary_dilation(region, _CROSS) & body).sum()
        if any(median > hu and wall >= share * edge for hu, share in _LUNG):
            found |= region
    return found
