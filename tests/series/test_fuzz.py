"""Mutated objects end in a volume or in one sentence, never in a traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from qc_node.classifiers import catalogue
from qc_node.domain import QcNodeError
from qc_node.series.headers.acquisition import technique_of
from qc_node.series.headers.routing import route
from qc_node.series.measurable import measurable
from qc_node.series.raw_header import TAGS
from qc_node.series.volume.stack import open_series
from tests.series.makers import make_enhanced, make_radiograph, make_series, voxels

RELAXED = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def look(paths: list[Path]) -> None:
    """Everything that is done with a series before it is judged."""
    try:
        opened = open_series(paths)
        opened.claims.as_dict()
        assert opened.instances and opened.modality is not None
        where = route(opened, catalogue.accepts())
        technique_of(opened)
        found = measurable(opened)
        assert not isinstance(found, str) or (found.endswith(".") and "\n" not in found)
        assert where.sentence is None or (where.sentence.endswith(".") and "\n" not in where.sentence)
        volume = opened.volume()
    except QcNodeError as refusal:
        assert str(refusal).endswith(".") and "\n" not in str(refusal)
    else:
        assert np.isfinite(volume.affine).all() and volume.voxels.ndim == 3
        assert np.isfinite([volume.slope, volume.intercept]).all()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("originals")
    data = voxels((3, 64, 64))
    made = {
        "explicit": make_series(folder / "e", data[:, :6, :6]),
        "implicit": make_series(folder / "i", data[:, :6, :6], "CT", syntax=ImplicitVRLittleEndian),
        "enhanced": [make_enhanced(folder / "x.dcm", data[:, :6, :6])],
        "radiograph": [make_radiograph(folder / "r.dcm", data[0])],
    }
    for name, syntax in (("rle", RLELossless), ("jls", JPEGLSLossless), ("j2k", JPEG2000Lossless)):
        made[name] = make_series(folder / name, data)
        for path in made[name]:
            ds = dcmread(path)
            ds.compress(syntax, generate_instance_uid=False)
            ds.save_as(path)
    return made


@pytest.mark.parametrize("kind", ["explicit", "implicit", "enhanced", "radiograph", "rle", "jls", "j2k"])
@RELAXED
@given(data=st.data())
def test_mutated_bytes(tmp_path: Path, originals: dict[str, list[Path]], kind: str, data: st.DataObject) -> None:
    paths = []
    for path in originals[kind]:
        content = bytearray(path.read_bytes())
        changes = data.draw(
            st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6), label=path.name
        )
        for place, value in changes:
            content[place] = value
        end = data.draw(st.one_of(st.none(), st.integers(0, len(content))), label="cut")
        paths.append(tmp_path / path.name)
        paths[-1].write_bytes(content[:end])
    look(paths)


VALUES = st.one_of(
    st.sampled_from([b"", b"\\", b"1\\2\\3", b"nan\\nan\\nan", b"1e400", b"-0", b"inf\\1\\1", b"0\\0"]),
    st.sampled_from([b"1\\0\\0\\0\\1\\0", b"\0\0", b"\xff\xff"]),
    st.binary(max_size=24),
    st.text("0123456789.-+eE\\ ", max_size=30).map(str.encode),
)


@pytest.mark.parametrize("kind", ["explicit", "implicit", "enhanced", "radiograph"])
@RELAXED
@given(data=st.data())
def test_mutated_values(tmp_path: Path, originals: dict[str, list[Path]], kind: str, data: st.DataObject) -> None:
    tags = sorted(TAGS)
    paths = []
    for path in originals[kind]:
        ds = dcmread(path)
        implicit, little = ds.original_encoding
        assert implicit is not None and little is not None
        for tag in data.draw(st.lists(st.sampled_from(tags), max_size=3, unique=True), label="tags"):
            value = data.draw(VALUES, label="value")
            vr = ds[tag].VR if tag in ds else "UN"
            even = value + b"\0" * (len(value) % 2)
            ds._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(even), even, 0, implicit, little)
        paths.append(tmp_path / path.name)
        try:
            ds.save_as(paths[-1])
        except Exception:  # pydicom will not write some of it: nothing to look at then
            return
    look(paths)
