"""One type per table or query: what SQL returns, as mypy sees it.

A row is a dictionary, so that ``row["state"]`` reads as the column that it is; which keys there are, and of which
type, stands here.  ``tests/ledger/test_rows.py`` asks every query of the ledger for its columns and compares.
Times are seconds since the epoch (UTC); flags are 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from qc_node.domain import Verdict


# -- images ------------------------------------------------------------------------------------------
class StudyRow(TypedDict):
    """One study; ``missing`` and ``notes`` are JSON lists of sentences (what was ordered; what is usual).

    ``patient`` is a keyed pseudonym (:func:`qc_node.dicom.patient.pseudonym`), never an identity; several, with
    spaces between, where images of one study do not agree; empty where they name nobody, None before one was read.
    """

    study_uid: str
    accession_number: str | None
    description: str | None
    first_received: float
    last_received: float
    state: str
    due_at: float | None
    closed_by: str | None
    closed_at: float | None
    missing: str
    patient: str | None
    notes: str


class SeriesRow(TypedDict):
    """One series of one study; ``claims`` is JSON, ``stage`` the routed classifier's."""

    series_id: int
    study_uid: str
    series_uid: str
    modality: str
    calling_ae: str
    station: str | None
    first_received: float
    last_received: float
    instances: int
    expected: int | None
    expected_rule: str | None
    pacs_count: int | None
    pacs_count_since: float | None
    pacs_asked_at: float | None
    run: int
    state: str
    due_at: float | None
    closed_by: str | None
    closed_at: float | None
    claimed_at: float | None
    attempts: int
    stage: str | None
    sentence: str | None
    claims: str
    images_removed_at: float | None


class FoundSeries(SeriesRow):
    """A series with what its study is called; ``missing`` and ``notes`` are sentences about the study, JSON."""

    accession_number: str | None
    study_description: str | None
    missing: str
    notes: str


class NumberRow(TypedDict):
    """The number of a series."""

    series_id: int


class PlaceRow(TypedDict):
    """Where a series stands in the order of arrival."""

    last_received: float
    series_id: int


class ScannerNameRow(TypedDict):
    """A station or calling AE title."""

    name: str


class InstanceRow(TypedDict):
    """One version of one received instance.

    ``series_id`` is None for what opens no series (:class:`ObjectRow`); ``digest`` is of the data set, None where
    it was never taken; ``superseded_at`` is None for the current version.
    """

    instance_id: int
    sop_instance_uid: str
    version: int
    series_id: int | None
    sop_class_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    path: str
    bytes: int
    received_at: float
    digest: str | None
    superseded_at: float | None


class ObjectRow(TypedDict):
    """A received object that opens no series (key object, SR, presentation state, ...) and where it belongs."""

    instance_id: int
    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    calling_ae: str
    path: str
    bytes: int
    received_at: float
    handled: int


class RemovableRow(TypedDict):
    """An object whose file may go."""

    instance_id: int
    sop_instance_uid: str
    path: str


class QuarantineRow(TypedDict):
    """Bytes that could not be understood."""

    id: int
    path: str
    reason: str
    calling_ae: str
    received_at: float


class EventRow(TypedDict):
    """A line in the history of a series."""

    id: int
    series_id: int
    run: int
    at: float
    event: str
    detail: str | None


class StateCount(TypedDict):
    """How many rows stand in a state."""

    state: str
    n: int


class StateSince(TypedDict):
    """Since when the oldest row of a state waits."""

    state: str
    since: float | None


class TiredRow(TypedDict):
    """A series that took its worker down."""

    series_id: int
    run: int
    attempts: int


class PathRow(TypedDict):
    """A spool name."""

    path: str


class VersionRow(TypedDict):
    """Which version of an instance is the newest, and its spool name."""

    version: int
    path: str


class ClaimsRow(TypedDict):
    """What a header claims, as JSON."""

    claims: str


# -- verdicts and models -----------------------------------------------------------------------------
class _VerdictColumns(TypedDict):
    id: int
    series_id: int
    run: int
    stage: str
    routed: int
    source_path: str
    judged_at: float
    report_after: float
    training_path: str | None


class StoredVerdict(_VerdictColumns):
    """A verdict as the table holds it; ``verdict``, ``claims``, ``warnings``, ... are JSON."""

    verdict: str
    claims: str
    warnings: str
    timings: str
    thumbnails: str


class VerdictRow(_VerdictColumns):
    """A verdict with its JSON columns decoded."""

    verdict: Verdict
    claims: dict[str, Any]
    warnings: list[str]
    timings: dict[str, float]
    thumbnails: list[str]


class WaitingReport(TypedDict):
    """A verdict whose report is still to be written, or is ``written`` and may still be followed by a flag."""

    id: int
    written: int
    judged_at: float
    report_after: float


class StoredStudyVerdict(StoredVerdict):
    """A stored verdict and the study of its series."""

    study_uid: str


class StudyVerdict(VerdictRow):
    """A decoded verdict and the study of its series."""

    study_uid: str


class GradableRow(TypedDict):
    """A series that experts may grade, by its verdict."""

    id: int
    series_id: int
    series_uid: str
    run: int
    thumbnails: str
    judged_at: float


class ModelRow(TypedDict):
    """A model that gave a verdict here."""

    sha256: str
    name: str
    version: str
    stage: str
    first_used: float


class AliasRow(TypedDict):
    """A name (champion, challenger, shadow) given to weights; the newest row of a stage and alias counts."""

    id: int
    stage: str
    alias: str
    sha256: str
    at: float
    by: str


# -- reports and their delivery ----------------------------------------------------------------------
class ReportRow(TypedDict):
    """An object that the node wrote; ``series_id`` is None for one about a whole study.

    ``path`` is empty once the bytes are gone (``[retention] keep_reports_days``, ``keep_summaries_days``).
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_id: int | None
    study_uid: str
    run: int
    kind: str
    path: str
    predecessor: str | None
    created_at: float


class SummaryDueRow(TypedDict):
    """A study whose pictures are to be drawn; ``at`` is when that was noted, and which note it is."""

    study_uid: str
    at: float


class _DeliveryColumns(TypedDict):
    id: int
    sop_instance_uid: str
    destination: str
    state: str
    attempts: int
    next_attempt_at: float
    created_at: float
    sent_at: float | None
    committed_at: float | None
    last_error: str | None


class ReportDelivery(_DeliveryColumns):
    """A delivery with the report that it carries."""

    path: str
    sop_class_uid: str
    series_id: int | None
    series_uid: str | None
    study_uid: str
    run: int
    kind: str


class AskedDelivery(ReportDelivery):
    """A sent delivery whose storage commitment was asked for in vain so far.

    ``asked`` times; first at ``first_asked``, last at ``last_asked``; ``last_heard`` is the later of that and
    its answer; ``outcome`` is that of the last request (None: no answer yet).
    """

    asked: int
    first_asked: float
    last_asked: float
    last_heard: float
    outcome: str | None


class DestinationRow(TypedDict):
    """What a destination has not taken.

    ``failing_since`` is when the first object was written, or turned down, that has been tried in vain; ``held``
    are objects that were not tried because an earlier one of their series waits.
    """

    destination: str
    waiting: int
    failed: int
    oldest: float | None
    failing_since: float | None
    held: int


class TroubledRow(TypedDict):
    """A delivery that was tried in vain or refused, as an operator sees it."""

    id: int
    destination: str
    state: str
    attempts: int
    next_attempt_at: float
    created_at: float
    last_error: str | None
    kind: str
    series_id: int | None
    accession_number: str | None
    station: str | None


class FailedSeries(TypedDict):
    """A series that could not be judged, as an operator sees it."""

    series_id: int
    modality: str
    station: str
    accession_number: str | None
    sentence: str | None
    closed_at: float | None
    images_removed_at: float | None


class TurnedDownRow(TypedDict):
    """Since when, and how often, a destination that is well has not taken a delivery."""

    delivery_id: int
    since: float
    times: int


class CommitmentRow(TypedDict):
    """One storage commitment request for one delivery; open while ``answered_at`` is None."""

    id: int
    delivery_id: int
    transaction_uid: str
    asked_at: float
    answered_at: float | None
    outcome: str | None


# -- people and their votes --------------------------------------------------------------------------
class ReaderRow(TypedDict):
    """One reader, secrets as hashes."""

    reader_id: str
    login: str
    name: str
    site: str
    role: str
    pseudonym: str
    dicom_name: str | None
    pin_hash: str | None
    token_hash: str | None
    fhircast_topic: str | None
    session_epoch: int
    created_at: float
    disabled_at: float | None


class CaseRow(TypedDict):
    """What can be voted on, behind an opaque handle."""

    handle: str
    subject: str
    study_uid: str | None
    series_uid: str | None
    accession_number: str | None
    modality: str | None
    description: str | None
    created_at: float


class PresentationRow(TypedDict):
    """A case that was put before a reader, with what it showed."""

    id: str
    handle: str
    reader_id: str
    site: str
    modality: str | None
    at: float
    how: str
    prompt: str | None
    context_id: str | None
    study_uid: str | None
    series_uid: str | None
    accession_number: str | None


class _VoteColumns(TypedDict):
    id: int
    key: str
    reader_id: str
    role: str
    study_uid: str | None
    series_uid: str | None
    accession_number: str | None
    site: str
    modality: str
    vote: str
    voted_at: float
    received_at: float
    ms_to_vote: int | None
    source: str
    verdict_visible: int
    presentation: str | None
    replaces: int | None
    sop_instance_uid: str | None


class LoggedVote(_VoteColumns):
    """A line of the vote log: a vote with the reasons that stand, or a withdrawal; reasons are JSON."""

    reasons: str


class VoteRow(_VoteColumns):
    """A line of the vote log with its reasons as a list."""

    reasons: list[str]


class ActRow(TypedDict):
    """What a reader did with a vote afterwards or with it: reasons, comment, confidence, agreement, withdrawal.

    ``value`` is JSON, None for a withdrawal; ``undoes`` names an earlier act that this withdrawal takes back, and
    is None where it takes back the vote.
    """

    id: int
    vote_id: int
    kind: str
    value: str | None
    undoes: int | None
    key: str | None
    reader_id: str
    role: str
    at: float
    received_at: float
    source: str
    verdict_visible: int
    presentation: str | None


class _MarkColumns(TypedDict):
    id: int
    sop_instance_uid: str
    study_uid: str
    series_uid: str | None
    vote: str
    why_no_vote: str
    received_at: float


class StoredMark(_MarkColumns):
    """A key object without a known author; reasons are JSON."""

    reasons: str


class MarkRow(_MarkColumns):
    """A key object without a known author."""

    reasons: list[str]


class AlarmRow(TypedDict):
    """A call of the board for attention; `kind` says why, `answer` what was done about it."""

    id: int
    series_id: int
    run: int
    calling_ae: str
    raised_at: float
    closed_at: float | None
    closed_by: str | None
    kind: str
    station: str | None
    vote_id: int | None
    answer: str | None


class ScannerRow(TypedDict):
    """Who makes series: the station of their headers, and who sends them."""

    station: str | None
    calling_ae: str


class CalledRow(TypedDict):
    """A call as it is counted."""

    station: str | None
    calling_ae: str
    kind: str
    raised_at: float
    answer: str | None
    closed_by: str | None


class AnsweredVote(TypedDict):
    """A reader's vote that called the technologists, and what they answered; ``answered_at`` None: nothing yet."""

    vote_key: str
    vote_id: int
    study_uid: str | None
    series_uid: str | None
    station: str | None
    calling_ae: str
    raised_at: float
    answered_at: float | None
    answer: str | None


class SessionRow(TypedDict):
    """A reader who is, or was, signed in at one browser; `session_id` is a digest of what the cookie holds.

    `way` is how: ``pin``, ``link``, ``single sign-on``.
    """

    session_id: str
    reader_id: str
    way: str
    started_at: float
    ended_at: float | None
    ended_by: str | None


class ContextRow(TypedDict):
    """What a viewer had open for a reader; ``closed_by``: switched, closed, cut, stopped, refused, restart."""

    context_id: str
    reader_id: str
    opened_at: float
    closed_at: float | None
    closed_by: str | None


class ChartRow(TypedDict):
    """One scanner, software version and protocol, whose series are compared with each other."""

    chart_id: int
    modality: str
    station: str
    software: str
    protocol: str
    opened_at: float


class MeasuredRow(TypedDict):
    """What was measured of one run of a series.

    ``measures``, ``parameters``, ``unmeasured`` are JSON dictionaries, ``unusual``, ``departures``, ``findings``
    JSON lists (:mod:`qc_node.domain.measure`); ``version`` is that of the measures, ``at`` when the series was
    measured first: measuring it again does not move it in its chart.
    """

    measured_id: int
    series_id: int
    run: int
    chart_id: int | None
    at: float
    version: int
    body_size: float | None
    parameters: str
    measures: str
    unmeasured: str
    unusual: str
    departures: str
    findings: str
    seconds: float


class ChartedRow(MeasuredRow):
    """A row of :class:`MeasuredRow` with its series and chart; station, software, protocol may be empty."""

    study_uid: str
    series_uid: str
    stage: str | None
    modality: str
    station: str
    software: str
    protocol: str


class KeptInputRow(TypedDict):
    """A file that models may learn from; ``kind``: ``input`` (as the classifier takes it) or ``pictures``."""

    kept_id: int
    series_id: int
    run: int
    kind: str
    path: str
    bytes: int
    sampled: int
    kept_at: float


class ChartOffered(ChartRow):
    """A chart that holds series, with its newest one; `n` of them, counted up to a limit."""

    newest_series: int
    newest_at: float
    n: int


class DriftRow(TypedDict):
    """A chart that drifts; ``unusual`` as in :class:`MeasuredRow`."""

    station: str
    chart_id: int
    unusual: str


class SoftwareRow(TypedDict):
    """A software version of a scanner; ``since``: when the first of its charts was opened."""

    station: str
    modality: str
    software: str
    since: float


class StationRow(TypedDict):
    """A scanner that has a chart."""

    station: str


class StudyProtocolRow(TypedDict):
    """A protocol of a series of a study, and its scanner."""

    study_uid: str
    station: str
    protocol: str


class NotificationRow(TypedDict):
    """What is to be told to one target; `body` is JSON without patient data."""

    id: int
    event: str
    target: str
    body: str
    created_at: float
    next_attempt_at: float
    attempts: int
    sent_at: float | None
    given_up_at: float | None
    last_error: str | None


class LabelRow(TypedDict):
    """A person's answer to one question of a verdict."""

    id: int
    series_id: int
    run: int
    question: str
    found: str | None
    label: str
    reader_id: str
    at: float


class PromptRow(TypedDict):
    """A request for a vote."""

    id: str
    study_uid: str
    series_id: int | None
    reader_id: str
    reason: str
    created_at: float
    closed_at: float | None
    outcome: str | None


class GradingRow(TypedDict):
    """One expert's grading; ``series_id`` is None where the series was never received here."""

    id: int
    key: str
    series_uid: str
    series_id: int | None
    reader_id: str
    kind: str
    straight_reject: int
    gadolinium: int | None
    motion: int | None
    contrast: int | None
    noise: int | None
    at: float
    ms: int | None
    source: str
    verdict_visible: int | None


class FiledSeries(TypedDict):
    """A series of a study; ``patient`` as in :class:`StudyRow`."""

    series_id: int
    study_uid: str
    series_uid: str
    run: int
    state: str
    patient: str | None


class FiledObject(TypedDict):
    """A received object that opens no series, and its spool name."""

    instance_id: int
    study_uid: str
    path: str


class PatientRow(TypedDict):
    """A study and whose it is, as in :class:`StudyRow`."""

    study_uid: str
    patient: str | None


class RelinkRow(TypedDict):
    """Identifiers that an operator corrected; ``series_uid`` is None where they hold for the whole study.

    ``identity`` is a JSON object of DICOM keywords and values, null where an earlier correction is taken back;
    ``named`` is a JSON list of the patients, as (Patient ID, its issuer), whom the images named until then.
    """

    id: int
    study_uid: str
    series_uid: str | None
    identity: str
    named: str
    at: float
    by: str


class AuditRow(TypedDict):
    """Something that an auditor may ask about; ``detail`` is a JSON object without patient data."""

    id: int
    at: float
    event: str
    actor: str
    detail: str


AnyRow = Mapping[str, Any]
"""A row that no query of the program makes: for tools and tests."""
