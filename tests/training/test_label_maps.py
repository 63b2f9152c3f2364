"""Label maps are turned to one order of axes, and every label keeps its place in the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from qc_node.training.label_maps import read_label_map


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LIP", "PSR", "IAL"])
def test_axes_run_left_back_and_up_however_they_are_stored(tmp_path: Path, axes: str) -> None:
    labels = np.zeros((6, 5, 4), "<i4")  # right, anterior, superior
    labels[0, 2, 1], labels[3, 0, 1], labels[3, 2, 3] = 502, 514, 507  # the far left, the back, the top
    ras = nib.Nifti1Image(labels, np.diag([1.0, 2.0, 3.0, 1.0]))
    turn = nib.orientations.axcodes2ornt(tuple(axes))
    nib.save(
        ras.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(ras.affine), turn)),
        tmp_path / "x.nii",
    )
    stored: Any = nib.load(tmp_path / "x.nii")
    assert "".join(nib.aff2axcodes(stored.affine)) == axes

    turned, affine = read_label_map(tmp_path / "x.nii")

    assert turned.dtype == np.int16 and turned.shape == (4, 5, 6) and turned.flags.c_contiguous
    for label, lps in {502: (0, -4, 3), 514: (-3, 0, 3), 507: (-3, -4, 9)}.items():
        ((k, j, i),) = np.argwhere(turned == label)
        assert (affine @ (i, j, k, 1))[:3] == pytest.approx(lps)
    assert affine[:3, :3] == pytest.approx(np.diag([1.0, 2.0, 3.0]))
