"""The average head: what registration aims at, learnt from label maps and training heads.

Every person is registered to the current average, the mean is taken, and the mean transform is divided
out so that nobody's pose is preferred; three rounds.  The frame is then moved by one affine matrix so
that it coincides with MNI space (a template is only needed for those twelve numbers, none of it ships).
Beside the mean image it holds the share of people with brain, white matter, grey matter, ventricle and
venous sinus at each place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qc_node.classifiers.brain_mri import preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.simulation import synthesis

SPACING = 2.0
SHAPE = (100, 122, 98)
"""(K, J, I) at 2 mm."""

CHANNELS = ("image", "brain", "white", "grey", "ventricle", "vessel", "head")


def frame() -> npt.NDArray[np.float64]:
    """Affine (i, j, k) -> LPS mm of the average head's grid: x -97..97, y -106..136, z -96..102."""
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = [-97.0, -106.0, -96.0]
    return affine


def frame_points() -> torch.Tensor:
    """Points (n, 3) of the grid in mm, in array order."""
    k, j, i = np.indices(SHAPE)
    ijk = np.stack([i, j, k], -1).reshape(-1, 3)
    a = frame()
    return torch.from_numpy((ijk @ a[:3, :3].T + a[:3, 3]).astype(np.float32))


def _channels_of_map(
    item: people.DataItem, priors: synthesis.Priors
) -> tuple[torch.Tensor, npt.NDArray[np.float64]]:
    labels, affine = people.read_labels(item.path)
    means, stds = synthesis.class_tables(priors, None)
    image = synthesis.paint(labels, means, stds, None, blur_voxels=0.8)
    brain = synthesis.is_in(labels, synthesis.WHITE + synthesis.GREY + synthesis.FLUID[:2] + synthesis.LESION)
    brain |= synthesis.is_in(labels, (14, 15, 43, 44, 30, 62, 72, 85))
    masks = [
        brain,
        synthesis.is_in(labels, synthesis.WHITE + synthesis.LESION),
        synthesis.is_in(labels, synthesis.GREY),
        synthesis.is_in(labels, (4, 5, 14, 15, 43, 44, 72)),
        synthesis.is_in(labels, synthesis.VEIN + synthesis.ARTERY),
        labels > 0,
    ]
    stack = np.stack([image / means[2], *masks]).astype(np.float32)
    return torch.from_numpy(stack), affine


def build(shared: Path, out: Path, rounds: int = 3) -> dict[str, Any]:
    """Build the average head from the training people of `shared`; writes ``average_head.npz`` into `out`.

    Returns figures for the card: who went in, and how well the training heads fit the result.
    """
    torch.set_num_threads(1)
    priors = synthesis.load_priors(shared / "mri" / "labelmaps" / "priors")
    maps = people.training_maps(shared)
    mapped = [_channels_of_map(item, priors) for item in maps]
    heads = []
    for item in people.training_heads(shared):
        if people.scanner_of(item.person) == people.FURTHER:
            continue  # the shipped average head is older than they are
        volume = people.read_image(item.path)
        values = np.nan_to_num(volume.voxels.astype(np.float32))
        heads.append((item.person, torch.from_numpy(values[None]), volume.affine))
    points = frame_points()

    first, first_affine = mapped[0]
    average = _resample(first, first_affine, points, _first_guess(first, first_affine))
    matrices: list[npt.NDArray[np.float64]] = []
    for _ in range(rounds):
        targets = preprocess.targets_of(average.numpy(), frame())
        guesses = matrices or [_first_guess(channels, affine) for channels, affine in mapped]
        matrices = [
            _align(channels[0].numpy(), affine, targets, guess)
            for (channels, affine), guess in zip(mapped, guesses, strict=True)
        ]
        stacks = [_resample(c, a, points, m) for (c, a), m in zip(mapped, matrices, strict=True)]
        average = torch.stack(stacks).mean(0)
    # Move to MNI space by one affine matrix: average -> template, undone in every person's transform.
    template = people.read_image(shared / "mri" / "template" / "template_MNI152_T1_2mmEXT.nii.gz")
    targets = preprocess.targets_of(average.numpy(), frame())
    to_mni = _align(template.voxels.astype(np.float32), template.affine, targets, np.eye(4))
    back = np.linalg.inv(to_mni)
    stacks = [_resample(c, a, points, m @ back) for (c, a), m in zip(mapped, matrices, strict=True)]
    average = torch.stack(stacks).mean(0)
    targets = preprocess.targets_of(average.numpy(), frame())
    images = [s[0] for s in stacks]
    correlations = {}
    for person, voxels, grid_affine in heads:
        alignment = preprocess.align(reg.Grid(voxels[0].numpy(), grid_affine), targets)
        correlations[person] = round(alignment.ncc, 3)
        head = _resample(voxels, grid_affine, points, alignment.matrix)[0]
        white = head[(average[2] > 0.7) & (head > 0)]
        images.append((head / white.median()).clamp(0, 2.0))
    average[0] = torch.stack(images).mean(0)
    out.mkdir(parents=True, exist_ok=True)
    packed = np.clip(np.round(average.numpy() * 255.0), 0, 255)
    packed[0] = np.clip(np.round(average.numpy()[0] * preprocess.IMAGE_UNIT), 0, 255)
    np.savez_compressed(out / preprocess.AVERAGE_HEAD, channels=packed.astype(np.uint8), affine=frame())
    return {
        "label_maps": [i.person for i in maps],
        "heads": sorted(correlations),
        "correlation_of_training_heads": correlations,
        "bytes": (out / preprocess.AVERAGE_HEAD).stat().st_size,
    }


def _first_guess(channels: torch.Tensor, affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    brain = np.argwhere(channels[1].numpy() > 0.5).mean(0)[::-1]
    guess = np.eye(4)
    guess[:3, 3] = affine[:3, :3] @ brain + affine[:3, 3] - np.array([0.0, 15.0, 8.0])
    return guess


def _resample(
    channels: torch.Tensor, affine: npt.NDArray[np.float64], points: torch.Tensor, matrix: npt.NDArray[np.float64]
) -> torch.Tensor:
    m = torch.from_numpy(matrix).float()
    values, inside = reg.sample(channels, affine, points @ m[:3, :3].T + m[:3, 3])
    return (values * inside).reshape(len(channels), *SHAPE)


def _align(
    values: npt.NDArray[np.float32],
    affine: npt.NDArray[np.float64],
    targets: tuple[reg.Target, reg.Target],
    start: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    matrix = start
    for spacing, target in zip((8.0, 4.0), targets, strict=True):
        small = reg.shrink(reg.Grid(values, affine), spacing)
        channels = reg.gradient_channels(small)
        if spacing == 8.0:
            matrix = reg.refine(channels, small.affine, target, matrix, 25, rigid=True)
        matrix = reg.refine(channels, small.affine, target, matrix, 20, rigid=False)
    return matrix
