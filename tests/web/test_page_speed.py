"""No page asks the ledger more questions because there is more in it.  Times are for ``benchmarks/pages.py``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from benchmarks.pages import addresses
from qc_node.ledger import Ledger
from qc_node.spool import Spool
from qc_node.web.app import WebDeps, create_app
from tests.part_settings import web_options
from tests.web.busy_department import NOW, BusyDepartment, handle_of, make
from tests.web.conftest import BASE, Browser
from tests.web.counting import Statements, counted_statements

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("page_speed")]

SMALL, LARGE = 60, 180
GROW = {
    "/api/recent": "a line each for the series of twenty cases",
    "/api/board": "a card for every scanner",
    "/api/review": "series by series, up to a page of them",
    "/review.csv": "series by series",
    "/api/annotate": "series by series",
}
"""Pages that still ask for each thing that they show, and what that is; none may be added."""


@dataclass
class Department:
    browser: Browser
    made: BusyDepartment
    statements: Statements

    def asked(self, address: str, role: str) -> list[str]:
        """What the second request for a page asks of the ledger."""
        headers = {"authorization": f"Bearer {self.made.tokens[role]}"}
        assert self.browser.get(address, headers=headers).status_code == 200, address
        before = self.statements.count
        assert self.browser.get(address, headers=headers).status_code == 200
        return self.statements.said[before:]


@pytest.fixture(scope="module")
def departments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Department]]:
    """A small department and a large one."""
    found = {}
    with counted_statements() as statements:
        for size in (SMALL, LARGE):
            root = tmp_path_factory.mktemp(f"department-{size}")
            made = make(Ledger(root / "ledger.sqlite"), series=size, stations=size // 6, votes=20 * size)
            deps = WebDeps(
                ledger=Ledger(root / "ledger.sqlite"), spool=Spool(root), web=web_options(), clock=lambda: NOW
            )
            # not entered: the loops of the application would ask, too
            browser = Browser(create_app(deps), base_url=BASE, headers={"origin": BASE})
            found[size] = Department(browser, made, statements)
        yield found


PAGES = [
    (role, address) for role, of in addresses(BusyDepartment({}, handle_of(3), "", 0, 0)).items() for address in of
]


@pytest.mark.parametrize(("role", "address"), PAGES)
def test_a_page_asks_as_much_of_a_large_ledger_as_of_a_small_one(
    departments: dict[int, Department], role: str, address: str
) -> None:
    small, large = (departments[size].asked(address, role) for size in (SMALL, LARGE))
    if address in GROW:
        return
    more = Counter(re.sub(r"'[^']*'|\d+(\.\d+)?", "?", said) for said in large)
    assert len(large) <= len(small) + 1, more.most_common(3)
    assert len(large) <= 40, more.most_common(3)


def test_the_benchmark_measures_every_page_of_the_navigation(departments: dict[int, Department]) -> None:
    navigation = departments[SMALL].browser.get("/stats").text.split("<nav")[1].split("</nav>")[0]
    linked = set(re.findall(r'href="([^"]+)"', navigation))
    assert linked <= {address for _, address in PAGES}
