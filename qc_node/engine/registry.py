"""Which classifiers are in service, and with which weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qc_node.classifiers import catalogue
from qc_node.classifiers.interface import Classifier, ClassifierSpec
from qc_node.domain import Accepts, ModelIdentity, QcNodeError, Stage
from qc_node.networks import weights


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


def cards(models_dir: Path) -> list[tuple[Path, weights.ModelCard]]:
    """The model card of every classifier, with its folder.

    Raises
    ------
    QcNodeError
        A card is missing or malformed.
    """
    folders = [models_dir / spec.model_folder for spec in catalogue.specs()]
    return [(folder, weights.read_card(folder)) for folder in folders]


class Registry:
    """The classifiers of one models folder; each is loaded when first asked for.

    Parameters
    ----------
    models_dir
        Holds one folder per classifier (:attr:`ClassifierSpec.model_folder`).
    device
        ``cpu`` or ``cuda:N``.
    specs
        Those in service; default: all of :mod:`qc_node.classifiers.catalogue`.
    """

    def __init__(
        self, models_dir: Path, device: str = "cpu", specs: Sequence[ClassifierSpec] | None = None
    ) -> None:
        self.models_dir = models_dir
        self.device = device
        self._specs = {spec.stage: spec for spec in (catalogue.specs() if specs is None else specs)}
        self._classifiers: dict[Stage, Classifier] = {}

    @property
    def accepts(self) -> tuple[Accepts, ...]:
        """Which series are judged, for the routing."""
        return tuple(spec.accepts for spec in self._specs.values())

    def verify(self) -> dict[Stage, ModelIdentity]:
        """Hash every weights file.

        Raises
        ------
        QcNodeError
            Names the folder or file that is missing or differs from its card.
        """
        return {stage: weights.verify(self.models_dir / spec.model_folder) for stage, spec in self._specs.items()}

    def classifier(self, stage: Stage) -> Classifier:
        """The classifier of `stage`, loaded and verified."""
        if stage not in self._classifiers:
            spec = self._specs[stage]
            self._classifiers[stage] = spec.load(self.models_dir / spec.model_folder, self.device)
        return self._classifiers[stage]

    def open_all(self) -> dict[Stage, ModelIdentity]:
        """Load every classifier now; raises :class:`QcNodeError` like :meth:`verify`."""
        return {stage: self.classifier(stage).identity for stage in self._specs}
