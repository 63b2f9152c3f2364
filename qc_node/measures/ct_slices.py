"""One slice of CT as its measures see it: HU, blocks of about 4 mm, the reconstructed field and the body in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices

BLOCK_MM = 4.0
"""Body, air and outline are found on blocks of about this size."""

SMALLEST = 16
"""A slice with fewer rows or columns is none."""

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def ct_slice(slices: Slices, k: int) -> CtSlice:
    """Slice `k` of a series."""
    i, j, _ = slices.volume.spacing_mm
    spacing = (j, i) if 0.01 < i < 100 and 0.01 < j < 100 else (1.0, 1.0)
    volume = slices.volume
    padding = None if volume.padding_value is None else volume.padding_value * volume.slope + volume.intercept
    with np.errstate(invalid="ignore", over="ignore"):
        values = slices.values(k)
    hu = np.nan_to_num(values, nan=-1000.0, posinf=4000.0, neginf=-1000.0).clip(-4000, 40_000)
    return CtSlice(hu, spacing, padding)


@dataclass(frozen=True, eq=False)
class CtSlice:
    """One slice.

    Attributes
    ----------
    hu
        ``(J, I)``, finite.
    spacing
        Distance of (rows, columns) in mm.
    padding
        HU that mean "nothing was reconstructed", None where there are none.
    """

    hu: Floats
    spacing: tuple[float, float]
    padding: float | None = None

    @cached_property
    def block(self) -> int:
        """Side of a block in pixels."""
        return int(max(1, min(round(BLOCK_MM / max(min(self.spacing), 0.05)), min(self.hu.shape) // SMALLEST)))

    @cached_property
    def blocks(self) -> Floats:
        """Block means."""
        return _reduced(self.hu, self.block)

    @cached_property
    def field(self) -> Mask:
        """Where something was reconstructed, in blocks: neither padding nor beyond a circle."""
        empty = self.hu <= min(-1100.0, float(self.hu[0, 0])) if self._has_constant_corners else self.hu < -1900
        if self.padding is not None:
            empty = empty | (np.abs(self.hu - self.padding) < 0.5)
        return np.asarray(_reduced(empty.astype(np.float32), self.block) < 0.5, bool)

    @property
    def _has_constant_corners(self) -> bool:
        corners = self.hu[[0, 0, -1, -1], [0, -1, 0, -1]]
        return bool(np.ptp(corners) == 0)

    @cached_property
    def circle(self) -> Mask | None:
        """The circle inside the matrix where all beyond it is one value (scanners differ in which), in blocks."""
        rows, columns = self.blocks.shape
        if rows != columns or not self._has_constant_corners:
            return None
        y, x = np.ogrid[:rows, :columns]
        radius = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2)
        beyond = self.blocks[radius > rows / 2 + 1]
        return radius < rows / 2 - 1 if beyond.size and np.ptp(beyond) == 0 else None

    @cached_property
    def body(self) -> Mask:
        """The body in blocks, cavities filled; the table is too thin to be it."""
        tissue = ndimage.binary_opening((self.blocks > -300) & self.field, iterations=2)
        labels, count = ndimage.label(tissue)
        if count == 0:
            return np.asarray(tissue, bool)
        sizes = ndimage.sum_labels(tissue, labels, np.arange(1, count + 1))
        large = np.isin(labels, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max()))
        return np.asarray(ndimage.binary_fill_holes(large) & self.field, bool)

    def pixels(self, mask: Mask) -> Mask:
        """A mask of blocks for each pixel; False beyond the last whole block."""
        full = np.zeros(self.hu.shape, bool)
        wide = mask.repeat(self.block, axis=0).repeat(self.block, axis=1)
        full[: wide.shape[0], : wide.shape[1]] = wide
        return full


def _reduced(values: Floats, block: int) -> Floats:
    """Means of square blocks; what is beyond the last whole block is left out."""
    rows, columns = (side // block for side in values.shape)
    cut = values[: rows * block, : columns * block]
    return np.asarray(cut.reshape(rows, block, columns, block).mean(axis=(1, 3)), np.float32)
