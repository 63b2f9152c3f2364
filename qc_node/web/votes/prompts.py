"""Asking well: whom to ask for a vote on what, so that votes are a sample and not what is convenient.

A reader is never told why a study is asked for: "uncertain" or "conflict" would give the machine's opinion away.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum

from qc_node.domain import Verdict, vote_level
from qc_node.ledger.rows import SeriesRow, VerdictRow, VoteRow
from qc_node.web.access import security
from qc_node.web.settings import PromptPolicy, WebDeps
from qc_node.web.statistics.figures import LEVELS


class Why(StrEnum):
    """Why a vote is asked for; kept for analysis, never shown before the vote."""

    RANDOM = "random"
    UNCERTAIN = "uncertain"
    CONFLICT = "conflict"
    DOUBLE = "double"


class Stratified:
    """Takes a share of every stratum: systematic sampling with a random start.

    Over n items of one stratum the number taken differs from ``share * n`` by less than one, so that a rare
    scanner or protocol is asked for as often as a busy one.
    """

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng
        self._sums: dict[tuple[str, ...], float] = {}

    def take(self, *stratum: str) -> bool:
        """Whether the next item of a stratum is taken."""
        before = self._sums.get(stratum)
        if before is None:
            before = self._rng.random()
        after = before + self._share
        self._sums[stratum] = after % 1.0
        return after >= 1.0


def is_uncertain(verdict: Verdict, below: float) -> bool:
    """Whether an answer was withheld, or its probability is below `below`."""
    return any(
        f.value is None or (f.probabilities and max(f.probabilities.values()) < below) for f in verdict.findings
    )


def in_conflict(vote: str, level: int) -> bool:
    """Whether a vote and the machine (level 0-2) disagree on what matters: poor or not poor."""
    return (LEVELS[vote] == 2) != (level == 2)


class Prompter:
    """Decides after each verdict and each vote whether somebody is asked, and notes it in the ledger."""

    def __init__(self, deps: WebDeps) -> None:
        self._deps = deps
        policy = deps.web.prompts
        self._random = Stratified(policy.random_share, deps.rng)
        self._double = Stratified(policy.double_share, deps.rng)

    @property
    def policy(self) -> PromptPolicy:
        """The policy in force."""
        return self._deps.web.prompts

    def after_verdict(self, series: SeriesRow, verdict: VerdictRow) -> Why | None:
        """Perhaps ask for a first vote on a study that was judged."""
        protocol = str(verdict["claims"].get("protocol_name") or verdict["claims"].get("series_description") or "")
        why = Why.RANDOM if self._random.take(series["calling_ae"], protocol) else None
        if why is None and is_uncertain(verdict["verdict"], self.policy.uncertain_below):
            why = Why.UNCERTAIN
        return why if why and self._ask(series["study_uid"], series["series_id"], why, ()) else None

    def after_vote(self, vote: VoteRow) -> Why | None:
        """Perhaps ask somebody else about a study that was voted on."""
        study = vote["study_uid"]
        if study is None or vote["vote"] not in LEVELS:
            return None
        why = None
        if self.policy.conflicts and not vote["verdict_visible"]:
            levels = [
                level
                for row in self._deps.ledger.series.of_study(study)
                for given in self._deps.ledger.verdicts.of_last_run(row["series_id"])
                if (level := vote_level(given["verdict"])) is not None
            ]
            if levels and in_conflict(vote["vote"], max(levels)):
                why = Why.CONFLICT
        if self._double.take() and why is None:
            why = Why.DOUBLE
        voted = {row["reader_id"] for row in self._deps.ledger.votes.of_subject(study, None)}
        series = self._deps.ledger.series.find(study, vote["series_uid"] or "")
        number = None if series is None else series["series_id"]
        return why if why and self._ask(study, number, why, tuple(voted)) else None

    def expire(self) -> int:
        """Record prompts that nobody answered in time."""
        now = self._deps.clock()
        return self._deps.ledger.prompts.expire(now - self.policy.expire_h * 3600, now)

    def _ask(self, study_uid: str, series_id: int | None, why: Why, but: Sequence[str]) -> bool:
        candidates = [
            row["reader_id"]
            for row in self._deps.ledger.readers.all()
            if row["disabled_at"] is None
            and row["role"] in ("radiologist", "expert")
            and row["reader_id"] not in but
            and (row["pin_hash"] or row["token_hash"])
        ]
        if not candidates:
            return False
        open_now = {reader: len(self._deps.ledger.prompts.open_for(reader)) for reader in candidates}
        fewest = min(open_now.values())
        reader = self._deps.rng.choice([r for r in candidates if open_now[r] == fewest])
        return self._deps.ledger.prompts.add(
            security.new_handle(), study_uid, series_id, reader, why, self._deps.clock()
        )
