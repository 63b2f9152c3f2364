"""From the ledger to the columns of statistics: everything once, then only what came since.

One object is kept by the application.  A page asks it, it asks the ledger what is new, and figures that were made
of the same rows are given again.  It is right at every moment: nothing is shown that is older than the question.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from qc_node.domain import Question, Verdict, vote_level
from qc_node.ledger import Ledger
from qc_node.web.access import readers
from qc_node.web.statistics.fact_table import FactLog, FactTable, Shown, VoteFact

log = logging.getLogger("qc_node.web.statistics")

REMEMBERED = 64
"""Answers that are kept at most; they are dropped together with the rows they were made of."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class JudgedFact:
    """What statistics ask of the present verdicts on one series.

    Attributes
    ----------
    level
        0 good, 1 acceptable, 2 poor; None where it says nothing of quality.
    tier
        1 to 3, None without one.
    reject
        Whether it is a straight reject.
    undetermined
        Whether the first question was not answered.
    """

    study_uid: str
    series_id: int
    at: float
    protocol: str
    level: int | None
    tier: int | None
    reject: bool
    undetermined: bool


@dataclass(frozen=True)
class KnownFacts:
    """Everything known at one moment.

    ``names`` are pseudonyms by reader id, ``model`` the machine's level by study (the worst of any series),
    ``judged`` the series with a verdict.  `token` changes whenever one of them does.
    """

    token: Hashable
    names: dict[str, str]
    table: FactTable
    model: dict[str, int]
    judged: list[JudgedFact]


class Collected:
    """The rows of one ledger as columns; callable from any thread."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._lock = threading.RLock()
        self._erased = -1
        self._reset()

    def _reset(self) -> None:
        self._vote_id = 0
        self._presentation = 0
        self._log = FactLog()
        self._judged: dict[int, tuple[float, JudgedFact]] = {}
        self._facts: KnownFacts | None = None
        self._answers: dict[Hashable, Any] = {}

    def facts(self) -> KnownFacts:
        """What the ledger holds now."""
        with self._lock:
            return self._now()

    def warm(self) -> None:
        """Read what the ledger holds in a thread of its own, so that no page is the first to wait for it."""
        threading.Thread(target=self._warm, name="statistics", daemon=True).start()

    def _warm(self) -> None:
        try:
            self.facts()
        except Exception:
            log.exception("the votes could not be read for statistics; a page tries again")
        finally:
            self.ledger.close()

    def answer(self, name: Hashable, make: Callable[[KnownFacts], Answer]) -> Answer:
        """What `make` makes of the facts; made once as long as they are the same, and `name` is."""
        with self._lock:
            facts = self._now()
            if name not in self._answers:
                if len(self._answers) >= REMEMBERED:
                    self._answers.clear()
                self._answers[name] = make(facts)
            found: Answer = self._answers[name]
            return found

    def _now(self) -> KnownFacts:
        history = self.ledger.history
        erased, newest_shown = history.erased(), history.newest_presentation()
        if erased != self._erased or newest_shown < self._presentation:
            self._reset()
            self._erased = erased
        # numbers before rows: what is written in between is read again next time, which changes nothing
        newest_vote = self.ledger.votes.newest_id()
        known = {r.reader_id: (r.pseudonym, r.role.value) for r in readers.list_all(self.ledger)}
        judged = history.judged()
        token = (erased, newest_vote, newest_shown, tuple(known.items()), tuple((j[0], j[1]) for j in judged))
        if self._facts is not None and self._facts.token == token:
            return self._facts
        self._read(known, newest_vote)
        self._look_at(judged)
        series = [self._judged[number][1] for number, *_ in judged]
        names = {reader: name for reader, (name, _) in known.items()}
        self._facts = KnownFacts(token, names, self._log.table(), _model(series), series)
        self._answers.clear()
        return self._facts

    def _read(self, known: dict[str, tuple[str, str]], newest_vote: int) -> None:
        """Take over the votes and presentations that came since."""
        history = self.ledger.history
        if newest_vote > self._vote_id:
            for row in history.votes(self._vote_id):
                self._log.note_vote(VoteFact(row[0], known[row[1]][0], *row[2:]))
            self._vote_id = newest_vote
        for number, reader, subject, site, modality, at in history.presented(self._presentation):
            name, role = known[reader]
            self._log.note_shown(Shown(name, subject, site, modality, at, role))
            self._presentation = max(self._presentation, number)

    def _look_at(self, judged: list[tuple[int, float, int, str]]) -> None:
        """Read the verdicts that are new, or were given anew."""
        for number, at, series_id, study_uid in judged:
            if number not in self._judged or self._judged[number][0] != at:
                given = self.ledger.history.verdicts_of(number)
                self._judged[number] = (at, judged_fact(study_uid, series_id, at, given))
        for gone in self._judged.keys() - {number for number, *_ in judged}:
            del self._judged[gone]


def judged_fact(study_uid: str, series_id: int, at: float, given: list[tuple[Verdict, str]]) -> JudgedFact:
    """The facts of the verdicts on one run, the routed one first, each with its claims as JSON text."""
    verdict, text = given[0]
    claims = json.loads(text)
    tier, reject = verdict.finding(Question.TIER), verdict.finding(Question.STRAIGHT_REJECT)
    levels = [level for one, _ in given if (level := vote_level(one)) is not None]
    first = verdict.findings[0] if verdict.findings else None
    return JudgedFact(
        study_uid,
        series_id,
        at,
        str(claims.get("protocol_name") or claims.get("series_description") or ""),
        max(levels, default=None),
        None if tier is None or tier.value is None else int(tier.value),
        bool(reject is not None and reject.value),
        first is not None and first.value is None,
    )


def _model(judged: list[JudgedFact]) -> dict[str, int]:
    """The worst level of any judged series by study."""
    out: dict[str, int] = {}
    for fact in judged:
        if fact.level is not None:
            out[fact.study_uid] = max(fact.level, out.get(fact.study_uid, 0))
    return out


def machine_levels(ledger: Ledger) -> dict[str, int]:
    """The worst level of any judged series of studies that were shown to or voted on by somebody."""
    facts = Collected(ledger).facts()
    voted = set(facts.table.subject.names)
    return {study: level for study, level in facts.model.items() if study in voted}
