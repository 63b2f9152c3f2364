"""Pixel data of single frames, uncompressed straight into place, compressed through pydicom's decoders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from qc_node.series.errors import NotDicom, SeriesRefused
from qc_node.series.raw_header import (
    DOUBLE_PIXELS,
    FLOAT_PIXELS,
    PIXELS,
    read_dataset,
    syntax_name,
)
from qc_node.series.volume.instances import Frame, Instance, PixelFormat

GREY = ("MONOCHROME1", "MONOCHROME2", "")


def check_pixels(instance: Instance) -> None:
    """Raise :class:`SeriesRefused` when the pixels of `instance` cannot be part of a volume."""
    pixels = instance.pixels
    if pixels is None:
        raise SeriesRefused("The image has no Rows (0028,0010) and Columns (0028,0011), so it holds no pixels.")
    if not instance.pixel_tag:
        raise SeriesRefused("The object has no Pixel Data (7FE0,0010).")
    if pixels.samples != 1 or pixels.photometric not in GREY:
        raise SeriesRefused(
            f"Photometric Interpretation (0028,0004) is {pixels.photometric or 'absent'} with {pixels.samples} "
            f"samples "
            "per pixel; colour pictures are not judged."
        )
    if instance.pixel_tag == PIXELS:
        if pixels.allocated not in (8, 16, 32):
            raise SeriesRefused(f"Bits Allocated (0028,0100) is {pixels.allocated}; 8, 16 and 32 can be read.")
        if (
            not 1 <= pixels.stored <= pixels.allocated
            or not pixels.stored - 1 <= pixels.high_bit < pixels.allocated
        ):
            raise SeriesRefused(
                f"Bits Stored (0028,0101) {pixels.stored} and High Bit (0028,0102) {pixels.high_bit} do not "
                f"fit Bits "
                f"Allocated (0028,0100) {pixels.allocated}."
            )


def dtype_of(instance: Instance) -> np.dtype[Any]:
    """The stored type of the pixels of `instance`, little-endian or native."""
    if instance.pixel_tag == FLOAT_PIXELS:
        return np.dtype("<f4")
    if instance.pixel_tag == DOUBLE_PIXELS:
        return np.dtype("<f8")
    pixels = instance.pixels
    assert pixels is not None
    return np.dtype(f"<{'i' if pixels.signed else 'u'}{pixels.allocated // 8}")


class FrameReader:
    """Reads frames; keeps the last compressed data set open, because its frames come one after another."""

    def __init__(self) -> None:
        self._path: object = None
        self._dataset: Dataset | None = None
        self._picture: tuple[tuple[object, int], npt.NDArray[Any]] | None = None
        self.masked = 0

    def into(self, frame: Frame, out: npt.NDArray[Any]) -> None:
        """Read `frame` into `out`, a C-contiguous array ``(rows, columns)`` of :func:`dtype_of` its object."""
        instance = frame.instance
        if instance.in_place and frame.tile is None:
            _read_in_place(instance, frame.number, out)
            self._mask(instance, out)
        else:
            out[...] = self.read(frame)

    def read(self, frame: Frame) -> npt.NDArray[Any]:
        """`frame` as an array of its own ``(rows, columns)``."""
        instance = frame.instance
        pixels = instance.pixels
        assert pixels is not None
        if instance.in_place and frame.tile is None:
            out = np.empty((pixels.rows, pixels.columns), dtype_of(instance))
            self.into(frame, out)
            return out
        number = frame.number if frame.tile is None else 0
        key = (instance.path, number)
        if self._picture is None or self._picture[0] != key:
            if instance.in_place:
                picture = np.empty((pixels.rows, pixels.columns), dtype_of(instance))
                _read_in_place(instance, number, picture)
            else:
                picture = self._decode(instance, number)
            self._mask(instance, picture)
            self._picture = (key, picture)
        picture = self._picture[1]
        if frame.tile is None:
            self._picture = None
            return picture
        r, c = frame.tile
        return picture[r : r + frame.rows, c : c + frame.columns]

    def _decode(self, instance: Instance, number: int) -> npt.NDArray[Any]:
        pixels = instance.pixels
        assert pixels is not None
        syntax = instance.raw.transfer_syntax
        with _explained(instance):
            if self._path != instance.path or self._dataset is None:
                self._dataset = read_dataset(instance.path, pixels=True)
                self._path = instance.path
            ds = self._dataset
            if not any(tag in ds for tag in (PIXELS, FLOAT_PIXELS, DOUBLE_PIXELS)):
                raise SeriesRefused(
                    f"Pixel Data (7FE0,0010) is truncated: {instance.path.name} ends in the middle of it."
                )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture = _decoded(ds, syntax, number)
        if picture.shape != (pixels.rows, pixels.columns):
            raise SeriesRefused(
                f"Pixel Data (7FE0,0010) decodes to {'x'.join(map(str, picture.shape))}, but Rows and Columns say "
                f"{pixels.rows}x{pixels.columns}."
            )
        return picture

    def _mask(self, instance: Instance, picture: npt.NDArray[Any]) -> None:
        """Drop bits outside Bits Stored in place (overlays of old scanners; signs that were not extended)."""
        pixels = instance.pixels
        assert pixels is not None
        if instance.pixel_tag != PIXELS or pixels.stored == pixels.allocated:
            return
        low, high = stored_range(pixels)
        if pixels.high_bit == pixels.stored - 1 and low <= picture.min() and picture.max() <= high:
            return
        left = pixels.allocated - 1 - pixels.high_bit
        np.left_shift(picture, left, out=picture)
        np.right_shift(picture, pixels.allocated - pixels.stored, out=picture)
        self.masked += 1


def _decoded(ds: Dataset, syntax: str, number: int) -> npt.NDArray[Any]:
    """One frame by the decoders this project requires, so that every machine decodes alike; else by any."""
    decoder = get_decoder(syntax)
    plugins = [p for p in ("pyjpegls", "pylibjpeg") if p in decoder.available_plugins]
    for plugin in plugins:
        try:
            return np.asarray(decoder.as_array(ds, index=number, raw=True, decoding_plugin=plugin)[0])
        except Exception:
            continue
    return np.asarray(decoder.as_array(ds, index=number, raw=True)[0])


def stored_range(pixels: PixelFormat) -> tuple[int, int]:
    """Smallest and largest value that Bits Stored can hold."""
    if pixels.signed:
        return -(1 << pixels.stored - 1), (1 << pixels.stored - 1) - 1
    return 0, (1 << pixels.stored) - 1


def _read_in_place(instance: Instance, number: int, out: npt.NDArray[Any]) -> None:
    raw = instance.raw
    offset = raw.pixel_offset + number * out.nbytes
    try:
        fd = os.open(raw.path, os.O_RDONLY)
    except OSError as error:
        raise SeriesRefused(f"{raw.path.name} cannot be read ({error.strerror}).") from error
    try:
        view = memoryview(out).cast("B")  # type: ignore[arg-type]
        got = 0
        while got < out.nbytes and (n := os.preadv(fd, [view[got:]], offset + got)):
            got += n
    except OSError as error:
        raise SeriesRefused(f"{raw.path.name} cannot be read ({error.strerror}).") from error
    finally:
        os.close(fd)
    if got < out.nbytes or (number + 1) * out.nbytes > max(raw.pixel_length, 0):
        raise SeriesRefused(
            f"Pixel Data (7FE0,0010) is truncated: frame {number + 1} needs {out.nbytes} bytes and "
            f"{max(0, min(got, raw.pixel_length - number * out.nbytes))} are there."
        )
    if raw.transfer_syntax == ExplicitVRBigEndian and out.itemsize > 1:
        out.byteswap(inplace=True)


@contextmanager
def _explained(instance: Instance) -> Iterator[None]:
    """Turn what a decoder throws into one sentence that names the transfer syntax."""
    name = syntax_name(instance.raw.transfer_syntax or ImplicitVRLittleEndian)
    try:
        yield
    except (SeriesRefused, MemoryError):
        raise
    except NotDicom as error:
        raise SeriesRefused(str(error)) from error
    except NotImplementedError:
        raise SeriesRefused(f"Transfer Syntax UID (0002,0010): there is no decoder for {name}.") from None
    except Exception as error:
        # decoders raise nearly anything for broken data; a missing plugin is a RuntimeError that says so
        text = " ".join(str(error).split())
        if "missing" in text and "dependenc" in text:
            raise SeriesRefused(
                f"Transfer Syntax UID (0002,0010): no decoder for {name} is installed on this machine."
            ) from None
        raise SeriesRefused(
            f"Pixel Data (7FE0,0010) cannot be decoded as {name} ({type(error).__name__}: "
            f"{text[:120].rstrip('.')})."
        ) from error
