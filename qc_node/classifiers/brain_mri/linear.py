"""The paper's preprocessing, for comparison: ``linear``, beside the default ``fast``.

Bottani et al. 2022, section 2.2 (Clinica t1-linear): N4 bias correction, affine registration to MNI space,
crop to 169 x 208 x 179 voxels of 1 mm, min-max scaling.  N4 and the third-order spline are SimpleITK's; the
affine matrix is that of :mod:`qc_node.classifiers.brain_mri.registration`, because mutual information lost heads
with necks.  The paper's trap is kept on purpose: with min-max one hot voxel rescales everything.

No command trains on ``linear``: packs hold ``fast`` volumes.  Two steps differ from the paper: every image is
resampled once (there, voxels below 0.9 mm are first brought to 1 mm), and the scaling comes after the crop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.brain_mri import preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.values import clean_values
from qc_node.domain import QcNodeError, Volume

SHAPE_XYZ = (169, 208, 179)
"""Voxels of 1 mm along x, y, z."""
ORIGIN_LPS = (-84.0, -88.0, -72.0)
"""Centre of the first voxel in mm: left-right, anterior-posterior, feet-head."""
N4_ITERATIONS = (20, 20, 20)
N4_SHRINK = 4


def volume_in_template(
    volume: Volume, head: preprocess.AverageHead, recipe: str = "fast", spacing_mm: float = 1.0
) -> npt.NDArray[np.float32]:
    """The image on the paper's grid, ``(x, y, z)``, in [0, 1].

    Parameters
    ----------
    recipe
        ``"linear"``: N4, third-order spline, min-max.  ``"fast"``: no N4, trilinear, white matter at 0.5.
    spacing_mm
        1 gives 169 x 208 x 179; 2 gives 85 x 104 x 90.

    Raises
    ------
    QcNodeError
        Unknown recipe.
    """
    if recipe not in ("linear", "fast"):
        raise QcNodeError(f"There is no preprocessing recipe {recipe!r}; known are 'fast' and 'linear'.")
    import SimpleITK

    values, _ = clean_values(volume)
    grid = reg.Grid(values, volume.affine)
    matrix = preprocess.align(grid, head.targets).matrix
    image = _to_itk(values, volume.affine)
    if recipe == "linear":
        image = _n4(image)
    to_image = SimpleITK.AffineTransform(3)
    to_image.SetMatrix(matrix[:3, :3].reshape(-1).tolist())
    to_image.SetTranslation(matrix[:3, 3].tolist())
    size = [int(-(-n // spacing_mm)) for n in SHAPE_XYZ]
    order = SimpleITK.sitkBSpline3 if recipe == "linear" else SimpleITK.sitkLinear
    identity = np.eye(3).reshape(-1).tolist()
    out = SimpleITK.Resample(
        image, size, to_image, order, ORIGIN_LPS, [spacing_mm] * 3, identity, 0.0, SimpleITK.sitkFloat32
    )
    array = np.ascontiguousarray(SimpleITK.GetArrayFromImage(out).transpose(2, 1, 0))
    if recipe == "linear":
        low, high = float(array.min()), float(array.max())
    else:
        low, high = min(0.0, float(array.min())), 2 * preprocess.white_level(grid, matrix, head)
    if not (np.isfinite(high) and high > low):
        return np.zeros(array.shape, dtype=np.float32)
    return np.asarray(np.clip((array - low) / (high - low), 0, 1), dtype=np.float32)


def bias_corrected(values: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """A volume ``(k, j, i)`` after N4, as the recipe ``linear`` does it."""
    import SimpleITK

    return np.asarray(SimpleITK.GetArrayFromImage(_n4(_to_itk(values, affine))), dtype=np.float32)


def _to_itk(values: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> Any:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(values)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    # ITK wants orthonormal axes; a sheared volume is taken at its nearest rotation.
    u, _, vt = np.linalg.svd(affine[:3, :3] / spacing)
    image.SetDirection((u @ vt).reshape(-1).tolist())
    return image


def _n4(image: Any) -> Any:
    """N4 on a coarse grid, applied on the fine one."""
    import SimpleITK

    factor = [max(1, min(N4_SHRINK, n // 8)) for n in image.GetSize()]
    coarse = SimpleITK.Shrink(image, factor)
    mask = SimpleITK.OtsuThreshold(coarse, 0, 1)
    corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(list(N4_ITERATIONS))
    corrector.Execute(SimpleITK.Maximum(coarse, 1e-3), mask)
    field = corrector.GetLogBiasFieldAsImage(image)
    return SimpleITK.Divide(image, SimpleITK.Cast(SimpleITK.Exp(field), SimpleITK.sitkFloat32))
