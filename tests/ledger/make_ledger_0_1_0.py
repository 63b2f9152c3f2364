"""Writes ``ledger-0.1.0.sql``: a ledger of qc-node 0.1.0 with every state, by the program of 0.1.0 itself.

Made once, with the sources of 0.1.0 (commit 0ae00a0) in a folder of their own::

    git worktree add /tmp/v0.1.0 0ae00a0
    PYTHONPATH=/tmp/v0.1.0 python tests/ledger/make_ledger_0_1_0.py tests/ledger/ledger-0.1.0.sql

Every row goes through 0.1.0's own functions; votes go through its ``cast``, so that they carry its faults (a
reason after a blind vote).  All people and images are invented.
"""

# mypy: ignore-errors

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from qc_node.feedback import cases, readers, votes
from qc_node.feedback.settings import CounterDeps, WebSettings

from qc_node.domain import Finding, ModelIdentity, Question, Reason, Stage, Verdict, tier_finding
from qc_node.ledger import Ledger, NewVote, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.spool import Spool

T0 = 1_790_000_000.0
MR, CT, SR, KO = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.59",
)
ROOT = "1.2.826.0.1.3680043.10.999"


def brain(grade: int = 0) -> Verdict:
    """A brain verdict with this grade of motion."""

    def graded(question: Question, value: int) -> Finding:
        return Finding(question, value, {str(g): 0.9 if g == value else 0.05 for g in range(3)})

    grades = [graded(Question.MOTION, grade), graded(Question.CONTRAST, 0), graded(Question.NOISE, 0)]
    reject = Finding(Question.STRAIGHT_REJECT, False, {"yes": 0.02, "no": 0.98})
    gadolinium = Finding(Question.GADOLINIUM, False, {"yes": 0.0, "no": 1.0})
    model = ModelIdentity("brain", "0.6.0", "ab" * 32)
    return Verdict(Stage.BRAIN_MRI, model, (reject, gadolinium, *grades, tier_finding(grades)))


def rejected() -> Verdict:
    """A head without skull."""
    finding = Finding(Question.STRAIGHT_REJECT, True, {"yes": 0.97, "no": 0.03}, Reason.SKULL_STRIPPED)
    return Verdict(Stage.BRAIN_MRI, ModelIdentity("brain", "0.6.0", "ab" * 32), (finding,))


def chest() -> Verdict:
    """A chest CT."""
    findings = (
        Finding(Question.BODY_PART, "chest", {"chest": 0.96, "abdomen": 0.04}),
        Finding(Question.CONTRAST_ENHANCED, False, {"yes": 0.0, "no": 1.0}),
    )
    return Verdict(Stage.CT, ModelIdentity("ct", "1.2.0", "cd" * 32), findings)


class Writer:
    """Fills one ledger; the clock goes on by a second with each call."""

    def __init__(self, folder: Path) -> None:
        self.now = T0
        self.ledger = Ledger(folder / "ledger.sqlite")
        web = WebSettings(secret="a secret of at least thirty-two bytes")
        self.spool = Spool(folder)
        self.deps = CounterDeps(self.ledger, self.spool, web, clock=lambda: self.now)
        self.keys = 0

    def later(self, seconds: float = 1.0) -> float:
        """The clock, a little later."""
        self.now += seconds
        return self.now

    # -- images --------------------------------------------------------------------------------------
    def receive(
        self,
        study: int,
        series: int,
        images: int = 3,
        modality: str = "MR",
        scanner: str = "MR_EAST",
        first: int = 1,
    ) -> str:
        """Images of one series; its UID."""
        study_uid, series_uid = f"{ROOT}.{study}", f"{ROOT}.1.{series}"
        self.ledger.instances.add(
            [
                Received(
                    f"{study_uid}.{series}.{n}",
                    MR if modality == "MR" else CT,
                    series_uid,
                    study_uid,
                    "1.2.840.10008.1.2.1",
                    modality,
                    scanner,
                    self.spool.image_name(study_uid, series_uid, f"{study_uid}.{series}.{n}"),
                    131_072 + n,
                    self.later(0.25),
                    expected=images,
                    expected_rule="Images in Acquisition (0020,1002)",
                )
                for n in range(first, first + images)
            ]
        )
        return series_uid

    def close(self, uid: str, rule: str = "quiet: nothing new for 5 s") -> int:
        """Close a series; its run."""
        row = self.ledger.series.get(uid)
        assert self.ledger.series.close(uid, row["last_received"], rule, self.later())
        return row["run"]

    def judge(self, uid: str, verdict: Verdict, patience: float = 0.0) -> int:
        """Close, claim and judge a series; its run."""
        run = self.close(uid)
        self.ledger.series.claim(self.later(), 10)
        self.ledger.series.note_claims(uid, {"series_description": "t1_mprage_sag", "protocol_name": "head"})
        at = self.later()
        self.ledger.verdicts.add(
            uid,
            run,
            verdict,
            claims={"series_description": "t1_mprage_sag", "ordered": ["MRI head"]},
            warnings=["Ordered: head; seen: head."] if patience else [],
            timings={"read": 0.25, "infer": 0.5},
            source_path=self.ledger.instances.paths_of_series(uid)[0],
            at=at,
            report_after=at + patience,
            training_path=self.spool.training_name(uid, run),
            thumbnails=[self.spool.thumbnail_name(uid, run, view) for view in ("axial", "coronal")],
        )
        self.ledger.series.finish(uid, run, "judged", at, stage=verdict.stage.value)
        return run

    def report(self, uid: str, verdict: Verdict, *destinations: str, flag: bool = False) -> list[int]:
        """Judge a series and put its report into the line; ids of the deliveries."""
        run = self.judge(uid, verdict)
        row = self.ledger.series.get(uid)
        before = self.ledger.deliveries.last_report(uid, before_run=run)
        objects = []
        for kind, sop_class in (("sr", SR), ("kos", KO)) if flag else (("sr", SR),):
            name = f"{uid}.{run}.{kind == 'kos':d}"
            objects.append(
                WrittenObject(
                    name,
                    sop_class,
                    uid,
                    row["study_uid"],
                    run,
                    kind,
                    self.spool.report_name(name),
                    before["sop_instance_uid"] if before and kind == "sr" else None,
                )
            )
        known = {d["id"] for d in self.ledger.deliveries.of_series(uid)}
        self.ledger.deliveries.post(objects, destinations or ("PACS",), self.later(), reported=(uid, run))
        return [d["id"] for d in self.ledger.deliveries.of_series(uid) if d["id"] not in known]

    # -- votes ---------------------------------------------------------------------------------------
    def show(self, handle: str, reader: readers.Reader, how: str = "panel") -> dict:
        """Put a case before a reader."""
        self.later(3.0)
        return cases.show(self.deps, handle, reader, how)

    def vote(
        self,
        reader: readers.Reader,
        handle: str,
        vote: str,
        *reasons: str,
        shown: dict | None = None,
        **more: object,
    ) -> str:
        """Cast a vote as 0.1.0's web page does, the verdict being shown afterwards; its key."""
        self.keys += 1
        key = f"key-{self.keys:08d}"
        case = self.ledger.cases.get(handle)
        votes.cast(
            self.deps,
            reader,
            case,
            key=key,
            vote=votes.Choice(vote),
            modality=cases.modality_of(self.deps, case),
            series_uid=cases.series_uid_of(self.deps, case),
            source=str(more.pop("source", "panel")),
            reasons=[votes.VoteReason(r) for r in reasons],
            presentation=None if shown is None else shown["presentation"],
            **more,
        )
        if cases.opinions(self.deps, case) and case["study_uid"]:
            self.ledger.readers.saw_verdict(reader.reader_id, [case["study_uid"]], self.now)
        return key


def fill_images(w: Writer) -> None:
    """A series in every state, deliveries in every state."""
    deliveries = w.ledger.deliveries
    committed, *_ = w.report(w.receive(1, 1), brain(), "PACS")
    deliveries.sent(committed, w.later())
    deliveries.commitment_asked(committed, "2.25.1001", w.later())
    deliveries.committed(f"{ROOT}.1.1.1.0", "2.25.1001", w.later())
    w.ledger.studies.describe(f"{ROOT}.1", "A-1001", "MRI head")

    asked, archive = w.report(w.receive(2, 2), brain(2), "PACS", "ARCHIVE")
    deliveries.sent(asked, w.later())
    deliveries.commitment_asked(asked, "2.25.1002", w.later())
    deliveries.retry(archive, w.later(60), "The peer ARCHIVE does not answer.")
    w.ledger.studies.describe(f"{ROOT}.2", "A-1002", "MRI head")

    sent, flag = w.report(w.receive(3, 3), rejected(), flag=True)
    deliveries.sent(sent, w.later(), "Stored with the warning 0xB000.")
    deliveries.failed(flag, "The peer PACS refused the object with status 0xC000.")

    not_kept, *_ = w.report(w.receive(4, 4, modality="CT", scanner="CT_1"), chest())
    deliveries.sent(not_kept, w.later())
    deliveries.commitment_asked(not_kept, "2.25.1004", w.later())
    deliveries.again(not_kept, w.later(), "The destination did not commit the object (failure reason 0x0112).")

    first = w.receive(5, 5)
    w.report(first, brain(1))
    w.receive(5, 5, 1, first=4)  # a late image: run 2
    w.report(first, brain(0))
    pending = w.receive(6, 6)
    w.report(pending, brain(0))
    w.receive(6, 6, 1, first=4)  # a late image: receiving again

    w.judge(w.receive(7, 7), brain(2), patience=30.0)
    skipped = w.receive(8, 8)
    run = w.close(skipped, "header: Images in Acquisition (0020,1002)")
    w.ledger.series.claim(w.later())
    w.ledger.series.finish(skipped, run, "skipped", w.later(), sentence="This is a localizer.")
    failed = w.receive(9, 9)
    run = w.close(failed)
    for _ in range(3):
        w.ledger.series.claim(w.later())
        w.ledger.series.requeue_claimed(3, w.later())
    removed, *_ = w.report(w.receive(10, 10), brain(0))
    deliveries.sent(removed, w.later())
    row = w.ledger.series.get(f"{ROOT}.1.10")
    assert w.ledger.series.mark_images_removed(row["series_uid"], row["last_received"], w.later())
    gone = w.ledger.verdicts.get(row["series_uid"])
    w.ledger.verdicts.forget_training(gone["id"])

    # one Series UID in two studies: 0.1.0 counts all images for the first one
    w.receive(11, 11)
    w.receive(12, 11, images=2)
    w.report(f"{ROOT}.1.11", brain(0))
    w.receive(13, 10, images=1)  # the same with images that were removed

    broken = w.receive(14, 14)
    w.judge(broken, brain(0))
    w.ledger.series.fail_report(broken, 1, w.later(), "The report could not be written (ValueError).")
    again = w.receive(16, 16)
    w.report(again, brain(0))
    w.ledger.series.judge_again(again, w.later())  # queued, run 2
    w.ledger.series.claim(w.later(), 1)  # judging
    w.close(w.receive(15, 15))  # queued
    w.ledger.series.set_pacs_count(w.receive(17, 17), 3, w.later())  # receiving
    for number in (1, 2):
        study = w.ledger.studies.get(f"{ROOT}.{number}")
        w.ledger.studies.close(
            study["study_uid"], study["last_received"], "quiet: nothing new for 300 s", w.later()
        )
    w.ledger.studies.note_missing(f"{ROOT}.2", ["Ordered: neck; no series of the neck came."])
    w.ledger.studies.set_due(f"{ROOT}.17", w.ledger.studies.get(f"{ROOT}.17")["last_received"], w.now + 300)

    for number, handled in ((1, 0), (2, 1), (3, 2)):
        uid = f"{ROOT}.77.{number}"
        name = f"images/k/{number}"
        series, study, syntax = f"{ROOT}.78", f"{ROOT}.1", "1.2.840.10008.1.2.1"
        row = Received(uid, KO, series, study, syntax, "KO", "PACS", name, 900, w.later(), opens_series=False)
        w.ledger.instances.add([row])
        if handled:
            w.ledger.instances.mark_handled(uid)
        if handled == 2:
            w.ledger.instances.mark_removed(uid)
    w.ledger.instances.quarantine("quarantine/1.dcm", "It is not DICOM.", "MR_EAST", w.later())


def fill_people(w: Writer) -> None:
    """Readers, votes with everything that 0.1.0 does to them, and what is written beside them."""
    bode, _ = readers.add(w.ledger, "bode", name="M. Bode", site="Potsdam", at=w.later(), pin="123456")
    vogt, _ = readers.add(w.ledger, "vogt", name="J. Vogt", site="Berlin", at=w.later(), role="technologist")
    expert, _ = readers.add(w.ledger, "klee", name="P. Klee", site="Berlin", at=w.later(), role="expert")
    gone, _ = readers.add(w.ledger, "gone", name="N. Gone", site="Berlin", at=w.later(), link=False)
    w.ledger.readers.set_topic(bode.reader_id, '{"hub": "https://hub.example", "topic": "t1"}')
    study = {n: cases.open_study(w.deps, f"{ROOT}.{n}") for n in range(1, 12)}

    shown = w.show(study[1], bode)
    w.vote(bode, study[1], "good", shown=shown, ms_to_vote=1900, age_ms=100.0)  # blind
    w.later(14)
    w.vote(bode, study[1], "good", "noise", shown=shown, ms_to_vote=15_400)  # a reason: not blind any more

    shown = w.show(study[2], bode, "fhircast")
    w.vote(bode, study[2], "poor", "motion", shown=shown, ms_to_vote=2500, source="fhircast")  # blind
    w.later(5)
    w.vote(bode, study[2], "poor", "motion", "noise", shown=shown, ms_to_vote=7500, source="fhircast")
    w.later(5)
    w.vote(bode, study[2], "poor", "motion", shown=shown, ms_to_vote=12_500, source="fhircast")  # twice
    w.later(5)
    w.vote(bode, study[2], "acceptable", shown=shown, ms_to_vote=17_500, source="fhircast")  # another level

    shown = w.show(study[3], bode)
    w.vote(bode, study[3], "good", shown=shown, ms_to_vote=3000)
    w.later(2)
    key = w.vote(bode, study[3], "good", "coverage", shown=shown, ms_to_vote=5000)
    w.later(2)
    w.vote(bode, study[3], "withdrawn", withdraws=key)  # the reason
    shown = w.show(study[4], vogt)
    key = w.vote(vogt, study[4], "poor", shown=shown, ms_to_vote=900)
    w.later(2)
    w.vote(vogt, study[4], "withdrawn", withdraws=key)  # the vote

    w.ledger.readers.saw_verdict(vogt.reader_id, [f"{ROOT}.5"], w.later())
    shown = w.show(study[5], vogt)
    w.vote(vogt, study[5], "acceptable", shown=shown, ms_to_vote=4000)  # not blind from the start
    w.later(3)
    w.vote(vogt, study[5], "acceptable", "artefact", shown=shown, ms_to_vote=7000)
    series = cases.open_series(w.deps, f"{ROOT}.1.6")
    w.vote(expert, series, "good", shown=w.show(series, expert))
    w.vote(expert, series, "poor", "protocol", "other")
    number = w.ledger.cases.open("A" * 22, "accession:X-77", w.later(), accession_number="X-77")
    w.vote(bode, number, "good", source="api")
    w.ledger.votes.add(
        [
            NewVote(
                "kos-1",
                bode.reader_id,
                "Potsdam",
                "MR",
                "poor",
                w.later(),
                w.now,
                "key_object",
                study_uid=f"{ROOT}.9",
                reasons=("artefact",),
                sop_instance_uid=f"{ROOT}.77.1",
            ),
            NewVote(
                "import-1", gone.reader_id, "Berlin", "CT", "good", w.now - 9e6, w.now, "import", study_uid="1.9.9"
            ),
        ]
    )
    w.ledger.readers.disable(gone.reader_id, w.later())
    w.ledger.votes.mark(f"{ROOT}.77.2", f"{ROOT}.1", None, "poor", ["motion"], "It names no observer.", w.later())

    for n, run, scanner in ((3, 1, "MR_EAST"), (2, 1, "MR_EAST"), (5, 1, "MR_EAST")):
        w.ledger.board.raise_alarm(f"{ROOT}.1.{n}", run, scanner, w.later())
    w.ledger.board.acknowledge(1, "Technologist", w.later())
    w.ledger.board.supersede(f"{ROOT}.1.5", 2, w.later())
    for label in ("0", "1"):
        w.ledger.labels.add(f"{ROOT}.1.2", 1, "motion", "2", label, expert.reader_id, w.later())
    prompt = "p" * 21
    w.ledger.prompts.add(f"{prompt}1", f"{ROOT}.6", f"{ROOT}.1.6", bode.reader_id, "random", w.later())
    w.ledger.prompts.add(f"{prompt}2", f"{ROOT}.7", f"{ROOT}.1.7", expert.reader_id, "uncertain", w.later())
    w.ledger.prompts.expire(w.later(), w.now)
    w.ledger.prompts.add(f"{prompt}3", f"{ROOT}.8", None, bode.reader_id, "double", w.later())
    w.ledger.prompts.add(f"{prompt}4", f"{ROOT}.9", f"{ROOT}.1.9", bode.reader_id, "conflict", w.later())
    w.ledger.prompts.answer(f"{ROOT}.9", bode.reader_id, w.later())
    for key, uid, who, kind, motion, source in (
        ("g-1", f"{ROOT}.1.1", expert, "rating", 0, "annotate"),
        ("g-2", f"{ROOT}.1.1", bode, "rating", 1, "annotate"),
        ("g-3", f"{ROOT}.1.1", expert, "consensus", 1, "annotate"),
        ("g-4", "1.9.9.9", expert, "rating", 2, "import"),
    ):
        w.ledger.gradings.add(
            key=key,
            series_uid=uid,
            reader_id=who.reader_id,
            kind=kind,
            straight_reject=False,
            gadolinium=False,
            motion=motion,
            contrast=0,
            noise=0,
            at=w.later(),
            ms=2000,
            source=source,
        )


def main() -> None:
    """Write the ledger and print it as SQL."""
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder))
        fill_images(writer)
        fill_people(writer)
        lines = [f"PRAGMA user_version={writer.ledger.db.value('PRAGMA user_version')};"]
        lines += writer.ledger.db.conn.iterdump()
        states = {row["state"] for row in writer.ledger.db.rows("SELECT state FROM series")}
        assert states == {"receiving", "queued", "judging", "judged", "skipped", "failed", "reported"}, states
        found = {row["state"] for row in writer.ledger.db.rows("SELECT state FROM deliveries")}
        assert found == {"pending", "sent", "committed", "failed"}, found
        Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
