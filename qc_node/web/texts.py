"""What the pages say, in the reader's language: gettext catalogues under ``locale/``; English is the source.

Templates call ``_()`` and ``ngettext()``, scripts ``t()`` and ``n()`` of ``common.js``, which look into the same
catalogue.  Words of a verdict are not among them: they stand in the report, whose language is declared in it.
``make texts`` collects the texts of all three; CONTRIBUTING.md tells how a language is added.
"""

from __future__ import annotations

import gettext
from functools import cache
from pathlib import Path

DOMAIN = "qc_node"
LOCALE = Path(__file__).resolve().parent / "locale"
LANGUAGE = "en"


class _Spoken:
    """The language of this process; one for everybody."""

    language = LANGUAGE
    folder = LOCALE


def speak(language: str = LANGUAGE, folder: Path = LOCALE) -> None:
    """Say everything in `language` from now on; where `folder` has no catalogue of it, in English."""
    _Spoken.language, _Spoken.folder = language, folder


def spoken() -> str:
    """The language of the pages (BCP 47)."""
    return _Spoken.language


@cache
def _loaded(language: str, folder: Path) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, folder, [language], fallback=True)


def _translations() -> gettext.NullTranslations:
    return _loaded(_Spoken.language, _Spoken.folder)


def _(text: str) -> str:
    """`text` in the language of the pages."""
    return _translations().gettext(text)


def ngettext(one: str, many: str, count: int) -> str:
    """`one` or `many` as `count` asks for; the caller fills the number in."""
    return _translations().ngettext(one, many, count)


def catalogue() -> dict[str, str | list[str]]:
    """What scripts look up: translations by English text, plural forms as a list; empty for English."""
    found: dict[str, str | list[str]] = {}
    for key, text in sorted(getattr(_translations(), "_catalog", {}).items(), key=lambda item: str(item[0])):
        if isinstance(key, tuple):
            forms = found.setdefault(key[0], [])
            assert isinstance(forms, list)
            forms.append(text)
        elif key:
            found[key] = text
    return found
