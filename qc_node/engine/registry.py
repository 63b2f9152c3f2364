"""Which reading rooms are open, and with which weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qc_node.domain import ModelIdentity, QcNodeError, Stage, Verdict, Volume
from qc_node.networks import weights

FOLDERS: Mapping[Stage, str] = {Stage.BRAIN_MRI: "brain-mri", Stage.CT: "ct"}
"""Model folder of each reading room below the models folder."""


class Prepared(Protocol):
    """A volume made ready for the networks of one reading room."""

    @property
    def network_input(self) -> npt.NDArray[Any]:
        """De-identified input of the networks, at most 10 MB as float16."""

    @property
    def thumbnails(self) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Small pictures by name of the view."""


class Classifier(Protocol):
    """A reading room: volumes in, verdicts out."""

    @property
    def identity(self) -> ModelIdentity:
        """Whose verdicts these are."""

    def prepare(self, volume: Volume) -> Any:
        """CPU work on one volume; never raises on a bad image."""

    def judge(self, prepared: Sequence[Any]) -> list[Verdict]:
        """One verdict for each, in one batch."""


def choose_device(wish: str) -> str:
    """``auto`` becomes the first GPU, or the CPU where there is none.

    Raises
    ------
    QcNodeError
        A GPU was asked for that is not there.
    """
    import torch

    if wish == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wish.startswith("cuda"):
        index = int(wish.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise QcNodeError(f"classify.device asks for {wish}, but {torch.cuda.device_count()} GPUs are here.")
    return wish


def cards(models_dir: Path) -> list[tuple[Path, weights.Card]]:
    """The model card of every reading room, with its folder.

    Raises
    ------
    QcNodeError
        A card is missing or malformed.
    """
    folders = [models_dir / name for name in FOLDERS.values()]
    return [(folder, weights.read_card(folder)) for folder in folders]


class Registry:
    """The reading rooms of one models folder; each is loaded when first asked for.

    Parameters
    ----------
    models_dir
        Holds one folder per reading room (:data:`FOLDERS`).
    device
        ``cpu`` or ``cuda:N``.
    """

    def __init__(self, models_dir: Path, device: str = "cpu") -> None:
        self.models_dir = models_dir
        self.device = device
        self._classifiers: dict[Stage, Classifier] = {}

    def verify(self) -> dict[Stage, ModelIdentity]:
        """Hash every weights file.

        Raises
        ------
        QcNodeError
            Names the folder or file that is missing or differs from its card.
        """
        return {stage: weights.verify(self.models_dir / folder) for stage, folder in FOLDERS.items()}

    def classifier(self, stage: Stage) -> Classifier:
        """The reading room for `stage`, loaded and verified."""
        if stage not in self._classifiers:
            folder = self.models_dir / FOLDERS[stage]
            if stage is Stage.BRAIN_MRI:
                from qc_node.classifiers.brain_mri.classifier import load as load_brain_mri

                self._classifiers[stage] = load_brain_mri(folder, self.device)
            else:
                from qc_node.classifiers.ct.classifier import load as load_ct

                self._classifiers[stage] = load_ct(folder, self.device)
        return self._classifiers[stage]

    def open_all(self) -> dict[Stage, ModelIdentity]:
        """Load every reading room now; raises :class:`QcNodeError` like :meth:`verify`."""
        return {stage: self.classifier(stage).identity for stage in FOLDERS}
