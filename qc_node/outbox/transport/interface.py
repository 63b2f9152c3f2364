"""What the outbox asks of a way to a destination; a new kind of destination is a class that has these methods.

Order, retries and rows belong to the outbox.  A transport hands objects over, says of each what became of it, and
remembers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from qc_node.dicom.commitment import CommitmentResult
from qc_node.dicom.part10 import StoredObject
from qc_node.domain import InstanceRef


class TransportStatus(StrEnum):
    """What became of one object."""

    STORED = "stored"
    """The destination has it."""
    REFUSED = "refused"
    """The destination is well and will not take this object."""
    BUSY = "busy"
    """The destination answers, did not take this object, and may another time."""
    BROKEN = "broken"
    """The connection ended, or no answer came, while the object was on its way: nobody knows."""
    UNAVAILABLE = "unavailable"
    """It was not tried: the destination is not there, or lets nobody in."""


@dataclass(frozen=True, slots=True)
class TransportOutcome:
    """A status and a sentence that names the destination; for a stored object the warning, or nothing."""

    status: TransportStatus
    sentence: str = ""

    @property
    def ends(self) -> bool:
        """Whether nothing behind this object can be tried now."""
        return self.status in (TransportStatus.BROKEN, TransportStatus.UNAVAILABLE)


@runtime_checkable
class Transport(Protocol):
    """A way to one destination."""

    @property
    def name(self) -> str:
        """The destination's name in the configuration."""
        ...

    def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
        """Hand `objects` over in this order: one outcome for each, as soon as it is known.

        The last outcome comes early after one that :attr:`~TransportOutcome.ends`.  The caller may stop asking for
        outcomes at any time; what has none was not sent.
        """
        ...

    def echo(self) -> float:
        """Ask whether the destination is there; returns the seconds that it took.

        Raises
        ------
        QcNodeError
            It is not; the sentence says why.
        """
        ...


class CommitmentQuestion(Protocol):
    """The outbox's side of one request for storage commitment (PS3.4 annex J)."""

    def put(self, references: Sequence[InstanceRef]) -> str:
        """Note that the question is about to be put, for an answer may be quicker; returns its transaction UID."""
        ...

    def refused(self, transaction_uid: str, sentence: str) -> None:
        """Note that the destination did not take the question, and why."""
        ...

    def answered(self, result: CommitmentResult) -> str:
        """Note an answer; returns a sentence for the log.  Callable from any thread."""
        ...


@runtime_checkable
class CommittingTransport(Transport, Protocol):
    """A transport whose destination can be asked to promise that it keeps what it took."""

    def store_and_ask(
        self, objects: Sequence[StoredObject], question: CommitmentQuestion
    ) -> Iterator[TransportOutcome]:
        """As :meth:`store`; when all objects are there, the question is put for them."""
        ...

    def ask(self, references: Sequence[InstanceRef], question: CommitmentQuestion) -> bool:
        """Put the question for objects that were sent before; whether the destination took it."""
        ...
