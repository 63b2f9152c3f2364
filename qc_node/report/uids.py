"""UIDs that follow from what an object is about, so that a step run twice writes the same object.

All are of the form ``2.25.`` + the decimal value of a UUID (PS3.5 B.2), here a version-8 UUID (RFC 9562) made
of SHA-256 over the parts: no registration, no coordination, 128 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qc_node.domain import InstanceRef, ModelIdentity

REPORT_FORMAT = "2"
"""Counts what changed in what a report says; it stands in the UIDs where the program's version once
stood.  A release alone makes no new reports: what was written stays as it is, under its own UID, and is sent again
as it is.  Format 2 has the order of the template, a summary, and short identifiers; the first was "0.1.0".

Another character set is no other format: the report says the same.  No UID goes out with two contents for it:
bytes written once are kept in ``reports/``, and a cause that has none was never reported.  (Where ledger and
``reports/`` are lost together, a repeated report differs in Software Versions as after any other release.)"""

FLAG_FORMAT = "0.1.0"
"""The same for flags, which nothing can replace: one for the same cause keeps its UID for good."""

SUMMARY_FORMAT = "1"
"""The same for pictures: what they say, not how it is drawn."""


def derived_uid(kind: str, *parts: str) -> str:
    """The UID of the thing that `kind` and `parts` describe."""
    return _as_uid(_digest(kind, parts))


def short_uid(kind: str, *parts: str) -> str:
    """As :func:`derived_uid` for what people meet in a text: 74 bits instead of 122, so 29 characters, not 44.

    Still a version-8 UUID, with zeros in its first 48 bits.  For what is told apart within an archive (a question
    about a series, a device); an object of its own has a whole one.
    """
    return _as_uid(_digest(kind, parts) & (1 << 80) - 1)


def _digest(kind: str, parts: Iterable[str]) -> int:
    digest = hashlib.sha256()
    for part in ("qc-node", kind, *parts):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return int.from_bytes(digest.digest()[:16], "big")


def _as_uid(number: int) -> str:
    number &= ~(0xF << 76 | 0b11 << 62)
    number |= 0x8 << 76 | 0b10 << 62
    return f"2.25.{number}"


Predecessor = tuple[str, str, str]
"""SOP Class UID, SOP Instance UID and Series Instance UID of the report that another one replaces."""


@dataclass(frozen=True, slots=True)
class Edition:
    """What was corrected since the images came first; nothing in most cases, and then no UID depends on it.

    Attributes
    ----------
    corrections
        Each names other content of an image or other identifiers: they give the object another UID.
    place
        Whatever tells an earlier patient or study of the same series from the present one: it gives the series of
        the object another UID, for a series cannot be of two patients.
    """

    corrections: tuple[str, ...] = ()
    place: tuple[str, ...] = ()

    def parts(self) -> tuple[str, ...]:
        """What an object's UID is made from in addition."""
        return ("edition", *self.corrections, *self.place) if self.corrections or self.place else ()


ORIGINAL = Edition()


def instances_digest(instances: Iterable[InstanceRef]) -> str:
    """A digest of a set of instances; their order does not matter.

    An instance that came again with other content is another one.
    """
    uids = sorted({i.sop_instance_uid + (f"={i.content}" if i.content else "") for i in instances})
    return hashlib.sha256("\0".join(uids).encode("utf-8", "surrogatepass")).hexdigest()


def report_uid(
    series_instance_uid: str,
    evidence: Sequence[InstanceRef],
    models: Sequence[ModelIdentity],
    *,
    sr_class: str,
    rules_digest: str,
    edition: Edition = ORIGINAL,
    measures: Sequence[str] = (),
) -> str:
    """SOP Instance UID of the report on one series.

    New instances or contents, corrected identifiers (`edition`), another model, another report format, SR class
    or set of rules give another UID, and nothing else does: neither the time, nor the words of a warning or a
    comment, nor a release of the program.

    Parameters
    ----------
    models
        Whose verdicts the report holds, that of the routed classifier first.
    measures
        Version of the measures in it and what they found; nothing where it has none, and then it is the UID of
        before there were any.
    """
    first, *others = models
    return derived_uid(
        "report",
        series_instance_uid,
        instances_digest(evidence),
        *_spelt(first),
        REPORT_FORMAT,
        sr_class,
        rules_digest,
        *(part for model in others for part in _spelt(model)),
        *measures,
        *edition.parts(),
    )


def measured_report_uid(
    series_instance_uid: str,
    evidence: Sequence[InstanceRef],
    measures: Sequence[str],
    *,
    sr_class: str,
    edition: Edition = ORIGINAL,
) -> str:
    """SOP Instance UID of the report on a series that was measured and not judged; see :func:`report_uid`."""
    images = instances_digest(evidence)
    return derived_uid(
        "measured-report", series_instance_uid, images, REPORT_FORMAT, sr_class, *measures, *edition.parts()
    )


def flag_uid(
    series_instance_uid: str, evidence: Sequence[InstanceRef], model: ModelIdentity, edition: Edition = ORIGINAL
) -> str:
    """SOP Instance UID of the key object that flags one series; see :func:`report_uid`."""
    images = instances_digest(evidence)
    return derived_uid("flag", series_instance_uid, images, *_spelt(model), FLAG_FORMAT, *edition.parts())


def summary_uid(
    series_instance_uid: str,
    evidence: Sequence[InstanceRef],
    models: Sequence[ModelIdentity],
    *,
    rules_digest: str,
    edition: Edition = ORIGINAL,
    measures: Sequence[str] = (),
) -> str:
    """SOP Instance UID of the picture for one series: from the causes of its report, bar the SR class."""
    images = instances_digest(evidence)
    named = [part for model in models for part in _spelt(model)]
    return derived_uid(
        "summary", series_instance_uid, images, SUMMARY_FORMAT, rules_digest, *named, *measures, *edition.parts()
    )


def summary_series_uid(
    study_instance_uid: str, station: str, software_version: str, edition: Edition = ORIGINAL
) -> str:
    """Series Instance UID of the pictures of one study.

    Another one for another patient, and where a series came first in another study that does not count: the study
    is among the causes anyway.
    """
    place = [part for part in edition.place if part != study_instance_uid]
    return derived_uid("summary-series", study_instance_uid, station, software_version, *place)


def report_series_uid(
    kind: str, series_instance_uid: str, station: str, software_version: str, edition: Edition = ORIGINAL
) -> str:
    """Series Instance UID for the objects of one kind on one series.

    Software Versions is an attribute of the series (PS3.3 C.7.5.1), so another version begins another one.
    """
    return derived_uid(kind, series_instance_uid, station, software_version, *edition.place)


def _spelt(model: ModelIdentity) -> tuple[str, str, str]:
    return model.name, model.version, model.sha256


def device_uid(station: str, model: ModelIdentity) -> str:
    """Device Observer UID: another one for another model, as IHE AIR asks, and for another node."""
    return short_uid("device", station, *_spelt(model))
