"""Peers that are configured by name, while the name service is well, slow, or gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from qc_node.receiver.addresses import FRESH_S, RETRY_S, PeerAddresses
from tests.peers import wait_for
from tests.receiver.conftest import StartReceiver
from tests.receiver.wire_peer import VERIFICATION, Rejected, WirePeer

MR = (MRImageStorage, [ExplicitVRLittleEndian])
ECHO = (VERIFICATION, ["1.2.840.10008.1.2"])
NAME = "mri1.hospital.example"


class NameService:
    """Answers as a test says."""

    def __init__(self) -> None:
        self.answer: frozenset[str] | None = frozenset({"10.0.0.7"})
        self.asked = 0
        self.is_quick = threading.Event()
        self.is_quick.set()
        self.now = 0.0

    def look_up(self, host: str) -> frozenset[str]:
        self.asked += 1
        self.is_quick.wait(20)
        if self.answer is None:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return self.answer

    def addresses(self, wait_s: float = 20.0) -> PeerAddresses:
        return PeerAddresses(wait_s, self.look_up, lambda: self.now)


@pytest.fixture
def names() -> Iterator[NameService]:
    service = NameService()
    yield service
    service.is_quick.set()


def test_a_name_is_looked_up_once_for_many_associations(names: NameService) -> None:
    addresses = names.addresses()
    assert [addresses.is_at(NAME, "10.0.0.7") for _ in range(20)] == [True] * 20
    assert [addresses.is_at(NAME, "10.0.0.8") for _ in range(20)] == [False] * 20
    assert names.asked == 1


def test_the_last_good_answer_stays_while_the_name_service_fails(names: NameService) -> None:
    addresses = names.addresses()
    assert addresses.is_at(NAME, "10.0.0.7")
    names.answer, names.now = None, FRESH_S
    assert addresses.is_at(NAME, "10.0.0.7")
    wait_for(lambda: names.asked == 2)
    names.now += FRESH_S
    assert addresses.is_at(NAME, "10.0.0.7") and addresses.is_at(NAME, "10.0.0.8") is False


def test_an_answer_that_is_old_is_renewed_without_a_wait(names: NameService) -> None:
    addresses = names.addresses()
    assert addresses.is_at(NAME, "10.0.0.7")
    names.now = FRESH_S
    names.is_quick.clear()
    assert addresses.is_at(NAME, "10.0.0.7")
    wait_for(lambda: names.asked == 2)


def test_a_peer_that_has_moved_comes_in_as_soon_as_the_name_says_so(names: NameService) -> None:
    addresses = names.addresses()
    assert addresses.is_at(NAME, "10.0.0.8") is False
    names.answer, names.now = frozenset({"10.0.0.8"}), RETRY_S
    assert addresses.is_at(NAME, "10.0.0.8")


def test_a_host_that_was_never_found_is_unknown_and_asked_for_again(names: NameService) -> None:
    names.answer = None
    addresses = names.addresses()
    assert addresses.is_at(NAME, "10.0.0.7") is None
    names.answer = frozenset({"10.0.0.7"})
    assert addresses.is_at(NAME, "10.0.0.7") is None, "asked again at once"
    names.now = RETRY_S
    assert addresses.is_at(NAME, "10.0.0.7")


def test_an_address_asks_no_name_service(names: NameService) -> None:
    assert names.addresses().is_at("10.0.0.9", "10.0.0.9") and not names.asked


def test_a_peer_whose_name_is_not_resolved_is_refused_for_now_and_delays_no_other(
    names: NameService, start_receiver: StartReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: Callable[..., Any] = socket.getaddrinfo

    def slow(host: str, *rest: Any, **more: Any) -> Any:
        if host == NAME:
            names.is_quick.wait(20)
            host = "127.0.0.1"
        return known(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    names.is_quick.clear()
    receiver = start_receiver(peers={"MRI1": NAME}, associate_s=1.0)
    with WirePeer(receiver.port) as peer, WirePeer(receiver.port) as other:
        refused: list[Rejected] = []

        def call() -> None:
            with pytest.raises(Rejected) as rejected:
                peer.associate(MR, calling="MRI1")
            refused.append(rejected.value)

        caller = threading.Thread(target=call)
        caller.start()
        other.associate(ECHO)
        assert other.echo() == 0
        caller.join()
        assert not names.is_quick.is_set() and refused[0].args == (2, 3, 1)
    names.is_quick.set()

    def gets_in() -> bool:
        with WirePeer(receiver.port) as again:
            try:
                return bool(again.associate(MR, calling="MRI1"))
            except Rejected:
                return False

    wait_for(gets_in)
