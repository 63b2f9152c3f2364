"""What a running node takes over from a configuration that was read again, and what waits for a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from qc_node.config.settings import LISTS, PeerSettings, Settings

AT_ONCE: Final[dict[str, frozenset[str]]] = {
    "node": frozenset({"log_level", "log_format"}),
    "pacs": frozenset({"flag_object", "summary", "report_measured_only"}),
    "completion": frozenset({"quiet_s", "hard_cap_s", "ask_pacs", "confirm_s", "study_quiet_s"}),
    "measures": frozenset({"enabled", "window"}),
    "keep": frozenset({"sampled_share", "max_gb"}),
    "retention": frozenset({"keep_images_h", "keep_training_days", "keep_summaries_days"}),
    "peer": frozenset({"quiet_s"}),
}
"""Keys, by section, that hold at once; ``[[rule]]`` does as a whole, every other key at the next start."""


@dataclass(frozen=True)
class Change:
    """``settings`` hold from now on; ``applied`` and ``waiting`` name the keys that differ, as in the file."""

    settings: Settings
    applied: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def change(old: Settings, new: Settings) -> Change:
    """What of `new` a node that runs with `old` takes over."""
    applied: list[str] = []
    waiting: list[str] = []
    update: dict[str, Any] = {}
    for section in Settings.model_fields:
        if section in LISTS:
            continue
        before, after = getattr(old, section), getattr(new, section)
        now, later = _split(_differing(before, after), AT_ONCE.get(section, frozenset()))
        applied += [f"[{section}] {key}" for key in now]
        waiting += [f"[{section}] {key}" for key in later]
        update[section] = before.model_copy(update={key: getattr(after, key) for key in now})
    update["peer"] = _peers(old, new, applied, waiting)
    update["rule"] = new.rule
    if old.rule != new.rule:
        applied.append("[[rule]]")
    waiting += [f"[[{name}]]" for name in ("scanner", "notify") if getattr(old, name) != getattr(new, name)]
    return Change(old.model_copy(update=update), tuple(applied), tuple(waiting))


def _peers(old: Settings, new: Settings, applied: list[str], waiting: list[str]) -> tuple[PeerSettings, ...]:
    """The peers of before with what of them may change; who is new or gone waits."""
    wanted = {peer.name: peer for peer in new.peer}
    names = dict.fromkeys(peer.name for peer in (*old.peer, *new.peer))
    known = {peer.name: peer for peer in old.peer}
    waiting += [f"[[peer]] {name}" for name in names if name not in known or name not in wanted]
    kept = []
    for peer in old.peer:
        other = wanted.get(peer.name, peer)
        now, later = _split(_differing(peer, other), AT_ONCE["peer"])
        applied += [f"[[peer]] {peer.name} {key}" for key in now]
        waiting += [f"[[peer]] {peer.name} {key}" for key in later]
        kept.append(peer.model_copy(update={key: getattr(other, key) for key in now}))
    return tuple(kept)


def _differing(before: Any, after: Any) -> list[str]:
    return [key for key in type(before).model_fields if getattr(before, key) != getattr(after, key)]


def _split(keys: list[str], at_once: frozenset[str]) -> tuple[list[str], list[str]]:
    return [key for key in keys if key in at_once], [key for key in keys if key not in at_once]
