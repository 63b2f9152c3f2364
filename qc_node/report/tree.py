"""A Structured Report or key object as an indented tree for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pydicom.dataset import Dataset

from qc_node.report.codes import Code
from qc_node.report.items import children, code_in, name_of

_GREY, _BOLD, _RESET = "\x1b[90m", "\x1b[1m", "\x1b[0m"

MOST_IMAGES = 3
"""Image references shown one by one; more are counted."""


def as_text(ds: Dataset, *, codes: bool = False, colour: bool = False, width: int = 100) -> str:
    """The content tree of `ds`, one item a line.

    Parameters
    ----------
    codes
        Show code values and schemes beside the meanings.
    colour
        ANSI colours: titles bold, codes and tree lines grey.
    width
        Columns; longer text wraps.
    """
    style = _Style(codes, colour, width)
    title = style.bold(_meaning(name_of(ds)) or "Structured Report") + style.code(name_of(ds))
    return "\n".join([title, *_below(ds, "", style)]) + "\n"


class _Style:
    def __init__(self, codes: bool, colour: bool, width: int) -> None:
        self.codes, self.colour, self.width = codes, colour, width

    def grey(self, text: str) -> str:
        return f"{_GREY}{text}{_RESET}" if self.colour and text else text

    def bold(self, text: str) -> str:
        return f"{_BOLD}{text}{_RESET}" if self.colour else text

    def code(self, code: Code | None) -> str:
        return self.grey(f" ({code.value}, {code.scheme})") if self.codes and code is not None else ""


def _below(item: Dataset, indent: str, style: _Style) -> Iterator[str]:
    shown = _without_many_images(children(item))
    for number, child in enumerate(shown):
        last = number == len(shown) - 1
        branch, trunk = ("└─ ", "   ") if last else ("├─ ", "│  ")
        if isinstance(child, str):
            yield style.grey(indent + branch) + child
            continue
        first, *more = _line(child, style, len(indent) + len(branch))
        yield style.grey(indent + branch) + first
        for line in more:
            yield style.grey(indent + trunk) + "  " + line
        if child.get("ValueType") != "NUM":
            yield from _below(child, indent + trunk, style)


def _without_many_images(items: list[Dataset]) -> list[Dataset | str]:
    images = [i for i in items if i.get("ValueType") == "IMAGE"]
    if len(images) <= MOST_IMAGES:
        return list(items)
    rest: list[Dataset | str] = [i for i in items if i.get("ValueType") != "IMAGE"]
    return [*rest, f"{len(images)} images"]


def _line(item: Dataset, style: _Style, used: int) -> list[str]:
    name = name_of(item)
    label = _meaning(name)
    value = _value(item)
    if value is None:
        return [style.bold(label or "Container") + style.code(name)]
    text, code = value
    if item.get("ValueType") == "NUM":
        of = ", ".join(_meaning(code_in(child, "ConceptCodeSequence")) for child in children(item))
        label = f"{label} of {of}" if of else label
    lines = textwrap.wrap(_printable(f"{label}: {text}" if label else text), max(20, style.width - used - 2)) or [
        ""
    ]
    lines[-1] += style.code(code)
    return lines


def _value(item: Dataset) -> tuple[str, Code | None] | None:
    """What the item says, as words and as a code; None for a container."""
    kind = item.get("ValueType")
    if kind == "CONTAINER":
        return None
    if kind == "CODE":
        code = code_in(item, "ConceptCodeSequence")
        return _meaning(code) or "?", code
    if kind == "NUM":
        measured = item.get("MeasuredValueSequence")
        if not measured:
            return "no value", None
        units = code_in(measured[0], "MeasurementUnitsCodeSequence")
        suffix = "" if units is None or units.value == "1" else f" {units.value}"
        return f"{measured[0].get('NumericValue', '?')}{suffix}", None
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        references = item.get("ReferencedSOPSequence")
        return str(references[0].get("ReferencedSOPInstanceUID", "?")) if references else "?", None
    by_kind = {"TEXT": "TextValue", "UIDREF": "UID", "PNAME": "PersonName", "DATETIME": "DateTime", "DATE": "Date"}
    return str(item.get(by_kind.get(str(kind), "TextValue"), "?")), None


def _meaning(code: Code | None) -> str:
    return "" if code is None else _printable(code.meaning or code.value)


def _printable(text: str) -> str:
    """`text` without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)
