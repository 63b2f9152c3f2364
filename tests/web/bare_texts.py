"""Words that templates and scripts show without asking the catalogue.  A heuristic, and a strict one."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from jinja2 import Environment

SPOKEN_ATTRIBUTES = ("aria-label", "aria-description", "title", "placeholder", "alt")
NOT_WORDS = {"code", "kbd", "script", "style"}
NAMES = re.compile(r"qc-?node|qc|node|CSV|PIN|API|JSON|UID|ratings\.tsv|[A-Z]{1,4}")
"""What is called alike in every language."""
KEYS = re.compile(r"Escape|Enter|Tab|Arrow\w+|Backspace|Delete|Home|End|Page(?:Up|Down)|Bearer|Space|Shift")


def is_bare(text: str) -> bool:
    """Whether a text has a word of English in it."""
    return any(not NAMES.fullmatch(word) for word in re.findall(r"[A-Za-z][A-Za-z.-]+[A-Za-z]|[A-Za-z]{2,}", text))


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in NOT_WORDS:
            self._inside.append(tag)
        self.found += [
            f"{name}={value}" for name, value in attrs if name in SPOKEN_ATTRIBUTES and is_bare(value or "")
        ]

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside and is_bare(data):
            self.found.append(data.strip())


def in_template(source: str) -> list[str]:
    """Words in a template outside of ``_()``, ``ngettext()`` and ``{% trans %}``."""
    html, found = [], []
    in_trans = in_kind = False
    before: list[str] = []  # the last two tokens of the expression
    for _, kind, value in Environment(extensions=["jinja2.ext.i18n"]).lex(source):
        if kind == "data":
            html.append("" if in_trans or in_kind else value)
        elif kind in ("variable_begin", "block_begin"):
            before = []
            html.append(" ")
        elif kind == "name" and value in ("trans", "endtrans") and not before:
            in_trans = value == "trans"
        elif kind == "name" and before[-1:] == ["block"]:
            in_kind = value == "kind"  # the class of body
        elif kind == "name" and value == "endblock":
            in_kind = False
        elif kind == "string":
            asked = before[-2:] in (["_", "("], ["gettext", "("], ["ngettext", "("]) or before[-4:-2] == [
                "ngettext",
                "(",
            ]
            if not asked and re.match(r"[A-Z][a-z]+", value[1:-1]) and is_bare(value[1:-1]):
                found.append(value)
        if kind not in ("whitespace", "variable_begin", "block_begin"):
            before.append(value)
    parser = _Words()
    parser.feed("".join(html))
    return found + parser.found


STRING = r"\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`"
SHOWN = re.compile(
    rf"(?:make\(\s*\"\w+\"\s*,\s*[^,()]*,|\b(?:says|notice|cut)\(|\.(?:textContent|title|alt|placeholder|ariaLabel|innerText)\s*=(?!=)"
    rf"|setAttribute\(\s*\"(?:{'|'.join(SPOKEN_ATTRIBUTES)})\"\s*,)\s*(?:[^;\"`{{]*?[?:]\s*)?({STRING})"
)


def in_script(source: str) -> list[str]:
    """Words in a script that are shown without ``t()`` or ``n()``."""
    code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    code = re.sub(r"(?:^|(?<=[;{}()] ))\s*//.*$", "", code, flags=re.MULTILINE)
    code = re.sub(rf"\bt\(\s*(?:{STRING})|\bn\(\s*(?:{STRING})\s*,\s*(?:{STRING})", "t(", code)
    plain = code
    while (inner := re.sub(r"\$\{[^{}]*\}", "", plain)) != plain:
        plain = inner
    shown = [m[1] for m in SHOWN.finditer(plain)]
    sentences = [s for s in re.findall(STRING, code + plain) if re.match(r".[A-Z][a-z]+(?:[ .,:!?…]|.$)", s)]
    found = dict.fromkeys(s[1:-1] for s in shown + sentences)
    return [s for s in found if "${" not in s and is_bare(s) and not KEYS.fullmatch(s)]
