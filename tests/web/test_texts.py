"""All that the pages say stands in one catalogue: collected, complete, and a second language comes through."""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import CommandLineInterface
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from qc_node.web import texts
from tests.peers import require
from tests.web.bare_texts import in_script, in_template
from tests.web.browser import Chromium
from tests.web.made_clinic import open_sites
from tests.web.states import STATES
from tests.web.visitor import Visitor

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "qc_node" / "web"
POT = texts.LOCALE / "qc_node.pot"
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "t": None, "n": (1, 2)}


def collected() -> set[str | tuple[str, ...]]:
    """Every text of the sources, as the mapping of ``make texts`` finds it."""
    mappings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["babel"]["mappings"]
    methods = [(m["pattern"], m["method"]) for m in mappings]
    options = {m["pattern"]: {k: v for k, v in m.items() if k not in ("pattern", "method")} for m in mappings}
    found = extract_from_dir(WEB, methods, options, KEYWORDS)
    return {message for _, _, message, _, _ in found}


def kept() -> set[str | tuple[str, ...]]:
    with POT.open("rb") as stream:
        catalog = read_po(stream)
    return {tuple(m.id) if isinstance(m.id, (list, tuple)) else m.id for m in catalog if m.id}


def test_the_catalogue_has_every_text_of_the_sources_and_no_other() -> None:
    found, there = collected(), kept()
    assert len(found) > 300
    assert found == there, "make texts"


def test_texts_with_values_name_them() -> None:
    for message in collected():
        for text in message if isinstance(message, tuple) else (message,):
            assert not re.search(r"%s|%d|\{\}", text), f"a translator cannot turn the order around: {text}"


def test_every_language_is_complete_and_compiled() -> None:
    for po in texts.LOCALE.glob("*/LC_MESSAGES/qc_node.po"):
        with po.open("rb") as stream:
            catalog = read_po(stream)
        assert {m.id for m in catalog if m.id and not m.string} == set(), f"{po}: untranslated"
        compiled = io.BytesIO()
        write_mo(compiled, catalog)
        assert po.with_suffix(".mo").read_bytes() == compiled.getvalue(), "make texts"


def files(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(WEB)) for path in WEB.glob(pattern))


@pytest.mark.parametrize("name", files("templates/*.html") + files("static/*.js"))
def test_what_a_page_says_asks_the_catalogue(name: str) -> None:
    source = (WEB / name).read_text(encoding="utf-8")
    bare = in_template(source) if name.endswith(".html") else in_script(source)
    assert bare == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>{{ _('Good') }} <code>qc-node run</code> <kbd>Space</kbd> · 12 %</p>", []),
        ("{% trans n=x %}{{ n }} images{% endtrans %}", []),
        ("{{ ngettext('%(num)s image', '%(num)s images', 3) }}", []),
        ("<p>Good</p>", ["Good"]),
        ("<input aria-label='Slice' placeholder=\"{{ _('Word') }}\">", ["aria-label=Slice"]),
        ("{% for k, w in (('a', 'Motion'), ('b', _('Noise'))) %}{{ w }}{% endfor %}", ["'Motion'"]),
        ("{{ name or 'No accession number' }}", ["'No accession number'"]),
    ],
)
def test_bare_words_of_a_template_are_seen(source: str, found: list[str]) -> None:
    assert in_template(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('make("p", "soft small", t("Not saved."));', []),
        ('says(n("{count} image", "{count} images", 3)); // Says how many', []),
        ('if (event.key === "Escape") node.className = "Card".toLowerCase;', ["Card"]),
        ('make("span", "head", "images");', ["images"]),
        ('byId("x").textContent = ok ? "saved" : t("Not saved.");', ["saved"]),
        ("says(`${count} images`);", [" images"]),
        ('img.setAttribute("alt", "slice");', ["slice"]),
        ('make("span", "shape", "●");', []),
    ],
)
def test_bare_words_of_a_script_are_seen(source: str, found: list[str]) -> None:
    assert in_script(source) == found


# -- a second language ----------------------------------------------------------------------------------
def foreign(text: str) -> str:
    return f"‹{text}›"


@pytest.fixture
def other_language(tmp_path: Path) -> Iterator[str]:
    """A language made up of English between angles, with three plural forms, compiled as a real one is."""
    with POT.open("rb") as stream:
        template = read_po(stream)
    catalog = Catalog(locale="pl", fuzzy=False)
    for message in template:
        if isinstance(message.id, (list, tuple)):
            catalog.add(message.id, tuple(f"‹{n}: {message.id[1]}›" for n in range(3)), flags=message.flags)
        elif message.id:
            catalog.add(message.id, foreign(message.id), flags=message.flags)
    catalog.add(("{count} leaf", "{count} leaves"), ("‹one {count}›", "‹few {count}›", "‹many {count}›"))
    folder = tmp_path / "pl" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "qc_node.po").open("wb") as stream:
        write_po(stream, catalog)
    pybabel: Any = CommandLineInterface()
    pybabel.run(["pybabel", "--quiet", "compile", "-D", "qc_node", "-d", str(tmp_path)])
    texts.speak("pl", tmp_path)
    yield "pl"
    texts.speak()


def test_python_says_it_in_the_language_that_is_spoken(other_language: str) -> None:
    assert texts._("expert") == "‹expert›"
    assert [texts.ngettext("{count} leaf", "{count} leaves", n) for n in (1, 3, 7)] == [
        "‹one {count}›",
        "‹few {count}›",
        "‹many {count}›",
    ]
    assert texts._("a text that nobody translated") == "a text that nobody translated"
    assert texts.catalogue()["Board"] == "‹Board›"
    texts.speak()
    assert texts._("expert") == "expert" and texts.catalogue() == {}


@pytest.mark.peer
@pytest.mark.slow
def test_template_python_and_script_of_a_page_speak_another_language(other_language: str) -> None:
    require("chromium")
    require("chromedriver")
    chromium = Chromium()
    try:
        with open_sites() as sites:
            visitor = Visitor(chromium, sites)
            visitor.reach(next(state for state in STATES if state.name == "board-cut"))
            assert chromium.script("return document.documentElement.lang") == "pl"
            assert "‹Board›" in chromium.text("#menu") + chromium.text("#pages"), "the template"
            assert "‹expert›" in chromium.text(".who"), "Python"
            chromium.until("return /‹\\d+ min ago›/.test(document.querySelector('.card').innerText)")  # the script
            visitor.site.cable.mend()
            said = chromium.script_async(
                "const done = arguments[arguments.length - 1];"
                "const common = [...document.scripts].find((s) => s.src.includes('frame.js')).src"
                ".replace('frame.js', 'common.js');"
                "import(common).then((c) => done([1, 3, 7].map((k) => c.n('{count} leaf', '{count} leaves', k))))"
            )
            assert said == ["‹one 1›", "‹few 3›", "‹many 7›"]
            chromium.open("about:blank")
    finally:
        chromium.quit()
