"""``qc-node train`` and ``qc-node evaluate``: the commands themselves stand with the networks they train."""

from __future__ import annotations

import click

from qc_node.cli.shared import LazyGroup

TRAINING = "qc_node.training"


@click.group(
    cls=LazyGroup,
    lazy={
        "brain-mri": (f"{TRAINING}.brain_mri.training.train:command", "Train the networks for brain MRI."),
        "ct": (f"{TRAINING}.ct.training.train:command", "Train the networks for CT."),
    },
)
def train() -> None:
    """Train the networks of a classifier."""


@click.group(
    cls=LazyGroup,
    lazy={
        "brain-mri": (f"{TRAINING}.brain_mri.evaluation.evaluate:command", "Measure the brain MRI classifier."),
        "ct": (f"{TRAINING}.ct.evaluation.evaluate:command", "Measure the CT classifier."),
        "raters": (f"{TRAINING}.raters.baseline:command", "Measure what metrics alone make of votes."),
    },
)
def evaluate() -> None:
    """Measure networks on people they never saw."""
