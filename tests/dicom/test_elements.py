"""The one scanner: right on what is right, bounded, and nothing but its own error on everything else."""

from __future__ import annotations

import os
import struct
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from qc_node.dicom.elements import (
    FileWindow,
    ScanError,
    TooManyElements,
    Wanted,
    Window,
    element_at,
    inflate,
    scan,
)
from qc_node.dicom.received_header import MODALITY, NUMBER_OF_TIME_SLICES, ROWS, SERIES_INSTANCE_UID, WANTED
from tests.receiver.test_parsing import SYNTAXES, rich
from tests.receiver.wire_peer import encode, image

EVERYTHING = Wanted(frozenset(WANTED.tags | {0x00280010}), last=0x7FE00007, longest=4096, ordered=True)


@contextmanager
def file_window(data: bytes) -> Iterator[FileWindow]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield FileWindow(file.fileno())


def test_a_sequence_of_unknown_vr_is_implicit_inside() -> None:
    ds = image()
    item = (
        struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0xFFFFFFFF, 8, 0x60, 2)
        + b"XX"
        + struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    )
    unknown = struct.pack("<HH2sHL", 0x0009, 0x1010, b"UN", 0, 0xFFFFFFFF) + item
    data = encode(ds)
    at = data.index(struct.pack("<HH", 0x10, 0x20))
    found, _ = scan(Window(data[:at] + unknown + data[at:]), WANTED, explicit=True)
    assert found[MODALITY] == b"MR" and SERIES_INSTANCE_UID in found


def test_sequences_without_end_are_refused() -> None:
    deep = struct.pack("<HH2sHLHHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * 100_000
    with pytest.raises(ScanError, match="nested too deeply"):
        scan(Window(deep), WANTED, explicit=True)
    with pytest.raises(ScanError, match="has no end"):
        scan(Window(deep[:20]), WANTED, explicit=True)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_walk_over_countless_elements_is_given_up(explicit: bool) -> None:
    element = struct.pack("<HH", 8, 1) + (b"LO\0\0" if explicit else bytes(4))
    with pytest.raises(TooManyElements):
        scan(Window(element * 100_000), WANTED, explicit=explicit)


def test_elements_out_of_order_are_refused_where_order_is_asked_for() -> None:
    element = struct.pack("<HH2sH", 8, 1, b"LO", 0)
    assert scan(Window(element * 2), WANTED, explicit=True) == ({}, 16)
    with pytest.raises(ScanError, match="order"):
        scan(Window(element * 2), EVERYTHING, explicit=True)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_and_its_bytes_in_memory_are_walked_alike(syntax: str) -> None:
    data = encode(rich(PixelData=bytes(100_000)), syntax)
    if syntax == DeflatedExplicitVRLittleEndian:
        data = bytes(inflate(memoryview(data)))
    how = {"explicit": syntax != ImplicitVRLittleEndian, "big_endian": syntax == ExplicitVRBigEndian}
    values, end = scan(Window(data), EVERYTHING, **how)
    with file_window(b"head" + data) as window:
        assert scan(window, EVERYTHING, **how, start=4) == (values, end + 4)
        tag, length, value = element_at(window, end + 4, **how)
    assert (tag, length) == (0x7FE00010, 100_000) and value + length == len(data) + 4
    assert {MODALITY, SERIES_INSTANCE_UID, ROWS, NUMBER_OF_TIME_SLICES} < values.keys() and len(values) == 9


def test_a_file_that_shrinks_while_it_is_read_is_a_scan_error() -> None:
    data = encode(rich())
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        window = FileWindow(file.fileno())
        os.ftruncate(file.fileno(), 20_000)
        with pytest.raises(ScanError):
            scan(window, EVERYTHING, explicit=True)


def test_a_deflate_bomb_is_inflated_only_as_far_as_it_may() -> None:
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(100)) + compressor.flush()
    assert len(inflate(memoryview(bomb), 1 << 20)) == 1 << 20
    with pytest.raises(ScanError):
        inflate(memoryview(b"\xff" * 100))


GOOD = encode(rich())[:3000]


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=4)), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_any_bytes_are_walked_alike_in_memory_and_in_a_file_or_give_a_scan_error(
    data: bytes | list[tuple[int, bytes]], explicit: bool, big_endian: bool
) -> None:
    if isinstance(data, list):
        raw = bytearray(GOOD)
        for at, patch in data:
            raw[at : at + len(patch)] = patch
        data = bytes(raw)

    def outcome(window: Window) -> object:
        try:
            return scan(window, EVERYTHING, explicit=explicit, big_endian=big_endian)
        except ScanError as error:
            return type(error)

    tracemalloc.start()
    try:
        in_memory = outcome(Window(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    with file_window(data) as window:
        assert outcome(window) == in_memory
