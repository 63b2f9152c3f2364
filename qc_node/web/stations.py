"""What scanners are called on the pages.  Pure.

A scanner is known by the station of its headers, and by who calls where these say nothing.  The configuration may
give it a name and a room.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NamedScanner:
    """A scanner as the configuration names it.

    ``station`` is Station Name, or manufacturer, model and serial number where a scanner has none, or the AE title
    that it calls with; upper and lower case are the same.
    """

    station: str
    name: str
    room: str | None = None


@dataclass(frozen=True)
class Stations:
    """Names of scanners."""

    named: tuple[NamedScanner, ...] = ()

    def name(self, station: str | None, calling_ae: str) -> str:
        """What people call the scanner.

        The station counts before the caller: a PACS that forwards calls for all of them.
        """
        found = self._find(station) or self._find(calling_ae)
        return found.name if found is not None else station or calling_ae

    def rooms(self, name: str) -> tuple[str, ...]:
        """The room of the scanner that people call so; empty where nobody said."""
        return tuple(dict.fromkeys(s.room for s in self.named if s.name == name and s.room))

    def gives(self, name: str | None) -> bool:
        """Whether the configuration gives some scanner this name, so that no header has to have it."""
        return any(s.name == name for s in self.named)

    def shows(self, wanted: str | None, name: str) -> bool:
        """Whether a board of `wanted` (a scanner or a room; None: everything) shows this scanner."""
        return wanted is None or wanted == name or wanted in self.rooms(name)

    def _find(self, station: str | None) -> NamedScanner | None:
        wanted = (station or "").casefold()
        return next((s for s in self.named if wanted and s.station.casefold() == wanted), None)
