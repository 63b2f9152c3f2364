"""Accession numbers that look like one that was typed.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

FAR = 2
"""So many letters may be wrong, missing, too many or exchanged with their neighbour."""
SHORT = 4
"""Of a number as short as this one letter may be wrong."""


def nearest(typed: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """Known numbers that may be meant, the likeliest first; of equally likely ones the first in `known`.

    A number is near when what was typed is its beginning or its end (three letters at least), or when it takes at
    most :data:`FAR` changes to come from one to the other.  Case and blanks do not count.
    """
    wanted = _plain(typed)
    if not wanted:
        return []
    far = 1 if len(wanted) <= SHORT else FAR
    scored: list[tuple[int, int, str]] = []
    for order, number in enumerate(dict.fromkeys(known)):
        plain = _plain(number)
        steps = distance(wanted, plain, far)
        if steps is None and len(wanted) >= 3 and (plain.startswith(wanted) or plain.endswith(wanted)):
            steps = far + 1
        if steps is not None:
            scored.append((steps, order, number))
    return [number for _, _, number in sorted(scored)[:limit]]


def distance(a: str, b: str, most: int) -> int | None:
    """Changes from `a` to `b` (wrong, missing, added letter, two exchanged); None where more than `most`.

    Optimal string alignment, within a band of `most` beside the diagonal.
    """
    if abs(len(a) - len(b)) > most:
        return None
    far = most + 1
    before: dict[int, int] = {}
    row = {j: j for j in range(min(len(b), most) + 1)}
    for i in range(1, len(a) + 1):
        older, before, row = before, row, {}
        for j in range(max(0, i - most), min(len(b), i + most) + 1):
            if j == 0:
                row[j] = i
                continue
            steps = min(
                before.get(j - 1, far) + (a[i - 1] != b[j - 1]), before.get(j, far) + 1, row.get(j - 1, far) + 1
            )
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                steps = min(steps, older.get(j - 2, far) + 1)
            row[j] = steps
        if min(row.values()) > most:
            return None
    found = row.get(len(b), far)
    return found if found <= most else None


def _plain(number: str) -> str:
    return "".join(number.split()).casefold()
