"""A reader's vote as a Structured Report, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydicom.dataset import Dataset

from qc_node.domain import QcNodeError, Reason, SeriesKey
from qc_node.report import codes
from qc_node.report.items import codes_named
from qc_node.report.reading import is_own_report
from qc_node.report.vote_report import PersonObserver, build_vote_report, read_vote_report
from tests.report.sources import CREATED, evidence, key, report, source, written

READER = PersonObserver("Roe^Richard", "reader-3", "Ward 7")


def vote(
    choice: str = "good",
    reader: PersonObserver = READER,
    header: Dataset | None = None,
    *,
    series: bool = True,
    reasons: Sequence[Reason] = (),
    vote_key: str = "k1",
    sr_class: str = "comprehensive",
    **changes: Any,
) -> Dataset:
    header = header or source()
    return build_vote_report(
        header,
        {key(header): evidence()},
        choice,
        reader,
        vote_key=vote_key,
        voted_at=CREATED,
        study_instance_uid=str(header.StudyInstanceUID),
        series=key(header) if series else None,
        software_version="0.1.0",
        sr_class=sr_class,
        node="QCNODE",
        reasons=reasons,
        **changes,
    )


def test_exposure_is_a_reason_of_its_own_and_needs_the_private_scheme() -> None:
    ds = written(vote("poor", reasons=[Reason.EXPOSURE]))
    assert read_vote_report(ds).reasons == (Reason.EXPOSURE,)
    assert ds.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == codes.PRIVATE_SCHEME


@pytest.mark.parametrize(("choice", "code"), [("good", "122741"), ("acceptable", "111237"), ("poor", "122742")])
@pytest.mark.parametrize("series", [True, False])
def test_reading_gives_back_the_vote(choice: str, code: str, series: bool) -> None:
    ds = written(vote(choice, series=series, reasons=[Reason.MOTION, Reason.SEGMENTED]))
    said = read_vote_report(ds)
    assert (said.vote, said.reader, said.reasons) == (choice, READER, (Reason.MOTION, Reason.SEGMENTED))
    assert said.study_instance_uid == source().StudyInstanceUID
    assert said.series == (key(source()) if series else None)
    assert code in written(ds).to_json()


def test_observer_is_a_person_and_never_a_device() -> None:
    ds = written(vote())
    assert codes_named(ds, codes.OBSERVER_TYPE) == [codes.PERSON]
    assert not is_own_report(ds)


def test_uid_follows_from_reader_and_key() -> None:
    assert vote().SOPInstanceUID == vote("poor").SOPInstanceUID
    assert vote().SOPInstanceUID != vote(vote_key="k2").SOPInstanceUID
    assert vote().SOPInstanceUID != vote(reader=PersonObserver("Roe^Richard", "reader-4")).SOPInstanceUID


@pytest.mark.parametrize("name", ["Dr. O'Neil\\x", "山田^太郎=山田^太郎", "x" * 200, "Weiß"])
def test_any_name_of_a_reader_can_be_written(name: str) -> None:
    assert read_vote_report(written(vote(reader=PersonObserver(name)))).reader.name


@pytest.mark.parametrize("wrong", [{"choice": "excellent"}, {"sr_class": "basic"}])
def test_mistakes_of_the_caller_raise(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a vote report needs"):
        vote(**wrong)


def test_what_is_no_vote_is_refused() -> None:
    for ds in (source(), report(), Dataset()):
        with pytest.raises(QcNodeError, match="no vote report"):
            read_vote_report(ds)


def test_vote_on_a_study_names_all_its_series() -> None:
    header = source()
    other = SeriesKey(str(header.StudyInstanceUID), "1.2.3.4.5")
    ds = build_vote_report(
        header,
        {key(header): evidence(), other: evidence(1)},
        "poor",
        READER,
        vote_key="k",
        voted_at=CREATED,
        study_instance_uid=str(header.StudyInstanceUID),
        series=None,
        software_version="0.1.0",
        sr_class="comprehensive",
        node="QCNODE",
    )
    (study,) = written(ds).CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence) == 2
