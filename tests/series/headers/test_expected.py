"""Which header counts are believed."""

from __future__ import annotations

import csv
import itertools
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from qc_node.dicom import received_header
from qc_node.dicom.elements import Window
from qc_node.dicom.part10 import read_head
from qc_node.dicom.received_header import Facts
from qc_node.series.headers import expected


def facts(numbers: Mapping[int, int], sop_class: str = MRImageStorage, ge: bool = False) -> Facts:
    return Facts(sop_class, "1.1", "1.2", "1.3", "MR", dict(numbers), ge)


IIA, NTP = received_header.IMAGES_IN_ACQUISITION, received_header.NUMBER_OF_TEMPORAL_POSITIONS

RULES = [
    ({}, None, None),
    ({IIA: 11}, 11, expected.ACQUISITION),
    (
        {IIA: 11, received_header.ACQUISITION_NUMBER: 1, received_header.ECHO_NUMBERS: 1, NTP: 1},
        11,
        expected.ACQUISITION,
    ),
    ({IIA: 1}, None, None),  # written by devices whatever the series holds
    ({IIA: 0}, None, None),
    ({IIA: -3}, None, None),
    ({IIA: 10**9}, None, None),
    (
        {IIA: 11, received_header.ACQUISITION_NUMBER: 2},
        None,
        None,
    ),  # a count of an acquisition, and there are several
    ({IIA: 11, received_header.ECHO_NUMBERS: 2}, None, None),
    ({IIA: 20, NTP: 3}, 60, expected.TEMPORAL),
    ({NTP: 3}, None, None),
    ({received_header.NUMBER_OF_SLICES: 111, received_header.NUMBER_OF_TIME_SLICES: 45}, 4995, expected.PET),
    ({received_header.NUMBER_OF_SLICES: 17}, None, None),
    ({received_header.CARDIAC_NUMBER_OF_IMAGES: 25}, 25, expected.CARDIAC),
    ({received_header.CARDIAC_NUMBER_OF_IMAGES: 0, IIA: 1}, None, None),
    ({received_header.NUMBER_OF_FRAMES: 1, IIA: 11}, 11, expected.ACQUISITION),
]


@pytest.mark.parametrize(("numbers", "count", "rule"), RULES)
def test_rules(numbers: dict[int, int], count: int | None, rule: str | None) -> None:
    assert expected.expected_count(facts(numbers)) == (count, rule)


def test_the_private_count_needs_its_creator() -> None:
    numbers = {received_header.GE_IMAGES_IN_SERIES: 44}
    assert expected.expected_count(facts(numbers, CTImageStorage, ge=True)) == (44, expected.GE)
    assert expected.expected_count(facts(numbers, CTImageStorage)) == (None, None)
    assert expected.expected_count(facts({received_header.GE_IMAGES_IN_SERIES: 1}, ge=True)) == (None, None)


def test_a_multi_frame_object_is_its_series_unless_it_is_a_part_of_one() -> None:
    one = {received_header.NUMBER_OF_FRAMES: 60, IIA: 60}
    assert expected.expected_count(facts(one, EnhancedMRImageStorage)) == (1, expected.MULTI_FRAME)
    part = one | {received_header.IN_CONCATENATION_TOTAL_NUMBER: 3}
    assert expected.expected_count(facts(part, EnhancedMRImageStorage)) == (3, expected.CONCATENATION)
    assert expected.expected_count(facts(one, PositronEmissionTomographyImageStorage))[1] == expected.ACQUISITION
    assert {expected.MULTI_FRAME, expected.CONCATENATION, expected.CARDIAC} == expected.WEAK


@pytest.mark.data
def test_no_real_series_is_closed_by_a_wrong_count(shared_data: Path) -> None:
    with (shared_data / "dicom" / "INDEX.csv").open() as table:
        rows = list(csv.DictReader(table))
    for row in rows:
        found = set()
        with tarfile.open(shared_data / "dicom" / row["file"]) as archive:
            for member in itertools.islice((m for m in archive if m.isfile()), 8):
                file = archive.extractfile(member)
                assert file is not None
                raw = file.read()
                head = read_head(Window(raw))
                result = received_header.facts(memoryview(raw), head.transfer_syntax_uid, head.start)
                found.add(expected.expected_count(result))
        assert found in ({(None, None)}, {(int(row["instances"]), expected.ACQUISITION)}), row["file"]
        assert (None, None) not in found or not row["file"].startswith("hitachi")
