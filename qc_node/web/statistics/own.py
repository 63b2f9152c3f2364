"""One reader's own figures, beside what the department has reached together.  Pure.

Juneja et al. saw that acceptance differed widely and proposed incentives; here these are progress and thanks.
Nothing compares one person with another: of all others together only the agreement is told, and the
department's sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qc_node.web.statistics import figures, plots
from qc_node.web.statistics.collecting import KnownFacts
from qc_node.web.statistics.figures import DAY_S, Agreement, Statistics
from qc_node.web.statistics.trends import monday, week_of
from qc_node.web.texts import _

LATELY_S = 30 * DAY_S
WEEKS = 26
"""How many weeks one's own plot shows."""


@dataclass(frozen=True)
class OwnFigures:
    """What one's own page shows.

    Attributes
    ----------
    own, lately
        Of all time, and of the last 30 days.
    weeks
        ``(when the week began, own votes)`` of the last :data:`WEEKS` weeks.
    with_others
        Agreement with all others together.
    department, department_lately
        Standing votes of everybody, of all time and of the last 30 days.
    goal
        The next round number of the department's votes.
    """

    own: Statistics
    lately: Statistics
    weeks: list[tuple[float, int]]
    with_others: Agreement | None
    department: int
    department_lately: int
    goal: int

    @property
    def share_of_goal(self) -> float:
        """How far the department is on its way to the goal, 0 to 1."""
        return self.department / self.goal


def next_goal(votes: int) -> int:
    """The next round number, near enough to be reached.

    Examples
    --------
    >>> [next_goal(n) for n in (0, 99, 100, 1527, 47826)]
    [100, 100, 200, 2000, 50000]
    """
    if votes < 100:
        return 100
    power: int = 10 ** (len(str(votes)) - 1)
    step = power if votes < 5 * power else 5 * power
    return (votes // step + 1) * step


def own_figures(facts: KnownFacts, name: str, now: float) -> OwnFigures:
    """The figures of the reader with this pseudonym."""
    table = facts.table
    rows = table.chosen(-np.inf, None, name)
    last = week_of(now)
    found = np.bincount(
        np.clip(last - (table.voted_at[rows] - monday(0)) // (7 * DAY_S), 0, WEEKS).astype(np.int64),
        minlength=WEEKS + 1,
    )
    everybody = table.standing
    department = len(everybody)
    return OwnFigures(
        figures.summarise(table, facts.model, reader=name),
        figures.summarise(table, facts.model, reader=name, since=now - LATELY_S),
        [(monday(last - back), int(found[back])) for back in reversed(range(WEEKS))],
        figures.with_others(table, name),
        department,
        int(np.count_nonzero(table.voted_at[everybody] >= now - LATELY_S)),
        next_goal(department),
    )


def plot(found: OwnFigures, width: int = plots.WIDE) -> str:
    """Own votes by week."""
    points = [(float(n), float(votes)) for n, (_at, votes) in enumerate(found.weeks)]
    return plots.lines(
        {_("votes"): points},
        title=_("Your votes by week"),
        x_label=_("week from; the last one is not over"),
        width=width,
        x_ticks=plots.monday_ticks([at for at, _votes in found.weeks], width),
    )
