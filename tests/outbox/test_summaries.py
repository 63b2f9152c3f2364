"""The QC summary of a study: when it is drawn, of what, and that kills, late images and corrections end well."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.classifiers import catalogue
from qc_node.domain import BodyPart, ClosedBy, Reason, Verdict
from qc_node.ledger import Ledger, LedgerError
from qc_node.ledger.corrections import LEFT_BEHIND
from qc_node.ledger.deliveries import Deliveries
from qc_node.ledger.erasing import Erasing, Scope
from qc_node.ledger.rows import SeriesRow
from qc_node.operations.old_reports import remove_old_reports, remove_old_summaries
from qc_node.operations.retention import HOUR_S, remove_old
from qc_node.outbox.relinking import relink
from qc_node.outbox.summary_writer import SummaryWriter
from qc_node.outbox.writer import Writer
from qc_node.receiver.store import Request, Store
from qc_node.report.summary_picture import Picture, SummaryPage
from qc_node.spool import Spool
from tests.part_settings import writing_settings
from tests.receiver.wire_peer import encode, image
from tests.report.sources import ct_verdict, mri_verdict, rejected

STUDY = "1.2.3"
DAY_S = 86_400.0
GOOD, USABLE, POOR = mri_verdict(), mri_verdict(1), rejected(Reason.MOTION)
MISMATCH = 'Series Description (0008,103E) says "Doe Jane chest"; found: abdomen.'


class Site:
    """A node without its loops: images in, verdicts by hand, reports and pictures out."""

    def __init__(self, root: Path, summary: str = "all", destinations: tuple[str, ...] = ("PACS",)) -> None:
        self.now = 1_800_000_000.0
        self.spool, self.ledger = Spool(root), Ledger(root / "ledger.sqlite")
        self.store = Store(self.spool, self.ledger, 0, lambda: self.now)
        self.missing: Sequence[str] = ()
        self.set(summary, destinations)

    def set(self, summary: str, destinations: tuple[str, ...] = ("PACS",)) -> None:
        """Both writers of a new process."""
        settings = writing_settings(destinations=destinations, confirm_s=30.0, summary=summary)
        self.writer = Writer(settings, self.ledger, self.spool, lambda: self.now)
        self.drawing = SummaryWriter(
            settings,
            self.ledger,
            self.spool,
            lambda: self.now,
            catalogue.shared_card,
            lambda study_uid: self.missing,
        )

    def take(self, series: int, image_number: int = 1, **changes: Any) -> None:
        uid = f"1.2.3.{series}.{image_number}"
        named = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"1.2.3.{series}", "PatientID": "P1", **changes}
        self.receive(image(SOPInstanceUID=uid, InstanceNumber=image_number, SeriesNumber=series, **named))

    def receive(self, ds: Dataset, calling_ae: str = "MRI") -> bool:
        """Whether it opens a series."""
        incoming = self.store.receive(
            Request(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian, calling_ae)
        )
        incoming.write(memoryview(encode(ds)))
        outcome = incoming.finish()
        assert outcome.status == 0
        return outcome.opens_series

    def series(self, series: int) -> SeriesRow:
        row = self.ledger.series.find(STUDY, f"1.2.3.{series}")
        assert row is not None
        return row

    def judge(self, series: int, verdict: Verdict = GOOD, warnings: Sequence[str] = ()) -> None:
        """Close the series, judge it and write its report."""
        self.begin(series)
        row = self.series(series)
        number, run = row["series_id"], row["run"]
        path = self.ledger.instances.paths_of_series(number)[0]
        views = [self.spool.thumbnail_name(row["series_uid"], run, v) for v in ("axial", "coronal", "sagittal")]
        for name in views:
            self.spool.store(name, png())
        self.ledger.verdicts.add(
            number,
            run,
            verdict,
            claims={},
            warnings=list(warnings),
            timings={},
            source_path=path,
            at=self.now,
            report_after=self.now,
            thumbnails=views,
        )
        assert self.ledger.series.finish(number, run, "judged", self.now)
        self.write()

    def begin(self, series: int) -> None:
        row = self.series(series)
        if row["state"] == "receiving":
            assert self.ledger.series.close(row["series_id"], row["last_received"], ClosedBy.HEADER, self.now)
        self.ledger.series.claim(self.now)

    def write(self) -> None:
        self.now += 1
        self.writer.step()

    def close(self) -> None:
        self.now += 1
        study = self.ledger.studies.get(STUDY)
        assert study is not None and self.ledger.studies.close(STUDY, study["last_received"], "quiet", self.now)

    def draw(self) -> list[Dataset]:
        """The pictures that a step adds."""
        before = {row["sop_instance_uid"] for row in self.ledger.summaries.of_study(STUDY)}
        self.now += 1
        self.drawing.step()
        rows = self.ledger.summaries.of_study(STUDY)
        return [pydicom.dcmread(self.spool.path(r["path"])) for r in rows if r["sop_instance_uid"] not in before]

    def send(self) -> None:
        for row in self.ledger.deliveries.unfinished():
            self.ledger.deliveries.sent(row["id"], self.now)

    def is_due(self) -> bool:
        return bool(self.ledger.db.value("SELECT count(*) FROM summaries_due"))


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 30), 200, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def of(pictures: Sequence[Dataset]) -> list[tuple[int, int]]:
    """Instance Number, and which series it is about."""
    return [
        (int(ds.InstanceNumber), int(str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID).split(".")[3]))
        for ds in pictures
    ]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[SummaryPage]:
    """Every page that is drawn."""
    import qc_node.report.summary_picture as pictures

    pages: list[SummaryPage] = []
    draw = pictures.draw

    def noting(page: SummaryPage) -> Picture:
        pages.append(page)
        return draw(page)

    monkeypatch.setattr(pictures, "draw", noting)
    return pages


def judged_study(site: Site, *verdicts: Verdict) -> None:
    for number, verdict in enumerate(verdicts, start=1):
        site.take(number)
        site.judge(number, verdict)
    site.close()


# -- when, and of what -------------------------------------------------------------------------------
def test_a_study_gets_one_series_of_pictures_worst_first(site: Site) -> None:
    judged_study(site, GOOD, POOR, USABLE, mri_verdict(None, None, None))
    pictures = site.draw()
    assert of(pictures) == [(1, 2), (2, 3), (3, 4), (4, 1)]
    assert len({ds.SeriesInstanceUID for ds in pictures}) == 1
    assert all(ds.pixel_array.shape == (1024, 1024, 3) for ds in pictures)
    rows = site.ledger.summaries.of_study(STUDY)
    assert [(row["kind"], row["path"] != "") for row in rows] == [("summary", True)] * 4
    assert not site.is_due() and site.draw() == []


def test_it_is_sent_behind_the_report_of_its_series(site: Site) -> None:
    judged_study(site, GOOD, POOR)
    site.draw()
    waiting = site.ledger.deliveries.unfinished()
    assert [row["kind"] for row in waiting] == ["sr", "sr", "summary", "summary"]
    going = site.ledger.deliveries.next_pending("PACS", site.now)
    first = {row["series_id"]: row["kind"] for row in reversed(going)}
    assert set(first.values()) == {"sr"}


def test_nothing_is_drawn_while_something_of_the_study_arrives_waits_or_is_judged(site: Site) -> None:
    for number in (1, 2):
        site.take(number)
    site.judge(1)
    site.close()
    assert site.draw() == [], "series 2 is receiving"
    site.begin(2)
    assert site.draw() == [], "series 2 is being judged"
    row = site.series(2)
    site.ledger.series.finish(row["series_id"], row["run"], "skipped", site.now, sentence="No.")
    assert of(site.draw()) == [(1, 1)], "a skipped series has no picture, and holds up none"


def test_a_study_whose_last_series_is_reported_after_it_closed_is_due_once_more(site: Site) -> None:
    site.take(1)
    site.close()
    assert site.is_due() and site.draw() == []
    site.judge(1)
    assert of(site.draw()) == [(1, 1)] and not site.is_due()


def test_an_open_study_is_not_due(site: Site) -> None:
    site.take(1)
    site.judge(1)
    assert not site.is_due() and site.draw() == []


def test_a_study_without_a_judged_series_has_no_picture(site: Site) -> None:
    site.take(1)
    site.begin(1)
    row = site.series(1)
    site.ledger.series.finish(row["series_id"], row["run"], "failed", site.now, sentence="No.")
    site.close()
    assert site.draw() == [] and not site.is_due()


@pytest.mark.parametrize(("summary", "destinations"), [("none", ("PACS",)), ("all", ())])
def test_nothing_is_drawn_that_nobody_asked_for_or_gets_and_nothing_of_it_later(
    tmp_path: Path, summary: str, destinations: tuple[str, ...]
) -> None:
    site = Site(tmp_path, summary, destinations)
    judged_study(site, POOR)
    assert site.draw() == [] and not site.is_due()
    site.set("all")
    assert site.draw() == [], "who asks for pictures gets those of studies from then on"


def test_attention_only_draws_what_needs_it_by_verdict_or_by_order(tmp_path: Path) -> None:
    site = Site(tmp_path, "attention-only")
    for number, (verdict, warnings) in enumerate(
        [
            (GOOD, []),
            (POOR, []),
            (ct_verdict(BodyPart.ABDOMEN), [MISMATCH]),
            (GOOD, ["2 images left out: they are copies."]),
            (GOOD, ["Ordered: chest; found: head."]),
        ],
        start=1,
    ):
        site.take(number)
        site.judge(number, verdict, warnings)
    site.close()
    assert of(site.draw()) == [(1, 2), (2, 3), (3, 5)]


def test_what_the_study_lacks_is_said_on_the_first_picture_each_time(
    tmp_path: Path, said: list[SummaryPage]
) -> None:
    site = Site(tmp_path, "attention-only")
    site.missing = ["Ordered: head-neck; no series of the study shows the neck."]
    judged_study(site, GOOD, USABLE)
    assert of(site.draw()) == [(1, 2)], "a study that lacks something needs attention"
    assert [list(page.notes) for page in said] == [list(site.missing)]
    site.set("all")
    site.take(3)
    site.judge(3)
    site.close()
    assert of(site.draw()) == [(2, 1), (3, 3)]
    assert [list(page.notes) for page in said[1:]] == [list(site.missing), []]


# -- the words ---------------------------------------------------------------------------------------
def test_the_picture_says_what_the_pages_say(site: Site, said: list[SummaryPage]) -> None:
    site.take(5, 1)
    site.take(5, 2)
    site.judge(5, mri_verdict(1, 0, 2), ["Ordered: chest; found: head."])
    site.close()
    (picture,) = site.draw()
    (page,) = said
    assert page.title == "MR, series 5, 2 images"
    assert (page.card.headline, page.card.detail) == ("Poor quality", "Some motion, severe noise.")
    assert list(page.notes) == ["Ordered: chest; found: head."]
    assert set(page.views or {}) == {"axial", "coronal", "sagittal"}
    assert page.footer[0].startswith("Judged 20") and page.footer[0].endswith("by QCNODE")
    assert page.footer[1:] == ["qc-test 0.1.0 (01234567)"]
    assert picture.ContentTime[:4] == page.footer[0].split()[2].replace(":", "")


def test_no_text_of_the_header_is_in_it(site: Site, said: list[SummaryPage]) -> None:
    site.take(1, PatientName="Doe^Jane", SeriesDescription="Doe Jane chest", StudyDescription="for Jane")
    site.judge(1, ct_verdict(BodyPart.ABDOMEN), [MISMATCH, "Ordered: chest; found: abdomen."])
    site.close()
    site.draw()
    (page,) = said
    words = " ".join([page.title, page.card.headline, page.card.detail, *page.notes, *page.footer])
    assert "Jane" not in words and "Doe" not in words
    assert list(page.notes) == [
        "Ordered: chest; found: abdomen.",
        "Series Description (0008,103E) says …; found: abdomen.",
    ]


def test_images_with_burnt_in_text_are_not_shown_in_it(site: Site, said: list[SummaryPage]) -> None:
    site.take(1, BurnedInAnnotation="YES")
    site.judge(1)
    site.close()
    assert len(site.draw()) == 1 and not said[0].views


def test_thumbnails_that_are_gone_or_broken_cost_their_view_only(site: Site, said: list[SummaryPage]) -> None:
    judged_study(site, GOOD, USABLE, POOR)
    one, two = (site.ledger.verdicts.get(site.series(n)["series_id"]) for n in (1, 2))
    assert one is not None and two is not None
    site.spool.remove_all(one["thumbnails"])
    site.spool.store(two["thumbnails"][0], b"no picture")
    assert of(site.draw()) == [(1, 3), (2, 2), (3, 1)]
    assert [len(page.views or {}) for page in said] == [3, 2, 0]


# -- again -------------------------------------------------------------------------------------------
def test_a_later_run_gets_a_new_picture_that_says_which_one_it_replaces(
    site: Site, said: list[SummaryPage]
) -> None:
    judged_study(site, GOOD, USABLE)
    first = site.draw()
    site.send()
    site.take(1, 2)
    assert site.draw() == []
    site.judge(1, POOR)
    assert site.draw() == [], "the study is open"
    site.close()
    (picture,) = site.draw()
    assert of([picture]) == [(3, 1)]
    (before,) = (ds for ds in first if of([ds])[0][1] == 1)
    assert [i.ReferencedSOPInstanceUID for i in picture.ReferencedImageSequence] == [before.SOPInstanceUID]
    assert picture.SeriesInstanceUID == before.SeriesInstanceUID
    at = before.ContentTime
    assert said[-1].footer[-1] == f"Replaces the summary of {at[:2]}:{at[2:4]}."
    assert all("Replaces" not in line for page in said[:-1] for line in page.footer)


def test_a_day_later_it_says_the_day(site: Site, said: list[SummaryPage]) -> None:
    judged_study(site, GOOD)
    (before,) = site.draw()
    site.now += 2 * DAY_S
    site.take(1, 2)
    site.judge(1)
    site.close()
    site.draw()
    day, at = before.ContentDate, before.ContentTime
    expected = f"Replaces the summary of {day[:4]}-{day[4:6]}-{day[6:]} {at[:2]}:{at[2:4]}."
    assert said[-1].footer[-1] == expected


def test_judged_again_from_the_same_causes_it_is_the_same_picture(site: Site) -> None:
    judged_study(site, GOOD)
    (picture,) = site.draw()
    assert site.ledger.series.judge_again(site.series(1)["series_id"], site.now)
    site.judge(1)
    assert site.is_due() and site.draw() == [] and not site.is_due()
    assert [r["sop_instance_uid"] for r in site.ledger.summaries.of_study(STUDY)] == [picture.SOPInstanceUID]


def test_a_series_that_comes_later_gets_the_next_number(site: Site) -> None:
    judged_study(site, GOOD, USABLE)
    site.draw()
    site.take(3)
    site.judge(3, POOR)
    site.close()
    assert of(site.draw()) == [(3, 3)]


# -- kills and races ---------------------------------------------------------------------------------
def test_a_kill_before_the_rows_leaves_the_study_due_and_the_next_step_writes_what_is_true_then(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_study(site, GOOD, USABLE)

    def killed(*args: Any, **kwargs: Any) -> bool:
        raise LedgerError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Deliveries, "post", killed)
        with pytest.raises(LedgerError):
            site.drawing.step()
    assert site.is_due() and site.ledger.summaries.of_study(STUDY) == []
    files = set((site.spool.root / "reports").iterdir())
    site.set("all")
    site.take(2, 2)
    site.judge(2, POOR)  # what was series 2 is history
    site.close()
    pictures = site.draw()
    assert of(pictures) == [(1, 2), (2, 1)]
    assert site.spool.path(site.ledger.summaries.of_study(STUDY)[1]["path"]) in files, "written anew under its UID"


def test_a_kill_after_the_rows_draws_nothing_twice(site: Site) -> None:
    judged_study(site, GOOD)
    site.draw()
    site.set("all")
    assert site.draw() == [] and len(site.ledger.summaries.of_study(STUDY)) == 1


def while_drawing(site: Site, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Take a step; something happens when the pictures are drawn and not posted."""
    post, once = Deliveries.post, [happens]

    def posting(self: Deliveries, *args: Any, **kwargs: Any) -> bool:
        if "summarised" in kwargs and once:
            once.pop()()
        return post(self, *args, **kwargs)

    monkeypatch.setattr(Deliveries, "post", posting)
    site.drawing.step()
    assert not once


def test_what_came_while_a_study_was_drawn_is_drawn_with_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_study(site, USABLE)

    def happens() -> None:
        site.take(2)
        site.judge(2, POOR)
        site.close()

    while_drawing(site, monkeypatch, happens)
    assert site.ledger.summaries.of_study(STUDY) == [] and site.is_due()
    assert of(site.draw()) == [(1, 2), (2, 1)]


@pytest.mark.parametrize("whole_study", [True, False])
def test_what_is_forgotten_while_it_is_drawn_leaves_no_picture(
    site: Site, monkeypatch: pytest.MonkeyPatch, whole_study: bool
) -> None:
    judged_study(site, USABLE, POOR)
    number = site.series(2)["series_id"]
    scope = Scope(studies=(STUDY,)) if whole_study else Scope(series=(number,))
    erasing = Erasing(site.ledger.db, lambda: "0" * 32)
    while_drawing(site, monkeypatch, lambda: erasing.stop(scope))
    assert site.ledger.summaries.of_study(STUDY) == []
    kinds = [row["kind"] for row in site.ledger.db.rows("SELECT kind FROM reports")]
    assert len(list((site.spool.root / "reports").iterdir())) == len(kinds) == 2, "the two reports"
    assert of(site.draw()) == ([] if whole_study else [(1, 1)])
    with site.ledger.db.transaction():
        held = erasing.erase(scope)
    assert held.counts["reports"] == (2 if whole_study else 1)
    assert not whole_study or not site.is_due()


def test_forgetting_takes_pictures_along_and_numbers_go_on(site: Site) -> None:
    judged_study(site, GOOD, USABLE, POOR)
    site.draw()
    scope = Scope(series=(site.series(3)["series_id"],))
    erasing = Erasing(site.ledger.db, lambda: "0" * 32)
    with site.ledger.db.transaction():
        held = erasing.erase(scope)
    assert held.counts["reports"] == 2, "report and picture"
    assert sum(path.startswith("reports/") for path in held.files) == 2
    site.take(4)
    site.judge(4)
    site.close()
    assert of(site.draw()) == [(4, 4)]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), LedgerError("locked")])
def test_trouble_of_the_machine_is_tried_again_and_costs_no_picture(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    judged_study(site, GOOD)

    def full(*args: Any, **kwargs: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "store", full)
        with pytest.raises(type(error)):
            site.drawing.step()
    assert site.is_due() and len(site.draw()) == 1


def test_a_series_that_cannot_be_drawn_costs_no_other_its_picture(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import qc_node.report.summary_picture as pictures

    judged_study(site, GOOD, POOR)
    draw = pictures.draw

    def stumble(page: SummaryPage) -> Any:
        if "series 2" in page.title:
            raise ValueError("Doe^Jane")
        return draw(page)

    monkeypatch.setattr(pictures, "draw", stumble)
    assert of(site.draw()) == [(1, 1)] and not site.is_due()
    assert "no summary could be drawn" in caplog.text and "Jane" not in caplog.text


# -- corrections -------------------------------------------------------------------------------------
def test_a_corrected_patient_gets_a_series_of_pictures_of_their_own(site: Site) -> None:
    site.take(1, PatientID="WRONG")
    site.judge(1)
    site.close()
    (before,) = site.draw()
    site.send()
    site.take(1, PatientID="RIGHT")
    site.judge(1)
    site.close()
    (after,) = site.draw()
    assert (before.PatientID, after.PatientID) == ("WRONG", "RIGHT")
    assert before.SeriesInstanceUID != after.SeriesInstanceUID and before.SOPInstanceUID != after.SOPInstanceUID
    assert "ReferencedImageSequence" not in after
    events = site.ledger.series.events(site.series(1)["series_id"])
    assert before.SOPInstanceUID in {e["detail"] for e in events if e["event"] == LEFT_BEHIND}


def test_a_relinked_study_gets_new_pictures_also_when_its_images_are_gone(site: Site) -> None:
    judged_study(site, GOOD)
    (before,) = site.draw()
    site.send()
    site.now += 100 * HOUR_S
    assert remove_old(site.ledger, site.spool, site.now, 72, 90)[0] == 1
    wrong = relink(site.ledger, site.spool, STUDY, None, {"PatientID": "P2"}, "admin", site.now).wrong
    assert before.SOPInstanceUID in wrong
    site.write()
    (after,) = site.draw()
    assert after.PatientID == "P2" and after.SeriesInstanceUID != before.SeriesInstanceUID
    assert "ReferencedImageSequence" not in after and int(after.InstanceNumber) == 2
    assert of([after]) == [(2, 1)], "evidence as the report names it"


def test_another_accession_number_of_the_same_patient_refers_to_the_picture_before(site: Site) -> None:
    judged_study(site, GOOD)
    (before,) = site.draw()
    relink(site.ledger, site.spool, STUDY, None, {"AccessionNumber": "A9"}, "admin", site.now)
    site.write()
    (after,) = site.draw()
    assert after.AccessionNumber == "A9" and after.SeriesInstanceUID == before.SeriesInstanceUID
    assert after.ReferencedImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID


def test_a_picture_is_drawn_from_the_report_where_the_images_went_first(site: Site) -> None:
    site.take(1)
    site.judge(1)
    site.send()
    site.now += 100 * HOUR_S
    assert remove_old(site.ledger, site.spool, site.now, 72, 90)[0] == 1
    site.close()
    (picture,) = site.draw()
    assert picture.PatientID == "P1" and of([picture]) == [(1, 1)]


# -- retention ---------------------------------------------------------------------------------------
def test_bytes_of_pictures_go_early_and_those_of_reports_stay(site: Site) -> None:
    judged_study(site, GOOD)
    site.draw()
    assert remove_old_summaries(site.ledger, site.spool, site.now + 8 * DAY_S, 7.0) == 0, "they wait"
    site.send()
    assert remove_old_summaries(site.ledger, site.spool, site.now + 6 * DAY_S, 7.0) == 0
    assert remove_old_summaries(site.ledger, site.spool, site.now + 8 * DAY_S, 7.0) == 1
    assert remove_old_reports(site.ledger, site.spool, site.now + 8 * DAY_S, None) == 0
    (row,) = site.ledger.summaries.of_study(STUDY)
    assert row["path"] == "" and len(list((site.spool.root / "reports").iterdir())) == 1
    site.now += 8 * DAY_S
    site.take(1, 2)
    site.judge(1)
    site.close()
    (ds,) = site.draw()
    assert ds.InstanceNumber == 2
    assert ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID == row["sop_instance_uid"]


# -- what comes back ---------------------------------------------------------------------------------
@pytest.mark.parametrize("description", ["QC summary", "renamed by the PACS"])
def test_a_picture_that_comes_back_opens_no_series_whoever_drew_it(
    site: Site, tmp_path: Path, description: str
) -> None:
    judged_study(site, GOOD)
    (picture,) = site.draw()
    other = Site(tmp_path / "other")
    picture.SeriesDescription = description
    for node in (site, other):
        assert not node.receive(picture, "PACS")
        assert node.ledger.series.counts() == ({"reported": 1} if node is site else {})
        assert len(node.ledger.instances.unhandled_objects()) == 1
    study = site.ledger.studies.get(STUDY)
    assert study is not None
    if study["state"] == "open":
        site.close()
    assert site.draw() == [] and not site.is_due(), "and no picture is drawn of a picture"


def test_secondary_capture_of_others_is_what_it_was(site: Site) -> None:
    judged_study(site, GOOD)
    (picture,) = site.draw()
    picture.Manufacturer = "ACME"
    assert site.receive(picture, "PACS")
