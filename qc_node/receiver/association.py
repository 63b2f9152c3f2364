"""One association, from the first byte to the last: a loop that a thread runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from qc_node.dicom import commitment
from qc_node.dicom.uids import STORAGE_COMMITMENT, VERIFICATION, is_uid
from qc_node.ledger.commitments import note_commitment
from qc_node.receiver import pdu
from qc_node.receiver.events import CommittedEvent, Event, ReceivedEvent
from qc_node.receiver.negotiation import Acceptance, Context
from qc_node.receiver.store import Incoming, Request, Store, StoreOutcome
from qc_node.receiver.wire import Gone, Released, Wire

UNRECOGNISED_OPERATION = 0x0211
"""PS3.7 annex C.5.6."""
SOP_CLASS_NOT_SUPPORTED = 0x0122
"""PS3.7 annex C.5.5: the request names another class than its presentation context."""
NO_DATA_SET = 0xC213


class Association:
    """Serves one peer whose association was accepted.

    Parameters
    ----------
    wire, acceptance, calling_ae
        The connection, what was agreed on it, and who calls.
    on_event
        Called after every answered C-STORE request, and for every object that a PACS promises to keep.
    """

    def __init__(
        self,
        wire: Wire,
        acceptance: Acceptance,
        calling_ae: str,
        store: Store,
        on_event: Callable[[Event], None],
        log: logging.Logger,
    ) -> None:
        self._wire = wire
        self._contexts = acceptance.contexts
        self._max_pdu = acceptance.max_pdu
        self._calling_ae = calling_ae
        self._store = store
        self._on_event = on_event
        self._log = log

    def converse(self) -> None:
        """Answer requests until the peer releases.

        Statuses
        --------
        C-ECHO: 0x0000.  C-STORE: those of :meth:`Incoming.finish`, 0x0122, 0xC213.  N-EVENT-REPORT: those of
        :func:`commitment.take_result`.  Anything else: 0x0211.

        Raises
        ------
        Gone, ProtocolError
            The conversation ended otherwise.
        """
        while True:
            try:
                context_id, command = self._wire.command()
            except Released:
                self._wire.send(pdu.encode_release_rp())
                return
            context = self._contexts.get(context_id)
            if context is None:
                raise pdu.ProtocolError(f"presentation context {context_id} was not accepted")
            operation = command.number(pdu.COMMAND_FIELD)
            if operation == pdu.C_CANCEL_RQ:
                continue
            if operation == pdu.C_STORE_RQ:
                self._take_object(context_id, context, command)
                continue
            data_set = self._small_data_set(context_id, command)
            if operation == pdu.C_ECHO_RQ and context.abstract_syntax == VERIFICATION:
                status, comment = 0x0000, ""
            elif operation == pdu.N_EVENT_REPORT_RQ and context.abstract_syntax == STORAGE_COMMITMENT:
                event_type = command.number(pdu.EVENT_TYPE_ID)
                status, comment = self._take_result(event_type, data_set, context.transfer_syntax)
            else:
                status, comment = UNRECOGNISED_OPERATION, "not a service of this node"
            self._answer(context_id, command, status, comment if status else "")

    def _take_result(self, event_type: int, data_set: bytes, transfer_syntax: str) -> tuple[int, str]:
        def note(result: commitment.CommitmentResult) -> str:
            noted = note_commitment(self._store.ledger.deliveries, result, self._store.clock())
            for destination in noted.kept_by:
                self._on_event(CommittedEvent(destination))
            return noted.sentence

        status, sentence = commitment.take_result(
            event_type, lambda: commitment.decode(data_set, transfer_syntax), note
        )
        self._log.log(logging.WARNING if status else logging.INFO, "%s", sentence)
        return status, sentence

    def _answer(self, context_id: int, command: pdu.Command, status: int, comment: str) -> None:
        response = pdu.encode_response(command, status, comment)
        self._wire.send(pdu.encode_p_data(context_id, response, self._max_pdu))

    def _small_data_set(self, context_id: int, command: pdu.Command) -> bytes:
        data = bytearray()
        if command.has_data_set:
            for view in self._wire.data_set(context_id):
                if len(data) + len(view) > commitment.LONGEST:
                    raise pdu.ProtocolError("the data set is too long for its operation")
                data += view
        return bytes(data)

    def _take_object(self, context_id: int, context: Context, command: pdu.Command) -> None:
        began = time.perf_counter()
        request = Request(
            sop_class_uid=command.uid(pdu.AFFECTED_SOP_CLASS_UID),
            sop_instance_uid=command.uid(pdu.AFFECTED_SOP_INSTANCE_UID),
            transfer_syntax_uid=context.transfer_syntax,
            calling_ae=self._calling_ae,
        )
        if not command.has_data_set:
            outcome = StoreOutcome(NO_DATA_SET, "The request has no data set.")
        elif request.sop_class_uid != context.abstract_syntax and is_uid(request.sop_class_uid):
            for _ in self._wire.data_set(context_id):
                pass
            sentence = "The request names another SOP class than its presentation context."
            outcome = StoreOutcome(SOP_CLASS_NOT_SUPPORTED, sentence)
        else:
            outcome = self._receive(context_id, self._store.receive(request))
        self._answer(context_id, command, outcome.status, outcome.sentence)
        if outcome.status:
            self._log.warning("object refused: %s", outcome.sentence, extra={"status": f"0x{outcome.status:04X}"})
        if outcome.correction is not None and not outcome.status:
            self._log.warning("an object came again with other content (%s) and was kept", outcome.correction)
        facts = outcome.facts
        self._on_event(
            ReceivedEvent(
                calling_ae=self._calling_ae,
                status=outcome.status,
                seconds=time.perf_counter() - began,
                bytes=outcome.bytes,
                opens_series=outcome.opens_series,
                series_uid=facts.series_uid if facts and is_uid(facts.series_uid) else None,
                changed=outcome.correction is not None,
            )
        )

    def _receive(self, context_id: int, incoming: Incoming) -> StoreOutcome:
        try:
            for view in self._wire.data_set(context_id):
                incoming.write(view)
            return incoming.finish()
        except (Gone, pdu.ProtocolError):
            incoming.abandon()
            raise
