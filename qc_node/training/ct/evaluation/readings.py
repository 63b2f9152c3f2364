"""What the networks saw, kept on disk, so that rules can be judged again in seconds.

A kept reading is valid for one pair of networks and one state of the code that reads; both are part of the
folder's name, so a change of either reads anew and a change of the rules does not.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qc_node.classifiers.ct as package
from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct import classifier as judged
from qc_node.classifiers.ct.classifier import CtClassifier, PreparedBody, Reading
from qc_node.domain import QcNodeError

_RULES_ONLY = frozenset(
    {
        "anatomy.py",
        "calibration.py",
        "classifier.py",
        "contrast.py",
        "part.py",
        "pictures.py",
        "projections.py",
        "reading.py",
        "spec.py",
        "unlike.py",
        "voting.py",
    }
)
"""Modules that make the prepared body or judge the reading, or of which :func:`reading_key` takes parts."""
_NESTED = "qc_node.classifiers.ct."


def reading_key(classifier: CtClassifier) -> str:
    """Twelve hexadecimal digits of the networks, the temperature and the code that makes a :class:`Reading`."""
    digest = hashlib.sha256()
    for path in sorted(Path(package.__file__ or "").parent.glob("*.py")):
        if path.name not in _RULES_ONLY:
            digest.update(path.read_bytes())
    for part in (CtClassifier.read, Reading, judged.places, anatomy.readable, anatomy.neighbours):
        digest.update(inspect.getsource(part).encode())
    for network in (classifier.position, classifier.contrast):
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(name.encode() + np.ascontiguousarray(tensor.detach().cpu().to(torch.float32)).tobytes())
    digest.update(str(classifier.rules.position_temperature).encode())
    return digest.hexdigest()[:12]


def save_reading(reading: Reading, path: Path) -> None:
    """Write `reading` to `path`: its arrays as they are, everything else as JSON.

    Raises
    ------
    TypeError
        A field is neither an array nor a number, text, list or dataclass of the classifier.
    """
    values = {f.name: getattr(reading, f.name) for f in fields(reading)}
    arrays: dict[str, Any] = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    rest = json.dumps({name: _plain(v) for name, v in values.items() if name not in arrays})
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays, rest_of_reading=np.array(rest))
    temporary.replace(path)


def load_reading(path: Path) -> Reading:
    """What :func:`save_reading` wrote."""
    with np.load(path, allow_pickle=False) as data:
        values: dict[str, Any] = {name: data[name] for name in data.files if name != "rest_of_reading"}
        rest = json.loads(str(data["rest_of_reading"]))
    return Reading(**values, **{name: _restored(value) for name, value in rest.items()})


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        if not kind.__module__.startswith(_NESTED):
            raise TypeError(f"{kind} is no dataclass of the classifier")
        return {
            "dataclass": f"{kind.__module__}:{kind.__qualname__}",
            "values": {f.name: _plain(getattr(value, f.name)) for f in fields(value)},
        }
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _restored(value: Any) -> Any:
    if not (isinstance(value, dict) and "dataclass" in value):
        return value
    module, _, name = value["dataclass"].partition(":")
    if not module.startswith(_NESTED):
        raise QcNodeError(f"{module}: a reading holds nothing from there.")
    kind = getattr(importlib.import_module(module), name)
    return kind(**{key: _restored(inner) for key, inner in value["values"].items()})


def cached_read(
    classifier: CtClassifier, prepared: Callable[[], PreparedBody], folder: Path | None, name: str
) -> Reading:
    """The reading of what `prepared` gives, from `folder` (of one :func:`reading_key`) where it is there."""
    if folder is None:
        return classifier.read(prepared())
    path = folder / f"{name}.npz"
    if path.is_file():
        return load_reading(path)
    folder.mkdir(parents=True, exist_ok=True)
    reading = classifier.read(prepared())
    save_reading(reading, path)
    return reading
