"""The few messages of the upper layer (PS3.8 section 9.3) and of DIMSE (PS3.7) that a receiver speaks.

Pure functions: bytes in, values out.  Whatever a peer sends, they return a value or raise :class:`ProtocolError`;
they never allocate more than a small multiple of the bytes they were given.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from qc_node.dicom.uids import APPLICATION_CONTEXT

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
"""PDU types (PS3.8 section 9.3)."""

COMMAND_GROUP_LENGTH = 0x00000000
AFFECTED_SOP_CLASS_UID = 0x00000002
COMMAND_FIELD = 0x00000100
MESSAGE_ID = 0x00000110
MESSAGE_ID_RESPONDED_TO = 0x00000120
DATA_SET_TYPE = 0x00000800
STATUS = 0x00000900
ERROR_COMMENT = 0x00000902
AFFECTED_SOP_INSTANCE_UID = 0x00001000
EVENT_TYPE_ID = 0x00001002
"""Command set elements (PS3.7 annex E)."""

C_STORE_RQ, C_ECHO_RQ, N_EVENT_REPORT_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0100, 0x0FFF
"""Command fields (PS3.7 annex E)."""

NO_DATA_SET = 0x0101
"""The value of Command Data Set Type that says: nothing follows (PS3.7 table E.1-1)."""

PDV_HEAD = 6
"""Bytes of a PDU's body before the fragment: item length, context ID, message control header."""
COMMAND, LAST = 0x01, 0x02
"""Bits of the message control header (PS3.8 annex E.2)."""

RESULT_ACCEPTED, RESULT_NO_ABSTRACT_SYNTAX, RESULT_NO_TRANSFER_SYNTAX = 0, 3, 4
"""Presentation context results (PS3.8 table 9-18)."""


LONGEST_UID = 64
"""Characters (PS3.5 section 9.1)."""
MOST_USER_ITEMS = 512
"""Sub-items of the user information.  The standard knows three for each of 128 SOP classes and a handful for the
association (PS3.7 annex D.3.3)."""


class ProtocolError(Exception):
    """The peer broke the protocol; the sentence says how."""


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context of an A-ASSOCIATE-RQ."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """What a peer proposes.

    ``roles`` maps a SOP class to its proposed (SCU, SCP) roles; ``max_pdu`` is the longest P-DATA-TF body that the
    peer takes, 0 for any (PS3.8 annex D.1); ``application_context`` is empty where the request names none.
    """

    called_ae: str
    calling_ae: str
    raw_titles: bytes
    contexts: tuple[ProposedContext, ...]
    application_context: str = ""
    max_pdu: int = 0
    roles: dict[str, tuple[int, int]] = field(default_factory=dict)


def _uid(data: bytes) -> str:
    return data.decode("latin-1").strip(" \0")


def _uid_item(data: bytes) -> str:
    uid = _uid(data)
    if len(uid) > LONGEST_UID:
        raise ProtocolError("a UID of the association request is too long")
    return uid


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise ProtocolError("an item of the association request is cut off")
        kind, length = struct.unpack_from(">BxH", data, at)
        if at + 4 + length > len(data):
            raise ProtocolError("an item of the association request is longer than the request")
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def _parse_context(item: bytes) -> ProposedContext:
    if len(item) < 4:
        raise ProtocolError("a presentation context is too short")
    abstract, syntaxes = "", []
    for kind, value in _items(item[4:]):
        if kind == 0x30:
            abstract = _uid_item(value)
        elif kind == 0x40:
            syntaxes.append(_uid_item(value))
    return ProposedContext(item[0], abstract, tuple(syntaxes))


def _add(contexts: dict[int, ProposedContext], context: ProposedContext) -> None:
    if context.context_id % 2 == 0:
        raise ProtocolError(f"presentation context {context.context_id} has no odd ID")
    if context.context_id in contexts:
        raise ProtocolError(f"presentation context {context.context_id} is proposed twice")
    contexts[context.context_id] = context


def _parse_user_information(item: bytes) -> tuple[int, dict[str, tuple[int, int]]]:
    """The longest PDU that the peer takes, and the roles that it proposes."""
    max_pdu, roles = 0, {}
    for number, (kind, value) in enumerate(_items(item)):
        if number >= MOST_USER_ITEMS:
            raise ProtocolError(
                f"the association request has more than {MOST_USER_ITEMS} items of user information"
            )
        if kind == 0x51 and len(value) == 4:
            max_pdu = struct.unpack(">L", value)[0]
        elif kind == 0x54 and len(value) >= 4:
            (size,) = struct.unpack_from(">H", value)
            if len(value) >= 4 + size:
                roles[_uid_item(value[2 : 2 + size])] = (value[2 + size], value[3 + size])
    return max_pdu, roles


def parse_associate_rq(body: bytes) -> AssociateRequest:
    """The A-ASSOCIATE-RQ whose bytes after the six of the PDU header are `body` (PS3.8 section 9.3.2).

    Items of an unknown type are skipped, as the standard asks.

    Raises
    ------
    ProtocolError
        The request is malformed, or speaks another protocol version.  Context IDs are odd, of one byte and unique
        (PS3.8 section 9.3.2.2): a request of more than 128 presentation contexts is malformed.
    """
    if len(body) < 68:
        raise ProtocolError("the association request is too short")
    if not struct.unpack_from(">H", body)[0] & 1:
        raise ProtocolError("the association request speaks another protocol version")
    application_context = ""
    contexts: dict[int, ProposedContext] = {}
    user: tuple[int, dict[str, tuple[int, int]]] | None = None
    for kind, item in _items(body[68:]):
        if kind == 0x10:
            application_context = _uid_item(item)
        elif kind == 0x20:
            _add(contexts, _parse_context(item))
        elif kind == 0x50:
            if user is not None:
                raise ProtocolError("the association request has its user information twice")
            user = _parse_user_information(item)
    max_pdu, roles = user or (0, {})
    return AssociateRequest(
        called_ae=body[4:20].decode("latin-1").strip(" \0"),
        calling_ae=body[20:36].decode("latin-1").strip(" \0"),
        raw_titles=bytes(body[4:36]),
        contexts=tuple(contexts.values()),
        application_context=application_context,
        max_pdu=max_pdu,
        roles=roles,
    )


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def encode_associate_ac(
    request: AssociateRequest,
    results: Iterable[tuple[int, int, str]],
    *,
    max_pdu: int,
    roles: Iterable[tuple[str, int, int]],
    implementation_class_uid: str,
    implementation_version: str,
) -> bytes:
    """The A-ASSOCIATE-AC that answers `request` (PS3.8 section 9.3.3).

    `results` holds (context ID, result, transfer syntax) and `roles` (SOP class, SCU role, SCP role).
    """
    contexts = b"".join(
        _item(0x21, struct.pack(">BxBx", context_id, result) + _item(0x40, syntax.encode("latin-1")))
        for context_id, result, syntax in results
    )
    agreed = b"".join(
        _item(0x54, struct.pack(">H", len(name)) + name + bytes((scu, scp)))
        for name, scu, scp in ((sop_class.encode("latin-1"), scu, scp) for sop_class, scu, scp in roles)
    )
    user = (
        _item(0x51, struct.pack(">L", max_pdu))
        + _item(0x52, implementation_class_uid.encode())
        + agreed
        + _item(0x55, implementation_version.encode())
    )
    items = _item(0x10, APPLICATION_CONTEXT.encode()) + contexts + _item(0x50, user)
    body = struct.pack(">Hxx", 1) + request.raw_titles + bytes(32) + items
    return struct.pack(">BxL", ASSOCIATE_AC, len(body)) + body


def encode_associate_rj(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""
    return struct.pack(">BxLxBBB", ASSOCIATE_RJ, 4, result, source, reason)


def encode_release_rp() -> bytes:
    """An A-RELEASE-RP (PS3.8 section 9.3.7)."""
    return struct.pack(">BxL4x", RELEASE_RP, 4)


def encode_abort(source: int, reason: int) -> bytes:
    """An A-ABORT; source 0 = service user, 2 = service provider (PS3.8 section 9.3.8)."""
    return struct.pack(">BxL2xBB", ABORT, 4, source, reason)


def encode_p_data(context_id: int, command: bytes, max_pdu: int = 0) -> bytes:
    """P-DATA-TF PDUs that carry a whole command set (PS3.8 section 9.3.5, annex E).

    Parameters
    ----------
    max_pdu
        Longest body of a PDU, in bytes, that the peer takes; 0 for any.  Each PDU has one fragment of even length,
        of 2 bytes at least.
    """
    room = max(2, (max_pdu - PDV_HEAD) & ~1) if max_pdu else max(2, len(command))
    pieces = [command[at : at + room] for at in range(0, len(command), room)]
    return b"".join(
        struct.pack(">BxLLBB", P_DATA, len(piece) + 6, len(piece) + 2, context_id, control) + piece
        for piece, control in zip(pieces, [COMMAND] * (len(pieces) - 1) + [COMMAND | LAST], strict=True)
    )


@dataclass(frozen=True, slots=True)
class Command:
    """A command set: element tag to raw value."""

    elements: dict[int, bytes]

    def number(self, tag: int) -> int:
        """An unsigned short.

        Raises
        ------
        ProtocolError
            It is missing or of another size.
        """
        value = self.elements.get(tag)
        if value is None or len(value) != 2:
            raise ProtocolError(f"the command has no usable element ({tag >> 16:04X},{tag & 0xFFFF:04X})")
        return int.from_bytes(value, "little")

    def uid(self, tag: int) -> str:
        """A UID without its padding; empty when missing."""
        return _uid(self.elements.get(tag, b""))

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.number(DATA_SET_TYPE) != NO_DATA_SET


def parse_command(data: bytes) -> Command:
    """A command set, always in Implicit VR Little Endian (PS3.7 section 6.3.1).

    Raises
    ------
    ProtocolError
        The bytes are no command set.
    """
    elements: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ProtocolError("the command set is cut off")
        group, element, length = struct.unpack_from("<HHL", data, at)
        if group != 0 or at + 8 + length > len(data):
            raise ProtocolError("the command set is malformed")
        elements[element] = bytes(data[at + 8 : at + 8 + length])
        at += 8 + length
    return Command(elements)


def encode_command(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """A command set with its group length; the inverse of :func:`parse_command`."""
    body = b"".join(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(v)) + v for tag, v in sorted(elements))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def encode_response(command: Command, status: int, comment: str = "") -> bytes:
    """The response to `command`: same SOP class and instance, its field with the response bit set.

    `comment` becomes Error Comment (0000,0902), at most 64 characters.
    """
    elements = [
        (COMMAND_FIELD, struct.pack("<H", command.number(COMMAND_FIELD) | 0x8000)),
        (MESSAGE_ID_RESPONDED_TO, struct.pack("<H", command.number(MESSAGE_ID))),
        (DATA_SET_TYPE, struct.pack("<H", NO_DATA_SET)),
        (STATUS, struct.pack("<H", status)),
    ]
    for tag in (AFFECTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID, EVENT_TYPE_ID):
        if tag in command.elements:
            value = command.elements[tag]
            elements.append((tag, value + b"\0" if len(value) % 2 else value))
    if comment:
        text = comment.encode("ascii", "replace")[:64]
        elements.append((ERROR_COMMENT, text + b" " if len(text) % 2 else text))
    return encode_command(elements)
