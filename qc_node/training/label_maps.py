"""Label maps that simulation starts from, in the order of axes that it expects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from qc_node.series.files.nifti import read_nifti


def read_label_map(path: Path) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """The label map in the NIfTI file at `path`, turned so that its axes run to the left, back and head.

    Returns
    -------
    labels, affine
        ``(K, J, I)``, and ``(i, j, k, 1)`` to LPS millimetres.  Turning swaps and flips axes, no label changes.

    Raises
    ------
    NiftiRefused
        See :func:`~qc_node.series.files.nifti.read_nifti`.
    """
    from nibabel import Nifti1Image, as_closest_canonical

    volume = read_nifti(path, "MR")
    stored = volume.voxels.astype(np.int16).transpose(2, 1, 0)
    # Axes are turned to run along those that the affine points to: here LPS, where NiBabel's own would be RAS.
    turned = as_closest_canonical(Nifti1Image(stored, volume.affine))
    return np.ascontiguousarray(np.asarray(turned.dataobj).transpose(2, 1, 0)), turned.affine
