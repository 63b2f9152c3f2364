"""Model folders: a card, weights in safetensors, and the proof that they belong together.

A model folder holds ``card.json`` and the files that the card lists with their SHA-256.  Nothing is
loaded from a folder before every listed file has been hashed; no pickle is ever read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_node import domain

if TYPE_CHECKING:
    from torch import Tensor

CARD_NAME = "card.json"
MAX_FILE_BYTES = 40_000_000
"""Larger weights are shipped as a recipe, not as a file."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model folder."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class ModelCard:
    """What ``card.json`` says.  ``content`` is the whole object, for figures and free text."""

    name: str
    version: str
    stage: str
    files: tuple[WeightFile, ...]
    content: Mapping[str, Any] = field(default_factory=dict)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as lower-case hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bundle_hash(files: Sequence[WeightFile]) -> str:
    """Hash that names the weights: of the one file, or of the sorted lines ``"<sha256>  <name>\\n"``."""
    if len(files) == 1:
        return files[0].sha256
    lines = sorted(f"{f.sha256}  {f.name}\n" for f in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_card(directory: Path) -> ModelCard:
    """The card of a model folder.

    Raises
    ------
    domain.QcNodeError
        No card, not JSON, or a key missing or malformed.
    """
    path = directory / CARD_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise domain.QcNodeError(f"There is no model card {path}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise domain.QcNodeError(f"The model card {path} cannot be read: {error}.") from None
    try:
        files = tuple(WeightFile(str(f["name"]), str(f["sha256"]), int(f["bytes"])) for f in content["files"])
        card = ModelCard(str(content["name"]), str(content["version"]), str(content["stage"]), files, content)
    except KeyError as error:
        raise domain.QcNodeError(f"The model card {path} lacks the key {error}.") from None
    except (TypeError, ValueError):
        raise domain.QcNodeError(f"The model card {path} is malformed.") from None
    if not files:
        raise domain.QcNodeError(f"The model card {path} lists no files.")
    for f in files:
        if Path(f.name).name != f.name or f.name in ("", ".", "..", CARD_NAME):
            raise domain.QcNodeError(f"The model card {path} names a file outside its folder: {f.name!r}.")
    return card


def verify(directory: Path) -> domain.ModelIdentity:
    """Hash every file of the folder and return who it is.

    Raises
    ------
    domain.QcNodeError
        Names the first file that is missing, unreadable or differs from the card.
    """
    card = read_card(directory)
    for f in card.files:
        path = directory / f.name
        try:
            found = sha256_of(path)
        except FileNotFoundError:
            raise domain.QcNodeError(f"The model file {path} is missing.") from None
        except OSError as error:
            raise domain.QcNodeError(f"The model file {path} cannot be read: {error.strerror}.") from None
        if found != f.sha256:
            raise domain.QcNodeError(
                f"The model file {path} is not the one its card describes: SHA-256 {found[:12]}… "
                f"instead of {f.sha256[:12]}…."
            )
    return domain.ModelIdentity(card.name, card.version, bundle_hash(card.files))


def load_tensors(directory: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """Tensors of one safetensors file of the folder; half-precision floats come back as float32.

    Call :func:`verify` first; this function does not hash.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / name
    try:
        tensors = load_file(path, device=device)
    except FileNotFoundError:
        raise domain.QcNodeError(f"The model file {path} is missing.") from None
    except (OSError, SafetensorError) as error:
        raise domain.QcNodeError(f"The model file {path} is not a safetensors file: {error}.") from None
    return {k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for k, v in tensors.items()}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], half: bool = True) -> None:
    """Write tensors as safetensors; floating point as float16 when `half` (integers stay as they are)."""
    from safetensors.torch import save_file

    ready = {
        k: (v.detach().cpu().half() if half and v.is_floating_point() else v.detach().cpu()).contiguous()
        for k, v in tensors.items()
    }
    save_file(ready, path)


def write_card(
    directory: Path, name: str, version: str, stage: str, files: Sequence[str], content: Mapping[str, Any]
) -> ModelCard:
    """Hash `files` (names inside `directory`) and write ``card.json`` with them and `content`.

    Raises
    ------
    domain.QcNodeError
        A file is missing or larger than :data:`MAX_FILE_BYTES`.
    """
    listed = []
    for file_name in sorted(files):
        path = directory / file_name
        if not path.is_file():
            raise domain.QcNodeError(f"The model file {path} is missing.")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise domain.QcNodeError(f"The model file {path} has {size} bytes; the limit is {MAX_FILE_BYTES}.")
        listed.append({"name": file_name, "sha256": sha256_of(path), "bytes": size})
    card = {"name": name, "version": version, "stage": stage, "files": listed, **content}
    text = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False)
    temporary = directory / (CARD_NAME + ".tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(directory / CARD_NAME)
    return read_card(directory)
