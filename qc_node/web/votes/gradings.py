"""The expert protocol of Bottani et al. 2022 (section 2.3): gradings, consensus, kappa, ``ratings.tsv``.  Pure."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qc_node.domain import QcNodeError, tier_from_grades
from qc_node.ledger.rows import GradingRow
from qc_node.web.statistics.figures import Agreement, agreement
from qc_node.web.votes.exchange import harmless, parse_time, to_iso

CHARACTERISTICS = ("straight_reject", "gadolinium", "motion", "contrast", "noise")
RATERS = 2
"""Each image is graded by two raters, each blind to the other."""
TSV = ("series_instance_uid", "rater", "kind", *CHARACTERISTICS, "tier", "timestamp", "verdict_visible")
GREW = ("verdict_visible",)
"""Columns that tables of earlier versions lack."""
MISSING = "n/a"
"""A missing value in BIDS tables."""


@dataclass(frozen=True, slots=True)
class Grading:
    """What one rater, or the consensus, says of one image; a straight reject has no grades."""

    straight_reject: bool
    gadolinium: bool | None = None
    motion: int | None = None
    contrast: int | None = None
    noise: int | None = None

    def __post_init__(self) -> None:
        others = (self.gadolinium, self.motion, self.contrast, self.noise)
        if self.straight_reject and any(v is not None for v in others):
            raise QcNodeError("A straight reject has no other characteristics.")
        if not self.straight_reject and any(v is None for v in others):
            raise QcNodeError("An image that is not rejected needs gadolinium, motion, contrast and noise.")
        if any(v not in (0, 1, 2) for v in (self.motion, self.contrast, self.noise) if v is not None):
            raise QcNodeError("Motion, contrast and noise are 0, 1 or 2.")

    @property
    def tier(self) -> int | None:
        """1 to 3, or None for a straight reject; follows from the grades alone."""
        if self.motion is None or self.contrast is None or self.noise is None:
            return None
        return int(tier_from_grades(self.motion, self.contrast, self.noise))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, tier included."""
        return {name: getattr(self, name) for name in CHARACTERISTICS} | {"tier": self.tier}


def grading_of(row: GradingRow) -> Grading:
    """The grading of a ledger row."""
    gadolinium = row["gadolinium"]
    return Grading(
        bool(row["straight_reject"]),
        None if gadolinium is None else bool(gadolinium),
        row["motion"],
        row["contrast"],
        row["noise"],
    )


def consensus(gradings: Sequence[Grading]) -> Grading | None:
    """The label that two raters give together; None when they must sit together first.

    Straight rejects need agreement, and disagreement is settled by hand; of every other characteristic the
    worse grade counts, so that an imperfection seen by one rater alone is kept (section 2.3.3).
    """
    if len({g.straight_reject for g in gradings}) != 1:
        return None
    if gradings[0].straight_reject:
        return Grading(True)
    return Grading(
        False,
        any(g.gadolinium for g in gradings),
        *(max(int(getattr(g, name) or 0) for g in gradings) for name in ("motion", "contrast", "noise")),
    )


@dataclass(frozen=True)
class GradingState:
    """Where the grading of all series stands.

    ``ratings`` by series and rater; ``decided`` by hand; ``labels`` are final; ``queue`` waits for two
    raters to sit together.
    """

    ratings: Mapping[str, Mapping[str, Grading]]
    decided: Mapping[str, Grading]
    labels: Mapping[str, Grading]
    queue: tuple[str, ...]


def board(rows: Iterable[GradingRow]) -> GradingState:
    """The state that the newest gradings (:meth:`qc_node.ledger.gradings.Gradings.current`) add up to."""
    ratings: dict[str, dict[str, Grading]] = defaultdict(dict)
    decided: dict[str, Grading] = {}
    for row in rows:
        if row["kind"] == "consensus":
            decided[row["series_uid"]] = grading_of(row)
        else:
            ratings[row["series_uid"]][row["reader_id"]] = grading_of(row)
    labels, queue = {}, []
    for series, by_rater in ratings.items():
        if len(by_rater) < RATERS:
            continue
        agreed = consensus(list(by_rater.values()))
        if agreed is not None:
            labels[series] = agreed
        elif series in decided:
            labels[series] = decided[series]
        else:
            queue.append(series)
    return GradingState(ratings, decided, labels, tuple(queue))


def todo(series: Sequence[str], state: GradingState, rater: str) -> list[str]:
    """What a rater grades next: first what another one has graded, then what nobody has, each oldest first."""
    waiting = [
        s for s in series if rater not in state.ratings.get(s, {}) and len(state.ratings.get(s, {})) < RATERS
    ]
    return sorted(waiting, key=lambda s: -len(state.ratings.get(s, {})))


def kappas(state: GradingState) -> dict[str, Agreement]:
    """Agreement of the first two raters of each series by characteristic, as in Table 3 of the paper.

    Grades of motion, contrast and noise and gadolinium are compared where both did not reject.  Pairs enter
    in both orders, because who is rater 1 has no meaning here.
    """
    pairs: dict[str, list[tuple[int, int]]] = {name: [] for name in (*CHARACTERISTICS, "tier")}
    for by_rater in state.ratings.values():
        if len(by_rater) < RATERS:
            continue
        a, b = list(by_rater.values())[:RATERS]
        for name, found in pairs.items():
            x, y = getattr(a, name), getattr(b, name)
            if x is not None and y is not None:
                found.append((int(x), int(y)))
    return {
        name: agreement(found, levels=4 if name == "tier" else 3, symmetric=True) for name, found in pairs.items()
    }


def blind(rows: Iterable[GradingRow]) -> list[GradingRow]:
    """The gradings of raters who had not seen the machine's verdict; where nobody knows, it does not count."""
    return [row for row in rows if row["verdict_visible"] == 0]


def tiers(state: GradingState) -> dict[str, int]:
    """How many labels of each kind: straight rejects and tiers."""
    names = ("straight reject" if g.tier is None else f"tier {g.tier}" for g in state.labels.values())
    return dict(sorted(Counter(names).items()))


# -- ratings.tsv ---------------------------------------------------------------------------------------
SIDECAR = {
    "series_instance_uid": {"Description": "DICOM Series Instance UID of the T1-weighted series"},
    "rater": {"Description": "Pseudonym of the rater; 'consensus' for the label of both"},
    "kind": {"Description": "rating of one rater, or consensus of two"},
    "straight_reject": {
        "Description": "Not a T1-weighted MRI of the whole brain",
        "Levels": {"0": "no", "1": "yes"},
    },
    "gadolinium": {"Description": "Gadolinium-based contrast agent", "Levels": {"0": "absent", "1": "present"}},
    "motion": {"Description": "Motion", "Levels": {"0": "none", "1": "some", "2": "severe"}},
    "contrast": {"Description": "Grey/white contrast", "Levels": {"0": "good", "1": "medium", "2": "bad"}},
    "noise": {"Description": "Noise", "Levels": {"0": "none", "1": "some", "2": "severe"}},
    "tier": {"Description": "1 all grades 0; 2 at least one 1 and no 2; 3 at least one 2"},
    "timestamp": {"Description": "When it was graded", "Units": "ISO 8601, UTC"},
    "verdict_visible": {
        "Description": "Whether the rater had seen the machine's verdict; of a consensus, whether either had",
        "Levels": {"0": "blind", "1": "seen before"},
    },
}


def write_ratings(rows: Iterable[GradingRow], names: Mapping[str, str]) -> tuple[str, str]:
    """``ratings.tsv`` and its JSON sidecar (BIDS 1.10, tabular files) from the newest gradings.

    The consensus of two ratings follows them as a row of its own.
    """
    rows = list(rows)
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(TSV)
    of_series: dict[str, list[GradingRow]] = defaultdict(list)
    for row in rows:
        of_series[row["series_uid"]].append(row)
        if row["kind"] == "rating":
            seen = row["verdict_visible"]
            _write(writer, row["series_uid"], names[row["reader_id"]], "rating", grading_of(row), row["at"], seen)
    for series, label in board(rows).labels.items():
        newest = max(row["at"] for row in of_series[series])
        seen = _either_saw([row["verdict_visible"] for row in of_series[series]])
        _write(writer, series, "consensus", "consensus", label, newest, seen)
    return stream.getvalue(), json.dumps(SIDECAR, indent=2) + "\n"


def _either_saw(seen: Sequence[int | None]) -> int | None:
    """1 where somebody had seen the verdict, 0 where nobody had, None where it is not known."""
    return 1 if 1 in seen else None if None in seen else 0


def _write(writer: Any, series: str, rater: str, kind: str, grading: Grading, at: float, seen: int | None) -> None:
    values = [getattr(grading, name) for name in CHARACTERISTICS] + [grading.tier]
    cells = [MISSING if v is None else int(v) for v in values]
    writer.writerow(
        [harmless(series), harmless(rater), kind, *cells, to_iso(at), MISSING if seen is None else int(seen)]
    )


@dataclass(frozen=True, slots=True)
class Rated:
    """A rating of a table: whose, of which series, when, and whether the verdict had been seen, if said."""

    series: str
    rater: str
    grading: Grading
    at: float
    verdict_visible: bool | None


def read_ratings(text: str, name: str) -> list[Rated]:
    """Every single rating; consensus rows follow from them and are left out.

    Raises
    ------
    QcNodeError
        A column is missing or a row makes no sense; the sentence names file and line.
    """
    reader = csv.DictReader(io.StringIO(text), delimiter="\t")
    missing = set(TSV) - {"tier", "kind", *GREW} - set(reader.fieldnames or ())
    if missing:
        raise QcNodeError(f"{name} lacks the column {sorted(missing)[0]!r}.")
    out = []
    for row in reader:
        place = f"{name} line {reader.line_num}"
        if row.get("kind") == "consensus":
            continue
        try:
            values = {c: None if row[c] in (MISSING, "", None) else int(row[c]) for c in CHARACTERISTICS}
            gadolinium = values["gadolinium"]
            grading = Grading(
                bool(values["straight_reject"]),
                None if gadolinium is None else bool(gadolinium),
                values["motion"],
                values["contrast"],
                values["noise"],
            )
        except (ValueError, QcNodeError) as error:
            raise QcNodeError(f"{place}: {error}") from error
        if row.get("tier") not in (None, "", MISSING) and row["tier"] != str(grading.tier):
            raise QcNodeError(f"{place} has tier {row['tier']}, which does not follow from its grades.")
        at = parse_time(row["timestamp"], None, place)
        if at is None:
            raise QcNodeError(f"{place} has no timestamp.")
        seen = {"0": False, "1": True}.get(row.get("verdict_visible") or "")
        out.append(Rated(row["series_instance_uid"], row["rater"], grading, at, seen))
    return out
