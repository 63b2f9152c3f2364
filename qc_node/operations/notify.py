"""Notifications: what calls is told to other systems too, until they have taken it.

Each target gets a row of the ledger, in the transaction of what calls, so that a kill loses none.  A loop
tries them: again after 10 s, then after twice as long each time, up to an hour; after a day it gives up and says
so.  A plain ``https://`` address gets JSON; everything else is Apprise's, which knows e-mail, Teams, Slack and
others.
"""

from __future__ import annotations

import json
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from qc_node.domain import QcNodeError
from qc_node.domain.attention import EVENTS, Notice
from qc_node.ledger import Ledger
from qc_node.ledger.rows import NotificationRow

log = logging.getLogger("qc_node.notify")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 3600.0
GIVE_UP_S = 86_400.0
KEEP_S = 30 * 86_400.0
"""How long rows stay that are done with."""
TIDY_S = 3600.0
TIMEOUT_S = 5.0
BATCH = 50
WEBHOOK = "[webhook]"
"""Name of the target that ``[webhook] url`` makes; no ``[[notify]]`` can be called so."""

OF_WEBHOOK = frozenset({"attention", "missing"})
"""What that target is told."""

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class NotTaken(Exception):
    """Nobody took a notification; the sentence says why and holds no secret."""


@dataclass(frozen=True)
class NoticeTarget:
    """Somebody who is told: the address with its secrets, and of which events."""

    name: str
    url: str
    events: frozenset[str] = frozenset(EVENTS)

    def __repr__(self) -> str:
        return f"NoticeTarget({self.name!r})"

    @property
    def is_plain(self) -> bool:
        """Whether it gets JSON by POST."""
        return self.url.startswith(("http://", "https://"))


Send = Callable[[NoticeTarget, Mapping[str, Any]], None]
"""Tells one target; raises :class:`NotTaken`."""


class Notifier:
    """Notices to rows, and rows to targets.

    Parameters
    ----------
    public_base
        Address of the pages, for links; without one there are none.
    on_outcome
        Called with the target's name and ``sent``, ``retry`` or ``given_up``.
    wake
        Called when there is something to send.
    """

    def __init__(
        self,
        ledger: Ledger,
        targets: Sequence[NoticeTarget],
        public_base: str | None,
        wall: Callable[[], float],
        on_outcome: Callable[[str, str], None] = lambda target, outcome: None,
        wake: Callable[[], None] = lambda: None,
        send: Send | None = None,
    ) -> None:
        self._ledger = ledger
        self._targets = {target.name: target for target in targets}
        self._public_base = public_base
        self._wall = wall
        self._on_outcome = on_outcome
        self._wake = wake
        self._send = send or tell
        self._tidied_at = -TIDY_S

    def tell(self, notice: Notice) -> None:
        """Have every target told that wants to know; joins the caller's transaction, waits for nobody."""
        for target in self._targets.values():
            if notice.event in target.events and (target.name != WEBHOOK or notice.webhook is not None):
                body = self._webhook(notice) if target.name == WEBHOOK else body_of(notice, self._public_base)
                self._ledger.notifications.add(notice.event, target.name, body, notice.at)
                self._wake()

    def step(self) -> float | None:
        """Tell what is due; returns when the next one is, in seconds since the epoch."""
        now = self._wall()
        away: set[str] = set()
        for row in self._ledger.notifications.due(now, BATCH, LONGEST_PAUSE_S):
            target = self._targets.get(row["target"])
            if target is None:
                self._give_up(row, "There is no such target in the configuration any more.", now)
            elif target.name not in away and not self._try(row, target):
                away.add(target.name)
        if not 0 <= now - self._tidied_at < TIDY_S:
            self._ledger.notifications.remove(now - KEEP_S)
            self._tidied_at = now
        return self._ledger.notifications.next_attempt_at()

    def _try(self, row: NotificationRow, target: NoticeTarget) -> bool:
        try:
            self._send(target, json.loads(row["body"]))
        except NotTaken as trouble:
            now = self._wall()
            if abs(now - row["created_at"]) >= GIVE_UP_S:  # before it was made, where the clock was set back
                self._give_up(row, str(trouble), now)
                self._give_up_the_old(target.name, str(trouble), now)
                return False
            again_at = now + min(FIRST_PAUSE_S * 2.0 ** min(row["attempts"], 30), LONGEST_PAUSE_S)
            with self._ledger.db.transaction():
                self._ledger.notifications.failed(row["id"], str(trouble), again_at, now)
                self._ledger.notifications.postpone(target.name, again_at)
            if row["attempts"] == 0:
                log.warning("%s could not be told and is tried again: %s", target.name, trouble)
            self._on_outcome(target.name, "retry")
            return False
        self._ledger.notifications.sent(row["id"], self._wall())
        self._on_outcome(target.name, "sent")
        return True

    def _give_up(self, row: NotificationRow, why: str, now: float) -> None:
        self._ledger.notifications.failed(row["id"], why, None, now)
        log.error("%s was not told of an event (%s) and never will be: %s", row["target"], row["event"], why)
        self._on_outcome(row["target"], "given_up")

    def _give_up_the_old(self, target: str, why: str, now: float) -> None:
        """What waited as long behind it: else a target that is away for good would be tried once for each."""
        gone = self._ledger.notifications.give_up(target, now - GIVE_UP_S, why, now)
        if gone:
            log.error("%s was not told of %d more events and never will be: %s", target, gone, why)
        for _ in range(gone):
            self._on_outcome(target, "given_up")

    @staticmethod
    def _webhook(notice: Notice) -> dict[str, Any]:
        return {**(notice.webhook or {}), "at": notice.at}


def body_of(notice: Notice, public_base: str | None) -> dict[str, Any]:
    """What a target is told: no patient data."""
    room = f"?scanner={quote(notice.scanner)}" if notice.scanner else ""
    return {
        "event": notice.event,
        "scanner": notice.scanner,
        "sentence": notice.sentence,
        "at": notice.at,
        "time": datetime.fromtimestamp(notice.at, UTC).astimezone().isoformat(timespec="seconds"),
        "link": f"{public_base.rstrip('/')}/live{room}" if public_base else None,
    }


def trial(now: float, public_base: str | None) -> dict[str, Any]:
    """What ``qc-node notify test`` tells."""
    return body_of(Notice("test", "", "This is a test of qc-node; nobody needs to do anything.", now), public_base)


def with_environment(url: str, environ: Mapping[str, str]) -> str:
    """`url` with every ``${NAME}`` from the environment.

    Raises
    ------
    QcNodeError
        There is no such variable.

    Examples
    --------
    >>> with_environment("slack://${TOKEN}/qc", {"TOKEN": "a/b/c"})
    'slack://a/b/c/qc'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise QcNodeError(f"The environment variable {match[1]}, which [[notify]] names, is not set.")
        return environ[match[1]]

    return _VARIABLE.sub(value, url)


# -- sending -------------------------------------------------------------------------------------------
def tell(target: NoticeTarget, body: Mapping[str, Any]) -> None:
    """Tell one target.

    Raises
    ------
    NotTaken
        It did not take it within some seconds, or its address is none.
    """
    if target.is_plain:
        post_json(target.url, body)
    else:
        _by_apprise(target.url, body)


def post_json(url: str, body: Mapping[str, Any]) -> None:
    """POST one JSON object.

    Raises
    ------
    NotTaken
        Nobody took it within five seconds, or the address leads on to another one.
    """
    if (trouble := _no_address(url)) is not None:
        raise NotTaken(trouble)
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with _TO_NOBODY_ELSE.open(request, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        raise NotTaken(f"It answered {error.code} {_PHRASES.get(error.code, '')}".strip() + ".") from None
    except HTTPException as error:  # its words may quote the address, or whatever the other side says
        raise NotTaken(f"It does not speak HTTP ({type(error).__name__}).") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise NotTaken(f"It could not be reached ({getattr(reason, 'strerror', None) or reason}).") from None
    except ValueError as error:
        raise NotTaken(f"Its address cannot be used ({type(error).__name__}).") from None


class _OneTarget(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere becomes a GET without its body, which anybody answers with 200."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        """Nowhere: the answer stays what it was."""


_TO_NOBODY_ELSE = urllib.request.build_opener(_OneTarget)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _no_address(url: str) -> str | None:
    """Why this plain address cannot be used; the sentence quotes nothing of it."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        return "Its address is none: host, port or a character in it is not valid."
    if "@" in parts.netloc:
        return "Its address holds a user or password, which a plain address cannot; Apprise's json:// takes them."
    return None


def hindrance(url: str, environ: Mapping[str, str]) -> str | None:
    """Why the target of this address cannot be told, as a sentence; None where no reason shows.  Sends nothing."""
    try:
        whole = with_environment(url, environ)
        if NoticeTarget("", whole).is_plain:
            return _no_address(whole)
        _apprise(whole)
    except (QcNodeError, NotTaken) as trouble:
        return str(trouble)
    return None


def _apprise(url: str) -> Any:
    """Apprise with one address."""
    try:
        import apprise
    except ImportError:
        raise NotTaken("Apprise is not installed: pip install 'qc-node[notify]'.") from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its lines may quote an address
    found = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False, app_id="qc-node"))
    if not found.add(url):
        raise NotTaken("Its address is none that Apprise knows.")
    return found


def _by_apprise(url: str, body: Mapping[str, Any]) -> None:
    found = _apprise(url)
    try:
        taken = found.notify(title=title(body), body=text(body), body_format="text")
    except Exception as error:  # a plugin's own trouble is the target's
        raise NotTaken(f"Apprise could not tell it ({type(error).__name__}).") from None
    if not taken:
        raise NotTaken("Apprise could not tell it; it was refused or not reached.")


def title(body: Mapping[str, Any]) -> str:
    """Subject of a message."""
    return f"qc-node: {body['scanner'] or body['event'].replace('_', ' ')}"


def text(body: Mapping[str, Any]) -> str:
    """A message for people: what, when, where to look."""
    at = datetime.fromtimestamp(body["at"], UTC).astimezone()
    lines = [body["sentence"], f"{at:%Y-%m-%d %H:%M}", body.get("link")]
    return "\n".join(line for line in lines if line)
