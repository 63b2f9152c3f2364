"""UIDs that follow from what an object is about, so that a step run twice writes the same object.

All are of the form ``2.25.`` + the decimal value of a UUID (PS3.5 B.2), here a version-8 UUID (RFC 9562) made
of SHA-256 over the parts: no registration, no coordination, 128 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from qc_node.domain import InstanceRef, ModelIdentity


def derived_uid(kind: str, *parts: str) -> str:
    """The UID of the thing that `kind` and `parts` describe."""
    digest = hashlib.sha256()
    for part in ("qc-node", kind, *parts):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    number = int.from_bytes(digest.digest()[:16], "big")
    number &= ~(0xF << 76 | 0b11 << 62)
    number |= 0x8 << 76 | 0b10 << 62
    return f"2.25.{number}"


def instances_digest(instances: Iterable[InstanceRef]) -> str:
    """A digest of a set of instances; their order does not matter."""
    uids = sorted({i.sop_instance_uid for i in instances})
    return hashlib.sha256("\0".join(uids).encode("utf-8", "surrogatepass")).hexdigest()


def report_uid(
    series_instance_uid: str,
    evidence: Sequence[InstanceRef],
    model: ModelIdentity,
    *,
    software_version: str,
    sr_class: str,
    rules_digest: str,
) -> str:
    """SOP Instance UID of the report on one series.

    New instances, another model, another program version, SR class or set of rules give another UID, and
    nothing else does: neither the time nor the words of a warning.
    """
    return derived_uid(
        "report",
        series_instance_uid,
        instances_digest(evidence),
        model.name,
        model.version,
        model.sha256,
        software_version,
        sr_class,
        rules_digest,
    )


def device_uid(station: str, model: ModelIdentity) -> str:
    """Device Observer UID: another one for another model, as IHE AIR asks, and for another node."""
    return derived_uid("device", station, model.name, model.version, model.sha256)
