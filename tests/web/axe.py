"""axe-core (Deque, MPL-2.0) in a page: the rules of WCAG 2.2 A and AA, and best practice.

The script comes out of the wheel of ``axe-playwright-python``, which carries it unchanged; ``make`` installs that
wheel without what it depends on, so there is no other browser, no node, and nothing to fetch while tests run.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.web.browser import Chromium

TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COUNTED = ("moderate", "serious", "critical")


@dataclass(frozen=True)
class Fault:
    """What axe has against one element."""

    rule: str
    impact: str
    element: str
    why: str

    def __str__(self) -> str:
        return f"{self.impact} {self.rule}: {self.element}\n    {self.why}"


@cache
def axe_source() -> str:
    """The script; the test is skipped without it, and fails where no peer may be missing."""
    found = importlib.util.find_spec("axe_playwright_python")
    folders = list(found.submodule_search_locations or []) if found else []
    path = Path(folders[0]) / "axe.min.js" if folders else None
    if path is None or not path.is_file():
        words = "axe-core is not installed (pip install --no-deps -c constraints.txt axe-playwright-python)"
        if os.environ.get("QC_NODE_REQUIRE_PEERS") == "1":
            pytest.fail(words)
        pytest.skip(words)
    return path.read_text(encoding="utf-8")


def bring_axe(chromium: Chromium) -> None:
    """Put the script into the page that is open."""
    chromium.script(f"if (!window.axe) {{ {axe_source()} }}")


def faults(chromium: Chromium) -> list[Fault]:
    """What axe finds in the page as it is now."""
    bring_axe(chromium)
    found: list[dict[str, Any]] | str = chromium.script_async(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}, resultTypes: ['violations']})"
        ".then((r) => done(r.violations), (e) => done(String(e)))",
        list(TAGS),
    )
    assert not isinstance(found, str), found
    return [
        Fault(v["id"], v["impact"], " ".join(map(str, n["target"])) + " " + n["html"][:160], n["failureSummary"])
        for v in found
        if v["impact"] in COUNTED
        for n in v["nodes"]
    ]
