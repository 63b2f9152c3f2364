"""The technologist board: one card per scanner, and what calls for attention until somebody has seen it."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

from qc_node.domain.wording import Card
from qc_node.ledger.rows import SeriesRow
from qc_node.web.broadcast import Broadcaster
from qc_node.web.pages import phrases
from qc_node.web.settings import WebDeps
from qc_node.web.votes import cases

CHANNEL = "board"
REVIEW = "review"
"""Channel on which the review page hears which series has changed, by its number and nothing else."""
SHOW_S = 3 * 86_400.0
"""Scanners that sent nothing for three days leave the board (their open alarms stay)."""
CATCH_UP = 200

log = logging.getLogger(__name__)

Send = Callable[[str, dict[str, Any]], None]
"""Posts one JSON object to an address."""


class Board:
    """What ``app.state.board`` offers to the node.

    Parameters
    ----------
    send
        Posts to the webhook; called in a thread of its own, so that a slow receiver holds up nothing.
    """

    def __init__(self, deps: WebDeps, broadcaster: Broadcaster, send: Send | None = None) -> None:
        self._deps = deps
        self._broadcaster = broadcaster
        self._send = send or post_json

    def publish(self, series_id: int) -> None:
        """Tell every open board about a series (any thread; call it again whenever its state changes)."""
        self._broadcaster.publish(REVIEW, "series", {"series": series_id})
        row = self._deps.ledger.series.by_id(series_id)
        if row is None:
            return
        raised = self._look(row)
        card = self.card(row["calling_ae"])
        if card is not None:
            self._broadcaster.publish(CHANNEL, "card", card)
        if raised is not None and self._deps.web.webhook_url is not None:
            body = {"event": "attention", "scanner": row["calling_ae"], "words": raised.as_dict()}
            self._call_webhook(self._deps.web.webhook_url, body)

    def notice(self) -> str:
        """What to know of the node itself, such as that it is loading its models; empty when all is well."""
        return self._deps.notice()

    def publish_notice(self) -> None:
        """Tell every open board what to know of the node (any thread; call it whenever that changes)."""
        self._broadcaster.publish(CHANNEL, "notice", {"text": self.notice()})

    def study_closed(self, study_uid: str) -> None:
        """Tell the boards of the study's scanners what it lacks, and the webhook (any thread).

        Call it once, after the study was checked against its order.
        """
        missing = self._deps.ledger.studies.missing(study_uid)
        if not missing:
            return
        scanners = dict.fromkeys(row["calling_ae"] for row in self._deps.ledger.series.of_study(study_uid))
        for scanner in scanners:
            card = self.card(scanner)
            if card is not None:
                self._broadcaster.publish(CHANNEL, "card", card)
        if self._deps.web.webhook_url is not None:
            body = {"event": "missing", "scanner": next(iter(scanners), ""), "missing": list(missing)}
            self._call_webhook(self._deps.web.webhook_url, body)

    def refresh(self) -> None:
        """Draw every open board anew: what was forgotten is on no card any more."""
        self._broadcaster.publish(CHANNEL, "hello", {"cards": self.cards()})

    def catch_up(self) -> int:
        """Raise alarms for verdicts given while no node was running; returns how many."""
        raised = 0
        for verdict in self._deps.ledger.verdicts.recent(CATCH_UP):
            row = self._deps.ledger.series.by_id(verdict["series_id"])
            if row is not None and verdict["judged_at"] >= self._deps.clock() - SHOW_S:
                raised += self._look(row) is not None
        return raised

    def cards(self) -> list[dict[str, Any]]:
        """Every scanner's card, alarms first, then by name."""
        since = self._deps.clock() - SHOW_S
        scanners = {row["calling_ae"] for row in self._deps.ledger.series.newest_per_scanner(since)}
        scanners |= {row["calling_ae"] for row in self._deps.ledger.alarms.open_ones()}
        found = [card for scanner in sorted(scanners) if (card := self.card(scanner)) is not None]
        return sorted(found, key=lambda c: (not c["alarms"], c["scanner"]))

    def card(self, scanner: str) -> dict[str, Any] | None:
        """One scanner's card: its newest series, and its open alarms."""
        newest = self._deps.ledger.series.newest_of(scanner)
        if newest is None:
            return None
        alarms = [a for a in self._deps.ledger.alarms.open_ones() if a["calling_ae"] == scanner]
        return {
            "scanner": scanner,
            "now": self._deps.clock(),
            "newest": self._series(newest),
            "alarms": [
                {"id": a["id"], "at": a["raised_at"], **self._series(row, raised=True)}
                for a in alarms
                if (row := self._deps.ledger.series.by_id(a["series_id"])) is not None
            ],
        }

    def acknowledge(self, alarm_id: int, by: str) -> bool:
        """Close an alarm and tell every board; False when it is not open."""
        row = self._deps.ledger.alarms.acknowledge(alarm_id, by, self._deps.clock())
        if row is None:
            return False
        card = self.card(row["calling_ae"])
        if card is not None:
            self._broadcaster.publish(CHANNEL, "card", card)
        return True

    def _look(self, row: SeriesRow) -> Card | None:
        """Raise or close alarms of a series; its words when an alarm is new."""
        given = self._deps.ledger.verdicts.of_last_run(row["series_id"])
        if not given:
            return None
        now, run = self._deps.clock(), given[0]["run"]
        said = phrases.verdict_card(given)
        if not said.attention:
            self._deps.ledger.alarms.supersede(row["series_id"], run, now)
            return None
        new = self._deps.ledger.alarms.raise_alarm(row["series_id"], run, row["calling_ae"], now)
        return said if new else None

    def _series(self, row: SeriesRow, raised: bool = False) -> dict[str, Any]:
        """What a card shows of one series.

        Under an alarm (`raised`) the words stay those of the verdict that raised it while the series is judged
        anew: "being judged" is no reason to call anybody.
        """
        given = self._deps.ledger.verdicts.of_last_run(row["series_id"])
        verdict = given[0] if given else None
        if verdict is not None and (raised or verdict["run"] == row["run"]):
            said = phrases.verdict_card(given)
            at = verdict["judged_at"]
        else:
            said = phrases.state_card(row["state"], row["sentence"])
            at = row["closed_at"] or row["last_received"]
        claims = verdict["claims"] if verdict is not None else {}
        pictures = cases.pictures(verdict["thumbnails"]) if verdict is not None else []
        return {
            "description": claims.get("series_description") or f"{row['modality']} series",
            "modality": row["modality"],
            "images": row["instances"],
            "at": at,
            "words": said.as_dict(),
            "picture": pictures[0]["src"] if pictures else None,
            "missing": list(self._deps.ledger.studies.missing(row["study_uid"])),
            "notes": phrases.notes(self._deps.ledger.series.events(row["series_id"])),
        }

    def _call_webhook(self, url: str, body: dict[str, Any]) -> None:
        body = {**body, "at": self._deps.clock()}

        def call() -> None:
            try:
                self._send(url, body)
            except OSError as error:
                log.warning("The webhook could not be told about scanner %s: %s.", body["scanner"], error)

        threading.Thread(target=call, name="board-webhook", daemon=True).start()


def post_json(url: str, body: dict[str, Any]) -> None:
    """POST one JSON object; raises :class:`OSError` when nobody takes it within five seconds."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=5.0):
        return
