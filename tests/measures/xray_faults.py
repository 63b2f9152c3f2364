"""Real X-ray images, and faults of exposure planted in them from counts of quanta."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from qc_node.domain.measurable import Radiograph

NAMES = {
    "chest": "188_RG1_J2KI.dcm",
    "leg": "148_RG3_J2KI.dcm",
    "hip": "149_RG2_JPLY_fixed.dcm",
    "dog": "082_dx_image.dcm",
    "spine": "022_6247",
}
"""Every CR, DX and MG image at hand that has pixels; "dog" states its exposure, "spine" has 16 x 16 pixels."""

DECADES = 2.0
"""How many decades of exposure the range of grey values shows (assumed)."""

QUANTA = 2000.0
"""How many quanta a pixel at the middle grey value counts as usual (about 2 uGy in 0.2 mm; assumed)."""


@cache
def read_images(folder: Path) -> dict[str, Radiograph]:
    """The images by name, brighter where less radiation arrived."""
    found = {}
    with tarfile.open(folder / "dicom" / "interoperability.tar.xz") as archive:
        for member in archive:
            name = next((name for name, file in NAMES.items() if member.name.endswith("/" + file)), None)
            content = archive.extractfile(member) if name else None
            if name and content:
                found[name] = _radiograph(pydicom.dcmread(io.BytesIO(content.read()), force=True))
    return found


def _radiograph(header: pydicom.Dataset) -> Radiograph:
    pixels, top = header.pixel_array.astype(np.int32), 2**header.BitsStored - 1
    spacing = header.get("ImagerPixelSpacing") or header.get("PixelSpacing")
    sound = (float(spacing[1]), float(spacing[0])) if spacing and spacing[0] > 0 else None
    shown = top - pixels if header.PhotometricInterpretation == "MONOCHROME1" else pixels
    return Radiograph(shown.astype(np.uint16), 0, top, sound)


def overexposed(image: Radiograph, times: float) -> Radiograph:
    """So many times the exposure and a detector that saturates: darker by its logarithm, and cut off at black."""
    pixels = image.pixels.astype(float)
    darker = np.log10(times) / DECADES * _range(pixels)
    return replace(image, pixels=np.rint((pixels - darker).clip(pixels.min())).astype(np.uint16))


def underexposed(image: Radiograph, times: float, seed: int = 0, shown_as_usual: bool = True) -> Radiograph:
    """So many times fewer quanta, counted anew; brighter by their logarithm, or shown as usual."""
    pixels = image.pixels.astype(float)
    per_grey, middle = DECADES / _range(pixels), float(np.median(pixels))
    expected = QUANTA / times * 10 ** (-(pixels - middle) * per_grey)
    counted = np.random.default_rng(seed).poisson(expected.clip(0, 1e8)).clip(0.5)
    shift = np.log10(times) if shown_as_usual else 0.0
    greys = middle - (np.log10(counted / QUANTA) + shift) / per_grey
    return replace(image, pixels=np.rint(greys.clip(image.lowest, image.highest)).astype(np.uint16))


def _range(pixels: npt.NDArray[np.floating]) -> float:
    low, high = np.percentile(pixels, (0.5, 99.5))
    return float(high - low)
