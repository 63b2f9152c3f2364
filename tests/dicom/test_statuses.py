"""Every status of a C-STORE response has one meaning, and the conformance statement says which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qc_node.dicom.statuses import StoreAnswer, store_answer

CONFORMANCE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
WORDS = {"sent": StoreAnswer.STORED, "tried again": StoreAnswer.LATER, "refused": StoreAnswer.NEVER}


def documented() -> dict[str, StoreAnswer]:
    """Each code or class of codes (``0xA7xx``) in the table of answers to C-STORE."""
    table = CONFORMANCE.read_text(encoding="utf-8").split("| Answer to C-STORE |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {
        code: WORDS[re.sub(r"[:;].*", "", cells[1])]
        for cells in rows
        for code in re.findall(r"0x[0-9A-Fx]{4}", cells[0])
    }


def test_the_conformance_statement_says_what_each_status_does() -> None:
    table = documented()
    for code, answer in table.items():
        for low in ("0", "1", "F"):
            assert store_answer(int(code.replace("x", low).replace("0" + low, "0x", 1), 16)) is answer, code
    classes = "|".join(code[2:].replace("x", ".") for code in table)
    for status in range(0x10000):
        if not re.fullmatch(classes, f"{status:04X}"):
            assert store_answer(status) is StoreAnswer.LATER, f"0x{status:04X} stands in no row"


@pytest.mark.parametrize("status", [0x0110, 0x0213, 0xA700, 0xA7FF, 0xC000, 0xC123, 0xFE00, 0xD000, 0x0002])
def test_what_does_not_say_never_is_tried_again(status: int) -> None:
    assert store_answer(status) is StoreAnswer.LATER


@pytest.mark.parametrize("status", [0x0122, 0x0124, 0x0117, 0xA800, 0xA900, 0xA9FF])
def test_what_says_never_is_final(status: int) -> None:
    assert store_answer(status) is StoreAnswer.NEVER


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xBFFF])
def test_what_the_peer_has_is_stored(status: int) -> None:
    assert store_answer(status) is StoreAnswer.STORED
