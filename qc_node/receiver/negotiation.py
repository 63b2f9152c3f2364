"""Which associations and presentation contexts are accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    UID_dictionary,
)

from qc_node.dicom.uids import (
    APPLICATION_CONTEXT,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    JPIP,
    STORAGE_COMMITMENT,
    VERIFICATION,
)
from qc_node.receiver import pdu

_PREFERENCE = {
    str(syntax): rank
    for rank, syntax in enumerate(
        (
            ExplicitVRLittleEndian,
            ImplicitVRLittleEndian,
            DeflatedExplicitVRLittleEndian,
            ExplicitVRBigEndian,
            JPEGLosslessSV1,
            JPEGLossless,
            JPEGLSLossless,
            JPEG2000Lossless,
            RLELossless,
        )
    )
}
_OTHER = 100


def _services_that_do_not_store() -> frozenset[str]:
    refused = set()
    for uid, (name, kind, *_) in UID_dictionary.items():
        stores = "Storage" in name and not name.startswith(("Storage Commitment", "Media Storage Directory"))
        if "SOP Class" not in kind or not stores:
            refused.add(str(uid))
    return frozenset(refused)


_REFUSED = _services_that_do_not_store()


def stores(abstract_syntax: str) -> bool:
    """Whether a SOP class is, or may be, a storage class: any that is not registered as something else."""
    return bool(abstract_syntax) and abstract_syntax not in _REFUSED


def choose_transfer_syntax(proposed: tuple[str, ...]) -> str | None:
    """The transfer syntax to take from one presentation context.

    The node never decodes on the way in, so the choice is made for the images' sake: uncompressed with
    explicit VRs where the sender offers it, then lossless, then whatever the sender named first.  A lossy
    syntax is taken only when nothing else is offered, and JPIP (pixels elsewhere) last of all.
    """
    known = [(_PREFERENCE.get(s, 2 * _OTHER if s in JPIP else _OTHER), i, s) for i, s in enumerate(proposed) if s]
    return min(known)[2] if known else None


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The answer to an association request that was accepted; ``max_pdu`` holds for what we send, 0 for any."""

    contexts: Mapping[int, Context]
    answer: bytes
    max_pdu: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21) and a sentence for the log."""

    result: int
    source: int
    reason: int
    sentence: str

    @property
    def answer(self) -> bytes:
        """The PDU."""
        return pdu.encode_associate_rj(self.result, self.source, self.reason)


NO_SPACE = Rejection(2, 3, 1, "the disk is below its low watermark")
DRAINING = Rejection(2, 3, 1, "the node is being drained (qc-node drain)")
TOO_MANY = Rejection(2, 3, 2, "too many associations")
TOO_MANY_OF_PEER = Rejection(2, 3, 2, "too many associations of this calling AE title or address")
UNRESOLVED = Rejection(2, 3, 1, "the host that is configured for the calling AE title cannot be resolved")
OTHER_HOST = Rejection(1, 1, 3, "the calling AE title is known, but not from this host")
OTHER_CONTEXT = Rejection(1, 1, 2, "the application context is not that of DICOM")
"""PS3.8 section 7.1.1.2 and table 9-21: application-context-name-not-supported."""


def check_context(request: pdu.AssociateRequest) -> Rejection | None:
    """Why the peer does not speak DICOM (PS3.7 annex A.2.1), or None."""
    return None if request.application_context == APPLICATION_CONTEXT else OTHER_CONTEXT


def check_titles(
    request: pdu.AssociateRequest,
    *,
    ae_title: str,
    peers: Mapping[str, str | None],
    accept_unknown: bool,
    is_at: Callable[[str], bool | None],
) -> Rejection | None:
    """Why the peer may not come in, or None.

    A known peer with a host must call from that host, which `is_at` tells (None while nobody knows where the host
    is); `accept_unknown` lets unknown titles in from anywhere.
    """
    if request.called_ae != ae_title:
        return Rejection(1, 1, 7, "the called AE title is not ours")
    if request.calling_ae in peers:
        allowed = peers[request.calling_ae]
        is_there = allowed is None or is_at(allowed)
        if is_there is None:
            return UNRESOLVED
        return None if is_there else OTHER_HOST
    if accept_unknown:
        return None
    return Rejection(1, 1, 3, "the calling AE title is unknown")


def negotiate(request: pdu.AssociateRequest, max_pdu: int) -> Acceptance:
    """Accept every context of a storage SOP class, Verification and Storage Commitment.

    Role selection: the peer stays SCU of what it stores; only for Storage Commitment, whose results a PACS
    sends on an association of its own, it may be the SCP (PS3.4 annex J.3.3).
    """
    contexts: dict[int, Context] = {}
    results: list[tuple[int, int, str]] = []
    for proposed in request.contexts:
        syntax = choose_transfer_syntax(proposed.transfer_syntaxes)
        name = proposed.abstract_syntax
        if name not in (VERIFICATION, STORAGE_COMMITMENT) and not stores(name):
            results.append((proposed.context_id, pdu.RESULT_NO_ABSTRACT_SYNTAX, ImplicitVRLittleEndian))
        elif syntax is None:
            results.append((proposed.context_id, pdu.RESULT_NO_TRANSFER_SYNTAX, ImplicitVRLittleEndian))
        else:
            contexts[proposed.context_id] = Context(name, syntax)
            results.append((proposed.context_id, pdu.RESULT_ACCEPTED, syntax))
    taken = {context.abstract_syntax for context in contexts.values()}
    roles = [
        (name, 0 if name == STORAGE_COMMITMENT else scu, scp if name == STORAGE_COMMITMENT else 0)
        for name, (scu, scp) in request.roles.items()
        if name in taken
    ]
    answer = pdu.encode_associate_ac(
        request,
        results,
        max_pdu=max_pdu,
        roles=roles,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION_NAME,
    )
    return Acceptance(contexts, answer, request.max_pdu)
