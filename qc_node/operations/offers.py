"""What a destination takes, as it says when an association is negotiated, and what to set because of it.

Nothing is sent for it.  Nor does the node ever send another class in place of the one that was set: a report is
written once, and what was written is what is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from qc_node.config import PeerSettings, Settings
from qc_node.dicom.uids import SR_CLASSES, STORAGE_COMMITMENT
from qc_node.operations.diagnosis import Diagnosis, fault, fine, warning

SECONDARY_CAPTURE: Final = str(SecondaryCaptureImageStorage)
KEY_OBJECT: Final = str(KeyObjectSelectionDocumentStorage)

WORDS: Final = {
    SR_CLASSES["comprehensive"]: "Comprehensive SR",
    SR_CLASSES["comprehensive3d"]: "Comprehensive 3D SR",
    SR_CLASSES["basic-text"]: "Basic Text SR",
    SECONDARY_CAPTURE: "Secondary Capture",
    KEY_OBJECT: "Key Object Selection",
    STORAGE_COMMITMENT: "Storage Commitment",
}
"""What a destination is asked for; the reports in the order of what is lost with them, the least first."""


def advice(settings: Settings, peer: PeerSettings, taken: Collection[str]) -> Iterator[Diagnosis]:
    """What the presentation contexts that a destination accepted mean for the settings in force.

    Parameters
    ----------
    peer
        The destination.
    taken
        The SOP classes of :data:`WORDS` that it accepted.
    """
    yield fine(f"{peer.name} takes {_listed([words for uid, words in WORDS.items() if uid in taken])}.")
    yield from _on_reports(settings, peer, taken)
    pacs, name = settings.pacs, peer.name
    if pacs.summary != "none" and SECONDARY_CAPTURE not in taken:
        yield warning(
            f"{name} does not take Secondary Capture, so summary pictures will fail: set [pacs] summary ="
            ' "none", or ask its administrator.'
        )
    if pacs.flag_object and KEY_OBJECT not in taken:
        yield warning(
            f"{name} does not take Key Object Selection, so flags will fail: set [pacs] flag_object = false,"
            " or ask its administrator."
        )
    if pacs.storage_commitment and STORAGE_COMMITMENT not in taken:
        yield warning(
            f"{name} does not offer storage commitment: set [pacs] storage_commitment = false, or an alert fires."
        )


def _on_reports(settings: Settings, peer: PeerSettings, taken: Collection[str]) -> Iterator[Diagnosis]:
    wanted = peer.sr_class or settings.pacs.sr_class
    if SR_CLASSES[wanted] in taken:
        return
    able = [name for name, uid in SR_CLASSES.items() if uid in taken]
    if not able:
        reports = ", ".join(WORDS[uid] for uid in SR_CLASSES.values())
        yield fault(f"{peer.name} takes no Structured Report of ours ({reports}): ask its administrator for one.")
        return
    where = f"[[peer]] {peer.name}" if peer.sr_class or settings.pacs.also else "[pacs]"
    others = _listed([WORDS[SR_CLASSES[name]] for name in able]) + (" only" if len(able) == 1 else "")
    yield fault(
        f"{peer.name} does not take {WORDS[SR_CLASSES[wanted]]}, so no report will arrive. It takes {others}:"
        f' set {where} sr_class = "{able[0]}".'
    )


def _listed(words: list[str]) -> str:
    """E.g. ``a, b and c``."""
    if not words:
        return "nothing of ours"
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
