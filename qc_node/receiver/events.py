"""What the receiver tells the node; small and of JSON's types, because it may come from another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One answered C-STORE request, for metrics.

    ``seconds`` runs from the command to the answer; ``series_uid`` is None where it could not be read.
    """

    calling_ae: str
    status: int
    seconds: float
    bytes: int
    opens_series: bool
    series_uid: str | None
    changed: bool = False
    """It had come before with other content."""


@dataclass(frozen=True, slots=True)
class CommittedEvent:
    """The destination of this name has promised, on an association of its own, to keep one of our objects."""

    destination: str


Event = ReceivedEvent | CommittedEvent
_KINDS: dict[str, type[Event]] = {"received": ReceivedEvent, "committed": CommittedEvent}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def event_to_json(event: Event) -> list[Any]:
    """The inverse of :func:`event_from_json`."""
    return [_NAMES[type(event)], *(getattr(event, name) for name in event.__slots__)]


def event_from_json(values: Sequence[Any]) -> Event:
    """The event whose kind and fields these are."""
    return _KINDS[values[0]](*values[1:])
