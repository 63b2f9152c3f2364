"""Pure parsing: right on what is right, and nothing but its own errors on everything else."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
)
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ

from qc_node.dicom import received_header
from qc_node.dicom.elements import ScanError, Window, scan
from qc_node.dicom.uids import IMPLEMENTATION_CLASS_UID
from qc_node.receiver import negotiation, pdu
from tests.receiver.wire_peer import associate_rq, c_store_rq, encode, image, item

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
WHOLE = associate_rq([(1, MRImageStorage, SYNTAXES[:2]), (3, CTImageStorage, SYNTAXES)])[6:]


# -- PDUs ------------------------------------------------------------------------------------------------
def test_an_association_request_is_read_whole() -> None:
    unknown = item(0x77, b"abc")
    raw = associate_rq(
        [(1, MRImageStorage, SYNTAXES[:2])],
        called="A",
        calling="B C",
        extra_user_items=unknown + role(MRImageStorage + "\0"),
    )
    request = pdu.parse_associate_rq(raw[6:])
    assert (request.called_ae, request.calling_ae, request.max_pdu) == ("A", "B C", 16384)
    assert request.application_context == "1.2.840.10008.3.1.1.1"
    assert request.contexts == (pdu.ProposedContext(1, MRImageStorage, tuple(map(str, SYNTAXES[:2]))),)
    assert request.roles == {MRImageStorage: (1, 0)}


def role(sop_class: str) -> bytes:
    name = sop_class.encode()
    return item(0x54, struct.pack(">H", len(name)) + name + b"\1\0")


def test_the_most_that_the_standard_allows_is_taken() -> None:
    """128 presentation contexts, each with its role and both kinds of extended negotiation."""
    classes = [f"1.2.826.0.1.{1000 + n}.".ljust(64, "1") for n in range(128)]
    user = b"".join(role(c) + item(0x56, b"\0\0") + item(0x57, bytes(6)) for c in classes)
    raw = associate_rq([(2 * n + 1, c, SYNTAXES) for n, c in enumerate(classes)], extra_user_items=user, max_pdu=0)
    request = pdu.parse_associate_rq(raw[6:])
    answer = A_ASSOCIATE_AC()
    answer.decode(negotiation.negotiate(request, 32768).answer)
    assert [(c.context_id, c.result) for c in answer.presentation_context] == [(n, 0) for n in range(1, 256, 2)]
    assert answer.user_information is not None
    assert len(answer.user_information.role_selection) == 128


TOO_MUCH = {
    "64,000 contexts of ID 2": (struct.pack(">BxHBxxx", 0x20, 4, 2) * 64000, b""),
    "64,000 contexts of ID 1": (struct.pack(">BxHBxxx", 0x20, 4, 1) * 64000, b""),
    "129 contexts": (
        b"".join(struct.pack(">BxHBxxx", 0x20, 4, n % 256) for n in range(1, 2 * 129, 2)),
        b"",
    ),
    "a context of an even ID": (struct.pack(">BxHBxxx", 0x20, 4, 4), b""),
    "roles for 5,000 SOP classes": (b"", b"".join(role(str(n)) for n in range(5000))),
    "a UID of 60,000 characters": (b"", role("1" * 60000)),
    "user information twice": (item(0x50, b""), b""),
}


@pytest.mark.parametrize("much", TOO_MUCH)
def test_a_request_beyond_the_bounds_of_the_standard_is_refused_before_it_costs_time(much: str) -> None:
    contexts, user = TOO_MUCH[much]
    whole = associate_rq([(1, MRImageStorage, SYNTAXES[:1])], extra_user_items=user)[6:]
    at = whole.index(struct.pack(">BBH", 0x50, 0, len(user) + 19))
    with pytest.raises(pdu.ProtocolError):
        pdu.parse_associate_rq(whole[:at] + contexts + whole[at:])


@given(st.binary(min_size=2, max_size=300), st.integers(8, 400))
def test_a_command_is_cut_into_pieces_that_the_peer_takes(command: bytes, longest: int) -> None:
    command = command[: len(command) // 2 * 2]
    sent, bodies = pdu.encode_p_data(5, command, longest), []
    while sent:
        kind, length = struct.unpack_from(">BxL", sent)
        assert kind == 4 and length <= longest
        bodies.append(sent[6 : 6 + length])
        sent = sent[6 + length :]
    assert b"".join(body[6:] for body in bodies) == command
    assert {struct.unpack_from(">LB", body) for body in bodies} == {(len(b) - 4, 5) for b in bodies}
    assert [body[5] for body in bodies] == [1] * (len(bodies) - 1) + [3]


def test_our_answers_are_read_by_pynetdicom() -> None:
    request = pdu.parse_associate_rq(WHOLE)
    answer = A_ASSOCIATE_AC()
    answer.decode(negotiation.negotiate(request, 131072).answer)
    assert [(c.context_id, c.result, c.transfer_syntax) for c in answer.presentation_context] == [
        (1, 0, ExplicitVRLittleEndian),
        (3, 0, ExplicitVRLittleEndian),
    ]
    assert answer.user_information is not None
    assert answer.user_information.maximum_length == 131072
    assert answer.user_information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    rejection = A_ASSOCIATE_RJ()
    rejection.decode(negotiation.NO_SPACE.answer)
    assert (rejection.result, rejection.source, rejection.reason_diagnostic) == (2, 3, 1)


def test_a_command_survives_encoding() -> None:
    command = pdu.parse_command(c_store_rq(MRImageStorage, "1.2.3"))
    assert command.uid(pdu.AFFECTED_SOP_INSTANCE_UID) == "1.2.3" and command.has_data_set
    response = pdu.parse_command(pdu.encode_response(command, 0xA700, "x" * 100))
    assert response.number(pdu.STATUS) == 0xA700 and response.number(pdu.COMMAND_FIELD) == 0x8001
    assert response.number(pdu.MESSAGE_ID_RESPONDED_TO) == 1 and not response.has_data_set
    assert response.elements[pdu.ERROR_COMMENT] == b"x" * 64
    assert (
        pdu.parse_command(pdu.encode_command(response.elements.items())).elements.keys()
        >= response.elements.keys()
    )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | st.tuples(st.integers(0, len(WHOLE)), st.binary(max_size=6)))
def test_an_association_request_of_any_bytes_is_parsed_or_refused(data: Any) -> None:
    if isinstance(data, tuple):
        at, patch = data
        data = WHOLE[:at] + patch + WHOLE[at + len(patch) :]
    try:
        request = pdu.parse_associate_rq(data)
    except pdu.ProtocolError:
        return
    acceptance = negotiation.negotiate(request, 131072)
    assert struct.unpack(">BxL", acceptance.answer[:6]) == (2, len(acceptance.answer) - 6)
    assert set(acceptance.contexts) <= {c.context_id for c in request.contexts}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_a_command_of_any_bytes_is_parsed_or_refused(data: bytes) -> None:
    try:
        command = pdu.parse_command(data)
        pdu.encode_response(command, 0, "")
    except pdu.ProtocolError:
        return


# -- negotiation -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([JPEG2000, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([JPEG2000, JPEG2000Lossless], JPEG2000Lossless),
        ([JPEG2000, "1.2.840.10008.1.2.4.50"], JPEG2000),
        (["1.2.840.10008.1.2.4.94", "1.3.6.1.4.1.99999.7"], "1.3.6.1.4.1.99999.7"),
        ([], None),
        ([""], None),
    ],
)
def test_the_least_altering_transfer_syntax_is_taken(proposed: list[str], chosen: str | None) -> None:
    assert negotiation.choose_transfer_syntax(tuple(proposed)) == chosen


@pytest.mark.parametrize(
    ("uid", "taken"),
    [
        (MRImageStorage, True),
        ("1.2.840.10008.5.1.4.1.1.5", True),  # retired NM
        ("1.2.840.10008.5.1.4.1.1.88.59", True),
        ("1.3.12.2.1107.5.9.1", True),  # Siemens CSA non-image
        ("1.2.840.10008.5.1.4.1.1.99999", True),  # a class that is newer than this program
        ("1.2.840.10008.1.20.1", False),
        ("1.2.840.10008.1.3.10", False),  # Media Storage Directory
        ("1.2.840.10008.5.1.4.1.2.1.2", False),
        ("1.2.840.10008.5.1.4.31", False),
        ("1.2.840.10008.5.1.1.9", False),
        ("", False),
    ],
)
def test_which_classes_are_storage(uid: str, taken: bool) -> None:
    assert negotiation.stores(uid) is taken


# -- headers ---------------------------------------------------------------------------------------------
def rich(**changes: Any) -> Dataset:
    """A data set with much before the wanted elements: sequences of both kinds, private data, odd VRs."""
    ds = image(**changes)
    inner, item = Dataset(), Dataset()
    inner.CodeValue = "1"
    item.ConceptCodeSequence = Sequence([inner, Dataset()])
    item.SOPInstanceUID = "9.9.9"
    ds.ReferencedImageSequence = Sequence([item, item])
    ds.ProcedureCodeSequence = Sequence([])
    block = ds.private_block(0x29, "SOMEBODY", create=True)
    block.add_new(1, "OB", bytes(70_000))
    block.add_new(2, "SQ", Sequence([item]))
    ds.ImageComments = "SH UL"
    ds.ImagesInAcquisition = "11"
    ds.NumberOfSlices, ds.NumberOfTimeSlices = 4, 5
    ds.RequestAttributesSequence = Sequence([item])
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
def test_the_scanner_reads_what_pydicom_wrote(
    syntax: str, undefined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = rich()
    for element in ds.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    data = encode(ds, syntax)
    assert (b"\xdd\xe0" in data or b"\xe0\xdd" in data) == undefined or syntax == DeflatedExplicitVRLittleEndian
    monkeypatch.setattr(
        received_header, "_by_pydicom", lambda *_: pytest.fail("the scanner should have understood this")
    )
    facts = received_header.facts(memoryview(b"12345678" + data), syntax, 8)
    assert facts.sop_instance_uid == ds.SOPInstanceUID and facts.series_uid == ds.SeriesInstanceUID
    assert facts.study_uid == ds.StudyInstanceUID and facts.modality == "MR"
    wanted = {
        received_header.ROWS: 16,
        received_header.IMAGES_IN_ACQUISITION: 11,
        received_header.NUMBER_OF_SLICES: 4,
        received_header.NUMBER_OF_TIME_SLICES: 5,
    }
    assert facts.numbers == wanted
    assert received_header.check(facts, MRImageStorage, ds.SOPInstanceUID) is None


def test_pydicom_helps_where_the_scanner_gives_up() -> None:
    ds = image()
    explicit = encode(ds, ExplicitVRLittleEndian)
    with pytest.raises(ScanError):
        scan(Window(memoryview(explicit)), received_header.WANTED, explicit=False)
    # the sender says Implicit VR and writes Explicit VR
    assert received_header.facts(memoryview(explicit), ImplicitVRLittleEndian).series_uid == ds.SeriesInstanceUID


def test_a_deflate_bomb_is_inflated_only_as_far_as_a_header_may_reach() -> None:
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(300)) + compressor.flush()
    assert len(bomb) < 400_000
    tracemalloc.start()
    assert (
        received_header.check(
            received_header.facts(memoryview(bomb), DeflatedExplicitVRLittleEndian), "1.2", "1.3"
        )
        is not None
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20


GOOD = encode(rich())


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=4)), max_size=4),
    st.sampled_from([*SYNTAXES, JPEG2000]),
)
def test_a_data_set_of_any_bytes_gives_facts_or_a_reason(data: Any, syntax: str) -> None:
    if isinstance(data, list):
        raw = bytearray(GOOD[:3000])
        for at, patch in data:
            raw[at : at + len(patch)] = patch
        data = bytes(raw)
    tracemalloc.start()
    try:
        facts = received_header.facts(memoryview(data), syntax)
        refusal = received_header.check(facts, facts.sop_class_uid, facts.sop_instance_uid)
        if refusal is None:
            uids = (facts.sop_class_uid, facts.sop_instance_uid, facts.study_uid, facts.series_uid)
            assert all(set(uid) <= set("0123456789.") and 0 < len(uid) <= 64 for uid in uids)
        else:
            assert refusal[0] in (0xC211, 0xC212, 0xA900) and refusal[1].endswith(".")
    except received_header.HeaderError as error:
        assert str(error).endswith(".")
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 40 << 20
