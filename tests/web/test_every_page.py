"""A web page is more than a function: it is registered, linked, described, and opens."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from qc_node import web
from qc_node.ledger import Ledger
from qc_node.spool import Spool
from qc_node.web.access import readers
from qc_node.web.app import WebDeps, create_app
from tests.part_settings import web_options
from tests.web.conftest import BASE, Browser
from tests.web.states import STATES

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "qc_node" / "web" / "templates"
PAGES_DOCUMENT = (ROOT / "docs" / "web.md").read_text(encoding="utf-8")
LINKED_ELSEWHERE = {
    "/docs": "for programmers; the address stands in the documents",
    "/me": "behind one's own name",
    "/help": "at the foot of every page",
    "/stats/measures": "at the top of the statistics, and behind what is said to be unusual",
    "/sign-in": "in the corner of every page until somebody has signed in",
}
"""Pages that are not in the navigation, and why."""


def routers() -> dict[str, APIRouter]:
    """The routers that modules of the package offer, by module."""
    names = [m.name for m in pkgutil.walk_packages(web.__path__, "qc_node.web.")]
    found = {name: getattr(importlib.import_module(name), "router", None) for name in names}
    return {name: router for name, router in found.items() if isinstance(router, APIRouter)}


def api_routes(router: FastAPI | APIRouter) -> list[APIRoute]:
    """The routes of an application or router, those of the routers in it among them."""
    found: list[APIRoute] = []
    for route in router.routes:
        inside = getattr(route, "original_router", None)  # an included router, as newer FastAPIs keep it
        found += [route] if isinstance(route, APIRoute) else api_routes(inside) if inside else []
    return found


@pytest.fixture(scope="module")
def deps(tmp_path_factory: pytest.TempPathFactory) -> WebDeps:
    root = tmp_path_factory.mktemp("pages")
    return WebDeps(
        ledger=Ledger(root / "ledger.sqlite"),
        spool=Spool(root),
        clock=lambda: 1_790_000_000.0,
        web=web_options(),
        on_vote=lambda *_: None,
    )


@pytest.fixture(scope="module")
def app(deps: WebDeps) -> FastAPI:
    return create_app(deps)


@pytest.fixture(scope="module")
def visitor(app: FastAPI, deps: WebDeps) -> Browser:
    """An expert who has signed in: every page is open to one."""
    _, token = readers.add(deps.ledger, "expert", name="Dr. E", site="Here", role="expert", at=0.0)
    browser = Browser(app, base_url=BASE, headers={"origin": BASE}, follow_redirects=False)
    browser.sign_in(token)
    return browser


def pages(app: FastAPI) -> set[str]:
    """Addresses of whole pages: HTML, and nothing to fill in."""
    return {r.path for r in served(app) if r.response_class is HTMLResponse and "{" not in r.path}


def served(app: FastAPI) -> list[APIRoute]:
    return [r for r in api_routes(app) if "GET" in (r.methods or ())]


def test_every_router_is_registered(app: FastAPI) -> None:
    served_by = {route.endpoint for route in api_routes(app)}
    offered = routers()
    assert len(offered) >= 6
    for name, router in offered.items():
        missing = [r.path for r in api_routes(router) if r.endpoint not in served_by]
        assert not missing, f"{name} has pages that create_app does not register: {missing}"


def test_every_page_is_linked_or_deliberately_not(app: FastAPI, visitor: Browser) -> None:
    navigation = visitor.get("/stats").text.split("<nav")[1].split("</nav>")[0]
    linked = set(re.findall(r'href="([^"]+)"', navigation))
    assert linked | set(LINKED_ELSEWHERE) == pages(app)
    assert not linked & set(LINKED_ELSEWHERE)


def test_every_page_has_a_state(app: FastAPI) -> None:
    assert pages(app) - {state.page for state in STATES} == set(), "a line in tests/web/states.py"


def test_every_page_is_described(app: FastAPI) -> None:
    for address in pages(app) - {"/sign-in"}:
        assert re.search(rf"^\| `{address}` \|", PAGES_DOCUMENT, re.MULTILINE), address


def test_every_page_opens_and_is_made_like_the_others(app: FastAPI, visitor: Browser) -> None:
    titles = {}
    for address in sorted(pages(app)):
        answer = visitor.get(address, headers={"accept": "text/html"})
        assert answer.status_code == 200, address
        assert "default-src" in answer.headers["content-security-policy"], address
        assert '<main id="main" tabindex="-1">' in answer.text and '<html lang="en">' in answer.text, address
        assert not re.search(r'(?:src|href|action)="https?:', answer.text), f"{address} asks another host"
        titles[address] = re.search(r"<title>(.+?)</title>", answer.text)
        assert titles[address], address
    named = [found[1] for found in titles.values() if found]
    assert len(set(named)) == len(named), f"two pages have one title: {sorted(named)}"


def test_every_template_belongs_to_a_page_and_stands_on_the_base() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "qc_node" / "web").rglob("*.py"))
    templates = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.rglob("*.html")}
    for name, text in templates.items():
        if name != "base.html":
            assert f'"{name}"' in code, f"no page shows {name}"
            assert '{% extends "base.html" %}' in text, name
