"""Images made ready for the networks, kept: preparing takes a second each, judging a millisecond.

What is kept belongs to the code that prepared it: the folder is to be emptied when checks, registration or
features change.  It is derived from people's images and stays outside the repository.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from qc_node import domain
from qc_node.classifiers.brain_mri import checks
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, PreparedHead


def save(path: Path, prepared: PreparedHead) -> None:
    """Everything but the thumbnails, as one ``.npz``."""
    arrays: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for field in fields(prepared):
        value = getattr(prepared, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, checks.Measures):
            rest[field.name] = asdict(value)
        elif field.name != "thumbnails":
            rest[field.name] = value
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, rest=json.dumps(rest), **arrays)
    temporary.replace(path)


def load(path: Path) -> PreparedHead:
    """What :func:`save` wrote, without thumbnails."""
    with np.load(path, allow_pickle=False) as f:
        content: dict[str, Any] = {k: f[k] for k in f.files if k != "rest"}
        rest = json.loads(str(f["rest"]))
    rest["measures"] = checks.Measures(**{k: _tuple(v) for k, v in rest["measures"].items()})
    rest["certain"] = domain.Reason(rest["certain"]) if rest["certain"] else None
    return PreparedHead(thumbnails={}, **content, **{k: _tuple(v) for k, v in rest.items()})


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value


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
