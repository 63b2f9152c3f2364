"""What viewers read of a report, by the rules of their sources (OHIF, Orthanc's Stone viewer, Weasis).

OHIF: the title must be 126000; the Imaging Measurements container and the Tracking Unique Identifier of every
group are taken for granted; code meanings and UCUM code values are printed.  Stone: Comprehensive SR, title
126000, template 1500.  Weasis: code meanings, and the completion and verification flags.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset

from qc_node.domain import Reason
from qc_node.report import codes
from qc_node.report.items import children, name_of, named, uid_named
from tests.report.measured import BLOCK, measured_report
from tests.report.sources import ct_verdict, mri_verdict, rejected, report, source, written
from tests.report.test_vote_report import vote

REPORTS = {
    "graded": lambda: report(mri_verdict(1, 2, 0), warnings=["Thick."]),
    "rejected": lambda: report(rejected(Reason.BLANK)),
    "ct": lambda: report(ct_verdict(), source("CT")),
    "vote": lambda: vote("poor"),
    "measures": lambda: report(measures=BLOCK),
    "measured": lambda: measured_report(),
}


def below(item: Dataset) -> Iterator[Dataset]:
    for child in children(item):
        yield child
        yield from below(child)


@pytest.fixture(params=REPORTS)
def ds(request: pytest.FixtureRequest) -> Dataset:
    return written(REPORTS[request.param]())


def test_ohif_and_stone_take_it_for_a_measurement_report(ds: Dataset) -> None:
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert ds.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert ds.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert ds.ContentTemplateSequence[0].MappingResource == "DCMR"


def test_ohif_finds_groups_with_their_tracking_uid(ds: Dataset) -> None:
    (measurements,) = named(ds, codes.IMAGING_MEASUREMENTS)
    groups = list(named(measurements, codes.MEASUREMENT_GROUP))
    assert groups
    uids = [uid_named(group, codes.TRACKING_UID) for group in groups]
    assert all(uids) and len(set(uids)) == len(uids)


def test_every_item_has_words_to_show(ds: Dataset) -> None:
    for item in below(ds):
        name = name_of(item)
        assert name is not None and name.meaning
        if item.ValueType == "CODE":
            assert item.ConceptCodeSequence[0].CodeMeaning
        if item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
            assert unit
            if name == codes.PROBABILITY:
                assert 0 <= float(measured.NumericValue) <= 1 and unit == "1"
        if item.ValueType == "TEXT":
            assert item.TextValue
        assert item.ValueType != "IMAGE"


def test_weasis_shows_that_nobody_verified_it(ds: Dataset) -> None:
    assert (ds.CompletionFlag, ds.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "VerifyingObserverSequence" not in ds
