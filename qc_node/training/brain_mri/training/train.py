"""Training of the brain MRI networks: ``qc-node train brain-mri``.

Adam, weighted cross-entropy, early stopping on the lowest validation loss, five folds by person.  What ships
is a network on measured features for every fold, and beside it one on pixels where somebody trained both; the
paper's three networks are trained by the same command on the same pack.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.classifiers.brain_mri.novelty import Novelty
from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.training import decision_fit, left_out, packed, unlike

if TYPE_CHECKING:
    from qc_node.training.loop import FitState


def train_classifier(
    loaded: packed.Pack,
    out: Path,
    folds: tuple[int, ...],
    parts: tuple[str, ...],
    models: Path,
    options: dict[str, Any],
    device: str,
    log: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Networks of the classifier, fold by fold, into ``out/fold-N/measured`` and ``out/fold-N/pixels``."""
    from qc_node.training.brain_mri.training import measured
    from qc_node.training.brain_mri.training import pixel_network as pixels

    states: dict[tuple[int, str], FitState] = {}
    if "measured" in parts:
        chosen = _settings(measured.MeasuredSettings(), options)
        folders = {fold: out / f"fold-{fold}" / "measured" for fold in folds}
        found = measured.train_folds(loaded, folders, chosen, device, log)
        states = {(fold, "measured"): state for fold, state in found.items()}
    for fold in folds if "pixels" in parts else ():

        def say(line: str, place: str = f"fold {fold} pixels") -> None:
            log(f"{place}: {line}")

        picked = _settings(pixels.PixelSettings(), options)
        folder = out / f"fold-{fold}" / "pixels"
        states[fold, "pixels"] = pixels.train_fold(loaded, fold, folder, picked, models, device, say)
    runs = [
        {"fold": fold, "network": part, "best_epoch": s.best_epoch, "best_loss": round(s.best_loss, 4)}
        for (fold, part), s in sorted(states.items())
    ]
    return runs


def _settings(defaults: Any, options: dict[str, Any]) -> Any:
    """A network's settings with those `options` that they know."""
    known = {f.name for f in fields(defaults)}
    return replace(defaults, **{k: v for k, v in options.items() if k in known})


def out_of_fold(pack: packed.Pack, out: Path, folds: list[int], mixed: bool) -> dict[str, decision_fit.Answered]:
    """Answers on real brains that the network never saw, by person; with the pixel network's where `mixed`.

    The pixel network does not answer straight rejects.
    """
    held = {part: _held(out, folds, part) for part in (("measured", "pixels") if mixed else ("measured",))}
    rows = held["measured"].pop("rows")
    use = np.flatnonzero(pack.real[rows])
    rows = rows[use]
    logits = {k: v[use] for k, v in held["measured"].items()}
    pixels = None
    if mixed:
        # It answers proper images alone, which are all that its questions are asked about.
        seen = held["pixels"].pop("rows")
        place = np.full(len(pack.people), -1)
        place[seen] = np.arange(len(seen))
        pixels = {k: v[place[rows]] for k, v in held["pixels"].items() if k != "reject"}
    groups = np.array([left_out.group_of(p) for p in pack.people[rows]])
    targets = {k: v[rows] for k, v in pack.targets.items()}
    return decision_fit.answered_of(logits, targets, groups, pixels)


def _held(out: Path, folds: list[int], part: str) -> dict[str, npt.NDArray[Any]]:
    """``rows`` and logits per head of every fold's held-out rows, as training left them."""
    found: dict[str, list[npt.NDArray[Any]]] = {}
    for fold in folds:
        with np.load(out / f"fold-{fold}" / part / "held.npz", allow_pickle=False) as f:
            for key in f.files:
                found.setdefault(key.removeprefix("logits_"), []).append(f[key])
    return {k: np.concatenate(v) for k, v in found.items()}


def fit_decision(pack: packed.Pack, out: Path, folds: list[int], mixed: bool) -> dict[str, Any]:
    """The card's decision, from answers on protocols left out; by person where the pixel network takes part.

    It would have to be trained once more for every protocol, which takes hours.
    """
    if mixed or len(left_out.groups_of(pack)) < 2:
        return {**decision_fit.fit(out_of_fold(pack, out, folds, mixed)), "chosen_on": "people left out"}
    return decision_fit.without(pack, out)


def main(
    pack: Path,
    out: Path,
    folds: tuple[int, ...] = (0, 1, 2, 3, 4),
    network: str = "measured",
    epochs: int | None = None,
    lr: float | None = None,
    batch: int | None = None,
    patience: int | None = None,
    images: int | None = None,
    seed: int | None = None,
    device: str = "cpu",
    threads: int = 1,
    ship: Path | None = None,
    models: Path = Path("models/brain-mri"),
    version: str = "0.1.0",
    left_out_members: int = 2,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the folds, fit the decision, and with `ship` write weights and card into a model folder.

    Options that are None keep the default of the network that is trained.
    """
    import torch

    from qc_node.training.brain_mri.training import measured, volumes

    if ship is not None and network not in ("measured", "both"):
        raise domain.QcNodeError("--ship needs --network measured or both; the classifier loads no other.")
    loaded = packed.load_pack(pack, models, slices=network in ("pixels", "both"))
    log(f"{len(loaded)} images of {len(set(loaded.people.tolist()))} people")
    if device == "cpu":
        torch.set_num_threads(threads)
    given = {"epochs": epochs, "lr": lr, "batch": batch, "patience": patience, "seed": seed, "images": images}
    options = {k: v for k, v in given.items() if v is not None}
    summary: dict[str, Any] = {
        "network": network,
        "images": len(loaded),
        "people": len(set(loaded.people.tolist())),
        "options": options,
    }
    if network in volumes.NAMES:
        whole = volumes.load_volumes(pack)
        chosen = _settings(volumes.VolumeSettings(), options)
        summary["folds"] = []
        for fold in folds:
            state = volumes.train_fold(
                network, loaded, whole, fold, out / network / f"fold-{fold}", chosen, device, log
            )
            summary["folds"].append(
                {"fold": fold, "best_epoch": state.best_epoch, "best_loss": round(state.best_loss, 4)}
            )
        (out / network / "training.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        return {"training": summary}
    parts = ("measured", "pixels") if network == "both" else (network,)
    summary["folds"] = train_classifier(loaded, out, folds, parts, models, options, device, log)
    (out / "training.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if network == "pixels":
        return {"training": summary}
    if network == "measured" and len(left_out.groups_of(loaded)) > 1:
        left_out.train(
            loaded, out, _settings(measured.MeasuredSettings(), options), range(left_out_members), device, log
        )
    decision = fit_decision(loaded, out, list(folds), mixed=network == "both")
    (out / "decision.json").write_text(json.dumps(decision, indent=1) + "\n", encoding="utf-8")
    if ship is not None:
        known = unlike.fit(loaded.features[unlike.familiar_rows(loaded)]) if "unlike_at" in decision else None
        ship_model(out, list(folds), ship, version, decision, summary, parts, known=known)
    return {"decision": decision, "training": summary}


def ship_model(
    out: Path,
    folds: list[int],
    model_dir: Path,
    version: str,
    decision: dict[str, Any],
    training: dict[str, Any],
    parts: tuple[str, ...] = ("measured",),
    figures: dict[str, Any] | None = None,
    known: Novelty | None = None,
) -> None:
    """Copy the folds' best weights as float16 into `model_dir`, with what is familiar, and write the card."""
    from qc_node.classifiers.brain_mri import classifier, novelty
    from qc_node.networks import weights
    from qc_node.training.brain_mri.training import card

    for part, name in (("measured", classifier.MEASURED), ("pixels", classifier.PIXELS)):
        for old in model_dir.glob(name.format("*")):
            old.unlink()
        for fold in folds if part in parts else ():
            tensors = weights.load_tensors(out / f"fold-{fold}" / part, "best.safetensors")
            weights.save_tensors(model_dir / name.format(fold), tensors)
    (model_dir / novelty.FILE).unlink(missing_ok=True)
    if known is not None:
        weights.save_tensors(model_dir / novelty.FILE, known.tensors())
    card.write(model_dir, version, decision, figures or {}, training)


@click.command("brain-mri")
@click.option("--pack", type=click.Path(path_type=Path), required=True, help="Folder of the simulated pack.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of checkpoints and logs.")
@click.option(
    "--fold",
    "folds",
    type=click.IntRange(0, 4),
    multiple=True,
    default=(0, 1, 2, 3, 4),
    help="Fold to leave out; may be given several times.",
)
@click.option(
    "--network",
    type=click.Choice(["measured", "pixels", "both", "conv5fc3", "inception3d", "resnet3d"]),
    default="measured",
    show_default=True,
    help="measured ships; pixels wants a GPU or hours; the last three are the paper's, at 2 mm.",
)
@click.option("--epochs", type=int, help="Most epochs; training may stop earlier.  Default: the network's own.")
@click.option("--lr", type=float, help="Learning rate of Adam.  Default: the network's own.")
@click.option("--batch", type=int, help="Images per step.  Default: the network's own.")
@click.option("--patience", type=int, help="Epochs without a lower validation loss before stopping.")
@click.option("--images", type=int, help="Images per epoch (pixels and the paper's networks).")
@click.option("--seed", type=int, help="Of weights, order and folds.")
@click.option("--threads", type=int, default=1, show_default=True, help="Torch threads on a CPU.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:N.")
@click.option("--ship", type=click.Path(path_type=Path), default=None, help="Model folder to write into.")
@click.option("--version", default="0.1.0", show_default=True, help="Version in the model card.")
@click.option(
    "--left-out-members",
    type=click.IntRange(1, 5),
    default=2,
    show_default=True,
    help="Networks without each protocol, from whose answers the decision is chosen (measured).",
)
@click.option(
    "--build-pack", type=int, default=0, help="First simulate this many bases into --pack (about 8 images each)."
)
@click.option("--shared", type=click.Path(path_type=Path), default=None, help="Shared data, for --build-pack.")
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    default=Path("models/brain-mri"),
    show_default=True,
    help="Model folder with the average head.",
)
def command(build_pack: int, shared: Path | None, models: Path, pack: Path, **options: Any) -> None:
    """Train the brain MRI classifier on simulated artefacts; a killed run goes on where it stopped."""
    if build_pack:
        if shared is None:
            raise click.UsageError("--build-pack needs --shared.")
        make_pack(pack, shared, models, range(build_pack))
    main(pack=pack, models=models, log=click.echo, **options)


def make_pack(pack: Path, shared: Path, models: Path, seeds: range, log: Callable[[str], None] = print) -> None:
    """Anatomies of the training people (cached beside the pack), then the pack itself."""
    from qc_node.classifiers.brain_mri import preprocess
    from qc_node.training.brain_mri.simulation import synthesis, tissues
    from qc_node.training.brain_mri.training.pack import build

    cache = pack.parent / "anatomy"
    tissues.build_cache(shared, models, cache, log)
    persons = [i.person for i in people.training_heads(shared)] + list(people.HYBRID_BRAINS)
    persons += [i.person for i in people.training_maps(shared)]
    build(
        pack,
        [cache / f"{p}.npz" for p in persons],
        synthesis.load_priors(shared / "mri" / "labelmaps" / "priors"),
        preprocess.load_average_head(models),
        seeds,
        log=log,
    )
