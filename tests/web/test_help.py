"""The guide for clinicians: one text, as a document and as a page."""

from __future__ import annotations

import html
import re
from pathlib import Path

from tests.web.conftest import Browse

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "clinicians.md"
WORDS_ON_A_PAGE = 520
"""About as many as a printed page with headings and tables holds."""


def words_of_document() -> list[str]:
    text = re.sub(r"^!\[.*$|^\|[-|]+\|$", "", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.sub(r"[#|`*]|^- ", " ", text, flags=re.MULTILINE).split()


def words_of_page(page: str) -> list[str]:
    article = page.split("<article>")[1].split("</article>")[0]
    return html.unescape(re.sub(r"<[^>]+>", " ", article)).split()


def squeezed(words: list[str]) -> str:
    """Without the spaces, which tags beside a full stop change."""
    return "".join(words)


def test_the_page_says_what_the_document_says(browse: Browse) -> None:
    page = browse().get("/help").text
    assert squeezed(words_of_page(page)) == squeezed(words_of_document())


def test_the_guide_fits_on_two_pages() -> None:
    assert 400 < len(words_of_document()) < 2 * WORDS_ON_A_PAGE


def test_every_page_leads_to_the_guide(browse: Browse) -> None:
    browser = browse()
    for address in ("/live", "/stats", "/operations", "/sign-in"):
        assert 'href="/help"' in browser.get(address).text, address
