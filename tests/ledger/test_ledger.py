from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from qc_node.domain import ClosedBy, Finding, ModelIdentity, QcNodeError, Question, Stage, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.ledger.migrations import MIGRATIONS
from tests.ledger.makers import number_of

MODEL = ModelIdentity("m", "1", "ab" * 32)
VERDICT = Verdict(Stage.BRAIN_MRI, MODEL, (Finding(Question.STRAIGHT_REJECT, False, {"yes": 0.0, "no": 1.0}),))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def image(uid: str, at: float = 1.0, series: str = "S", opens: bool = True) -> Received:
    return Received(
        uid, "1.2", series, "ST", "1.2.840.10008.1.2.1", "MR", "SCANNER", f"images/{uid}", 10, at, opens
    )


def close(ledger: Ledger, series: str = "S", rule: str = ClosedBy.QUIET, at: float = 5.0) -> bool:
    row = ledger.series.get(series)
    assert row is not None
    return ledger.series.close(row["series_id"], row["last_received"], rule, at)


def judge(ledger: Ledger, run: int = 1, at: float = 6.0, report_after: float = 6.0) -> None:
    ledger.verdicts.add(
        number_of(ledger, "S"),
        run,
        VERDICT,
        claims={"modality": "MR"},
        warnings=["w"],
        timings={"read": 0.1},
        source_path="images/a",
        at=at,
        report_after=report_after,
        thumbnails=["t"],
    )
    assert ledger.series.finish(number_of(ledger, "S"), run, "judged", at, stage="brain_mri")


def written(uid: str, run: int = 1, series_id: int | None = None) -> WrittenObject:
    return WrittenObject(uid, "1.2.840.10008.5.1.4.1.1.88.33", series_id, "ST", run, "sr", f"reports/{uid}")


def test_the_same_instance_twice_is_one_row(ledger: Ledger) -> None:
    assert ledger.instances.add([image("a"), image("a"), image("b", 2.0)]) == [True, False, True]
    assert ledger.instances.add([image("b", 9.0)]) == [False]
    row = ledger.series.get("S")
    assert row is not None
    assert (row["instances"], row["last_received"], row["run"], row["state"]) == (2, 2.0, 1, "receiving")


def test_a_report_or_key_object_never_opens_a_series(ledger: Ledger) -> None:
    ledger.instances.add([image("k", opens=False)])
    assert ledger.series.get("S") is None
    assert [o["sop_instance_uid"] for o in ledger.instances.unhandled_objects()] == ["k"]
    ledger.instances.mark_handled("k")
    assert ledger.instances.unhandled_objects() == []


def test_an_image_that_arrives_while_closing_keeps_the_series_open(ledger: Ledger) -> None:
    ledger.instances.add([image("a", 1.0)])
    ledger.instances.add([image("b", 2.0)])
    assert not ledger.series.close(number_of(ledger, "S"), 1.0, ClosedBy.QUIET, 5.0)
    ledger.series.set_due(number_of(ledger, "S"), 1.0, 99.0)
    assert [r["series_uid"] for r in ledger.series.due(3.0)] == ["S"], "the stale timer must not be persisted"
    assert close(ledger)


@pytest.mark.parametrize("state", ["queued", "judging", "judged", "skipped", "reported"])
def test_a_late_image_reopens_the_series_under_the_next_run(ledger: Ledger, state: str) -> None:
    ledger.instances.add([image("a")])
    close(ledger)
    if state != "queued":
        ledger.series.claim(5.5)
    if state == "skipped":
        ledger.series.finish(number_of(ledger, "S"), 1, "skipped", 6.0, sentence="a localiser")
    if state in ("judged", "reported"):
        judge(ledger)
    if state == "reported":
        number = number_of(ledger, "S")
        ledger.deliveries.post([written("r1", 1, number)], ["PACS"], 7.0, reported=(number, 1))
    row = ledger.series.get("S")
    assert row is not None and row["state"] == state
    ledger.instances.add([image("late", 8.0)])
    row = ledger.series.get("S")
    assert row is not None
    assert (row["state"], row["run"], row["sentence"], row["closed_by"]) == ("receiving", 2, None, None)
    done = ledger.series.finish(number_of(ledger, "S"), 1, "judged", 9.0)
    assert not done, "the run of before the late image is history"
    assert ledger.verdicts.to_report(100.0) == []


def test_what_a_dead_worker_held_goes_back_and_finally_fails(ledger: Ledger) -> None:
    ledger.instances.add([image("a")])
    close(ledger)
    for attempt in (1, 2, 3):
        (row,) = ledger.series.claim(6.0)
        assert row["attempts"] == attempt
        assert ledger.series.claim(6.0) == []
        ledger.series.requeue_claimed(3, 7.0)
    end = ledger.series.get("S")
    assert end is not None
    assert end["state"] == "failed" and "3 times" in str(end["sentence"])


def test_two_workers_never_claim_the_same_series(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.instances.add([image(f"i{n}", 1.0, f"S{n}") for n in range(40)])
    for n in range(40):
        close(ledger, f"S{n}")
    claimed: list[str] = []

    def work() -> None:
        while rows := ledger.series.claim(6.0):
            claimed.extend(r["series_uid"] for r in rows)
        ledger.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(claimed) == sorted(f"S{n}" for n in range(40))


def test_a_report_waits_until_it_is_due(ledger: Ledger) -> None:
    ledger.instances.add([image("a")])
    close(ledger)
    ledger.series.claim(5.5)
    judge(ledger, report_after=36.0)
    assert ledger.verdicts.to_report(35.0) == []
    assert ledger.verdicts.next_report_at() == 36.0
    (row,) = ledger.verdicts.to_report(36.0)
    assert row["verdict"] == VERDICT and row["claims"] == {"modality": "MR"} and row["warnings"] == ["w"]


def test_the_outbox_keeps_the_order_of_a_series_and_what_is_not_of_it_passes(ledger: Ledger) -> None:
    ledger.instances.add([image("a"), image("b", series="T")])
    mine, other = number_of(ledger, "S"), number_of(ledger, "T")
    ledger.deliveries.post([written("r1", 1, mine), written("r2", 1, mine)], ["PACS", "ARCHIVE"], 10.0)
    ledger.deliveries.post([written("r1", 1, mine)], ["PACS"], 11.0)
    first, second = ledger.deliveries.next_pending("PACS", 12.0)
    assert [first["sop_instance_uid"], second["sop_instance_uid"]] == ["r1", "r2"]
    ledger.deliveries.retry(first["id"], 20.0, "the PACS is down")
    assert ledger.deliveries.next_pending("PACS", 15.0) == []
    assert ledger.deliveries.next_attempt_at("PACS") == 20.0
    ledger.deliveries.sent(first["id"], 21.0)
    assert [r["sop_instance_uid"] for r in ledger.deliveries.next_pending("PACS", 21.0)] == ["r2"]
    assert len(ledger.deliveries.next_pending("ARCHIVE", 21.0)) == 2
    assert ledger.deliveries.counts() == {"sent": 1, "pending": 3}
    ledger.deliveries.post(
        [written("r3", 2, mine), replace(written("n1", 1, other), predecessor="r3")], ["PACS"], 22.0
    )
    ledger.deliveries.retry(second["id"], 30.0, "the PACS does not take it")
    assert ledger.deliveries.next_pending("PACS", 25.0) == [], "r3 is behind r2, and n1 replaces r3"
    ledger.deliveries.post([written("n0", 1, number_of(ledger, "T"))], ["ARCHIVE"], 23.0)
    ledger.deliveries.post([written("x")], ["PACS"], 24.0)
    assert [r["sop_instance_uid"] for r in ledger.deliveries.next_pending("PACS", 25.0)] == ["x"]
    assert ledger.deliveries.drop(second["id"]) and not ledger.deliveries.drop(second["id"])
    assert [r["sop_instance_uid"] for r in ledger.deliveries.next_pending("PACS", 25.0)] == ["r3", "x"]


def test_only_what_was_asked_for_can_be_committed(ledger: Ledger) -> None:
    ledger.deliveries.post([written("r1")], ["PACS"], 10.0)
    (row,) = ledger.deliveries.next_pending("PACS", 10.0)
    assert not ledger.deliveries.committed("r1", "9.9", 11.0)
    ledger.deliveries.sent(row["id"], 12.0)
    ledger.deliveries.commitment_asked(row["id"], "9.9", 12.0)
    assert not ledger.deliveries.committed("r1", "8.8", 13.0)
    assert ledger.deliveries.committed("r1", "9.9", 13.0)
    assert ledger.deliveries.counts() == {"committed": 1}


def test_images_stay_while_a_delivery_is_pending(ledger: Ledger) -> None:
    ledger.instances.add([image("a")])
    close(ledger)
    ledger.series.claim(5.5)
    judge(ledger)
    number = number_of(ledger, "S")
    ledger.deliveries.post([written("r1", 1, number)], ["PACS"], 7.0, reported=(number, 1))
    assert ledger.removals.due(100.0) == [] and ledger.removals.begin(number, 1.0, 8.0) is None
    (row,) = ledger.deliveries.next_pending("PACS", 8.0)
    ledger.deliveries.sent(row["id"], 9.0)
    assert [r["series_uid"] for r in ledger.removals.due(100.0)] == ["S"]
    assert ledger.removals.begin(number, 0.5, 101.0) is None, "an image came meanwhile"
    assert len(ledger.removals.begin(number, 1.0, 101.0) or []) == 1
    assert ledger.removals.due(200.0) == []


def test_the_pacs_count_remembers_since_when_it_holds(ledger: Ledger) -> None:
    ledger.instances.add([image("a")])
    since = []
    for at, count in ((10.0, 1), (11.0, 1), (14.0, 2), (15.0, None), (16.0, None)):
        ledger.series.set_pacs_count(number_of(ledger, "S"), count, at)
        row = ledger.series.get("S")
        assert row is not None
        since.append(row["pacs_count_since"])
    assert since == [10.0, 10.0, 14.0, 15.0, 15.0]


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    Ledger(path).db.conn.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(QcNodeError, match="newer than this qc-node"):
        Ledger(path)


def test_a_file_that_is_no_ledger_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(QcNodeError, match=r"is damaged .*not a database.*qc-node restore"):
        Ledger(path)


def test_a_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError), ledger.db.transaction():
        ledger.instances.add([image("a")])
        raise RuntimeError
    assert not ledger.instances.known("a")


def test_one_series_uid_in_two_studies_is_two_series(ledger: Ledger) -> None:
    ledger.instances.add([image("a", 1.0), image("b", 2.0)])
    ledger.instances.add([replace(image("c", 3.0), study_uid="OTHER")])
    first, second = ledger.series.find("ST", "S"), ledger.series.find("OTHER", "S")
    assert first is not None and second is not None and first["series_id"] != second["series_id"]
    assert (first["instances"], second["instances"]) == (2, 1)
    assert [i["sop_instance_uid"] for i in ledger.instances.of_series(first["series_id"])] == ["a", "b"]
    newest = ledger.series.get("S")
    assert newest is not None and newest["study_uid"] == "OTHER", "a UID alone means the one that received last"
    assert ledger.series.close(first["series_id"], 2.0, ClosedBy.QUIET, 5.0)
    assert [row["study_uid"] for row in ledger.series.claim(6.0, 5)] == ["ST"]


def test_a_batch_of_several_series_counts_each_for_itself(ledger: Ledger) -> None:
    batch = [
        image("a", 1.0),
        replace(image("b", 2.0, "T"), expected=7, expected_rule="a tag"),
        image("a", 3.0),
        replace(image("c", 4.0), study_uid="OTHER"),
        image("d", 5.0),
        image("k", 6.0, opens=False),
    ]
    assert ledger.instances.add(batch) == [True, True, False, True, True, True]
    found = {(row["study_uid"], row["series_uid"]): row for row in ledger.series.recent()}
    assert {
        key: (row["instances"], row["first_received"], row["last_received"]) for key, row in found.items()
    } == {
        ("ST", "S"): (2, 1.0, 5.0),
        ("ST", "T"): (1, 2.0, 2.0),
        ("OTHER", "S"): (1, 4.0, 4.0),
    }
    assert (found["ST", "T"]["expected"], found["ST", "T"]["expected_rule"]) == (7, "a tag")
    study = ledger.studies.get("ST")
    assert study is not None and (study["first_received"], study["last_received"]) == (1.0, 6.0)


def test_versions_of_an_instance_are_rows_and_the_one_not_superseded_counts(ledger: Ledger) -> None:
    ledger.instances.add([image("a")])
    with ledger.db.transaction() as conn:
        conn.execute("UPDATE instances SET superseded_at = 5.0, digest = 'old' WHERE sop_instance_uid = 'a'")
        conn.execute(
            "INSERT INTO instances (sop_instance_uid, version, series_id, sop_class_uid, transfer_syntax_uid,"
            " calling_ae, path, bytes, received_at, digest) SELECT sop_instance_uid, 2, series_id, sop_class_uid,"
            " transfer_syntax_uid, calling_ae, 'images/new', bytes, 5.0, 'new' FROM instances"
        )
    assert [(v["version"], v["digest"], v["superseded_at"]) for v in ledger.instances.versions("a")] == [
        (1, "old", 5.0),
        (2, "new", None),
    ]
    assert ledger.instances.path_of("a") == "images/new"
    assert ledger.instances.paths_of_series(number_of(ledger, "S")) == ["images/new"]
    assert ledger.instances.add([image("a", 9.0)]) == [False], "a known UID is an idempotent success"
    assert set(ledger.removals.named("images")) == {"images/new"}


def test_a_series_has_one_verdict_per_classifier_and_the_routed_one_makes_the_report_due(ledger: Ledger) -> None:
    ledger.instances.add([image("a")])
    close(ledger)
    ledger.series.claim(5.5)
    number = number_of(ledger, "S")
    beside = Verdict(Stage.CT, MODEL, ())
    kept = {"claims": {}, "warnings": (), "timings": {}, "source_path": "images/a", "at": 6.0}
    ledger.verdicts.add(number, 1, beside, routed=False, report_after=0.0, **kept)  # type: ignore[arg-type]
    assert ledger.verdicts.get(number) is None and ledger.verdicts.recent() == []
    judge(ledger, report_after=36.0)
    assert ledger.verdicts.to_report(35.0) == [] and ledger.verdicts.next_report_at() == 36.0
    assert [row["verdict"].stage for row in ledger.verdicts.to_report(36.0)] == [Stage.BRAIN_MRI]
    assert [row["verdict"].stage for row in ledger.verdicts.of(number, 1)] == [Stage.BRAIN_MRI, Stage.CT]
    ledger.verdicts.add(number, 1, beside, report_after=9.0, **kept)  # type: ignore[arg-type]
    assert [row["stage"] for row in ledger.verdicts.of(number, 1)] == ["ct"], "judged again and routed elsewhere"


def test_every_open_transaction_of_a_delivery_can_still_be_answered(ledger: Ledger) -> None:
    ledger.deliveries.post([written("r1")], ["PACS"], 10.0)
    (row,) = ledger.deliveries.next_pending("PACS", 10.0)
    ledger.deliveries.sent(row["id"], 11.0)
    ledger.deliveries.commitment_asked(row["id"], "1.1", 12.0)
    assert ledger.deliveries.never_asked("PACS", 0.0) == []
    ledger.deliveries.commitment_asked(row["id"], "2.2", 3612.0)
    (owed,) = ledger.deliveries.asked_in_vain("PACS")
    assert (owed["asked"], owed["first_asked"], owed["last_asked"], owed["outcome"]) == (2, 12.0, 3612.0, None)
    assert ledger.deliveries.oldest_uncommitted() == 12.0
    assert ledger.deliveries.committed("r1", "1.1", 4000.0), "the first question is answered after the second"
    found = [
        (c["transaction_uid"], c["answered_at"], c["outcome"]) for c in ledger.deliveries.commitments_of(row["id"])
    ]
    assert found == [("1.1", 4000.0, "committed"), ("2.2", None, None)]
    assert ledger.deliveries.asked_in_vain("PACS") == [] and ledger.deliveries.oldest_uncommitted() is None
    ledger.deliveries.again(row["id"], 5000.0, "not kept", "2.2")
    assert ledger.deliveries.counts() == {"committed": 1}, "what one answer promises another does not take back"


def test_a_failed_commitment_puts_the_object_back_into_the_line_once(ledger: Ledger) -> None:
    ledger.deliveries.post([written("r1")], ["PACS"], 10.0)
    (row,) = ledger.deliveries.next_pending("PACS", 10.0)
    ledger.deliveries.sent(row["id"], 11.0)
    ledger.deliveries.commitment_asked(row["id"], "1.1", 12.0)
    ledger.deliveries.again(row["id"], 13.0, "not kept", "1.1")
    assert ledger.deliveries.counts() == {"pending": 1}
    ledger.deliveries.sent(row["id"], 14.0)
    ledger.deliveries.again(row["id"], 15.0, "not kept", "1.1")
    assert ledger.deliveries.counts() == {"sent": 1}, "the same answer again is no news"
