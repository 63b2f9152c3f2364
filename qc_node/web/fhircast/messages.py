"""FHIRcast as a subscriber hears it: messages in, the study on the screen out.  Pure; no network here.

Source: HL7 FHIRcast 3.0.0 (STU 3), sections 2.4 Subscribing, 2.5 Event Notification, 2.9 Get Current Context,
3.2.1 SyncError, 3.5 and 3.6 events.  Peculiarities of the published examples that must not stop anybody:
hours of three digits in timestamps (``T011:03:04.08``), a status as a string, event names in any case, the
study UID in ``uid`` instead of ``identifier`` (before STU 3), the accession number in ``basedOn`` (FHIR R5).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from qc_node.dicom.uids import is_uid
from qc_node.web.access.security import ACCESSION

BASE_EVENTS = (
    "ImagingStudy-open",
    "ImagingStudy-close",
    "DiagnosticReport-open",
    "DiagnosticReport-close",
    "SyncError",
    "UserLogout",
)
"""What every hub that shows studies knows."""
EVENTS = (*BASE_EVENTS, "Patient-close", "Home-open", "UserHibernate", "Heartbeat")
"""All that say what is on the screen, or that somebody is still there; some hubs refuse the later ones."""
EMPTYING = frozenset({"patient-close", "home-open", "userhibernate", "userlogout"})
"""Events after which no study is on the screen, whatever was open before."""
SILENT_PERIODS = 2.0
"""A hub that promised a heartbeat and is silent for so many periods is not there any more."""
SUBSCRIBER = "qc-node"
FUTURE_S = 5.0
"""So far may the clock of a hub be ahead before its dates are not believed."""
MOST_STUDIES = 20
"""So many of one event are shown; no report is about more."""
LONGEST_TEXT = 256
"""So much is kept of an identifier or a description, in characters."""
RENEW_SHARE = 0.8
"""A lease is renewed when this share of it has passed."""

_TIME = re.compile(r"(\d{4})-(\d{2})-(\d{2})T0*(\d{1,2}):(\d{2})(?::(\d{2})(\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?")


@dataclass(frozen=True, slots=True)
class Study:
    """A study that a message names; at least one of the first two is there."""

    study_uid: str | None
    accession_number: str | None
    description: str | None = None
    modality: str | None = None


@dataclass(frozen=True)
class Event:
    """One event notification."""

    id: str
    at: float | None
    """Seconds since the epoch; None when the timestamp cannot be read."""
    topic: str
    name: str
    """In lower case: names are compared without case."""
    studies: tuple[Study, ...] = ()
    period_s: float | None = None
    """Of a heartbeat: within how many seconds the next event comes."""


@dataclass(frozen=True)
class Confirmation:
    """The hub accepted the subscription."""

    topic: str
    events: tuple[str, ...]
    lease_s: float


@dataclass(frozen=True)
class Denial:
    """The hub ended the subscription, or never accepted it."""

    topic: str
    reason: str


@dataclass(frozen=True)
class Nonsense:
    """A message that is none; ``id`` where it has one, so that it can be refused."""

    why: str
    id: str | None = None


def subscription(
    topic: str, lease_s: int, endpoint: str | None = None, events: Sequence[str] = EVENTS
) -> dict[str, str]:
    """Form fields of a subscription request (section 2.4.1); with `endpoint` it renews one."""
    fields = {
        "hub.channel.type": "websocket",
        "hub.mode": "subscribe",
        "hub.topic": topic,
        "hub.events": ",".join(events),
        "hub.lease_seconds": str(lease_s),
        "subscriber.name": SUBSCRIBER,
    }
    return fields if endpoint is None else {**fields, "hub.channel.endpoint": endpoint}


def unsubscription(topic: str, endpoint: str) -> dict[str, str]:
    """Form fields of an unsubscribe request; it names no events."""
    return {
        "hub.channel.type": "websocket",
        "hub.mode": "unsubscribe",
        "hub.topic": topic,
        "hub.channel.endpoint": endpoint,
    }


def parse(text: str | bytes) -> Event | Confirmation | Denial | Nonsense:
    """What one message of the socket says."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return Nonsense("not JSON")
    if not isinstance(message, dict):
        return Nonsense("not an object")
    mode = str(message.get("hub.mode", "")).lower()
    topic = str(message.get("hub.topic", ""))
    if mode == "denied":
        return Denial(topic, str(message.get("hub.reason") or "no reason given"))
    if mode == "subscribe":
        events = tuple(e.strip() for e in str(message.get("hub.events", "")).split(",") if e.strip())
        try:
            lease = float(message.get("hub.lease_seconds") or 0)
        except (TypeError, ValueError):
            lease = 0.0
        return Confirmation(topic, events, lease)
    number, event = message.get("id"), message.get("event")
    known = str(number)[:LONGEST_TEXT] if number is not None else None
    if known is None or not isinstance(event, dict) or not event.get("hub.event"):
        return Nonsense("no event", known)
    return Event(
        id=known,
        at=parse_timestamp(str(message.get("timestamp", ""))),
        topic=str(event.get("hub.topic", "")),
        name=str(event["hub.event"]).lower(),
        studies=tuple(islice(studies_in(event.get("context")), MOST_STUDIES)),
        period_s=_period(event.get("context")) if str(event["hub.event"]).lower() == "heartbeat" else None,
    )


def _period(context: Any) -> float | None:
    """The ``period`` of a heartbeat (section 3.2.2), which the published example writes as a string."""
    for entry in _dicts(context):
        if entry.get("key") == "period":
            try:
                period = float(entry.get("decimal", ""))
            except (TypeError, ValueError):
                return None
            return period if 0 < period < 3600 else None
    return None


def reply(event_id: str, status: int) -> str:
    """The answer to a notification; the status is a string, as in the published example (section 2.5.1.2).

    The table beside that example calls it numeric.  Hubs were built from the example, and those that want a number
    read one out of the string.
    """
    return json.dumps({"id": event_id, "status": str(status)})


def parse_timestamp(text: str) -> float | None:
    """Seconds since the epoch (UTC where no zone is named); None when unreadable."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute = (int(match[n]) for n in range(1, 6))
    try:
        at = datetime(year, month, day, hour, minute, int(match[6] or 0), tzinfo=UTC)
        zone = match[8]
        if zone and zone != "Z":
            digits = zone[1:].replace(":", "")
            shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            at += -shift if zone[0] == "+" else shift
    except (ValueError, OverflowError):
        return None
    return at.timestamp() + float(match[7] or 0)


def studies_in(context: Any) -> Iterator[Study]:
    """Every ImagingStudy of a context array; what cannot be read is left out."""
    for entry in context if isinstance(context, list) else []:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") == "ImagingStudy":
            study = _study(resource)
            if study is not None:
                yield study


def _study(resource: Mapping[str, Any]) -> Study | None:
    uid, accession = None, None
    for identifier in _dicts(resource.get("identifier")):
        value = str(identifier.get("value", ""))
        if identifier.get("system") == "urn:dicom:uid":
            uid = value.removeprefix("urn:oid:")
        elif _is_accession(identifier):
            accession = value
    if uid is None and isinstance(resource.get("uid"), str):
        uid = resource["uid"].removeprefix("urn:oid:")
    for order in _dicts(resource.get("basedOn")):
        number = order.get("identifier")
        if accession is None and isinstance(number, dict) and _is_accession(number):
            accession = str(number.get("value", ""))
    if accession is None and isinstance(resource.get("accession"), dict):
        accession = str(resource["accession"].get("value", ""))
    uid = uid if uid and is_uid(uid) else None
    accession = accession if accession and ACCESSION.fullmatch(accession) else None
    if uid is None and accession is None:
        return None
    description = resource.get("description")
    said = description[:LONGEST_TEXT] if isinstance(description, str) else None
    return Study(uid, accession, said, _modality(resource))


def _modality(resource: Mapping[str, Any]) -> str | None:
    for coding in _dicts(resource.get("modality")):
        for one in [coding, *_dicts(coding.get("coding"))]:
            code = str(one.get("code", ""))
            if re.fullmatch(r"[A-Z]{2,16}", code):
                return code
    return None


def _is_accession(identifier: Mapping[str, Any]) -> bool:
    kind = identifier.get("type")
    return any(c.get("code") == "ACSN" for c in _dicts(kind.get("coding") if isinstance(kind, dict) else None))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


@dataclass
class Session:
    """What is open on one reader's screen, told by events.

    A study and a report are opened and closed apart from each other; the one opened last is on the screen,
    and when it is closed the other one comes back.
    """

    topic: str
    lease_s: float = 0.0
    _open: dict[str, tuple[float, int, tuple[Study, ...]]] = field(default_factory=dict)
    _count: int = 0
    _last: float = float("-inf")
    _seen: dict[str, None] = field(default_factory=dict)

    @property
    def studies(self) -> tuple[Study, ...]:
        """The studies now in context, none when nothing is open."""
        if not self._open:
            return ()
        return max(self._open.values(), key=lambda entry: entry[:2])[2]

    def hear(self, event: Event, now: float = float("inf")) -> tuple[int, bool]:
        """Take in one event; returns the status to answer and whether the context changed.

        A repeated notification and one older than the last change are acknowledged and ignored
        (section 2.5.1); an event of another topic is refused (409).  One that is dated after `now` counts as of
        now: else a single wrong date would make all that follows look old.
        """
        if event.topic and event.topic != self.topic:
            return 409, False
        if event.id in self._seen:
            return 200, False
        self._seen[event.id] = None
        while len(self._seen) > 256:
            del self._seen[next(iter(self._seen))]
        if event.at is not None:
            event = replace(event, at=min(event.at, now + FUTURE_S))
        if event.name in EMPTYING:
            return 200, self._empty(event)
        anchor, _, verb = event.name.rpartition("-")
        if anchor not in ("imagingstudy", "diagnosticreport") or verb not in ("open", "close"):
            return 200, False
        at = self._last if event.at is None else event.at
        if at < self._last:
            return 200, False
        before = self.studies
        if verb == "open":
            # Of two openings with one timestamp the later message counts.
            self._last, self._count = at, self._count + 1
            self._open[anchor] = (at, self._count, event.studies)
        elif anchor in self._open and _same(self._open[anchor][2], event.studies):
            self._last = at
            del self._open[anchor]
        return 200, self.studies != before

    def _empty(self, event: Event) -> bool:
        """Nothing is on the screen any more; whether something was.  An old event is ignored, but not a logout."""
        at = self._last if event.at is None else event.at
        if at < self._last and event.name != "userlogout":
            return False
        self._last = max(at, self._last)
        changed = bool(self._open)
        self._open.clear()
        return changed

    def set_current(self, answer: Mapping[str, Any]) -> bool:
        """Take in the answer of Get Current Context (section 2.9); returns whether the context changed."""
        before = self.studies
        kind = str(answer.get("context.type", "")).lower()
        studies = tuple(islice(studies_in(answer.get("context")), MOST_STUDIES))
        self._open.clear()
        if kind in ("imagingstudy", "diagnosticreport"):
            self._open[kind] = (max(self._last, 0.0), self._count, studies)
        return self.studies != before


def _same(opened: tuple[Study, ...], closed: tuple[Study, ...]) -> bool:
    """Whether a close means what is open; one that names no study means whatever is open."""
    if not closed or not opened:
        return True
    uids = {s.study_uid for s in opened if s.study_uid}
    numbers = {s.accession_number for s in opened if s.accession_number}
    return any(s.study_uid in uids if s.study_uid and uids else s.accession_number in numbers for s in closed)
