"""What was measured, in reports and pictures: beside a verdict, and of series that nobody judged."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from qc_node.classifiers import catalogue
from qc_node.domain.measure import Baseline, Better, ImageFinding, Measured, Unusual
from qc_node.domain.wording import Tone
from qc_node.ledger.kept_inputs import NewKeptInput
from qc_node.ledger.measured import NO_REPORT, NewMeasured
from qc_node.operations.metrics import Metrics
from qc_node.outbox.measured_rows import shown_pictures, value_words
from qc_node.outbox.measured_writer import MeasuredWriter
from qc_node.outbox.relinking import relink
from qc_node.outbox.summary_writer import SummaryWriter
from qc_node.outbox.writer import Writer
from qc_node.report.reading import read_measured_report, read_report
from qc_node.report.summary_picture import SummaryPage
from tests.outbox.test_summaries import GOOD, STUDY, Site, said
from tests.part_settings import writing_settings
from tests.report.measured import KNOWN

__all__ = ["said"]  # the fixture

SKIPPED = 'Series Description (0008,103E) says "Doe Jane knee"; no classifier judges it.'
NOISY = Unusual("noise_air", 31.0, 19.2, Baseline(20.0, 1.5, 60))
BLURRED = Unusual("sharpness", 1.9, 3.1, Baseline(1.0, 0.29, 60))
CLIPPED = ImageFinding("clipping", "4 % of the body is clipped.")


class MeasuredSite(Site):
    """A node that measures: reports, pictures, and reports on what was measured only."""

    measured_only = True

    def set(self, summary: str, destinations: tuple[str, ...] = ("PACS",), **changes: Any) -> None:
        settings = writing_settings(
            destinations=destinations,
            confirm_s=30.0,
            summary=summary,
            report_measured_only=self.measured_only,
            **changes,
        )
        parts = settings, self.ledger, self.spool, lambda: self.now
        self.writer = Writer(*parts, measures=KNOWN)
        self.measured = MeasuredWriter(*parts, KNOWN)
        check = lambda study_uid: self.missing  # noqa: E731
        self.drawing = SummaryWriter(*parts, catalogue.shared_card, check, measures=KNOWN)

    def measure(
        self,
        series: int,
        values: dict[str, float] | None = None,
        unusual: Sequence[Unusual] = (),
        findings: Sequence[ImageFinding] = (),
    ) -> None:
        row = self.series(series)
        found = Measured({"noise_air": 31.0, "kvp": 120.0} if values is None else values)
        new = NewMeasured(row["series_id"], row["run"], found, None, 1, unusual, (), findings)
        self.ledger.measured.add(new, self.now)

    def skip(self, series: int, **measures: Any) -> None:
        """Close a series that no classifier takes, and measure it."""
        self.begin(series)
        row = self.series(series)
        self.measure(series, **measures)
        assert self.ledger.series.finish(row["series_id"], row["run"], "skipped", self.now, sentence=SKIPPED)

    def report(self) -> list[Dataset]:
        """The reports that a step adds."""
        sql = "SELECT sop_instance_uid, path FROM reports WHERE kind = 'sr' ORDER BY rowid"
        before = {row["sop_instance_uid"] for row in self.ledger.db.rows(sql, of=dict)}
        self.now += 1
        self.measured.step()
        rows = self.ledger.db.rows(sql, of=dict)
        return [pydicom.dcmread(self.spool.path(r["path"])) for r in rows if r["sop_instance_uid"] not in before]


@pytest.fixture
def site(tmp_path: Path) -> MeasuredSite:
    return MeasuredSite(tmp_path)


# -- beside a verdict --------------------------------------------------------------------------------
def test_a_judged_series_has_its_measures_and_findings_in_the_report(site: MeasuredSite) -> None:
    site.take(1)
    site.measure(1, findings=[CLIPPED])
    site.judge(1)
    (row,) = site.ledger.deliveries.reports_of(site.series(1)["series_id"])
    found = read_report(pydicom.dcmread(site.spool.path(row["path"])))
    assert found.verdict == GOOD
    assert found.measures.named(KNOWN.values()) == {"noise_air": 31.0, "kvp": 120.0}
    assert (found.measures.findings, found.measures.sentences) == (("clipping",), (CLIPPED.sentence,))


def test_a_series_from_before_any_measures_has_the_report_that_it_had(site: MeasuredSite, tmp_path: Path) -> None:
    other = Site(tmp_path / "before")
    uids = []
    for one in (site, other):
        one.take(1)
        one.judge(1)
        (row,) = one.ledger.deliveries.reports_of(one.series(1)["series_id"])
        uids.append((row["sop_instance_uid"], one.spool.path(row["path"]).read_bytes()))
    assert uids[0] == uids[1]


def test_its_picture_says_first_what_is_unusual_and_never_the_name_of_the_scanner(
    site: MeasuredSite, said: list[SummaryPage]
) -> None:
    site.take(1)
    site.measure(1, {"kvp": 120.0, "noise_air": 31.0, "sharpness": 1.9}, [BLURRED, NOISY], [CLIPPED])
    site.judge(1)
    site.close()
    (picture,) = site.draw()
    (page,) = said
    assert page.card.headline == "Good quality"
    assert list(page.unusual) == [
        CLIPPED.sentence,
        "Noise in air is 19.2 times the usual spread above normal.",
        "Width of edges is 3.1 times the usual spread above normal.",
    ]
    assert list(page.measured) == [
        "noise in air 31 grey values", "width of edges 1.9 mm", "tube voltage 120 kV"
    ]  # fmt: skip
    plain = Site(site.spool.root.parent / "plain")
    plain.take(1)
    plain.judge(1)
    plain.close()
    (before,) = plain.draw()
    assert before.SOPInstanceUID != picture.SOPInstanceUID
    differs = np.flatnonzero((before.pixel_array != picture.pixel_array).any(axis=(1, 2)))
    assert differs.min() > 740 and differs.max() < 852, "the verdict is where it was"


def test_what_says_how_good_an_image_is_comes_before_what_describes_it(site: MeasuredSite) -> None:
    site.take(1)
    values = {"noise_air": 0.0, "tilt": 3.0, "sharpness": 1.9, "kvp": 120.0}
    site.measure(1, values, [Unusual("kvp", 120.0, 9.0, Baseline(80.0, 1.0, 60))])
    row = site.ledger.measured.of(site.series(1)["series_id"], 1)
    known = KNOWN | {"tilt": replace(KNOWN["tilt"], better=Better.NEITHER)}
    assert row is not None and value_words(row, known) == [
        "tube voltage 120 kV",
        "width of edges 1.9 mm",
        "tilt 3 °",
        "noise in air 0 grey values",
    ]
    raw = KNOWN | {"sharpness": replace(KNOWN["sharpness"], charted=False)}
    assert value_words(row, raw)[1:3] == ["tilt 3 °", "width of edges 1.9 mm"], (
        "what nothing is compared with: later"
    )


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_pictures_are_windowed_and_ct_shows_tissue(tmp_path: Path, modality: str) -> None:
    stored = np.full((60, 60), -3000, np.int16)  # padding
    stored[10:50, 10:50] = -1000
    stored[20:40, 20:40] = 40
    stored[25:35, 25:30] = 100
    np.savez(tmp_path / "kept.npz", picture_0=stored, picture_1=np.zeros((0, 4)), spacing_mm=np.ones((2, 2)))
    views = shown_pictures(tmp_path / "kept.npz", modality)
    air, tissue, bright = (int(views["1 of 2"][at]) for at in ((15, 15), (22, 22), (30, 27)))
    assert (air, bright) == (0, 255) and 150 < tissue < 255
    assert (255 - tissue > 20) == (modality == "CT")
    assert views["2 of 2"].shape == (0, 4)


@pytest.mark.parametrize(("unusual", "drawn"), [([NOISY], 1), ([BLURRED], 0)])
def test_attention_only_draws_what_is_far_worse_than_normal(
    tmp_path: Path, unusual: list[Unusual], drawn: int
) -> None:
    site = MeasuredSite(tmp_path, "attention-only")
    site.take(1)
    site.measure(1, unusual=unusual)
    site.judge(1)
    site.close()
    assert len(site.draw()) == drawn


# -- measured only -----------------------------------------------------------------------------------
def test_a_series_that_nobody_judged_is_reported_once_and_stays_skipped(site: MeasuredSite) -> None:
    site.take(1)
    site.skip(1, unusual=[NOISY])
    (ds,) = site.report()
    found = read_measured_report(ds)
    assert found.summary == (
        "Measured, not judged. Series Description (0008,103E) says …; no classifier judges it."
        " Noise in air is 19.2 times the usual spread above normal."
    )
    assert found.measures.named(KNOWN.values()) == {"noise_air": 31.0, "kvp": 120.0}
    assert b"knee" not in ds.to_json().encode()
    assert site.series(1)["state"] == "skipped"
    assert [row["kind"] for row in site.ledger.deliveries.unfinished()] == ["sr"]
    assert site.report() == []


def test_its_delivery_ends_no_series_a_second_time(site: MeasuredSite) -> None:
    site.take(1)
    site.skip(1)
    site.report()
    (delivery,) = site.ledger.deliveries.unfinished()
    metrics = Metrics(["MRI"], ["PACS"])
    metrics.report_acknowledged(site.ledger, delivery, site.now)
    counted = [line for line in metrics.render().body.decode().splitlines() if 'outcome="reported"' in line]
    assert counted and all(line.endswith(" 0.0") for line in counted)


def test_off_is_off_and_what_still_has_images_comes_when_it_is_switched_on(tmp_path: Path) -> None:
    site = MeasuredSite(tmp_path)
    site.measured_only = False
    site.set("all")
    site.take(1)
    site.skip(1)
    site.close()
    assert site.report() == [] and site.draw() == []
    site.measured_only = True
    site.set("all")
    assert len(site.report()) == 1 and len(site.draw()) == 1
    assert writing_settings().report_measured_only is False, "the default"


def test_a_kill_between_file_and_row_writes_the_same_report(
    site: MeasuredSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.take(1)
    site.skip(1)

    def killed(*_: object, **__: object) -> bool:
        raise OSError("killed")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(type(site.ledger.deliveries), "post", killed)
        site.report()
    (name,) = [path.name for path in (site.spool.root / "reports").rglob("*") if path.is_file()]
    (ds,) = site.report()
    (row,) = site.ledger.deliveries.reports_of(site.series(1)["series_id"])
    assert row["path"].endswith(name) and row["sop_instance_uid"] == ds.SOPInstanceUID


def test_more_images_give_a_report_that_names_the_one_before(site: MeasuredSite) -> None:
    site.take(1)
    site.skip(1)
    (first,) = site.report()
    site.take(1, 2)
    site.skip(1)
    (second,) = site.report()
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert read_measured_report(second).predecessor == first.SOPInstanceUID
    assert len(read_measured_report(second).evidence) == 2


def test_one_that_is_measured_again_from_the_same_images_has_its_report(site: MeasuredSite) -> None:
    site.take(1)
    site.skip(1)
    (first,) = site.report()
    number = site.series(1)["series_id"]
    assert site.ledger.series.judge_again(number, site.now)
    site.skip(1, unusual=[NOISY])
    assert site.report() == [], "the same causes, the same report"
    assert site.ledger.measured.to_report() == [], "and it is not asked for again for ever"
    (row,) = site.ledger.deliveries.reports_of(number)
    assert (row["sop_instance_uid"], row["run"]) == (first.SOPInstanceUID, 1)
    site.now += 1
    relink(site.ledger, site.spool, STUDY, None, {"PatientID": "P2"}, "me", site.now)
    (second,) = site.report()
    assert second.PatientID == "P2"


def test_a_series_that_is_judged_later_replaces_it(site: MeasuredSite) -> None:
    site.take(1)
    site.skip(1)
    (first,) = site.report()
    site.take(1, 2)
    site.judge(1)
    last = site.ledger.deliveries.last_report(site.series(1)["series_id"])
    assert last is not None and last["predecessor"] == first.SOPInstanceUID
    assert site.report() == []


def test_corrected_identifiers_give_another_report(site: MeasuredSite) -> None:
    site.take(1)
    site.skip(1)
    (first,) = site.report()
    site.now += 1
    relink(site.ledger, site.spool, STUDY, None, {"PatientID": "P2"}, "me", site.now)
    (second,) = site.report()
    assert (first.PatientID, second.PatientID) == ("P1", "P2")
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert site.report() == []


def test_one_that_cannot_be_written_is_said_once_and_holds_up_no_other(
    site: MeasuredSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import qc_node.report.measured_report as reports

    build = reports.build_measured_report

    def failing(source: Dataset, *args: Any, **options: Any) -> Dataset:
        if str(source.SeriesInstanceUID) == "1.2.3.1":
            raise ValueError("Doe^Jane")
        return build(source, *args, **options)

    monkeypatch.setattr(reports, "build_measured_report", failing)
    for number in (1, 2):
        site.take(number)
        site.skip(number)
    assert len(site.report()) == 1 and site.report() == []
    events = site.ledger.series.events(site.series(1)["series_id"])
    assert [e["detail"] for e in events if e["event"] == NO_REPORT] == ["It could not be written (ValueError)."]
    assert "Doe" not in caplog.text


@pytest.mark.parametrize("values", [{}, {"invented": 1.0}])
def test_what_was_not_measured_has_no_report_and_is_no_error(
    site: MeasuredSite, values: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    site.take(1)
    site.skip(1, values=values)
    assert site.report() == [] and "could be written" not in caplog.text


def test_its_picture_comes_behind_its_report_and_shows_what_is_kept(
    site: MeasuredSite, said: list[SummaryPage]
) -> None:
    site.take(1)
    site.skip(1, findings=[CLIPPED])
    site.close()
    assert site.draw() == [] and not said, "no report yet"
    row = site.series(1)
    kept = io.BytesIO()
    ramp = np.tile(np.arange(300, dtype=np.uint16) * 100, (200, 1))
    np.savez_compressed(kept, picture_0=ramp, picture_1=np.stack([ramp.astype(np.uint8)] * 3, -1))
    name = site.spool.training_name(row["series_uid"], 1)
    site.spool.store(name, kept.getvalue())
    site.ledger.kept_inputs.add(NewKeptInput(row["series_id"], row["run"], "pictures", name, 9, False), site.now)
    site.report()
    (picture,) = site.draw()
    (page,) = said
    assert (page.card.headline, page.card.tone) == ("Measured, not judged", Tone.OPEN)
    assert page.card.detail == "Series Description (0008,103E) says …; no classifier judges it."
    assert {name: view.shape for name, view in (page.views or {}).items()} == {
        "1 of 2": (200, 300),
        "2 of 2": (200, 300),
    }
    first = (page.views or {})["1 of 2"]
    assert first.dtype == np.uint8 and (int(first.min()), int(first.max())) == (0, 255)
    assert page.footer[0].startswith("Measured 20") and page.footer[1] == "qc-node measures 1"
    assert list(page.unusual) == [CLIPPED.sentence]
    assert "ContributingEquipmentSequence" not in picture
    kinds = [row["kind"] for row in site.ledger.deliveries.unfinished()]
    assert kinds == ["sr", "summary"]
    assert site.draw() == []


def test_no_picture_is_shown_where_text_is_burnt_in(site: MeasuredSite, said: list[SummaryPage]) -> None:
    site.take(1, BurnedInAnnotation="YES")
    site.skip(1)
    site.report()
    site.close()
    site.draw()
    assert [page.views for page in said] == [{}]
