"""Training of the brain MRI network: ``qc-node train brain-mri``.

Adam 1e-4 .. 1e-3, weighted cross-entropy, early stopping on the lowest validation loss, five folds by
person.  The validation loss counts real heads only: the first spike showed that scores on painted heads
go on rising while those on real heads fall.  Rows inside a grey zone teach the regression, not the grades.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.brain_mri import grading
from qc_node.learning import brain_mri_data as data
from qc_node.learning import scores

IGNORE = -100
"""Target of a question that is not defined or lies in a grey zone."""
GRADED = tuple(q.value for q in domain.GRADED)
DAMAGE_WEIGHT = 0.3


@dataclass
class Pack:
    """A pack in memory.

    Attributes
    ----------
    slices
        ``(n, S, H, W)`` float16.
    targets
        Per head ``(n,)`` int64 with :data:`IGNORE`; ``damage`` ``(n, 3)`` float32 with nan.
    people, kinds
        Person and kind (``head``, ``hybrid``, ``map``) behind each image.
    raw
        Measured motion, contrast and noise ``(n, 3)``, nan where not defined.
    """

    slices: npt.NDArray[np.float16]
    targets: dict[str, npt.NDArray[Any]]
    people: npt.NDArray[np.str_]
    kinds: npt.NDArray[np.str_]
    raw: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    """``(n, n_features)``: what :mod:`qc_node.brain_mri.features` measures on the slices."""

    def __len__(self) -> int:
        return len(self.slices)


def damage_targets(raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Motion, contrast, noise on scales on which a step means about the same everywhere."""
    motion, contrast, noise = raw.T
    columns = [np.log(motion + 0.03) + 2.0, 6.0 * (contrast - 0.2), np.log(noise + 0.008) + 3.0]
    return np.stack(columns, 1).astype(np.float32)


def load_pack(folder: Path, models: Path = Path("models/brain-mri")) -> Pack:
    """Every finished shard of a pack, with its features (measured once, cached beside the shard).

    Raises
    ------
    domain.QcNodeError
        There is none.
    """
    from qc_node.brain_mri import features, preprocess
    from qc_node.brain_mri.reader import REJECT_REASONS
    from qc_node.learning import brain_mri_pack

    maker = features.FeatureMaker(preprocess.load_average_head(models))
    parts, rows, numbers = [], [], []
    for path, slices, shard_rows in brain_mri_pack.shards(folder):
        parts.append(slices)
        rows += shard_rows
        cache = path.with_suffix(f".features-{features.VERSION}.npy")
        if not cache.exists():
            np.save(cache, np.stack([maker(s) for s in slices]))
        numbers.append(np.load(cache, allow_pickle=False))
    if not rows:
        raise domain.QcNodeError(f"There are no shards in {folder}; build the pack first.")
    raw = np.array(
        [[np.nan if v is None else v for v in (r.motion, r.contrast, r.noise)] for r in rows], dtype=np.float32
    )
    targets: dict[str, npt.NDArray[Any]] = {
        "reject": np.array([REJECT_REASONS.index(r.reject) for r in rows]),
        "gadolinium": np.array([IGNORE if r.gadolinium is None else r.gadolinium for r in rows]),
        "damage": damage_targets(raw),
    }
    for column, question in enumerate(domain.GRADED):
        grades = [grading.grade_of(question, float(x)) for x in raw[:, column]]
        targets[question.value] = np.array([IGNORE if g is None else g for g in grades])
    return Pack(
        np.concatenate(parts),
        targets,
        np.array([r.person for r in rows]),
        np.array([r.kind for r in rows]),
        raw,
        np.concatenate(numbers),
    )


def split(pack: Pack, fold: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows for training and for validation of a fold; nobody is in both."""
    people = sorted(set(pack.people.tolist()))
    fold_by_person = {p: data.fold_of(p, people) for p in people}
    of_row = np.array([fold_by_person[p] for p in pack.people])
    return np.flatnonzero(of_row != fold), np.flatnonzero(of_row == fold)


def class_weights(targets: npt.NDArray[Any], n_classes: int) -> npt.NDArray[np.float32]:
    """Inverse frequency, mean 1 over the rows that have a target."""
    counts = np.bincount(targets[targets >= 0], minlength=n_classes).astype(np.float64)
    weights = np.where(counts > 0, counts.sum() / (n_classes * np.maximum(counts, 1)), 0.0)
    return np.asarray(np.sqrt(weights) if n_classes > 3 else weights, dtype=np.float32)


def batches(
    pack: Pack, rows: npt.NDArray[np.int64], batch: int, n_slices: int
) -> Callable[[int, np.random.Generator], Iterator[dict[str, Any]]]:
    """Shuffled, augmented batches: random slices, left-right flips, shifts, gain."""
    import torch

    from qc_node.brain_mri import preprocess

    planes = preprocess.slice_planes().numpy()
    quiet = np.nan_to_num(pack.raw[:, 2], nan=1.0) < 0.02

    def draw(epoch: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        order = rng.permutation(rows)
        for first in range(0, len(order) - batch // 2, batch):
            chosen = order[first : first + batch]
            pictures = np.empty((len(chosen), n_slices, *pack.slices.shape[2:]), dtype=np.float32)
            plane = np.empty((len(chosen), n_slices), dtype=np.int64)
            targets = {k: v[chosen].copy() for k, v in pack.targets.items()}
            for n, row in enumerate(chosen):
                # At least one slice of each plane, the rest at random.
                must = [rng.choice(np.flatnonzero(planes == p)) for p in range(3)]
                rest = rng.permutation(np.setdiff1d(np.arange(len(planes)), must))[: n_slices - 3]
                picked = np.concatenate([must, rest])
                x = pack.slices[row, picked].astype(np.float32)
                if rng.random() < 0.5:
                    sideways = planes[picked] != 2
                    x[sideways] = x[sideways][..., ::-1]
                x = np.roll(x, rng.integers(-6, 7, 2), (1, 2))
                if quiet[row] and rng.random() < 0.5:
                    sigma = float(np.exp(rng.uniform(np.log(0.004), np.log(0.25))))
                    x = add_noise(x, sigma, rng)
                    level = float(np.hypot(sigma, pack.raw[row, 2]))
                    grade = grading.grade_of(domain.Question.NOISE, level)
                    targets["noise"][n] = IGNORE if grade is None else grade
                    raw = np.array([[*pack.raw[row, :2], level]], dtype=np.float32)
                    targets["damage"][n] = damage_targets(raw)[0]
                pictures[n] = x * np.exp(rng.normal(0, 0.08)) + rng.normal(0, 0.01)
                plane[n] = planes[picked]
            yield {
                "slices": torch.from_numpy(pictures),
                "planes": torch.from_numpy(plane),
                "targets": {k: torch.from_numpy(v) for k, v in targets.items()},
            }

    return draw


def add_noise(x: npt.NDArray[np.float32], sigma: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Rician noise on normalised slices, as smooth as trilinear sampling leaves it; `sigma` as measured."""
    noise = rng.standard_normal((2, *x.shape), dtype=np.float32)
    part = np.float32(rng.uniform(0.0, 0.5))
    # Neighbours share noise, more or less, depending on the voxels the slice was sampled from.
    noise = (
        noise
        + part * (np.roll(noise, 1, -1) + np.roll(noise, 1, -2))
        + part * part * np.roll(noise, (1, 1), (-1, -2))
    )
    noise *= np.float32(sigma) / (1 + part * part)
    return np.asarray(np.where(x == 0, 0, np.hypot(x + noise[0], noise[1])), dtype=np.float32)


def feature_batches(
    pack: Pack, rows: npt.NDArray[np.int64], batch: int, scale: npt.NDArray[np.float32]
) -> Callable[[int, np.random.Generator], Iterator[dict[str, Any]]]:
    """Shuffled batches of features with a little Gaussian jitter (in SDs)."""
    import torch

    def draw(epoch: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        order = rng.permutation(rows)
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            jitter = 0.1 * scale * rng.standard_normal((len(chosen), len(scale)), dtype=np.float32)
            yield {
                "features": torch.from_numpy(pack.features[chosen] + jitter),
                "targets": {k: torch.from_numpy(v[chosen]) for k, v in pack.targets.items()},
            }

    return draw


def loss_of(
    outputs: dict[str, Any], targets: dict[str, Any], weights: dict[str, Any], smoothing: float = 0.03
) -> Any:
    """Sum of weighted cross-entropies and the regression of the damage; undefined targets count nothing."""
    import torch
    from torch.nn import functional

    total = torch.zeros(())
    for name, logits in outputs.items():
        target = targets[name]
        if name == "damage":
            known = torch.isfinite(target)
            if known.any():
                total = total + DAMAGE_WEIGHT * functional.smooth_l1_loss(logits[known], target[known], beta=0.3)
            continue
        if (target >= 0).any():
            total = total + functional.cross_entropy(
                logits, target, weight=weights[name], ignore_index=IGNORE, label_smoothing=smoothing
            )
    return total


def predict(
    network: Any, slices: npt.NDArray[np.float16], numbers: npt.NDArray[np.float32], batch: int = 24
) -> dict[str, npt.NDArray[np.float64]]:
    """Logits ``(n, n_outputs)`` per head over all slices (or the features) of every image."""
    import torch

    from qc_node.brain_mri import networks, preprocess

    planes = preprocess.slice_planes()
    parts: list[dict[str, Any]] = []
    network.eval()
    with torch.inference_mode():
        if isinstance(network, networks.MeasuredNet):
            answers = network(torch.from_numpy(numbers))
            return {k: v.double().numpy() for k, v in answers.items()}
        for first in range(0, len(slices), batch):
            x = torch.from_numpy(slices[first : first + batch].astype(np.float32))
            parts.append(network(x, planes))
    return {k: np.concatenate([p[k].double().numpy() for p in parts]) for k in parts[0]}


def validation(
    pack: Pack, rows: npt.NDArray[np.int64], weights: dict[str, Any]
) -> Callable[[Any], dict[str, float]]:
    """Validation scores on the real heads among `rows`; the loss is that of :func:`loss_of`."""
    import torch

    real = rows[pack.kinds[rows] == "head"]
    if real.size == 0:
        real = rows
    slices, numbers = pack.slices[real], pack.features[real]

    def validate(network: Any) -> dict[str, float]:
        logits = predict(network, slices, numbers)
        targets = {k: torch.from_numpy(v[real]) for k, v in pack.targets.items()}
        loss = loss_of({k: torch.from_numpy(v).float() for k, v in logits.items()}, targets, weights, 0.0)
        out = {"loss": float(loss)}
        for name, z in logits.items():
            if name == "damage":
                continue
            known = pack.targets[name][real] >= 0
            truth, said = pack.targets[name][real][known], z.argmax(1)[known]
            if name == "reject":
                truth, said = truth > 0, said > 0
            out[name] = scores.balanced_accuracy(truth, said, 3)
        return out

    return validate


def train_fold(
    pack: Pack, fold: int, out: Path, epochs: int, lr: float, batch: int, patience: int, seed: int,
    network: str = "measured", n_slices: int = 3, device: str = "cpu", log: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """Train one fold; writes checkpoints, ``best.safetensors`` and out-of-fold logits into ``out/fold-N``."""
    import torch

    from qc_node.brain_mri import networks, reader
    from qc_node.learning import loop

    rows, held = split(pack, fold)
    weights = {k: torch.from_numpy(class_weights(pack.targets[k][rows], n)).to(device)
               for k, n in reader.HEADS.items() if k != "damage"}  # fmt: skip
    torch.manual_seed(seed + fold)
    folder = out / f"fold-{fold}"
    model: Any
    if network == "measured":
        scale = (pack.features[rows].std(0) + 1e-3).astype(np.float32)
        model = networks.MeasuredNet(pack.features.shape[1], reader.HEADS)
        model.mean.copy_(torch.from_numpy(pack.features[rows].mean(0)))
        model.scale.copy_(torch.from_numpy(scale))
        draw = feature_batches(pack, rows, batch, scale)
    else:
        model = networks.TriplanarNet(reader.HEADS)
        draw = batches(pack, rows, batch, n_slices)

    def loss(m: Any, b: dict[str, Any]) -> Any:
        answers = m(b["features"]) if "features" in b else m(b["slices"], b["planes"])
        return loss_of(answers, b["targets"], weights)

    state = loop.fit(
        model,
        draw,
        loss,
        validation(pack, held, weights),
        folder,
        epochs=epochs,
        lr=lr,
        patience=patience,
        seed=seed + fold,
        device=device,
        log=log,
        weight_decay=1e-3 if network == "measured" else 1e-5,
        clip_norm=5.0,
        steps_per_epoch=max(1, len(rows) // batch),
        lr_scale=lambda epoch: 0.5 * (1 + float(np.cos(np.pi * epoch / max(epochs, 1)))) + 0.02,
    )
    model.to("cpu")
    logits = predict(model, pack.slices[held], pack.features[held])
    named: dict[str, Any] = {f"logits_{k}": v for k, v in logits.items()}
    np.savez(folder / "held.npz", rows=held, **named)
    return {"fold": fold, "best_epoch": state.best_epoch, "best_loss": state.best_loss, "history": state.history}


def fit_decision(pack: Pack, out: Path, folds: list[int]) -> dict[str, Any]:
    """Temperatures and abstention limits from out-of-fold answers on real heads only."""
    decision: dict[str, Any] = {"temperatures": {}, "reject_at": 0.5, "unsure": {"reject": 0.1}}
    for name in ("reject", "gadolinium", *GRADED):
        z, t = [], []
        for fold in folds:
            with np.load(out / f"fold-{fold}" / "held.npz") as f:
                rows = f["rows"]
                use = (pack.kinds[rows] != "map") & (pack.targets[name][rows] >= 0)
                z.append(f[f"logits_{name}"][use])
                t.append(pack.targets[name][rows][use])
        logits, truth = np.concatenate(z), np.concatenate(t)
        decision["temperatures"][name] = round(scores.fit_temperature(logits, truth, 0.5, 5.0), 3)
    decision["unsure"].update({"gadolinium": 0.65, **dict.fromkeys(GRADED, 0.45)})
    return decision


def main(
    pack: Path, out: Path, folds: tuple[int, ...] = (0, 1, 2, 3, 4),
    network: str = "measured", epochs: int = 60, lr: float = 1e-3, batch: int = 32,
    patience: int = 20, seed: int = 20261120, device: str = "cpu", ship: Path | None = None,
    models: Path = Path("models/brain-mri"),
    version: str = "0.1.0", log: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """Train the folds, fit the decision, and with `ship` write weights and card into a model folder."""
    import torch

    loaded = load_pack(pack, models)
    log(f"{len(loaded)} images of {len(set(loaded.people.tolist()))} people")
    if device == "cpu":
        torch.set_num_threads(1)
    runs = [
        train_fold(loaded, f, out, epochs, lr, batch, patience, seed, network, device=device, log=log)
        for f in folds
    ]
    decision = fit_decision(loaded, out, list(folds))
    summary = {
        "network": {"measured": "MeasuredNet", "triplanar": "TriplanarNet"}[network],
        "images": len(loaded),
        "people": len(set(loaded.people.tolist())),
        "seed": seed,
        "lr": lr,
        "batch": batch,
        "folds": [
            {"fold": r["fold"], "best_epoch": r["best_epoch"], "best_loss": round(r["best_loss"], 4)} for r in runs
        ],
    }
    (out / "decision.json").write_text(json.dumps(decision, indent=1) + "\n", encoding="utf-8")
    (out / "training.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if ship is not None:
        if network != "measured":
            raise domain.QcNodeError("Only the measured network can be shipped; the reader loads no other.")
        ship_model(out, list(folds), ship, version, decision, summary)
    return {"decision": decision, "training": summary}


def ship_model(
    out: Path, folds: list[int], model_dir: Path, version: str, decision: dict[str, Any], training: dict[str, Any],
    figures: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Copy the folds' best weights as float16 into `model_dir` and write the card."""
    from qc_node import weights
    from qc_node.brain_mri import reader
    from qc_node.learning import brain_mri_card

    for old in model_dir.glob(reader.WEIGHTS.format("*")):
        old.unlink()
    for fold in folds:
        tensors = weights.load_tensors(out / f"fold-{fold}", "best.safetensors")
        weights.save_tensors(model_dir / reader.WEIGHTS.format(fold), tensors)
    brain_mri_card.write(model_dir, version, decision, figures or {}, training)


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
    type=click.Choice(["measured", "triplanar"]),
    default="measured",
    show_default=True,
    help="measured is what ships; triplanar wants a GPU.",
)
@click.option("--epochs", type=int, default=60, show_default=True, help="Most epochs; training may stop earlier.")
@click.option("--lr", type=float, default=1e-3, show_default=True, help="Learning rate of Adam.")
@click.option("--batch", type=int, default=32, show_default=True, help="Images per step.")
@click.option(
    "--patience",
    type=int,
    default=20,
    show_default=True,
    help="Epochs without a lower validation loss before stopping.",
)
@click.option("--seed", type=int, default=20261120, show_default=True, help="Of weights, order and folds.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:N.")
@click.option("--ship", type=click.Path(path_type=Path), default=None, help="Model folder to write into.")
@click.option("--version", default="0.1.0", show_default=True, help="Version in the model card.")
@click.option(
    "--build-pack", type=int, default=0, help="First simulate this many bases into --pack (about 5 images each)."
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
    """Train the brain MRI network on simulated artefacts; resumes where a killed run stopped."""
    if build_pack:
        if shared is None:
            raise click.UsageError("--build-pack needs --shared.")
        make_pack(pack, shared, models, range(build_pack))
    main(pack=pack, models=models, log=click.echo, **options)


def make_pack(pack: Path, shared: Path, models: Path, seeds: range, log: Callable[[str], None] = print) -> None:
    """Anatomies of the training people (cached beside the pack), then the pack itself."""
    from qc_node.brain_mri import preprocess
    from qc_node.learning import brain_mri_anatomy, brain_mri_pack, brain_mri_synthesis

    cache = pack.parent / "anatomy"
    brain_mri_anatomy.build_cache(shared, models, cache, log)
    people = [i.person for i in data.training_heads(shared)] + list(data.HYBRID_BRAINS)
    people += [i.person for i in data.training_maps(shared)]
    brain_mri_pack.build(
        pack,
        [cache / f"{p}.npz" for p in people],
        brain_mri_synthesis.load_priors(shared / "mri" / "labelmaps" / "priors"),
        preprocess.load_average_head(models),
        seeds,
        log=log,
    )
