"""How a template writes a number, a time, and text that somebody else wrote.  Pure.

The server does not know where its readers are, so what it writes is right everywhere (English, UTC) and carries
the value in ``<data>`` and ``<time>``; ``frame.js`` writes it anew as the reader's browser does.
"""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from qc_node.web.access.readers import Role
from qc_node.web.texts import _


def foreign(text: str) -> Markup:
    """Text from a header, an order or a person: its direction of writing changes nothing around it (HTML, bdi)."""
    return Markup("<bdi>{}</bdi>").format(text)


def number(value: float, digits: int = 0) -> Markup:
    """A number with this many digits behind the point."""
    return Markup('<data class="figure" value="{}" data-digits="{}">{}</data>').format(
        value, digits, f"{value:,.{digits}f}"
    )


def percent(share: float, digits: int = 0) -> Markup:
    """A share in [0, 1] as per cent."""
    return Markup('<data class="figure" value="{}" data-digits="{}" data-unit="percent">{} %</data>').format(
        share, digits, f"{100 * share:.{digits}f}"
    )


def moment(epoch: float) -> Markup:
    """A time (seconds since 1970) as day, hour and minute."""
    return _time(epoch, "moment", "%d %b %Y, %H:%M UTC")


def day(epoch: float) -> Markup:
    """The day of a time (seconds since 1970)."""
    return _time(epoch, "day", "%d %b %Y")


def ago(epoch: float) -> Markup:
    """How long ago a time (seconds since 1970) was; without a script, the time itself."""
    return _time(epoch, "ago", "%d %b %Y, %H:%M UTC")


def _time(epoch: float, kind: str, pattern: str) -> Markup:
    at = datetime.fromtimestamp(epoch, UTC)
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" data-as="{}">{}</time>').format(stamp, kind, at.strftime(pattern))


def role_word(role: Role) -> str:
    """What a role is called on the pages."""
    words = {
        Role.RADIOLOGIST: _("radiologist"),
        Role.TECHNOLOGIST: _("technologist"),
        Role.EXPERT: _("expert"),
        Role.PHYSICIST: _("physicist"),
        Role.OPERATOR: _("operator"),
    }
    return words[role]


FILTERS = {f.__name__: f for f in (foreign, number, percent, moment, day, ago, role_word)}
