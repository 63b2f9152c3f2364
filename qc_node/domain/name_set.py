"""Which of many names are known, in eight bytes for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


class NameSet:
    """The fingerprints of names, sorted: ten million take 80 MB, a set of strings more than a gigabyte.

    A name that is not in it passes for known with a probability of its size / 2^64.

    Examples
    --------
    >>> NameSet(["images/a", "images/b"]).lacks(["images/b", "images/c"])
    ['images/c']
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._prints = np.fromiter(map(fingerprint, names), np.uint64)
        self._prints.sort()

    def __len__(self) -> int:
        return len(self._prints)

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not in the set, in their order."""
        if not len(self._prints) or not names:
            return list(names)
        asked = np.fromiter(map(fingerprint, names), np.uint64, len(names))
        places = np.searchsorted(self._prints, asked).clip(max=len(self._prints) - 1)
        return [name for name, known in zip(names, self._prints[places] == asked, strict=True) if not known]


def fingerprint(name: str) -> int:
    """64 bits of a digest of `name`."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")
