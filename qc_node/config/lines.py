"""Which line of a TOML text sets a key; :mod:`tomllib` does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator

Loc = tuple[str | int, ...]


def find_line(text: str, loc: Loc) -> int | None:
    """The line (from 1) of a TOML text that sets the key at `loc`, or the nearest table around it.

    Examples
    --------
    >>> find_line('[node]\\nport = 1', ("node", "port"))
    2
    """
    best, best_depth = None, 0
    for number, place in _keys(text):
        depth = 0
        while depth < min(len(place), len(loc)) and place[depth] == loc[depth]:
            depth += 1
        if depth == len(place) and depth > best_depth:
            best, best_depth = number, depth
    return best


def _keys(text: str) -> Iterator[tuple[int, Loc]]:
    """Every table header and key of a TOML text with its line."""
    table: Loc = ()
    counts: dict[str, int] = {}
    quotes: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        inside = quotes is not None
        for mark in re.findall(r'"""|' + r"'''", line):
            quotes = mark if quotes is None else None if quotes == mark else quotes
        if inside:
            continue
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            names = _split(header[2])
            table = (*names,)
            if header[1] == "[[":
                counts[names[0]] = counts.get(names[0], -1) + 1
                table = (*names, counts[names[0]])
            elif names[0] in counts:
                table = (names[0], counts[names[0]], *names[1:])
            yield number, table
        elif key := re.match(r"""\s*([\w."'\- ]+?)\s*=""", line):
            yield number, (*table, *_split(key[1]))


def _split(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
