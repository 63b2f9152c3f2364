"""``qc-node train ct``: pack the data, train the slice networks or ImageQC-net's, write the model folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from qc_node.domain import QcNodeError
from qc_node.training.ct.data.collections import LARGE, people_of
from qc_node.training.ct.data.pack import PackItem, load_pack, pack_bodies, pack_heads, pack_real, pack_virtual
from qc_node.training.ct.training.slice_networks import SliceSettings, train_contrast, train_position
from qc_node.training.ct.training.together import train_together

FOLDS = 5
ALL = -1
"""Fold number that leaves nobody out: the shipped model."""


def fold_of(items: Sequence[PackItem]) -> dict[str, int]:
    """Person to fold, stratified by what the person shows and whether it is enhanced.

    Persons are dealt out in an order drawn from a hash of their name, so that adding a person moves no
    other person of another stratum and no random seed is involved.
    """
    strata: dict[str, tuple[str, ...]] = {}
    for item in items:
        if item.kind in ("head", "body"):
            strata[item.person] = (item.kind,)
        elif item.kind == "real":
            label = item.label.split(":")[0]
            strata.setdefault(item.person, ("real", label, str(item.enhanced)))
    folds: dict[str, int] = {}
    # The made strata always take part in the numbering, also where a pack without them is judged.
    for offset, stratum in enumerate(sorted({("body",), ("head",), *strata.values()})):
        members = [p for p, s in strata.items() if s == stratum]
        members.sort(key=lambda p: p if stratum[0] != "real" else hashlib.sha256(p.encode()).hexdigest())
        for n, person in enumerate(members):
            # Made persons keep their place by number, so a growing pack does not reshuffle them.
            place = int("".join(c for c in person if c.isdigit()) or n) if stratum[0] != "real" else n + offset
            folds[person] = place % FOLDS
    return folds


def make_pack(data: Path, pack: Path, heads: int, bodies: int, seed: int, log: Callable[[str], None]) -> None:
    """Write every item that is not there yet."""
    sources = (
        ("real", pack_real(data)),
        ("virtual", pack_virtual(data, seed)),
        ("bodies", pack_bodies(bodies, seed)),
        ("heads", pack_heads(data, heads, seed)),
    )
    for name, items in sources:
        count = 0
        for item in items:
            item.save(pack)
            count += 1
        log(f"packed {count} {name}")


def train_slices(
    items: Sequence[PackItem],
    fold: int,
    out: Path,
    settings: SliceSettings,
    log: Callable[[str], None],
    device: str,
    only: str,
) -> None:
    """Train position and contrast for one fold (or all persons) into ``out/fold_N/{position,contrast}``.

    Training runs a fixed length with a cosine schedule; what is watched meanwhile are unaugmented slices of
    the training persons, so that the persons of the fold are never looked at.
    """
    folds = fold_of(items)
    train = [item for item in items if fold == ALL or folds[item.person] != fold]
    watched = [item for item in train if item.kind in ("real", "virtual")] or train
    name = "all" if fold == ALL else f"fold_{fold}"
    if only in ("position", "both"):
        train_position(
            train, watched, out / name / "position", settings, lambda s: log(f"{name} position {s}"), device
        )
    if only in ("contrast", "both"):
        train_contrast(
            train, watched, out / name / "contrast", settings, lambda s: log(f"{name} contrast {s}"), device
        )


def left_out(items: Sequence[PackItem]) -> dict[str, set[str]]:
    """Run to the people that it never sees: five folds by person, each large collection, and nobody."""
    folds = fold_of(items)
    runs = {f"fold_{n}": {p for p, fold in folds.items() if fold == n} for n in range(FOLDS)}
    runs |= {f"without_{name}": people_of(items, collection) for name, collection in LARGE.items()}
    return {name: people for name, people in runs.items() if people} | {"all": set()}


@click.command("ct")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder with ct/INDEX.csv and mri/labelmaps; packs it first."
)
@click.option(
    "--pack", type=click.Path(path_type=Path), required=True, help="Folder of the pack (outside the repository)."
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints; a run resumes there."
)
@click.option(
    "--fold",
    "folds",
    type=click.IntRange(-1, FOLDS - 1),
    multiple=True,
    help="Fold to leave out; -1 leaves out nobody. Default: all folds, then -1.",
)
@click.option(
    "--only",
    type=click.Choice(["position", "contrast", "both"]),
    default="both",
    show_default=True,
    help="Which network.",
)
@click.option(
    "--together",
    is_flag=True,
    help="Train folds, the runs without a large collection and the shipped networks at once: a third of the time.",
)
@click.option("--heads", default=6, show_default=True, help="Heads made from each label map.")
@click.option("--bodies", default=160, show_default=True, help="Procedural trunks.")
@click.option(
    "--epochs", default=SliceSettings.epochs, show_default=True, help="Most epochs; training may stop earlier."
)
@click.option("--steps", default=SliceSettings.steps, show_default=True, help="Batches per epoch.")
@click.option("--width", default=SliceSettings.width, show_default=True, help="Channels of the first block.")
@click.option("--seed", default=SliceSettings.seed, show_default=True, help="Of weights, order and augmentation.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:N.")
@click.option(
    "--ship", type=click.Path(path_type=Path), help="Write the networks of fold -1 as a model folder here."
)
@click.option("--figures", type=click.Path(path_type=Path), help="figures.json of evaluate ct, for the card.")
@click.option(
    "--variations", type=click.Path(path_type=Path), help="folds.json of the varied volumes, for the card."
)
@click.option("--release", default="1.0.0", show_default=True, help="Version on the card.")
@click.option("--threads", default=2, show_default=True, help="Torch threads.")
def command(
    data: Path | None,
    pack: Path,
    out: Path,
    folds: tuple[int, ...],
    only: str,
    together: bool,
    heads: int,
    bodies: int,
    epochs: int,
    steps: int,
    width: int,
    seed: int,
    device: str,
    ship: Path | None,
    figures: Path | None,
    variations: Path | None,
    release: str,
    threads: int,
) -> None:
    """Train the CT networks that read the coarse volume slice by slice."""
    torch.set_num_threads(threads)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise QcNodeError(f"--device {device}: this machine has no CUDA device.")
    if data is not None:
        make_pack(data, pack, heads, bodies, seed, click.echo)
    items = load_pack(pack)
    settings = SliceSettings(epochs=epochs, steps=steps, patience=epochs, seed=seed, width=width)
    if together:
        for kind in ("position", "contrast") if only == "both" else (only,):
            click.echo(f"{kind} of {', '.join(left_out(items))}")
            train_together(kind, items, left_out(items), out, settings, click.echo, device)
    else:
        for fold in folds or (*range(FOLDS), ALL):
            train_slices(items, fold, out, settings, click.echo, device, only)
    if ship is not None:
        _ship(out / "all", ship, items, figures, variations, release, width)


def _ship(
    run: Path,
    folder: Path,
    items: Sequence[PackItem],
    figures: Path | None,
    variations: Path | None,
    release: str,
    width: int,
) -> None:
    from qc_node.classifiers.ct.classifier import Rules
    from qc_node.training.ct.training.ship import ship

    measured: dict[str, Any] = {"measured": "not yet: only the training loss is known"}
    rules = Rules()
    if figures is not None:
        try:
            measured = json.loads(figures.read_text(encoding="utf-8"))
            rules = Rules(**measured.pop("rules"))
            measured.pop("rules of folds", None)
            # The card lists the errors on series; those on crops stay with the figures.
            measured["errors"] = [e for e in measured["errors"] if e["group"] != "crop"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise QcNodeError(f"{figures}: these are not the figures of evaluate ct ({error}).") from error
    if variations is not None:
        try:
            varied = json.loads(variations.read_text(encoding="utf-8"))
            measured["varied volumes, networks that never saw the person"] = {
                key: varied[key] for key in ("contrast", "contrast of limbs", "part", "wrong")
            }
        except (OSError, ValueError, KeyError) as error:
            raise QcNodeError(f"{variations}: these are no figures of varied volumes ({error}).") from error
    card = ship(run, folder, items, rules, measured, release, width)
    click.echo(f"wrote {folder} ({card.name} {card.version})")


if __name__ == "__main__":
    command()
