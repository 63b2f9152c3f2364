"""Pixels of a regular stack, decoded straight into one array and put right where the tags say how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.dicom.uids import LOSSY
from qc_node.domain import Volume
from qc_node.series.errors import SeriesRefused
from qc_node.series.raw_header import PIXELS, syntax_name
from qc_node.series.volume.grid import Stack
from qc_node.series.volume.instances import Frame, Instance, short_of, text_of
from qc_node.series.volume.pixels import FrameReader, dtype_of, stored_range
from qc_node.series.volume.places import Places

KEPT_TYPES = ("<u1", "<i2", "<u2")
"""Stored types that a Volume keeps; every other becomes float32."""
AIR_AT_ZERO = 100
"""Unsigned CT values whose air lies below this were stored 1024 too high and lost their intercept."""


def decode(stack: Stack, modality: str, warnings: Sequence[str]) -> Volume:
    """The volume of `stack`.

    Parameters
    ----------
    warnings
        What was tolerated so far; more may be added.

    Raises
    ------
    SeriesRefused
        The pixels are missing, truncated, cannot be decoded, or two images at one place differ.
    """
    said = list(warnings)
    present = stack.present
    reader = FrameReader()
    _check_doubles(stack, reader, said)
    slope, intercept, common = _rescale(present, modality, said)
    types = {dtype_of(f.instance) for f in present}
    signs = {f.instance.pixels.signed for f in present if f.instance.pixels}
    as_stored = common and len(types) == 1 and next(iter(types)).str.replace("|", "<") in KEPT_TYPES
    shape = (stack.slots, present[0].rows, present[0].columns)
    voxels: npt.NDArray[Any] = np.empty(shape, next(iter(types)) if as_stored else np.float32)
    padding = _Padding(present[0].instance)

    def read(frame: Frame, out: npt.NDArray[Any]) -> None:
        if as_stored:
            reader.into(frame, out)
            padding.spread(out, frame.instance)
            return
        picture = reader.read(frame)
        pad = padding.where(picture, frame.instance)
        with np.errstate(over="ignore", invalid="ignore"):
            if common:
                out[...] = picture
            else:
                np.multiply(picture, frame.slope or 1.0, out=out, casting="unsafe")
                out += frame.intercept or 0.0
        if pad is not None and padding.value is not None:
            out[pad] = padding.value

    if stack.places is not None:
        _interpolate(voxels, present, stack.places, read, padding.value)
    else:
        for out, frame in zip(voxels, stack.frames, strict=True):
            if frame is not None:
                read(frame, out)
    if reader.masked:
        said.append(
            f"{reader.masked} slices hold bits outside Bits Stored (0028,0101) and High Bit (0028,0102); they "
            f"were masked."
        )
    if not common:
        slope, intercept = 1.0, 0.0
        said.append(
            "Rescale Slope (0028,1053) and Intercept (0028,1052) differ from slice to slice; applied to each."
        )
    if len(signs) > 1:
        said.append("Pixel Representation (0028,0103) differs from slice to slice.")
    if stack.places is None:
        _fill_missing(voxels, stack)
    syntaxes = sorted({f.instance.raw.transfer_syntax for f in present})
    stated_lossy = any(text_of(f.instance.raw, 0x00282110) == "01" for f in present)
    if stated_lossy or any(s in LOSSY for s in syntaxes):
        how = ", ".join(syntax_name(s) for s in syntaxes)
        said.append(f"The pixels were compressed with loss (Lossy Image Compression (0028,2110), now {how}).")
    slope, intercept = _missing_rescale(voxels, present[0], modality, slope, intercept, said)
    padding_value = padding.value
    if present[0].instance.pixels and present[0].instance.pixels.photometric == "MONOCHROME1":
        padding_value = _invert(voxels, present[0].instance, modality, slope, intercept, padding_value, said)
    return Volume(
        voxels=voxels,
        affine=stack.affine,
        slope=slope,
        intercept=intercept,
        modality=modality,
        padding_value=padding_value,
        warnings=tuple(dict.fromkeys(said)),
    )


def _rescale(frames: Sequence[Frame], modality: str, said: list[str]) -> tuple[float, float, bool]:
    """Slope and intercept of the series and whether they hold for all slices."""
    if any(f.slope == 0 for f in frames):
        raise SeriesRefused("Rescale Slope (0028,1053) is 0, so every value would be the same.")
    pairs = {(1.0 if f.slope is None else f.slope, 0.0 if f.intercept is None else f.intercept) for f in frames}
    slope, intercept = next(iter(pairs))
    kind = text_of(frames[0].instance.raw, 0x00281054).upper()
    if modality == "CT" and kind not in ("", "HU", "US"):
        said.append(f'Rescale Type (0028,1054) is "{kind[:16]}", not HU.')
    return slope, intercept, len(pairs) == 1


def _missing_rescale(
    voxels: npt.NDArray[Any], frame: Frame, modality: str, slope: float, intercept: float, said: list[str]
) -> tuple[float, float]:
    """A CT without rescale: said, and put right where the stored values tell what is meant."""
    if modality != "CT" or frame.intercept is not None:
        return slope, intercept
    sample = voxels[:: max(1, len(voxels) // 16), ::8, ::8]
    air = float(np.mean(sample < AIR_AT_ZERO)) if np.isfinite(sample).all() else 0.0
    if float(sample.min()) >= 0 and air > 0.05 and float(sample.max()) > 500:
        said.append(
            "Rescale Intercept (0028,1052) is absent in a CT; the values start at 0 like air stored 1024 too "
            "high, "
            "so -1024 is taken."
        )
        return slope, -1024.0
    said.append(
        "Rescale Intercept (0028,1052) is absent in a CT; the stored values are taken as Hounsfield units."
    )
    return slope, intercept


class _Padding:
    """Pixel Padding Value (0028,0120) and its range (0028,0121), as stored values."""

    def __init__(self, first: Instance) -> None:
        self.value: float | None = None
        found = self._range(first)
        if found:
            self.value = float(found[0])

    @staticmethod
    def _range(instance: Instance) -> tuple[int, int] | None:
        pixels = instance.pixels
        if pixels is None or instance.pixel_tag != PIXELS:
            return None
        value = short_of(instance.raw, 0x00280120, pixels.signed)
        if value is None:
            return None
        limit = short_of(instance.raw, 0x00280121, pixels.signed)
        return value, value if limit is None else limit

    def spread(self, out: npt.NDArray[Any], instance: Instance) -> None:
        """Write the one padding value over a padding range, in place."""
        found = self._range(instance)
        if found is None or self.value is None or (found[0] == found[1] == self.value):
            return
        info = np.iinfo(out.dtype)
        if info.min <= self.value <= info.max:
            out[(out >= min(found)) & (out <= max(found))] = int(self.value)

    def where(self, picture: npt.NDArray[Any], instance: Instance) -> npt.NDArray[np.bool_] | None:
        """Where a picture is padding, if anywhere."""
        found = self._range(instance)
        if found is None:
            return None
        mask = (picture >= min(found)) & (picture <= max(found))
        return mask if mask.any() else None


def _check_doubles(stack: Stack, reader: FrameReader, said: list[str]) -> None:
    """Slices at one place that no tag tells apart are tolerated only if they show the same."""
    for kept, double in stack.doubles:
        if not np.array_equal(reader.read(kept), reader.read(double)):
            raise SeriesRefused(
                f"Image Position (Patient) (0020,0032): {len(stack.doubles)} images lie where another image "
                f"lies, show "
                "something else, and no tag tells them apart."
            )
    if stack.doubles:
        said.append(f"{len(stack.doubles)} images are copies of another image at the same place; left out.")


def _fill_missing(voxels: npt.NDArray[Any], stack: Stack) -> None:
    """Interpolate missing slices linearly between their neighbours."""
    there = [k for k, f in enumerate(stack.frames) if f is not None]
    for below, above in pairwise(there):
        for k in range(below + 1, above):
            t = (k - below) / (above - below)
            mixed = (1 - t) * voxels[below].astype(np.float32) + t * voxels[above].astype(np.float32)
            voxels[k] = mixed if voxels.dtype.kind == "f" else np.rint(mixed)


def _interpolate(
    voxels: npt.NDArray[Any],
    frames: Sequence[Frame],
    places: Places,
    read: Callable[[Frame, npt.NDArray[Any]], None],
    padding: float | None,
) -> None:
    """Fill `voxels` from slices between its own, each read once; two of them are in memory beside the volume."""
    below, above = np.empty_like(voxels[0]), np.empty_like(voxels[0])
    k = 0
    for n, (frame, at) in enumerate(zip(frames, places.at, strict=True)):
        read(frame, above)
        last = n == len(frames) - 1
        while k < len(voxels) and (k <= at or last):
            t = 1.0 if n == 0 or k >= at else (k - places.at[n - 1]) / (at - places.at[n - 1])
            if t >= 1.0 - 1e-6 or t <= 1e-6:
                voxels[k] = above if t > 0.5 else below
            elif n - 1 in places.empty:
                voxels[k] = min(below.min(), above.min())  # air, or the padding outside the field of view
            else:
                _mix(voxels[k], below, above, t, padding)
            k += 1
        below, above = above, below


def _mix(
    out: npt.NDArray[Any], below: npt.NDArray[Any], above: npt.NDArray[Any], t: float, padding: float | None
) -> None:
    """`out` at `t` of the way from `below` to `above`; beside padding the nearer one."""
    mixed = (1.0 - t) * below.astype(np.float32) + t * above.astype(np.float32)
    out[...] = mixed if out.dtype.kind == "f" else np.rint(mixed)
    if padding is not None:
        beside = (below == padding) | (above == padding)
        out[beside] = (above if t > 0.5 else below)[beside]


def _invert(
    voxels: npt.NDArray[Any],
    first: Instance,
    modality: str,
    slope: float,
    intercept: float,
    padding: float | None,
    said: list[str],
) -> float | None:
    """MONOCHROME1: low values are bright.  Inverts in place; returns the padding value that now holds.

    A CT states Hounsfield units whatever its photometric interpretation, yet some writers turn both; the air
    around the patient tells which it is.
    """
    assert first.pixels is not None
    if modality == "CT" and not _air_is_bright(voxels, slope, intercept):
        said.append(
            "Photometric Interpretation (0028,0004) is MONOCHROME1; the Hounsfield units were kept as stored."
        )
        return padding
    if voxels.dtype.kind == "f":
        finite = voxels[np.isfinite(voxels)]
        total: float = float(finite.min()) + float(finite.max()) if finite.size else 0.0
        np.subtract(np.float32(total), voxels, out=voxels)
    else:
        total = float(sum(stored_range(first.pixels)))
        # the sum of both ends wraps in unsigned arithmetic to the right value
        wrapped = np.array(int(total) & ((1 << 8 * voxels.itemsize) - 1), f"<u{voxels.itemsize}").view(
            voxels.dtype
        )
        np.subtract(wrapped, voxels, out=voxels)
    said.append("Photometric Interpretation (0028,0004) is MONOCHROME1; the values were inverted.")
    return None if padding is None else total - padding


def _air_is_bright(voxels: npt.NDArray[Any], slope: float, intercept: float) -> bool:
    """Whether the rim of the slices (air, in a CT) lies above the middle."""
    sample = voxels[:: max(1, len(voxels) // 16)]
    edge = max(1, min(voxels.shape[1:]) // 32)
    rim = np.concatenate([sample[:, :edge].ravel(), sample[:, -edge:].ravel()]).astype(np.float32)
    j, i = voxels.shape[1] // 4, voxels.shape[2] // 4
    middle = sample[:, j : -j or None, i : -i or None].astype(np.float32)
    sign = 1.0 if slope > 0 else -1.0
    return bool(sign * float(np.median(rim)) > sign * float(np.median(middle)))
