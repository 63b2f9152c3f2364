"""Leave one protocol out: what is said of images from a scanner that nothing was trained or set on.

For every protocol a classifier is put together of networks that never saw it (:mod:`.left_out`) and of
temperatures, priors and limits chosen on the others; it judges, as the node does,

- R0: images painted from label maps, with painted heads left out of training,
- R1: images simulated on the real heads of the protocol,
- R2: the real images of the protocol, through checks, registration and networks,
- and real images of protocols that are in no pack, by the shipped classifier: the held-out people among them.

Not left out are the average head (nine training heads are in it) and the checks, whose thresholds were set on the
real images at hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.brain_mri import checks, features, networks
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, Member, PreparedHead
from qc_node.classifiers.brain_mri.decision import HEADS, REJECT_REASONS, THICK, decision_of
from qc_node.networks import weights
from qc_node.training import risk
from qc_node.training.brain_mri.evaluation import judge, outcomes, real_images
from qc_node.training.brain_mri.evaluation.outcomes import QUESTIONS, Column, Truth
from qc_node.training.brain_mri.training import decision_fit, left_out, packed, unlike

SEED = 20261126
SURE_NCC = 0.9
"""Of an image of the pack: it was sampled in a known place, so registration and checks took no part."""


def without(base: BrainMriClassifier, pack: packed.Pack, out: Path, group: str) -> BrainMriClassifier:
    """The classifier as it would be if a protocol had never been seen: its networks and its decision."""
    members = []
    for path in sorted((out / left_out.FOLDER / group.replace(" ", "-")).glob("member-*")):
        network = networks.MeasuredNet(features.N_FEATURES, HEADS)
        network.load_state_dict(weights.load_tensors(path, "best.safetensors"))
        members.append(Member(network))
    decision = decision_of(decision_fit.without(pack, out, group))
    known = unlike.fit(pack.features[unlike.familiar_rows(pack, (group,))])
    return BrainMriClassifier(base.identity, base.head, members, decision, base.device, known=known)


def pack_truth(pack: packed.Pack, row: int) -> Truth:
    """What is known of a row of a pack."""

    def known(name: str) -> int | None:
        value = int(pack.targets[name][row])
        return value if value >= 0 else None

    reason = REJECT_REASONS[int(pack.targets["reject"][row])]
    if reason != "ok":
        return Truth(reason)
    return Truth("ok", known("gadolinium"), tuple(known(q) for q in packed.GRADED))


def judged_rows(
    judging: BrainMriClassifier, pack: packed.Pack, rows: npt.NDArray[np.int64]
) -> list[tuple[str, dict[str, dict[str, Any]], Truth]]:
    """``(person, said, truth)`` of rows of a pack, by the networks and the decision alone.

    Stripped twins and thick slices are left out: the first are no images, the second are known from the geometry.
    """
    use = [r for r in rows if pack.targets["reject"][r] >= 0 and pack.targets["reject"][r] != THICK]
    empty = np.zeros(0, dtype=np.float16)
    measures = checks.Measures((), ncc=SURE_NCC)
    heads = [PreparedHead(empty, {}, measures, pack.features[r]) for r in use]
    verdicts = judging.judge(heads)
    return [
        (str(pack.people[r]), judge.said(v), pack_truth(pack, int(r))) for r, v in zip(use, verdicts, strict=True)
    ]


@dataclass(frozen=True)
class LeftOut:
    """Everything that was judged, ready for tables.

    Attributes
    ----------
    simulated
        Protocol -> question -> answers on its rows of the pack.
    real
        One row per real image: see :func:`real_row`.
    """

    simulated: dict[str, dict[str, Column]]
    real: list[dict[str, Any]]


def run(
    base: BrainMriClassifier,
    pack: packed.Pack,
    out: Path,
    shared: Path | None,
    cache: Path | None = None,
    log: Callable[[str], None] = print,
) -> LeftOut:
    """Judge every protocol of a pack, and every real image, by what never saw the protocol.

    Parameters
    ----------
    base
        The shipped classifier; it judges real images of protocols that the pack does not hold.
    out
        Folder of the training run, with ``left-out``.
    """
    groups = left_out.groups_of(pack)
    judging = {g: without(base, pack, out, g) for g in groups}
    simulated = {}
    for group in groups:
        rows = left_out.rows_of(pack, group)
        simulated[group] = outcomes.columns(judged_rows(judging[group], pack, rows))
        log(f"left out {group}: {simulated[group]['straight_reject'].counts()}")
    real = []
    for image in real_images.read(base, shared, cache) if shared is not None else []:
        seen = real_images.group_in_pack(image.item.person, groups)
        real.append(real_row(judging[seen] if seen else base, image, seen))
    return LeftOut(simulated, real)


def real_row(judging: BrainMriClassifier, image: real_images.RealImage, group: str | None) -> dict[str, Any]:
    """What is said of one real image: the answers that the node would give, and how they turned out."""
    said = judge.said(judging.judge([image.head])[0])
    reject = said["straight_reject"]
    found = outcomes.outcomes(said, image.truth)
    return {
        "image": image.name,
        "person": image.item.person,
        "kind": image.item.kind,
        "group": image.group,
        "judged_by": "networks without the protocol" if group else "shipped networks, which never saw it",
        "proper": image.truth.reject == "ok",
        "reject": reject["value"],
        "reason": reject["reason"],
        "p_reject": reject["p"].get("yes"),
        "abstained": reject["abstained"],
        "outcome": {q: o.state for q, o in found.items()},
        "gadolinium_known": image.truth.gadolinium,
        "gadolinium": said.get("gadolinium", {}).get("value"),
        "p_gadolinium": said.get("gadolinium", {}).get("p", {}).get("yes"),
        "grades": {q: said[q]["value"] for q in packed.GRADED if q in said},
        "tier": said.get("tier", {}).get("value"),
        "certain": image.head.certain.value if image.head.certain else None,
        "ncc": image.head.measures.ncc,
    }


def rung_of(group: str) -> str:
    """R0 for painted heads, R1 for images simulated on real ones."""
    return "R0" if group == left_out.PAINTED else "R1"


def summarised(found: LeftOut) -> dict[str, Any]:
    """The tables, JSON-ready: ``simulated`` (counts by protocol and by person), ``risk_coverage`` and ``real``."""
    rng = np.random.default_rng(SEED)
    simulated = []
    for group, columns in found.simulated.items():
        for question, column in columns.items():
            persons = sorted(set(column.people.tolist()))
            simulated.append(
                {
                    "rung": rung_of(group),
                    "left_out": group,
                    "question": question,
                    "people": len(persons),
                    **column.counts(),
                    "by_person": {p: column.counts(column.people == p) for p in persons},
                }
            )
    curves = {q: merged([c[q] for g, c in found.simulated.items() if rung_of(g) == "R1"]) for q in QUESTIONS}
    return {
        "simulated": simulated,
        "risk_coverage": {f"R1 {q}": c.summary(rng) for q, c in curves.items() if len(c.states)},
        "real": real_groups(found.real),
        "real_images": found.real,
    }


def merged(columns: Sequence[Column]) -> Column:
    """One question over several protocols; row numbers are those of their own protocol."""
    empty = Column(np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_), np.zeros(0))
    parts = [c for c in columns if len(c.states)] or [empty]
    return Column(
        np.concatenate([c.rows for c in parts]),
        np.concatenate([c.people for c in parts]),
        np.concatenate([c.states for c in parts]),
        np.concatenate([c.confidence for c in parts]),
    )


def real_groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Real images by protocol and kind: how many were accepted, rejected, left undetermined (R2)."""
    out: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        proper = "heads" if row["proper"] else "no proper T1w"
        # What is to be rejected comes from many people without a protocol of their own.
        key = (row["group"] if row["proper"] or row["kind"] == "t1w" else row["kind"], proper)
        entry = out.setdefault(
            key,
            {
                "rung": "R2",
                "left_out": key[0],
                "what": proper,
                "images": 0,
                "people": set(),
                "accepted": 0,
                "rejected": 0,
                "undetermined": 0,
                **{f"gadolinium_{s}": 0 for s in outcomes.STATES},
                "tiers": {"1": 0, "2": 0, "3": 0, "open": 0},
            },
        )
        entry["images"] += 1
        entry["people"].add(row["person"])
        entry[{None: "undetermined", True: "rejected", False: "accepted"}[row["reject"]]] += 1
        if "gadolinium" in row["outcome"]:
            entry[f"gadolinium_{row['outcome']['gadolinium']}"] += 1
        if row["reject"] is False:
            entry["tiers"][str(row["tier"] or "open")] += 1
    return [{**e, "people": len(e["people"])} for e in out.values()]


def as_text(result: Mapping[str, Any]) -> str:
    """Markdown for the page about training."""
    groups = sorted({r["left_out"] for r in result["simulated"]}, key=lambda g: (rung_of(g), g))
    cell = {(r["left_out"], r["question"]): r for r in result["simulated"]}
    lines = [
        "Right / wrong / undetermined, by networks and limits that never saw the protocol:",
        "",
        f"| left out | rung | people | {' | '.join(QUESTIONS)} |",
        f"|---|---|---|{'---|' * len(QUESTIONS)}",
    ]
    for group in groups:
        counts = [" / ".join(str(cell[group, q][s]) for s in outcomes.STATES) for q in QUESTIONS]
        people = max(cell[group, q]["people"] for q in QUESTIONS)
        lines.append(f"| {group} | {rung_of(group)} | {people} | {' | '.join(counts)} |")
    lines += ["", "Real images (R2), through the whole classifier:", ""]
    lines += [
        "| protocol or kind | what | images | people | accepted | rejected | undetermined "
        "| gadolinium right / wrong / undetermined | tier 1 / 2 / 3 / open |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in result["real"]:
        gadolinium = " / ".join(str(r[f"gadolinium_{s}"]) for s in outcomes.STATES)
        tiers = " / ".join(str(v) for v in r["tiers"].values())
        lines.append(
            f"| {r['left_out']} | {r['what']} | {r['images']} | {r['people']} | {r['accepted']} | "
            f"{r['rejected']} | {r['undetermined']} | {gadolinium} | {tiers} |"
        )
    lines += ["", "Risk by coverage (R1, protocols left out, pooled; 95 % by person):", ""]
    lines += ["| question | asked | right / wrong / undetermined | AURC % | wrong at 50, 80, 90 % coverage |"]
    lines += ["|---|---|---|---|---|"]
    for name, r in result["risk_coverage"].items():
        shown = [_risk(row) for row in r["risk"] if row["coverage"] in (0.5, 0.8, 0.9)]
        answers = " / ".join(str(r[s]) for s in outcomes.STATES)
        lines.append(f"| {name} | {r['asked']} | {answers} | {100 * (r['aurc'] or 0):.1f} | {', '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _risk(row: Mapping[str, Any]) -> str:
    if row["risk"] is None:
        return "not reached"
    low, high = row["ci"]
    return f"{100 * row['risk']:.1f}" + ("" if low is None else f" ({100 * low:.1f}-{100 * high:.1f})")


def write(found: LeftOut, out: Path, plots: bool = True) -> dict[str, Any]:
    """``left-out.json``, ``left-out.md`` and the curves into a folder."""
    result = summarised(found)
    out.mkdir(parents=True, exist_ok=True)
    (out / "left-out.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (out / "left-out.md").write_text(as_text(result), encoding="utf-8")
    if plots:
        curves: dict[str, risk.RiskCoverage] = {}
        for question in QUESTIONS:
            column = merged([c[question] for g, c in found.simulated.items() if rung_of(g) == "R1"])
            if len(column.states):
                curves[question] = column.curve()
        risk.plot(curves, out / "risk-coverage.png", "Protocols left out, simulated on real heads (R1)")
    return result
