"""Follows the reading: one FHIRcast subscription per signed-in reader, and what is now on each screen.

Needs the ``websockets`` library (extra ``fhircast``).  A hub is spoken to only when the configuration lists
it, so that a launch URL cannot make the node call any address.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from qc_node.domain import QcNodeError
from qc_node.web.broadcast import Broadcaster
from qc_node.web.fhircast import messages
from qc_node.web.settings import WebDeps
from qc_node.web.votes import cases

log = logging.getLogger(__name__)

HTTP_TIMEOUT_S = 8.0
POLL_S = 0.5
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
MAX_MESSAGE = 1 << 20


def require_websockets() -> tuple[Callable[..., Any], type[Exception], type[Exception]]:
    """``(connect, ConnectionClosed, InvalidHandshake)`` of the ``websockets`` library.

    Raises
    ------
    QcNodeError
        The library is not installed.
    """
    try:
        from websockets.exceptions import ConnectionClosed, InvalidHandshake
        from websockets.sync.client import connect
    except ImportError as error:
        raise QcNodeError("FHIRcast needs the websockets library: pip install 'qc-node[fhircast]'.") from error
    return connect, ConnectionClosed, InvalidHandshake


@dataclass
class Subscription:
    """One reader's topic at one hub."""

    reader_id: str
    hub: str
    session: messages.Session
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    endpoint: str | None = None
    handles: list[str] = field(default_factory=list)
    connected: bool = False
    denied: str | None = None


class Follower:
    """All subscriptions of this node (``app.state.follower``)."""

    def __init__(self, deps: WebDeps, broadcaster: Broadcaster) -> None:
        self._deps = deps
        self._broadcaster = broadcaster
        self._lock = threading.Lock()
        self._subscriptions: dict[str, Subscription] = {}
        self._connect, self._closed, self._refused = require_websockets()

    def follow(self, reader_id: str, hub: str, topic: str) -> Subscription:
        """Subscribe a reader's topic; the one followed before ends.

        Raises
        ------
        QcNodeError
            The hub is not in the configuration, or the topic is no topic.
        """
        if hub.rstrip("/") not in {h.rstrip("/") for h in self._deps.web.fhircast_hubs}:
            raise QcNodeError("This FHIRcast hub is not listed in web.fhircast_hubs.")
        if not 0 < len(topic) <= 256 or not topic.isprintable():
            raise QcNodeError("hub.topic is not a topic.")
        with self._lock:
            old = self._subscriptions.get(reader_id)
            if old is not None and (old.hub, old.session.topic) == (hub, topic) and not old.stop.is_set():
                return old
        if old is not None:
            self._end(old)
        new = Subscription(reader_id, hub, messages.Session(topic))
        new.thread = threading.Thread(target=self._run, args=(new,), name="fhircast", daemon=True)
        with self._lock:
            self._subscriptions[reader_id] = new
        self._deps.ledger.readers.set_topic(reader_id, json.dumps({"hub": hub, "topic": topic}))
        new.thread.start()
        return new

    def resume(self) -> int:
        """Follow again what readers followed before the node was stopped; returns how many."""
        count = 0
        for row in self._deps.ledger.readers.all():
            if row["fhircast_topic"] and row["disabled_at"] is None:
                kept = json.loads(row["fhircast_topic"])
                try:
                    self.follow(row["reader_id"], kept["hub"], kept["topic"])
                    count += 1
                except QcNodeError as error:
                    log.warning("A FHIRcast topic is not followed any more: %s", error)
        return count

    def current(self, reader_id: str) -> dict[str, Any] | None:
        """What is on a reader's screen; None when no PACS tells."""
        with self._lock:
            subscription = self._subscriptions.get(reader_id)
        return None if subscription is None else _context(subscription)

    def subscription(self, reader_id: str) -> Subscription | None:
        """One reader's subscription."""
        with self._lock:
            return self._subscriptions.get(reader_id)

    def stop(self) -> None:
        """End every subscription as a well-behaved subscriber does."""
        with self._lock:
            everyone = list(self._subscriptions.values())
            self._subscriptions.clear()
        for subscription in everyone:
            self._end(subscription)

    def _end(self, subscription: Subscription) -> None:
        subscription.stop.set()
        if subscription.thread is not None and subscription.thread is not threading.current_thread():
            subscription.thread.join(HTTP_TIMEOUT_S)

    # -- one subscription's thread ---------------------------------------------------------------------
    def _run(self, sub: Subscription) -> None:
        attempt = 0
        while not sub.stop.is_set():
            try:
                self._subscribe(sub)
                attempt = 0 if self._listen(sub) else attempt + 1
            except (OSError, ValueError, QcNodeError, self._refused) as error:
                log.warning(
                    "The FHIRcast hub %s cannot be followed: %s", urlsplit(sub.hub).netloc, type(error).__name__
                )
                attempt += 1
            sub.connected = False
            if sub.denied is not None:
                break
            sub.stop.wait(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)])
        # Nobody tells any more what is on the screen: better no study than an old one.
        self._changed(sub, [])
        self._deps.ledger.close()

    def _subscribe(self, sub: Subscription, endpoint: str | None = None) -> None:
        form = messages.subscription(sub.session.topic, self._deps.web.fhircast_lease_s, endpoint)
        answer = self._ask("POST", sub.hub, form)
        found = str(answer.get("hub.channel.endpoint", ""))
        scheme = urlsplit(found).scheme
        if scheme != "wss" and not (scheme == "ws" and urlsplit(sub.hub).scheme == "http"):
            raise QcNodeError("The hub gave no wss address.")
        sub.endpoint = found

    def _listen(self, sub: Subscription) -> bool:
        """Hear one connection to its end; returns whether the subscription was confirmed."""
        assert sub.endpoint is not None
        clock = self._deps.clock
        confirmed, renew_at = False, None
        with self._connect(sub.endpoint, max_size=MAX_MESSAGE, open_timeout=HTTP_TIMEOUT_S, proxy=None) as socket:
            sub.connected = True
            while not sub.stop.is_set():
                if renew_at is not None and clock() >= renew_at:
                    self._subscribe(sub, sub.endpoint)
                    renew_at = clock() + max(1.0, sub.session.lease_s * messages.RENEW_SHARE)
                try:
                    text = socket.recv(timeout=POLL_S)
                except TimeoutError:
                    continue
                except self._closed:
                    return confirmed
                message = messages.parse(text)
                if isinstance(message, messages.Confirmation):
                    confirmed = True
                    sub.session.lease_s = message.lease_s
                    if message.lease_s:
                        renew_at = clock() + max(1.0, message.lease_s * messages.RENEW_SHARE)
                elif isinstance(message, messages.Denial):
                    sub.denied = message.reason
                    return confirmed
                elif isinstance(message, messages.Event):
                    self._hear(sub, message, socket.send)
                elif message.id is not None:
                    socket.send(messages.reply(message.id, 400))
            with contextlib.suppress(OSError, QcNodeError, ValueError):
                self._ask("POST", sub.hub, messages.unsubscription(sub.session.topic, sub.endpoint))
        return confirmed

    def _hear(self, sub: Subscription, event: messages.Event, send: Callable[[str], None]) -> None:
        status, changed = sub.session.hear(event)
        send(messages.reply(event.id, status))
        if event.name == "syncerror":
            # Somebody lost the thread, perhaps we: ask what is on the screen now.
            with contextlib.suppress(OSError, ValueError):
                answer = self._ask("GET", f"{sub.hub.rstrip('/')}/{quote(sub.session.topic, safe='')}")
                changed = sub.session.set_current(answer)
        if changed:
            self._changed(sub, list(sub.session.studies))

    def _changed(self, sub: Subscription, studies: list[messages.Study]) -> None:
        handles = []
        for study in studies:
            if study.study_uid is not None:
                handles.append(
                    cases.open_study(
                        self._deps,
                        study.study_uid,
                        accession_number=study.accession_number,
                        modality=study.modality,
                        description=study.description,
                    )
                )
            else:
                handles += cases.resolve(self._deps, cases.Launch(accession_number=study.accession_number))
        sub.handles = handles
        self._broadcaster.publish(f"reader:{sub.reader_id}", "context", _context(sub))

    def _ask(self, method: str, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        data = None if form is None else urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
        if self._deps.web.fhircast_token is not None:
            headers["Authorization"] = f"Bearer {self._deps.web.fhircast_token}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
                body = answer.read(MAX_MESSAGE)
        except urllib.error.HTTPError as error:
            raise QcNodeError(f"The hub answered {error.code}.") from error
        found = json.loads(body) if body.strip() else {}
        if not isinstance(found, dict):
            raise ValueError("not an object")
        return found


def _context(sub: Subscription) -> dict[str, Any]:
    return {"cases": sub.handles, "connected": sub.connected}
