"""Templates and files of the pages."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from qc_node.web import texts
from qc_node.web.access.identity import deps_of, open_to_look
from qc_node.web.access.readers import Reader
from qc_node.web.pages import formats

HERE = Path(__file__).resolve().parents[1]
STATIC = HERE / "static"


@cache
def _environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    env.install_gettext_callables(texts._, texts.ngettext, newstyle=True)  # type: ignore[attr-defined]
    env.policies["ext.i18n.trimmed"] = True  # line breaks of a template are none of a text
    env.filters.update(formats.FILTERS)
    env.globals["static"] = static_url
    env.globals["catalogue"] = texts.catalogue
    env.globals["language"] = texts.spoken
    return env


@cache
def _static_tag() -> str:
    """One digest over all files, so that ``import "./common.js"`` of a script is the address that is kept, too."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def static_url(name: str) -> str:
    """Address of a static file; it changes with the content, so browsers may keep it for good."""
    return f"/static/{_static_tag()}/{name}"


def page(request: Request, template: str, reader: Reader | None, **values: Any) -> HTMLResponse:
    """Render a page; every value is escaped."""
    html = (
        _environment()
        .get_template(template)
        .render(
            reader=reader,
            looking=open_to_look(request),
            path=request.url.path,
            theme=deps_of(request).web.theme,
            blind=deps_of(request).web.blind,
            undo_s=deps_of(request).web.undo_s,
            **values,
        )
    )
    return HTMLResponse(html)
