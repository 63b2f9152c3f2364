"""What the PACS counts, and that nothing it does keeps us waiting."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.completion.asking import PacsQuestions
from qc_node.completion.closing import Completion
from qc_node.completion.pacs_query import MOST_MATCHES, QUERY_TIMEOUTS, series_count
from qc_node.dicom.association import Peer, Timeouts
from qc_node.dicom.uids import STUDY_ROOT_FIND
from qc_node.ledger import Ledger, Received
from qc_node.periodic import Periodic
from tests.part_settings import completion_policy
from tests.peers import Orthanc, find_free_port
from tests.peers.fixtures import PeerAt
from tests.receiver.wire_peer import image


def quick(seconds: float) -> Timeouts:
    return Timeouts(seconds, seconds, seconds, seconds)


@pytest.mark.peer
def test_orthanc_counts_what_it_has(orthanc: Orthanc, peer_at: PeerAt) -> None:
    study, series = "1.2.3", "1.2.3.4"

    def ask(series_uid: str = series) -> int | None:
        return series_count(peer_at(orthanc.port, orthanc.ae_title, timeouts=QUERY_TIMEOUTS), study, series_uid)

    assert ask() == 0
    for count in (1, 2, 3):
        ds = image(StudyInstanceUID=study, SeriesInstanceUID=series)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
        orthanc.upload(buffer.getvalue())
        assert ask() == count
    assert ask("1.2.3.5") == 0


def test_a_pacs_that_is_not_there_says_nothing(peer_at: PeerAt) -> None:
    assert series_count(peer_at(find_free_port(), timeouts=quick(1.0)), "1.2", "1.3") is None


def test_a_pacs_that_accepts_and_is_silent_is_given_up(peer_at: PeerAt) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        pacs = peer_at(silent.getsockname()[1], timeouts=quick(0.5))
        assert series_count(pacs, "1.2", "1.3") is None
        assert time.monotonic() - began < 10


# -- a PACS that does not come to an end -----------------------------------------------------------------
Answers = Callable[[], Iterator[Dataset]]


def match(series_uid: str, count: int | None = 1) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "SERIES"
    ds.StudyInstanceUID = "1.2"
    ds.SeriesInstanceUID = series_uid
    ds.NumberOfSeriesRelatedInstances = count
    return ds


def strangers(pause_s: float = 0.0, most: int | None = None) -> Iterator[Dataset]:
    """Series that nobody asked about: for ever, or `most`."""
    for number in itertools.count() if most is None else range(most):
        time.sleep(pause_s)
        yield match(f"1.9.{number}")


@contextmanager
def scripted(answers: Answers) -> Iterator[int]:
    """The port of a PACS that answers each C-FIND with these matches."""
    from pynetdicom import AE, evt

    ended = threading.Event()

    def on_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for ds in answers():
            if ended.is_set() or event.is_cancelled or not event.assoc.is_established:
                return
            yield 0xFF00, ds

    ae = AE("PACS")
    ae.add_supported_context(STUDY_ROOT_FIND)
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    try:
        yield server.server_address[1]
    finally:
        ended.set()
        server.shutdown()


ENDLESS: dict[str, Answers] = {
    "as fast as it can": strangers,
    "a match each half second": lambda: strangers(0.5),
    "the right one first": lambda: itertools.chain([match("1.3", 7)], strangers(0.01)),
    "silent after the first": lambda: itertools.chain([match("1.3", 7)], strangers(20.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("answers", ENDLESS.values(), ids=ENDLESS)
def test_a_pacs_that_answers_without_end_is_given_up(answers: Answers, peer_at: PeerAt) -> None:
    limits = replace(QUERY_TIMEOUTS, total=1.0)
    with scripted(answers) as port:
        began = time.monotonic()
        assert series_count(peer_at(port, timeouts=limits), "1.2", "1.3") is None
        assert time.monotonic() - began < 1.0 + 2.0, "an exchange has a bound, whatever the peer does"


def test_a_question_has_a_total_deadline() -> None:
    assert QUERY_TIMEOUTS.total == 3.0


def test_a_pacs_that_ignores_the_key_is_heard_as_far_as_a_study_can_go(peer_at: PeerAt) -> None:
    foreign = 60
    answers = lambda: itertools.chain(strangers(most=foreign), [match("1.3", 7)])  # noqa: E731
    with scripted(answers) as port:
        assert series_count(peer_at(port, timeouts=QUERY_TIMEOUTS), "1.2", "1.3") == 7
    assert foreign < MOST_MATCHES


def test_a_pacs_with_more_matches_than_a_study_has_series_is_left_at_once(peer_at: PeerAt) -> None:
    with scripted(lambda: strangers(most=2 * MOST_MATCHES)) as port:
        patient = replace(QUERY_TIMEOUTS, total=60.0, response=60.0)
        assert series_count(peer_at(port, timeouts=patient), "1.2", "1.3") is None


def closing_times(pacs: Peer, ledger: Ledger, series: int, quiet_s: float) -> list[float]:
    """How long after its image each series closed that this PACS was asked about."""
    policy = completion_policy(quiet_s=quiet_s, hard_cap_s=600)
    asking: list[Periodic] = []
    questions = PacsQuestions(
        ledger,
        lambda study, uid: series_count(pacs, study, uid),
        policy.pacs_rest_s,
        wake=lambda: asking[0].wake(),
    )
    asking.append(Periodic("asking", lambda: questions.step(time.time()), after=ledger.close))
    completion = Completion(policy, ledger, questions=questions)
    asking[0].start()
    began = time.time()
    for n in range(series):
        one = Received(f"2.{n}", "1.2", f"1.{n}", "1.0", "1.2", "MR", "MRI", f"{n}", 1, began)
        ledger.instances.add([one])
    while ledger.series.counts().get("receiving") and time.time() < began + 20:
        completion.step(time.time())
        time.sleep(0.05)
    asking[0].stop()
    rows = [ledger.series.get(f"1.{n}") for n in range(series)]
    return [row["closed_at"] - began if row and row["closed_at"] else 999.0 for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("pause_s", [0.0, 0.5], ids=["streaming", "slow"])
def test_every_series_closes_after_its_quiet_time_while_the_pacs_answers_without_end(
    pause_s: float, peer_at: PeerAt, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with scripted(lambda: strangers(pause_s)) as port:
        took = closing_times(peer_at(port, timeouts=QUERY_TIMEOUTS), ledger, series=3, quiet_s=2.0)
    ledger.close()
    assert all(2.0 <= seconds < 4.0 for seconds in took), took
