"""Images made ready for the networks, kept: preparing takes a second each, judging a millisecond.

What is kept belongs to the code that prepared it: the folder is to be emptied when checks, registration or
features change.  It is derived from people's images and stays outside the repository.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from qc_node import domain
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, PreparedHead


def save(path: Path, prepared: PreparedHead) -> None:
    """Everything but the thumbnails, as one ``.npz``."""
    arrays = {k: getattr(prepared, k) for k in ARRAYS}
    rest = {f.name: _plain(getattr(prepared, f.name)) for f in fields(prepared) if f.name not in NOT_KEPT}
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, rest=json.dumps(rest), **arrays)
    temporary.replace(path)


def load(path: Path) -> PreparedHead:
    """What :func:`save` wrote, without thumbnails."""
    with np.load(path, allow_pickle=False) as f:
        arrays: dict[str, Any] = {k: f[k] for k in ARRAYS}
        rest = json.loads(str(f["rest"]))
    hints = get_type_hints(PreparedHead)
    return PreparedHead(thumbnails={}, **arrays, **{k: _of_type(v, hints[k]) for k, v in rest.items()})


ARRAYS = ("network_input", "features")
NOT_KEPT = (*ARRAYS, "thumbnails")


def _plain(value: Any) -> Any:
    """Dataclasses, tuples, enums and arrays as what JSON knows."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value


def _of_type(value: Any, hint: Any) -> Any:
    """The value of a field from what :func:`_plain` made of it."""
    options = (
        [h for h in get_args(hint) if h is not type(None)] if get_origin(hint) in (Union, UnionType) else [hint]
    )
    kind = options[0]
    if value is None:
        return None
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{k: _of_type(v, hints[k]) for k, v in value.items()})
    if get_origin(kind) is np.ndarray:
        return np.array(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return _tuple(value)


def prepare(
    classifier: BrainMriClassifier, name: str, read: Callable[[], domain.Volume], cache: Path | None
) -> PreparedHead:
    """An image made ready, from the folder `cache` if it is there under its name."""
    if cache is None:
        return classifier.prepare(read())
    path = cache / f"{name}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        save(path, classifier.prepare(read()))
    return load(path)
