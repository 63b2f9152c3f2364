"""Whatever bytes a header holds, the report is written and can be read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from qc_node.domain import HeaderClaims
from qc_node.report.character_set import note
from qc_node.report.key_objects import read_key_object
from qc_node.report.modules import OPTIONAL, REQUIRED, source_text
from qc_node.report.reading import read_report
from tests.report.sources import report, source, written
from tests.report.test_key_objects import flag

KEYWORDS = (
    *REQUIRED,
    *OPTIONAL,
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "SeriesNumber",
    "Modality",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
)
VRS = ("DA", "TM", "PN", "LO", "SH", "LT", "DS", "IS", "CS", "UI", "US", "FD", "UN", "OB", "AS")
CHARSETS = (b"ISO_IR 100", b"ISO_IR 192", b"GB18030", b"\\ISO 2022 IR 87", b"ISO 2022 IR 6\\ISO 2022 IR 149", b"?")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """pydicom logs each broken value several times."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.dictionaries(
        st.sampled_from(KEYWORDS), st.tuples(st.none() | st.sampled_from(VRS), st.binary(max_size=80)), max_size=6
    ),
    charset=st.none() | st.sampled_from(CHARSETS),
    warning=st.text(max_size=30),
)
def test_report_and_flag_are_written_and_read(
    values: dict[str, tuple[str | None, bytes]], charset: bytes | None, warning: str
) -> None:
    header = source()
    if charset is not None:
        values = {"SpecificCharacterSet": ("CS", charset), **values}
    for keyword, (vr, data) in values.items():
        tag = Tag(keyword)
        header._dict[tag] = RawDataElement(tag, vr or dictionary_VR(tag), len(data), data, 0, False, True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = written(report(header=header, warnings=[warning], claims=HeaderClaims()))
        said = read_report(ds)
        assert said.series.study_instance_uid == ds.StudyInstanceUID == source().StudyInstanceUID
        assert len(said.warnings) == (1 if note(source_text(header)) is None else 2)
        assert all(keyword in ds for keyword in REQUIRED)
        for element in ds:
            assert element.VR != "UN"
        assert read_key_object(written(flag(header=header))).title.value == "113010"
