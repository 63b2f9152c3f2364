"""One name for each thing: the parts of the program are called what the field calls them.

Until 0.1.0 every part had a second name, taken from a house.  A word below may stand where it means what everyone
means by it (a radiologist's reading room, a Prometheus counter); then the line is listed here with the reason.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_WORDS = "reading[ _-]?rooms?|writing[ _]room|doors?|desk|corridor|the counter|counter[ _]room|school|house"
_FOLDERS = "reception|delivery|feedback|learning|stage|brain_mri|ct"
OLD = re.compile(
    rf"(?<![a-z])(?:{_WORDS})(?![a-z])|qc_node[./](?:{_FOLDERS})\b|CounterDeps|BrainMriReader|\bCtReader",
    re.IGNORECASE,
)
ALLOWED = {
    "qc_node/web/static/pages.css": "a reading room is dark: the radiologists' one",
    "qc_node/web/votes/casting.py": "a PC in the radiologists' reading room",
    "tests/test_names.py": "the list itself",
    "tests/ledger/make_ledger_0_1_0.py": "imports of 0.1.0, which it runs",
}
"""Files with such a word in its common meaning, and why."""
SAME_ROLE = {
    *("association", "commitment", "errors", "uids", "instances"),  # DICOM, seen by caller and called
    *("classifier", "spec", "networks", "train", "evaluate", "pack", "gallery", "unlike"),  # one per classifier
    *("backup", "classify", "models", "node", "notify", "readers", "review", "votes"),  # a part and its commands
    *("cases", "gradings", "kept_inputs", "labels", "prompts"),  # a table and what fills it
    "measured",  # numbers of a series: a table, and what training makes of them
    *("interface", "server", "settings"),
    *(
        "catalogue",
        "volumes",
    ),  # what there is: classifiers, measures; volumes that are trained on, that are measured
    "measurable",  # what can be measured, and what finds it in a series
}
"""Names of modules that stand in several folders for one role there, or for one thing seen from there."""


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if (ROOT / name).is_file()]


def text_files() -> list[str]:
    kinds = (
        "*.py",
        "*.md",
        "*.toml",
        "*.yml",
        "*.yaml",
        "*.html",
        "*.js",
        "*.css",
        "*.service",
        "*.svg",
        "Makefile",
    )
    return [name for name in tracked(*kinds) if not name.startswith("models/")]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the git checkout")
@pytest.mark.parametrize("name", text_files())
def test_no_part_of_the_program_has_its_old_name(name: str) -> None:
    if name in ALLOWED:
        return
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [line.strip() for line in text.splitlines() if OLD.search(line)] == []


def test_every_exception_is_needed() -> None:
    for name in ALLOWED:
        assert OLD.search((ROOT / name).read_text(encoding="utf-8")), name


def classes() -> Counter[str]:
    found: Counter[str] = Counter()
    for name in tracked("qc_node/*.py"):
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        found.update(node.name for node in tree.body if isinstance(node, ast.ClassDef))
    return found


def test_no_two_classes_have_one_name() -> None:
    assert [name for name, count in classes().items() if count > 1] == []


def test_no_two_modules_have_one_name_for_different_things() -> None:
    stems = Counter(Path(name).stem for name in tracked("qc_node/*.py") if not name.endswith("__init__.py"))
    assert sorted(name for name, count in stems.items() if count > 1) == sorted(SAME_ROLE)
