"""The technologist board: raises what calls for attention, and tells every open page until somebody has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from qc_node.domain import attention
from qc_node.domain.attention import EVENT_OF, SEEN, AlarmAnswer, AttentionKind, Cause, Notice
from qc_node.domain.mismatch import for_outsiders
from qc_node.domain.station import station_of
from qc_node.domain.wording import Card
from qc_node.ledger.rows import AlarmRow, SeriesRow, VerdictRow
from qc_node.web import measurements
from qc_node.web.broadcast import Broadcaster
from qc_node.web.cards import SHOW_S, Cards
from qc_node.web.measurements import SeriesMeasures
from qc_node.web.pages import phrases
from qc_node.web.settings import WebDeps

CHANNEL = "board"
REVIEW = "review"
"""Channel on which the review page hears which series has changed, by its number and nothing else."""
CATCH_UP = 200
MOST_WITHOUT_STATION = 5_000
LATE_S = 3600.0
"""What is older when its alarm is raised stays on the board and is told to nobody else."""

_OF_A_RUN = tuple(kind for kind in AttentionKind if kind.of_a_run)
_LOOKED_AT = ("skipped", "failed")


def room_channel(wanted: str | None) -> str:
    """The channel of a board that shows one scanner or room; of the whole board where nothing is `wanted`."""
    return CHANNEL if wanted is None else f"{CHANNEL}/{wanted}"


class Board:
    """What ``app.state.board`` offers to the node."""

    def __init__(self, deps: WebDeps, broadcaster: Broadcaster) -> None:
        self._deps = deps
        self._broadcaster = broadcaster
        self._cards = Cards(deps)

    def publish(self, series_id: int) -> None:
        """Tell every open board about a series (any thread; call it again whenever its state changes)."""
        self._broadcaster.publish(REVIEW, "series", {"series": series_id})
        row = self._deps.ledger.series.by_id(series_id)
        if row is not None:
            self._look(row)
            self._send_card(self._cards.name(row))

    def measured(self, series_id: int) -> None:
        """Tell others what a series says of its scanner: new software, or that a measure has begun to drift.

        Call it once, when the series was measured (any thread).
        """
        row = self._deps.ledger.series.by_id(series_id)
        if row is not None:
            now, name = self._deps.clock(), self._cards.name(row)
            for sentence in measurements.begun(self._deps.ledger, series_id, name, now - LATE_S):
                self._deps.notify(Notice("scanner", name, sentence, now))

    def notice(self) -> str:
        """What to know of the node itself, such as that it is loading its models; empty when all is well."""
        return self._deps.notice()

    def publish_notice(self) -> None:
        """Tell every open board what to know of the node (any thread; call it whenever that changes)."""
        for channel in self._channels():
            self._broadcaster.publish(channel, "notice", {"text": self.notice()})

    def study_closed(self, study_uid: str) -> None:
        """Raise or end the alarm for what a study lacks (any thread).

        Call it after the study was checked against its order, each time.
        """
        for name in self._look_at_study(study_uid):
            self._send_card(name)

    def refresh(self) -> None:
        """Draw every open board anew: what was forgotten is on no card any more."""
        for channel in self._channels():
            wanted = None if channel == CHANNEL else channel.removeprefix(room_channel(""))
            self._broadcaster.publish(channel, "hello", self.everything(wanted))

    def catch_up(self) -> int:
        """Raise alarms for what happened while no node was running; returns how many."""
        ledger, since = self._deps.ledger, self._deps.clock() - SHOW_S
        self._fill_stations(since)
        judged = [v["series_id"] for v in ledger.verdicts.recent(CATCH_UP) if v["judged_at"] >= since]
        moved = [row["series_id"] for row in ledger.series.recent(CATCH_UP) if row["last_received"] >= since]
        rows = [row for n in dict.fromkeys((*judged, *moved)) if (row := ledger.series.by_id(n)) is not None]
        before = len(ledger.alarms.open_ones())
        for row in reversed(rows):
            self._look(row)
        for study_uid in dict.fromkeys(row["study_uid"] for row in rows):
            study = ledger.studies.get(study_uid)
            if study is not None and study["state"] == "closed":
                self._look_at_study(study_uid)
        return len(ledger.alarms.open_ones()) - before

    def everything(self, wanted: str | None = None) -> dict[str, Any]:
        """The cards of all scanners, or of one scanner or room, and what to know of the node."""
        notice = self.notice()
        return {
            "cards": self._cards.all(wanted),
            "now": self._deps.clock(),
            **({"notice": notice} if notice else {}),
        }

    def cards(self) -> list[dict[str, Any]]:
        """Every scanner's card, alarms first, then by name."""
        return self._cards.all()

    def card(self, scanner: str) -> dict[str, Any] | None:
        """One scanner's card, by the name that people call it."""
        return self._cards.of(scanner)

    def acknowledge(self, alarm_id: int, by: str, answer: AlarmAnswer | None = None) -> bool:
        """Close an alarm and tell every board; False when it is not open."""
        row = self._deps.ledger.alarms.acknowledge(alarm_id, by, self._deps.clock(), answer)
        if row is None:
            return False
        self._deps.on_call(row["kind"], SEEN if answer is None else answer.value)
        self._send_card(self._cards.name(row))
        return True

    # -- votes ---------------------------------------------------------------------------------------
    def voted_poor(self, vote_id: int, series: SeriesRow, cause: Cause, at: float) -> bool:
        """Raise the alarm of a vote, received `at`, on a series; False where it was raised before."""
        with self._deps.ledger.db.transaction():
            new = self._raise(series, series["run"], [cause], at, vote_id=vote_id)
        self._send_card(self._cards.name(series))
        return bool(new)

    def take_back(self, alarm: AlarmRow) -> None:
        """Close an alarm whose reason is gone."""
        if self._deps.ledger.alarms.close(alarm["id"], self._deps.clock()):
            self._send_card(self._cards.name(alarm))

    # -- what calls ----------------------------------------------------------------------------------
    def _look(self, row: SeriesRow) -> None:
        """Raise and close the alarms of a series as its last judging says."""
        ledger, now = self._deps.ledger, self._deps.clock()
        given = ledger.verdicts.of_last_run(row["series_id"])
        mine = [v for v in given if v["run"] == row["run"]]
        if mine or row["state"] in _LOOKED_AT:
            given = mine
        elif not given:
            return
        run = given[0]["run"] if given else row["run"]
        said = phrases.verdict_card(given) if given else None
        causes = attention.of_series(
            [v["verdict"] for v in given], given[0]["warnings"] if given else (), said.headline if said else ""
        )
        if run == row["run"]:
            causes += attention.of_failure(row["state"], row["sentence"])
        if (measured := ledger.measured.of(row["series_id"], run)) is not None:
            causes += SeriesMeasures(measured).causes
        at = given[0]["judged_at"] if given else row["closed_at"] or row["last_received"]
        with ledger.db.transaction():
            ledger.alarms.supersede(row["series_id"], run, now)
            ledger.alarms.end(row["series_id"], run, set(_OF_A_RUN) - {c.kind for c in causes}, now)
            self._raise(row, run, causes, at, given=given)

    def _look_at_study(self, study_uid: str) -> list[str]:
        """Raise or close the alarm for what a study lacks; returns the scanners whose cards changed."""
        ledger = self._deps.ledger
        missing = ledger.studies.missing(study_uid)
        rows = ledger.series.of_study(study_uid)
        if not rows:
            return []
        last = max(rows, key=lambda row: (row["last_received"], row["series_id"]))
        with ledger.db.transaction():
            for alarm in ledger.alarms.open_of_study(study_uid, AttentionKind.MISSING):
                if not missing or (alarm["series_id"], alarm["run"]) != (last["series_id"], last["run"]):
                    ledger.alarms.close(alarm["id"], self._deps.clock())
            study = ledger.studies.get(study_uid)
            at = (study["closed_at"] if study is not None else None) or last["last_received"]
            told = {
                "event": "missing",
                "scanner": rows[0]["calling_ae"],
                "missing": list(map(for_outsiders, missing)),
            }
            self._raise(last, last["run"], attention.of_study(missing), at, webhook=told)
        return list(dict.fromkeys(self._cards.name(row) for row in rows))

    def _raise(
        self,
        row: SeriesRow,
        run: int,
        causes: Iterable[Cause],
        at: float,
        *,
        given: Sequence[VerdictRow] = (),
        webhook: dict[str, Any] | None = None,
        vote_id: int | None = None,
    ) -> list[Cause]:
        """Raise what was not raised before and have it told, in the caller's transaction; what was new."""
        alarms, now = self._deps.ledger.alarms, self._deps.clock()
        new = [
            cause
            for cause in causes
            if alarms.raise_alarm(
                row["series_id"],
                run,
                row["calling_ae"],
                now,
                kind=cause.kind,
                station=row["station"],
                vote_id=vote_id,
            )
        ]
        words = _outside(given)
        if given and new:
            called = replace(words, attention=True)
            webhook = {"event": "attention", "scanner": row["calling_ae"], "words": called.as_dict()}
        for n, cause in enumerate(new):
            self._deps.on_call(cause.kind.value, "raised")
            if now - at <= LATE_S:
                told = webhook if n == 0 and EVENT_OF[cause.kind] in ("attention", "missing") else None
                sentence = _told(cause, words)
                name = self._cards.name(row)
                self._deps.notify(Notice(EVENT_OF[cause.kind], name, sentence, now, told))
        return new

    # -- inside --------------------------------------------------------------------------------------
    def _channels(self) -> list[str]:
        """Channels of the boards that are open."""
        return [c for c in self._broadcaster.open_channels() if c == CHANNEL or c.startswith(room_channel(""))]

    def _send_card(self, name: str) -> None:
        wanted = {room_channel(w) for w in (None, name, *self._deps.web.stations.rooms(name))}
        open_ones = [channel for channel in self._channels() if channel in wanted]
        card = self._cards.of(name) if open_ones else None
        for channel in open_ones:
            if card is not None:
                self._broadcaster.publish(channel, "card", card)

    def _fill_stations(self, since: float) -> None:
        """Series of before 0.3: their scanner by what their header claims."""
        series = self._deps.ledger.series
        with self._deps.ledger.db.transaction():  # one flush, not thousands, before the first page
            for row in series.without_station(since, MOST_WITHOUT_STATION):
                claims = series.claims_of(row["series_id"])
                names = (str(claims.get(key) or "") for key in ("station_name", "manufacturer", "model_name"))
                series.set_station(row["series_id"], station_of(*names) or row["calling_ae"])


def _outside(given: Sequence[VerdictRow]) -> Card:
    """The words for a series without what they would quote from its header."""
    if not given:
        return phrases.state_card("failed", None)
    return phrases.outside_card(given)


def _told(cause: Cause, words: Card) -> str:
    """What other systems are told."""
    match cause.kind:
        case AttentionKind.VERDICT:
            return " ".join(part for part in (f"{words.headline}.", words.detail, words.action) if part)
        case AttentionKind.FAILED:
            return "A series could not be judged. The board says why."
        case AttentionKind.ORDER | AttentionKind.MISSING:
            return for_outsiders(cause.sentence)
    return cause.sentence
