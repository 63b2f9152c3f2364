"""Model folders prove their files before anything is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from qc_node.domain import QcNodeError
from qc_node.networks import weights


def _folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    weights.write_card(tmp_path, "m", "1", "ct", list(files), {"limits": ["none"]})
    return tmp_path


def test_identity_of_one_file_is_its_hash(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"a.bin": b"one"})
    assert weights.verify(folder).sha256 == hashlib.sha256(b"one").hexdigest()
    assert weights.read_card(folder).content["limits"] == ["none"]


def test_identity_of_a_bundle_follows_the_sorted_lines(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"b.bin": b"two", "a.bin": b"one"})
    lines = sorted(f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in (("a.bin", b"one"), ("b.bin", b"two")))
    assert weights.verify(folder).sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_changed_and_a_missing_file_are_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"a.bin": b"one", "b.bin": b"two"})
    (folder / "b.bin").write_bytes(b"2")
    with pytest.raises(QcNodeError, match=r"b\.bin is not the one"):
        weights.verify(folder)
    (folder / "b.bin").unlink()
    with pytest.raises(QcNodeError, match=r"b\.bin is missing"):
        weights.verify(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"name": "x", "version": "1", "stage": "ct", "files": []}',
        '{"name": "x", "version": "1", "stage": "ct", "files": [{"name": "a"}]}',
        '{"name": "x", "version": "1", "stage": "ct", "files": [{"name": "../a", "sha256": "", "bytes": 1}]}',
    ],
)
def test_a_malformed_card_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(QcNodeError, match=r"card\.json"):
        weights.read_card(tmp_path)


def test_tensors_come_back_as_float32(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {"w": torch.linspace(0, 1, 7), "steps": torch.tensor(3)}
    weights.save_tensors(tmp_path / "a.safetensors", tensors)
    back = weights.load_tensors(tmp_path, "a.safetensors")
    assert back["w"].dtype == torch.float32 and torch.allclose(back["w"], tensors["w"], atol=1e-3)
    assert back["steps"] == 3
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(QcNodeError, match=r"a\.safetensors"):
        weights.load_tensors(tmp_path, "a.safetensors")


def test_cards_are_plain_json_without_nan(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"1")
    with pytest.raises(ValueError):
        weights.write_card(tmp_path, "m", "1", "ct", ["a.bin"], {"figures": float("nan")})
    weights.write_card(tmp_path, "m", "1", "ct", ["a.bin"], {})
    assert json.loads((tmp_path / "card.json").read_text())["files"][0]["bytes"] == 1
