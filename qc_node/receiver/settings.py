"""How the receiver is set up; imports nothing, so that who starts the receiver need not import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ReceiverSettings:
    """How the receiver is set up.

    Attributes
    ----------
    ae_title, host, port
        Where we listen; port 0 takes a free one.
    peers
        Calling AE title to the host it must call from, or None for any host.
    accept_unknown
        Let calling AE titles in that are not among the peers.
    low_watermark_bytes
        Below this much free space associations are rejected as transient and objects answered 0xA700.
    processes
        Receiving processes; 0 serves in threads of the calling process.  One takes some 1,000 objects a second and
        commits for all its associations at once; more help only where cores are idle and syncs are cheap.
    max_associations
        Associations at a time, over all processes.
    max_associations_per_peer
        How many of these one calling AE title may have, and one address.
    idle_s, idle_s_by_ae
        Longest time between two messages, and that of single calling AE titles.
    on_changed
        See :class:`qc_node.receiver.store.Store`.
    associate_s, stall_s
        Longest time from connecting to a whole association request (the ARTIM timer of PS3.8), and for one PDU.
    """

    ae_title: str
    host: str
    port: int
    peers: Mapping[str, str | None]
    accept_unknown: bool
    low_watermark_bytes: int
    processes: int
    max_associations: int
    max_associations_per_peer: int
    idle_s: float
    idle_s_by_ae: Mapping[str, float]
    on_changed: str
    associate_s: float = 10.0
    stall_s: float = 30.0
