"""What a hospital does to a node, a few lines each; what must hold is asked by ``comes_to_rest``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tests.end_to_end.faults import (
    ABORTS,
    ANSWER_LOST,
    SILENT,
    Answer,
    Commit,
    Count,
    Hospital,
    Script,
    answers,
    ct,
    dx,
    mr,
    node_and_pacs,
    report_of_another,
)
from tests.end_to_end.faults.hospital import RECEIVER, WORKER, small_disk
from tests.peers import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with node_and_pacs(tmp_path_factory.mktemp("hospital")) as hospital:
        yield hospital


@pytest.fixture
def hospital(shared: Hospital) -> Iterator[Hospital]:
    """A node that has been through the tests before; afterwards the PACS is well, and nothing may be left."""
    yield shared
    shared.pacs.behave(Script())
    shared.comes_to_rest()


@contextmanager
def sending(hospital: Hospital, *series: Sequence[Dataset], pace_s: float) -> Iterator[None]:
    """Meanwhile the modality sends, as often as it takes; afterwards all was acknowledged."""
    before = len(hospital.modality.acknowledged)
    with ThreadPoolExecutor(1) as sender:
        sent = sender.submit(hospital.sends, *series, pace_s=pace_s)
        wait_for(lambda: len(hospital.modality.acknowledged) > before)
        yield
        sent.result()


# -- the PACS ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("trouble", [ABORTS, answers(0xA700)], ids=["aborts", "busy"])
def test_an_object_that_the_pacs_does_not_take_waits_visibly_and_the_others_pass(
    hospital: Hospital, trouble: Answer
) -> None:
    hospital.pacs.behave(Script(objects={0: trouble}))
    hospital.sends(ct(seed=1), ct(seed=2), ct(seed=3))
    hospital.comes_to_rest(explained=1)


@pytest.mark.parametrize("status", [0x0111, 0x0107], ids=hex)
def test_a_report_whose_answer_was_lost_is_sent_again_and_counts(hospital: Hospital, status: int) -> None:
    hospital.pacs.behave(Script(store=[ANSWER_LOST], duplicate=status))
    hospital.sends(ct())
    hospital.comes_to_rest()
    assert [answer.status for _, answer in hospital.pacs.asked[-2:]] == [0x0000, status]


def test_a_pacs_that_rejects_associations_and_is_slow_gets_all_in_the_end(hospital: Hospital) -> None:
    hospital.pacs.behave(Script(rejects=2, store=[answers(0xA700), answers(0x0000, after_s=2.0)]))
    hospital.sends(ct(seed=1), ct(seed=2))
    hospital.comes_to_rest()


def test_a_pacs_that_is_away_while_the_node_is_killed_gets_everything_once(hospital: Hospital) -> None:
    before = len(hospital.pacs.asked)
    with hospital.without_pacs():
        hospital.sends(*(ct(seed=n) for n in range(3)))
        wait_for(lambda: hospital.node.ledger().deliveries.counts().get("pending") == 3, 60)
        hospital.kills_node()
    hospital.comes_to_rest()
    written = [row["sop_instance_uid"] for row in hospital.look().tables["deliveries"][-3:]]
    assert [uid for uid, _ in hospital.pacs.asked[before:]] == written, "once each, in the order of writing"


@pytest.mark.nightly
def test_a_pacs_that_keeps_silent_on_one_object_gets_the_others(hospital: Hospital) -> None:
    hospital.pacs.behave(Script(objects={0: SILENT}))
    hospital.sends(ct(seed=1), ct(seed=2))
    hospital.comes_to_rest(150, explained=1)
    hospital.pacs.stop()
    hospital.pacs.start()


# -- the node and its processes ----------------------------------------------------------------------------
def test_a_node_that_is_killed_while_images_come_keeps_what_it_acknowledged(hospital: Hospital) -> None:
    with sending(hospital, ct(20), ct(20, seed=1), pace_s=0.02):
        hospital.kills_node()
    hospital.comes_to_rest()


def test_a_receiving_process_that_is_killed_loses_nothing(hospital: Hospital) -> None:
    with sending(hospital, ct(30), pace_s=0.02):
        hospital.kills(RECEIVER)
    hospital.comes_to_rest()


def test_a_classifier_that_is_killed_over_a_series_judges_it_after_all(hospital: Hospital) -> None:
    with hospital.frozen(WORKER):
        hospital.sends(ct(seed=1), mr(seed=2))
        wait_for(lambda: hospital.node.ledger().series.counts().get("queued", 0) > 0)
        hospital.kills(WORKER)
    hospital.comes_to_rest()


def test_a_classifier_that_is_killed_at_rest_is_replaced(hospital: Hospital) -> None:
    hospital.kills(WORKER)
    hospital.sends(ct())
    hospital.comes_to_rest()
    wait_for(hospital.node.ready, 60)


def test_a_receiving_process_that_stands_still_for_a_while_loses_nothing(hospital: Hospital) -> None:
    with sending(hospital, ct(20), pace_s=0.02), hospital.frozen(RECEIVER):
        time.sleep(1.0)  # what is observed is nothing: it stands still
    hospital.comes_to_rest()


# -- the machine -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [3.0, pytest.param(40.0, marks=pytest.mark.nightly)])
def test_a_ledger_that_a_backup_tool_locks_delays_and_loses_nothing(hospital: Hospital, seconds: float) -> None:
    with sending(hospital, ct(20), pace_s=0.05), hospital.ledger_locked():
        time.sleep(seconds)  # the tool's own time
    hospital.comes_to_rest()


def test_a_full_disk_refuses_and_goes_on_by_itself_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk, node_and_pacs(tmp_path / "node", data_dir=disk / "data") as h:
        series = ct(60, size=256)  # of 131 kB each
        with h.full_disk(but_for=3_000_000):
            left = h.modality.sends(series)
            assert 0 < len(left) < 60, "what could not be kept was not acknowledged"
            assert "disk" in h.failing_checks() and not h.node.dead()
        h.sends(series)
        h.comes_to_rest()


# -- the modality ------------------------------------------------------------------------------------------
def test_associations_that_hang_or_break_off_hold_up_no_other(tmp_path: Path) -> None:
    with node_and_pacs(tmp_path, settings={"node": {"max_associations": 10}}) as h:
        hanging = h.modality.hangs_half_open(20)
        series = ct(6)
        wait_for(lambda: not h.modality.sends(series[:1]), 30)
        h.modality.breaks_off(series[1])
        h.sends(series)
        h.comes_to_rest()
        for peer in hanging:
            peer.close()


def test_images_that_come_late_or_twice_end_in_one_current_report(hospital: Hospital) -> None:
    series = ct(6, counted=False)
    before = len(hospital.pacs.received())
    for part in (series[:4], series, series):
        hospital.sends(part)
        hospital.comes_to_rest()
    assert len(hospital.pacs.received()) == before + 2, "the second time all at once brought nothing new"


def test_what_no_classifier_judges_has_a_sentence(hospital: Hospital) -> None:
    hospital.sends(dx(), report_of_another(), ct(1))
    seen = hospital.comes_to_rest()
    (radiograph,) = [row for row in seen.tables["series"] if row["modality"] == "DX"]
    assert radiograph["state"] == "skipped"


# -- questions and promises --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A node that asks its PACS for counts and promises."""
    script = Script(find=Count(), commit=Commit())
    with node_and_pacs(tmp_path_factory.mktemp("asking"), script) as hospital:
        yield hospital


@pytest.mark.parametrize(
    "count",
    [Count(), Count(off_by=-1), Count(off_by=3), Count(after_s=20.0), Count(endless=True), Count(status=0xA700)],
    ids=["right", "too few", "too many", "slow", "endless", "refuses"],
)
def test_whatever_the_pacs_says_of_its_count_a_series_closes(asking: Hospital, count: Count) -> None:
    asking.pacs.behave(Script(find=count, commit=Commit()))
    asking.sends(ct(counted=False))
    asking.comes_to_rest()


@pytest.mark.parametrize(
    "commit",
    [Commit(), Commit(after_s=2.0, own=True), Commit(fails=1)],
    ids=["at once", "late, on an association of its own", "after it lost the object once"],
)
def test_a_promise_counts_however_it_comes(asking: Hospital, commit: Commit) -> None:
    asking.pacs.behave(Script(find=Count(), commit=commit))
    asking.sends(ct())
    asking.comes_to_rest()
    wait_for(lambda: asking.look().tables["deliveries"][-1]["state"] == "committed", 60)


@pytest.mark.parametrize(
    "commit",
    [Commit(status=0x0112), Commit(odd=1), Commit(after_s=math.inf)],
    ids=["refused", "about another transaction", "never"],
)
def test_a_promise_that_does_not_come_is_owed_visibly(asking: Hospital, commit: Commit) -> None:
    asking.pacs.behave(Script(find=Count(), commit=commit))
    asking.sends(ct())
    seen = asking.comes_to_rest()
    assert seen.tables["deliveries"][-1]["state"] == "sent"
    wait_for(lambda: asking.look().metrics["qc_node_commitments_open_oldest_seconds"] > 0)
