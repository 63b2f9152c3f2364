"""Networks that never saw a protocol, one set for each: what thresholds and tables of other scanners come from.

A person out of fold is somebody else on a scanner that the network knows; a clinic's own is not among them.  So
for every protocol of the pack (the label maps count as one, "painted") a set of networks is trained on all others,
made as the shipped set is made: folds by person, each stopped by its own fold.  Nothing of the protocol takes
part, neither in the weights nor in when to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.training import packed

if TYPE_CHECKING:
    from qc_node.training.brain_mri.training.measured import MeasuredSettings

PAINTED = "painted"
"""The protocol of whoever is painted from a label map."""
FOLDER = "left-out"


def group_of(person: str) -> str:
    """Protocol of a person; :data:`PAINTED` for label maps."""
    return people.scanner_of(person) or PAINTED


def groups_of(pack: packed.Pack) -> list[str]:
    """Protocols that occur in a pack, in order."""
    return sorted({group_of(p) for p in set(pack.people.tolist())})


def rows_of(pack: packed.Pack, group: str) -> npt.NDArray[np.int64]:
    """Rows of a pack from one protocol."""
    of = {p: group_of(p) for p in set(pack.people.tolist())}
    return np.flatnonzero([of[p] == group for p in pack.people])


def folder_of(out: Path, group: str, member: int) -> Path:
    """Where the networks that never saw `group` are kept."""
    return out / FOLDER / group.replace(" ", "-") / f"member-{member}"


def train(
    pack: packed.Pack,
    out: Path,
    settings: MeasuredSettings,
    members: Sequence[int] = range(people.FOLDS),
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> None:
    """Train the sets of all protocols under ``out/left-out``, all side by side; finished sets are kept."""
    from qc_node.training.brain_mri.training import measured

    jobs, held = [], []
    for group in groups_of(pack):
        own = rows_of(pack, group)
        rest = np.setdiff1d(np.arange(len(pack.people)), own)
        for member in members:
            rows, watched = split(pack, rest, member)
            jobs.append(measured.Job(rows, watched, member, folder_of(out, group, member)))
            held.append(own)
    found = measured.train_many(pack, jobs, settings, device, log)
    for job, own, (network, state) in zip(jobs, held, found, strict=True):
        measured.keep_answers(pack, network, own, job.folder)
        log(f"{job.folder.parent.name} {job.folder.name}: loss {state.best_loss:.4f} at epoch {state.best_epoch}")


def split(
    pack: packed.Pack, rest: npt.NDArray[np.int64], member: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows for training and for stopping among `rest`; nobody is in both.

    Real heads say when to stop, as for the shipped networks; where the fold has none, all of it does.
    """
    persons = sorted(set(pack.people[rest].tolist()))
    of = {p: people.fold_of(p, persons) for p in persons}
    fold = np.array([of[p] for p in pack.people[rest]])
    held = rest[fold == member]
    watched = held[pack.kinds[held] == "head"]
    if not watched.size:
        watched = held if held.size else rest
    return rest[fold != member], watched


@dataclass(frozen=True)
class CrossFitted:
    """Answers to rows of a pack by networks that never saw their protocol.

    Attributes
    ----------
    rows
        ``(n,)`` rows of the pack.
    groups
        ``(n,)`` protocol of each.
    logits
        Per head ``(n, n_answers)``: the mean of the set's members, as the classifier takes it.
    """

    rows: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]
    logits: dict[str, npt.NDArray[np.float64]]

    def without(self, group: str) -> CrossFitted:
        """All but one protocol."""
        use = np.flatnonzero(self.groups != group)
        return CrossFitted(self.rows[use], self.groups[use], {k: v[use] for k, v in self.logits.items()})


def cross_fitted(pack: packed.Pack, out: Path) -> CrossFitted:
    """What :func:`train` left under `out`, put together."""
    rows, groups = [], []
    logits: dict[str, list[Any]] = {}
    for group in groups_of(pack):
        parts = []
        for path in sorted((out / FOLDER / group.replace(" ", "-")).glob("member-*/held.npz")):
            with np.load(path, allow_pickle=False) as f:
                parts.append({k: f[k] for k in f.files})
        if not parts:
            continue
        rows.append(parts[0]["rows"])
        groups += [group] * len(parts[0]["rows"])
        for name in (k for k in parts[0] if k.startswith("logits_")):
            logits.setdefault(name.removeprefix("logits_"), []).append(np.mean([p[name] for p in parts], 0))
    return CrossFitted(np.concatenate(rows), np.array(groups), {k: np.concatenate(v) for k, v in logits.items()})
