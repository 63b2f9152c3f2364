"""After ImageQC-net: one network per kind of picture, soft voting over planes, five folds by person.

Nine pictures (MIP, body-only AIP, mid-plane x axial, coronal, sagittal) of each series and of each sub-range crop
are made by the code that the CT classifier runs.  What is not as published: the AIP leaves the air out, couch and
air are taken out of all nine, pictures are made of a 4 mm copy, and one network answers both questions (body part
and, for pictures of a body, enhancement), because 57 people cannot teach one per body part.  ``--backbone
inception`` is the paper's InceptionResNetV2, to be started from an ImageNet file (``--init``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from qc_node.classifiers.ct.networks import InceptionResNetV2, LightNet, load_backbone
from qc_node.classifiers.ct.pictures import network_image
from qc_node.classifiers.ct.projections import COARSE_MM, CONVERSIONS, METHODS, PLANES, project
from qc_node.classifiers.ct.voting import soft_vote
from qc_node.domain import BodyPart, QcNodeError, Volume
from qc_node.training import scores
from qc_node.training.ct.data.pack import PackItem, load_pack
from qc_node.training.ct.data.trials import cases_of
from qc_node.training.ct.training.train import FOLDS, fold_of
from qc_node.training.loop import Schedule, cosine, fit, save_json

PARTS = list(BodyPart)
SIZE = 128
"""Pictures are kept at this size unless told otherwise; the paper's 512 is reduced to 299 by its network."""
PAPER = {
    "mip_axial": 98.66,
    "mip_coronal": 98.66,
    "mip_sagittal": 99.33,
    "aip_axial": 94.86,
    "aip_coronal": 93.75,
    "aip_sagittal": 97.09,
    "mid_axial": 96.2,
    "mid_coronal": 96.2,
    "mid_sagittal": 97.32,
}
"""Accuracy in % on the external set of 448 scans (Yoo et al. 2022, Table 2)."""


@dataclass(frozen=True)
class Pictures:
    """All cases as pictures.

    Attributes
    ----------
    images
        ``(N, 9, size, size)`` uint8 in the order of ``CONVERSIONS``.
    part, enhanced, fold
        ``(N,)`` int64; part -1 and enhanced -1 where unknown.
    group, person
        ``(N,)`` text.
    """

    images: npt.NDArray[np.uint8]
    part: npt.NDArray[np.int64]
    enhanced: npt.NDArray[np.int64]
    fold: npt.NDArray[np.int64]
    group: npt.NDArray[np.str_]
    person: npt.NDArray[np.str_]


def make_pictures(items: Sequence[PackItem], crops: int, log: Callable[[str], None], size: int = SIZE) -> Pictures:
    """Nine pictures of every case, projected from the 4 mm coarse volume of the pack."""
    folds = fold_of(items)
    affine = np.diag([COARSE_MM, COARSE_MM, -COARSE_MM, 1.0])
    rows: list[tuple[npt.NDArray[np.uint8], int, int, int, str, str]] = []
    for item in items:
        rng = np.random.default_rng(sum(map(ord, item.name)))
        many = {"real": crops, "virtual": 4, "head": 1, "body": 2}[item.kind]
        for case in cases_of(item, many, rng):
            p = project(Volume(case.coarse, affine, modality="CT"))
            nine = np.stack([(network_image(p, c, size) * 255).astype(np.uint8) for c in CONVERSIONS])
            part = -1 if case.part is None else PARTS.index(case.part)
            rows.append((nine, part, case.enhanced, folds[item.person], case.group, case.person))
    log(f"{len(rows)} cases as pictures")
    images, parts, enhanced, fold_numbers, groups, persons = zip(*rows, strict=True)
    numbers = [np.array(column, np.int64) for column in (parts, enhanced, fold_numbers)]
    return Pictures(np.stack(images), numbers[0], numbers[1], numbers[2], np.array(groups), np.array(persons))


def augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Rotation by up to 20 degrees, horizontal and vertical flips (the paper's), shift, scale and noise."""
    n = len(images)
    angle = torch.from_numpy(np.radians(rng.uniform(-20, 20, n)).astype(np.float32))
    size = torch.from_numpy(rng.uniform(0.85, 1.15, n).astype(np.float32))
    flip = torch.from_numpy(rng.choice([-1.0, 1.0], (n, 2)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.08, 0.08, (n, 2)).astype(np.float32))
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    theta = torch.stack(
        [
            torch.stack([cos * flip[:, 0], -sin * flip[:, 1], shift[:, 0]], 1),
            torch.stack([sin * flip[:, 0], cos * flip[:, 1], shift[:, 1]], 1),
        ],
        1,
    )
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    warped = nn.functional.grid_sample(images, grid, align_corners=False)
    shade = torch.from_numpy(rng.normal(0, 0.012, (n, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(0, 0.015, tuple(images.shape)).astype(np.float32))
    return torch.where(warped > 0.01, warped + shade + noise, warped).clamp(0, 1)


def train_conversion(
    pictures: Pictures,
    conversion: str,
    fold: int,
    out: Path,
    *,
    backbone: str,
    init: Path | None,
    epochs: int,
    steps: int,
    batch: int,
    device: str,
    log: Callable[[str], None],
) -> npt.NDArray[np.float64]:
    """Train one network on the other folds; logits ``(n, 7)`` of the real cases of `fold`.

    Outputs 0-5 are the body parts, 6 is enhancement.
    """
    channel = CONVERSIONS.index(conversion)
    images = torch.from_numpy(pictures.images[:, channel]).float()[:, None] / 255.0
    inside = (pictures.fold != fold) & ((pictures.part >= 0) | (pictures.enhanced >= 0))
    sampler = _balanced(pictures, np.flatnonzero(inside))
    outputs, size = len(PARTS) + 1, pictures.images.shape[-1]
    model: nn.Module = LightNet(outputs) if backbone == "light" else InceptionResNetV2(outputs, size=size)
    if init is not None:
        log(f"{conversion}: {len(load_backbone(model, init))} tensors start at random")
    part, enhanced = torch.from_numpy(pictures.part), torch.from_numpy(pictures.enhanced).float()

    # ImageNet weights are only to be bent; random ones have everything to learn.
    lr = 2e-3 if backbone == "light" else 1e-3 if init is None else 1e-4

    def batches(epoch: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for _ in range(steps):
            index = torch.from_numpy(sampler(rng, batch))
            yield augmented(images[index], rng), part[index], enhanced[index]

    def loss(network: nn.Module, data: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return _loss(network(data[0]), data[1], data[2])

    watched = torch.from_numpy(
        np.random.default_rng(0).choice(np.flatnonzero(inside), min(200, int(inside.sum())), replace=False)
    )

    def validate(network: nn.Module) -> float:
        logits = torch.cat([network(x.to(device)).float().cpu() for x in torch.split(images[watched], 32)])
        return float(_loss(logits, part[watched], enhanced[watched]))

    fit(
        model,
        batches,
        loss,
        validate,
        out / backbone / conversion / f"fold_{fold}",
        Schedule(epochs, lr, patience=epochs, seed=fold),
        device=device,
        log=lambda s: log(f"{conversion} fold {fold} {s}"),
        weight_decay=1e-4,
        steps_per_epoch=steps,
        lr_scale=cosine(epochs, 0.98),
    )
    test = torch.from_numpy(test_index(pictures, fold))
    with torch.inference_mode():
        answers = [model(x.to(device)).double().cpu() for x in torch.split(images[test], 32)]
    return torch.cat(answers).numpy() if answers else np.zeros((0, len(PARTS) + 1))


def test_index(pictures: Pictures, fold: int) -> npt.NDArray[np.int64]:
    """Cases of real persons of `fold`."""
    real = np.array([not g.startswith("simulated") for g in pictures.group])
    return np.flatnonzero((pictures.fold == fold) & real)


def _loss(logits: Tensor, part: Tensor, enhanced: Tensor) -> Tensor:
    total = logits.sum() * 0.0
    if (part >= 0).any():
        total = total + nn.functional.cross_entropy(logits[part >= 0, :-1], part[part >= 0], label_smoothing=0.05)
    if (enhanced >= 0).any():
        known = enhanced >= 0
        total = total + nn.functional.binary_cross_entropy_with_logits(
            logits[known, -1], enhanced[known] * 0.94 + 0.03
        )
    return total


def _balanced(
    pictures: Pictures, index: npt.NDArray[np.int64]
) -> Callable[[np.random.Generator, int], npt.NDArray[np.int64]]:
    """Draws evenly over (part, enhanced), then over persons with real ones three times as likely."""
    cells: dict[tuple[int, int], dict[str, list[int]]] = {}
    for i in index:
        cell = (int(pictures.part[i]), int(pictures.enhanced[i]))
        cells.setdefault(cell, {}).setdefault(str(pictures.person[i]), []).append(int(i))
    keys = sorted(cells)
    chances = []
    for key in keys:
        weight = np.array(
            [1.0 if str(pictures.group[m[0]]).startswith("simulated") else 3.0 for m in cells[key].values()]
        )
        chances.append((list(cells[key].values()), weight / weight.sum()))

    def draw(rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        picked = []
        for _ in range(count):
            members, weight = chances[int(rng.integers(len(chances)))]
            mine = members[int(rng.choice(len(members), p=weight))]
            picked.append(mine[int(rng.integers(len(mine)))])
        return np.array(picked)

    return draw


def measure(pictures: Pictures, logits: Mapping[str, Mapping[int, npt.NDArray[np.float64]]]) -> dict[str, Any]:
    """Accuracy of every conversion and of the ensembles over planes, whole series and all real cases.

    Parameters
    ----------
    logits
        Conversion to fold to logits of that fold's test cases.
    """
    probabilities: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    folds = sorted(set.intersection(*(set(f) for f in logits.values())))
    index = np.concatenate([test_index(pictures, f) for f in folds])
    for conversion, of_fold in logits.items():
        z = np.concatenate([of_fold[f] for f in folds])
        yes = 1 / (1 + np.exp(-z[:, -1]))
        probabilities[conversion] = scores.softmax(z[:, :-1]), np.stack([1 - yes, yes], 1)
    for method in METHODS:
        members = [probabilities[f"{method}_{p}"] for p in PLANES if f"{method}_{p}" in probabilities]
        if len(members) == len(PLANES):
            probabilities[f"{method} ensemble"] = (
                soft_vote([m[0] for m in members]),
                soft_vote([m[1] for m in members]),
            )
    whole = pictures.group[index] == "whole"
    out = {}
    for name, (part, contrast) in probabilities.items():
        row: dict[str, Any] = {"paper, external set": PAPER.get(name)}
        for label, mine in (("whole", whole), ("all", np.ones(len(index), bool))):
            known = mine & (pictures.part[index] >= 0)
            row[f"body part {label}"] = scores.accuracy(pictures.part[index][known], part[known].argmax(1))
            body = mine & (pictures.enhanced[index] >= 0) & (pictures.part[index] != PARTS.index(BodyPart.OTHER))
            row[f"contrast {label}"] = scores.accuracy(pictures.enhanced[index][body], contrast[body].argmax(1))
            row[f"n {label}"] = int(known.sum())
        out[name] = row
    return out


@click.command("ct-imageqc")
@click.option("--pack", type=click.Path(path_type=Path), required=True, help="Folder of the pack.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoints and table.json.")
@click.option("--backbone", type=click.Choice(["light", "inception"]), default="light", show_default=True)
@click.option(
    "--conversion", "conversions", type=click.Choice(CONVERSIONS), multiple=True, help="Default: all nine."
)
@click.option("--fold", "folds", type=click.IntRange(0, FOLDS - 1), multiple=True, help="Default: all five.")
@click.option("--init", type=click.Path(path_type=Path), help="ImageNet weights as safetensors with timm's names.")
@click.option("--crops", default=8, show_default=True, help="Sub-range crops of each real series.")
@click.option(
    "--size",
    default=SIZE,
    show_default=True,
    help="Rows and columns of the pictures; inception needs 75, the paper took 299.",
)
@click.option("--epochs", default=6, show_default=True)
@click.option("--steps", default=40, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=2, show_default=True)
def command(
    pack: Path,
    out: Path,
    backbone: str,
    conversions: tuple[str, ...],
    folds: tuple[int, ...],
    init: Path | None,
    crops: int,
    size: int,
    epochs: int,
    steps: int,
    batch: int,
    device: str,
    threads: int,
) -> None:
    """Train ImageQC-net's networks on projections and print the table of conversions and planes."""
    torch.set_num_threads(threads)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise QcNodeError(f"--device {device}: this machine has no CUDA device.")
    pictures = make_pictures(load_pack(pack), crops, click.echo, size)
    logits: dict[str, dict[int, npt.NDArray[np.float64]]] = {}
    for fold in folds or range(FOLDS):
        for conversion in conversions or CONVERSIONS:
            logits.setdefault(conversion, {})[fold] = train_conversion(
                pictures,
                conversion,
                fold,
                out,
                backbone=backbone,
                init=init,
                epochs=epochs,
                steps=steps,
                batch=batch,
                device=device,
                log=click.echo,
            )
    figures = measure(pictures, logits)
    save_json(out / f"table_{backbone}.json", figures)
    for name, row in figures.items():
        click.echo(
            name + ": " + ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        )


if __name__ == "__main__":
    command()
