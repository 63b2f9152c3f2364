"""A closed study against what was ordered and claimed: what no series shows is said once, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from qc_node.domain import BodyPart, Region, Verdict
from qc_node.engine.closed_studies import check_study
from qc_node.engine.orders import check
from qc_node.ledger import Ledger, Received
from tests.engine.test_orders import THIN, ct, ct_claims
from tests.ledger.makers import number_of

ABDOMEN = ct(BodyPart.ABDOMEN, True)
CHEST = ct(BodyPart.CHEST, True)
WHOLE = ct(BodyPart.OTHER, True, Region.CHEST, Region.ABDOMEN, Region.PELVIS)


class Study:
    """A study of CT series in a ledger of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.series = 0

    def add(self, verdict: Verdict | None, **claims: object) -> None:
        """One more series, judged or skipped."""
        self.series += 1
        uid = f"S{self.series}"
        image = Received(
            f"{uid}.1", "1.2", uid, "ST", "1.2.840.10008.1.2.1", "CT", "CT1", f"images/{uid}", 10, 1.0
        )
        assert self.ledger.instances.add([image]) == [True]
        number = number_of(self.ledger, uid)
        assert self.ledger.series.close(number, 1.0, "test", 5.0)
        header = ct_claims(**claims).as_dict()
        self.ledger.series.note_claims(number, header)
        if verdict is None:
            assert self.ledger.series.finish(number, 1, "skipped", 6.0)
            return
        self.ledger.verdicts.add(
            number,
            1,
            verdict,
            claims=header,
            warnings=[],
            timings={},
            source_path="x",
            at=6.0,
            report_after=6.0,
            thumbnails=[],
        )
        assert self.ledger.series.finish(number, 1, "judged", 6.0, stage="ct")

    def closed(self) -> tuple[str, ...]:
        """What is said when the study closes, which the ledger keeps."""
        said = check_study(self.ledger, (), "ST")
        assert self.ledger.studies.missing("ST") == said
        return said


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(Ledger(tmp_path / "ledger.db"))


def test_words_of_a_protocol_wait_for_the_other_series(study: Study) -> None:
    claims = {"series_description": "CT CAP 5.0", "protocol_name": "Thorax-Abdomen-Becken"}
    assert check(ct_claims(**claims), ABDOMEN, THIN) == (), "another series may show the chest"
    study.add(ABDOMEN, **claims)
    study.add(CHEST, series_description="CT CAP Lunge")
    study.add(ct(BodyPart.ABDOMEN_PELVIS, True), **claims)
    assert study.closed() == ()


def test_what_no_series_shows_is_said_when_the_study_closes(study: Study) -> None:
    study.add(ABDOMEN, series_description="CT CAP 5.0", protocol_name="Thorax-Abdomen-Becken")
    study.add(ABDOMEN, series_description="CT CAP 1.0")
    assert study.closed() == (
        'Series Description (0008,103E) says "CT CAP 5.0"; no series of the study shows the chest and the pelvis.',
    )


def test_one_series_of_all_regions_is_enough(study: Study) -> None:
    study.add(WHOLE, series_description="CT CAP 5.0")
    study.add(CHEST, series_description="CT CAP lung")
    assert study.closed() == ()


def test_an_order_says_it_once(study: Study) -> None:
    study.add(ABDOMEN, series_description="CT thorax abdomen", ordered=("CT chest and abdomen",))
    assert study.closed() == ("Ordered: chest-abdomen; no series of the study shows the chest.",)


def test_an_order_for_two_regions_in_two_series(study: Study) -> None:
    for verdict in (CHEST, ABDOMEN):
        claims = {"series_description": "Thorax Abdomen", "ordered": ("CT thorax abdomen",)}
        assert check(ct_claims(**claims), verdict, THIN) == ()
        study.add(verdict, **claims)
    assert study.closed() == ()


def test_a_series_that_could_not_be_told_may_show_it(study: Study) -> None:
    study.add(ABDOMEN, series_description="CT CAP 5.0")
    study.add(ct(None, True), series_description="CT CAP 1.0")
    assert study.closed() == ()


def test_a_series_that_shows_nothing_of_what_it_says_was_told_before(study: Study) -> None:
    claims = {"series_description": "Becken 3.0"}
    assert len(check(ct_claims(**claims), CHEST, THIN)) == 1
    study.add(CHEST, **claims)
    assert study.closed() == ()


def test_a_skipped_series_claims_nothing(study: Study) -> None:
    study.add(None, series_description="CAP scout")
    assert study.closed() == ()
    study.add(CHEST, series_description="Thorax")
    assert study.closed() == ()
