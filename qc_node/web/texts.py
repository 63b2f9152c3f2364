"""What the pages say, in the reader's language: gettext catalogues under ``locale/``; English is the source.

Templates call ``_()`` and ``ngettext()``, scripts ``t()`` and ``n()`` of ``common.js``, which look into the same
catalogue.  Words of a verdict are not among them: they stand in the report, whose language is declared in it.
"""

from __future__ import annotations

import gettext
from functools import cache
from pathlib import Path

DOMAIN = "qc_node"
LOCALE = Path(__file__).resolve().parent / "locale"
LANGUAGE = "en"


@cache
def translations(language: str = LANGUAGE) -> gettext.NullTranslations:
    """The catalogue of a language; where there is none, texts stay as they are written (English)."""
    return gettext.translation(DOMAIN, LOCALE, [language], fallback=True)


def _(text: str) -> str:
    """`text` in the language of the pages."""
    return translations().gettext(text)


def ngettext(one: str, many: str, count: int) -> str:
    """`one` or `many` as `count` asks for; the caller fills the number in."""
    return translations().ngettext(one, many, count)


def catalogue() -> dict[str, str | list[str]]:
    """What scripts look up: translations by English text, plural forms as a list; empty for English."""
    found: dict[str, str | list[str]] = {}
    for key, text in getattr(translations(), "_catalog", {}).items():
        if isinstance(key, tuple):
            forms = found.setdefault(key[0], [])
            assert isinstance(forms, list)
            forms.append(text)
        elif key:
            found[key] = text
    return found
