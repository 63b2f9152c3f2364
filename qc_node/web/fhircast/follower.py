"""Follows the reading: one FHIRcast subscription per signed-in reader, and what is now on each screen.

Needs the ``websockets`` library (extra ``fhircast``).  A hub is spoken to only when the configuration lists
it, so that a launch URL cannot make the node call any address.

Nobody knows what is on a screen once the connection is cut, so there is no study from that moment on: a closed
socket, a ping that is not answered, a heartbeat that stays away.  Each study that a hub opens is a context with a
row in the ledger; a vote that was pressed after it was closed is refused.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from qc_node.domain import QcNodeError
from qc_node.web.access import security
from qc_node.web.broadcast import Broadcaster
from qc_node.web.fhircast import messages
from qc_node.web.settings import WebDeps
from qc_node.web.votes import cases

log = logging.getLogger(__name__)

HTTP_TIMEOUT_S = 8.0
ASK_CONTEXT_S = 3.0
"""How long a new subscription may wait for the hub to say what is open."""
POLL_S = 0.5
PING_S = 5.0
"""A hub is pinged so often; one that has not answered for as long is not there any more."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
MAX_MESSAGE = 1 << 20
KEEPS_REFUSING = frozenset({401, 403, 404, 429})
"""Answers of a hub that have nothing to do with the list of events."""


class HubAnswered(QcNodeError):
    """A hub answered with an HTTP error."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The hub answered {status}.")
        self.status = status


class Link(StrEnum):
    """How the connection to a hub is."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    CUT = "cut"
    REFUSED = "refused"


def require_websockets() -> tuple[Callable[..., Any], type[Exception]]:
    """``(connect, ConnectionClosed)`` of the ``websockets`` library.

    Raises
    ------
    QcNodeError
        The library is not installed.
    """
    try:
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect
    except ImportError as error:
        raise QcNodeError("FHIRcast needs the websockets library: pip install 'qc-node[fhircast]'.") from error
    return connect, ConnectionClosed


@dataclass(frozen=True, slots=True)
class Screen:
    """What a viewer has open: handles of cases, and the context in which they were opened."""

    context_id: str | None = None
    handles: tuple[str, ...] = ()


@dataclass
class Subscription:
    """One reader's topic at one hub."""

    reader_id: str
    hub: str
    session: messages.Session
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    endpoint: str | None = None
    screen: Screen = Screen()
    link: Link = Link.CONNECTING
    events: tuple[str, ...] = messages.EVENTS
    denied: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.stop.is_set() or self.denied is not None


class Follower:
    """All subscriptions of this node (``app.state.follower``).

    Parameters
    ----------
    monotonic
        Seconds that never go back, to measure a hub's silence.
    """

    def __init__(
        self,
        deps: WebDeps,
        broadcaster: Broadcaster,
        *,
        ping_s: float = PING_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deps = deps
        self._broadcaster = broadcaster
        self._ping_s = ping_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._subscriptions: dict[str, Subscription] = {}
        self._connect, self._closed = require_websockets()

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
            if old is not None and (old.hub, old.session.topic) == (hub, topic) and not old.ended:
                return old
            new = Subscription(reader_id, hub, messages.Session(topic))
            self._subscriptions[reader_id] = new
        if old is not None:
            self._end(old)
        new.thread = threading.Thread(target=self._run, args=(new,), name="fhircast", daemon=True)
        self._deps.ledger.readers.set_topic(reader_id, json.dumps({"hub": hub, "topic": topic}))
        self._tell(new)
        new.thread.start()
        return new

    def unfollow(self, reader_id: str) -> bool:
        """Follow nothing for a reader any more, also after a restart; False when that was so."""
        self._deps.ledger.readers.set_topic(reader_id, None)
        with self._lock:
            old = self._subscriptions.pop(reader_id, None)
        if old is not None:
            self._broadcaster.publish(f"reader:{reader_id}", "context", NOT_FOLLOWING)
            self._end(old)
        return old is not None

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
        """What is on a reader's screen, and how the connection is; None when no viewer is followed."""
        subscription = self.subscription(reader_id)
        return None if subscription is None else _context(subscription)

    def screen(self, reader_id: str) -> Screen:
        """What a reader's viewer has open now."""
        subscription = self.subscription(reader_id)
        return Screen() if subscription is None else subscription.screen

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
            subscription.stop.set()
        for subscription in everyone:
            self._end(subscription)

    def _end(self, subscription: Subscription) -> None:
        subscription.stop.set()
        thread = subscription.thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(HTTP_TIMEOUT_S)

    # -- one subscription's thread ---------------------------------------------------------------------
    def _run(self, sub: Subscription) -> None:
        attempt = 0
        while not sub.ended:
            try:
                self._subscribe(sub)
                attempt = 0 if self._listen(sub) else attempt + 1
            except Exception as error:  # whatever a hub sends: no thread may end with a study on the screen
                log.warning(
                    "The FHIRcast hub %s cannot be followed: %s", urlsplit(sub.hub).netloc, type(error).__name__
                )
                attempt += 1
            if not sub.ended:
                self._cut(sub)
                sub.stop.wait(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)])
        sub.link = Link.REFUSED if sub.denied is not None else Link.CUT
        self._clear(sub, "refused" if sub.denied is not None else "stopped")
        self._deps.ledger.close()

    def _cut(self, sub: Subscription) -> None:
        """Nobody tells any more what is on the screen: better no study than an old one.

        What the hub says when it is there again is heard as if it had never spoken before.
        """
        sub.link = Link.CUT
        sub.session = messages.Session(sub.session.topic)
        self._clear(sub, "cut")

    def _clear(self, sub: Subscription, why: str) -> None:
        try:
            self._changed(sub, [], why)
        except QcNodeError as error:
            log.error("What a viewer closed cannot be noted: %s", error)

    def _subscribe(self, sub: Subscription, endpoint: str | None = None) -> None:
        lease_s, topic = self._deps.web.fhircast_lease_s, sub.session.topic
        try:
            answer = self._ask("POST", sub.hub, messages.subscription(topic, lease_s, endpoint, sub.events))
        except HubAnswered as refused:
            if sub.events == messages.BASE_EVENTS or not 400 <= refused.status < 500:
                raise
            if refused.status in KEEPS_REFUSING:
                raise
            sub.events = messages.BASE_EVENTS
            answer = self._ask("POST", sub.hub, messages.subscription(topic, lease_s, endpoint, sub.events))
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
        heard_at, silence_s = self._monotonic(), None
        with self._connect(
            sub.endpoint,
            max_size=MAX_MESSAGE,
            open_timeout=HTTP_TIMEOUT_S,
            close_timeout=1.0,
            ping_interval=self._ping_s,
            ping_timeout=self._ping_s,
            proxy=None,
        ) as socket:
            while not sub.stop.is_set():
                if renew_at is not None and clock() >= renew_at:
                    self._subscribe(sub, sub.endpoint)
                    renew_at = clock() + max(1.0, sub.session.lease_s * messages.RENEW_SHARE)
                try:
                    text = socket.recv(timeout=POLL_S)
                except TimeoutError:
                    if silence_s is not None and self._monotonic() - heard_at > silence_s:
                        return confirmed
                    continue
                except self._closed:
                    return confirmed
                heard_at = self._monotonic()
                message = messages.parse(text)
                if isinstance(message, messages.Confirmation):
                    sub.session.lease_s = message.lease_s
                    if message.lease_s:
                        renew_at = clock() + max(1.0, message.lease_s * messages.RENEW_SHARE)
                    if not confirmed:
                        confirmed = True
                        self._connected(sub)
                elif isinstance(message, messages.Denial):
                    self._deny(sub, message, confirmed)
                    return confirmed
                elif isinstance(message, messages.Event):
                    if message.period_s is not None:
                        silence_s = message.period_s * messages.SILENT_PERIODS
                    self._hear(sub, message, socket.send)
                elif message.id is not None:
                    socket.send(messages.reply(message.id, 400))
            with contextlib.suppress(OSError, QcNodeError, ValueError):
                self._ask("POST", sub.hub, messages.unsubscription(sub.session.topic, sub.endpoint))
        return confirmed

    def _connected(self, sub: Subscription) -> None:
        """The hub sends what is open now, or is asked for it."""
        sub.link = Link.CONNECTED
        self._tell(sub)
        if self._ask_context(sub, ASK_CONTEXT_S):
            self._changed(sub, list(sub.session.studies), "switched")

    def _deny(self, sub: Subscription, denial: messages.Denial, confirmed: bool) -> None:
        if confirmed or sub.events == messages.BASE_EVENTS:
            sub.denied = denial.reason
        else:
            sub.events = messages.BASE_EVENTS  # perhaps it was one of the others

    def _hear(self, sub: Subscription, event: messages.Event, send: Callable[[str], None]) -> None:
        status, changed = sub.session.hear(event, self._deps.clock())
        # The screen comes before the answer: a hub may tell the reader that all have followed.
        if changed and event.name != "syncerror":
            self._changed(sub, list(sub.session.studies), "closed" if not sub.session.studies else "switched")
        send(messages.reply(event.id, status))
        if event.name == "syncerror" and self._ask_context(sub, HTTP_TIMEOUT_S):
            # Somebody lost the thread, perhaps we.
            self._changed(sub, list(sub.session.studies), "switched")
        elif event.name == "userlogout" and status == 200:
            self._sign_out(sub)

    def _ask_context(self, sub: Subscription, timeout_s: float) -> bool:
        """Ask the hub what is on the screen; whether that is something else than was thought."""
        address = f"{sub.hub.rstrip('/')}/{quote(sub.session.topic, safe='')}"
        try:
            return sub.session.set_current(self._ask("GET", address, timeout_s=timeout_s))
        except (OSError, ValueError, QcNodeError):
            return False

    def _sign_out(self, sub: Subscription) -> None:
        """The reader has left the workstation: nothing is followed, and every session here ends."""
        deps = self._deps
        deps.ledger.sessions.end_all(sub.reader_id, deps.clock(), "UserLogout")
        deps.ledger.readers.set_topic(sub.reader_id, None)
        sub.stop.set()
        with self._lock:
            if self._subscriptions.get(sub.reader_id) is sub:
                del self._subscriptions[sub.reader_id]
        self._broadcaster.publish(f"reader:{sub.reader_id}", "signed-out", {"by": "viewer"})

    def _changed(self, sub: Subscription, studies: list[messages.Study], why: str) -> None:
        """Close what was on the screen, open what is on it now, and tell the reader's pages."""
        now = self._deps.clock()
        contexts = self._deps.ledger.contexts
        before, sub.screen = sub.screen.context_id, Screen()
        if not studies:
            self._tell(sub)
        if before is not None:
            contexts.close(before, now, why)
        handles: list[str] = []
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
        if handles:
            fresh = security.new_handle()
            contexts.open(fresh, sub.reader_id, now)
            sub.screen = Screen(fresh, tuple(handles))
        if studies:
            self._tell(sub)

    def _tell(self, sub: Subscription) -> None:
        if self.subscription(sub.reader_id) is sub:
            self._broadcaster.publish(f"reader:{sub.reader_id}", "context", _context(sub))

    def _ask(
        self, method: str, url: str, form: dict[str, str] | None = None, timeout_s: float = HTTP_TIMEOUT_S
    ) -> dict[str, Any]:
        data = None if form is None else urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
        if self._deps.web.fhircast_token is not None:
            headers["Authorization"] = f"Bearer {self._deps.web.fhircast_token}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with _TO_THE_HUB_ONLY.open(request, timeout=timeout_s) as answer:
                body = answer.read(MAX_MESSAGE)
        except urllib.error.HTTPError as error:
            raise HubAnswered(error.code) from error
        except HTTPException as error:
            raise QcNodeError("The hub does not speak HTTP.") from error
        try:
            found = json.loads(body) if body.strip() else {}
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(found, dict):
            raise ValueError("not an object")
        return found


class _OneHub(urllib.request.HTTPRedirectHandler):
    """A hub that is not listed must not get the token of one that is."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        """Nowhere: the answer stays what it was."""


_TO_THE_HUB_ONLY = urllib.request.build_opener(_OneHub)

NOT_FOLLOWING: dict[str, Any] = {"following": False, "cases": [], "context": None, "link": None}


def _context(sub: Subscription) -> dict[str, Any]:
    screen = sub.screen
    cases_now = list(screen.handles)
    return {"following": True, "cases": cases_now, "context": screen.context_id, "link": sub.link.value}
