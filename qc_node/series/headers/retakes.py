"""A second radiograph of the same view within minutes: likely a retake, of a first one that was not good enough.

Pure.  Departments count retakes (AAPM TG 151: reject rates of 5 to 10 %) where the console tells of them; archives
receive the good image and often the bad one too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom import Dataset

from qc_node.series.headers.claims import text_of

WITHIN_S = 900.0
"""Later images of the same view are a control (after a tube was moved, a cast was made)."""
SAME_EXPOSURE_S = 12.0
"""Images that follow sooner are one examination of several exposures: dual energy, stitched legs and spines, or a
raw and a processed image of one exposure.  Nobody looks at an image, moves the patient and repeats it as fast."""

_TIMES = (
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("StudyDate", "AcquisitionTime"),
    ("StudyDate", "ContentTime"),
)


@dataclass(frozen=True, slots=True)
class ExposedView:
    """One radiograph of a study.

    Attributes
    ----------
    at
        When it was acquired, seconds on any clock; None where it is not known.
    view, laterality, body_part
        As in :attr:`Technique.protocol <qc_node.domain.technique.Technique.protocol>`; empty where not stated.
    """

    at: float | None
    view: str
    laterality: str = ""
    body_part: str = ""


@dataclass(frozen=True, slots=True)
class Retake:
    """Two radiographs of one view, by their numbers in what was asked about, the earlier one first."""

    first: int
    second: int
    minutes: float

    @property
    def sentence(self) -> str:
        """For people.

        Examples
        --------
        >>> Retake(0, 1, 3.2).sentence
        'Likely a retake: the same view was taken 3 minutes before.'
        """
        minutes = max(1, round(self.minutes))
        return f"Likely a retake: the same view was taken {minutes} minute{'s' if minutes > 1 else ''} before."


def likely_retakes(taken: Sequence[ExposedView], within_s: float = WITHIN_S) -> tuple[Retake, ...]:
    """Each radiograph that repeats an earlier one of the same study, with the latest such.

    Only images that state view and body part can be compared: fingers of one hand, or ribs above and below, are
    different images whose headers differ in nothing else.  An image without laterality repeats only another one
    without.

    Parameters
    ----------
    taken
        The radiographs of one study in any order.
    within_s
        Longest time between the two.

    Returns
    -------
    tuple of Retake
        In order of time.
    """
    usable = [n for n, one in enumerate(taken) if one.at is not None and math.isfinite(one.at)]
    usable = [n for n in usable if taken[n].view and taken[n].body_part]
    found: list[Retake] = []
    last: dict[tuple[str, str, str], int] = {}
    for n in sorted(usable, key=lambda n: (taken[n].at or 0.0, n)):
        one = taken[n]
        key = (one.view, one.laterality, one.body_part)
        before = last.get(key)
        last[key] = n
        if before is None:
            continue
        apart = (one.at or 0.0) - (taken[before].at or 0.0)
        if SAME_EXPOSURE_S <= apart <= within_s:
            found.append(Retake(before, n, apart / 60))
    return tuple(found)


def acquired_at(header: Dataset) -> float | None:
    """When an image was acquired by the clock of the device, in seconds; for differences within one study only.

    Acquisition DateTime (0008,002A), else date and time of acquisition, else of content.  A zone is not looked at:
    one device does not change it between two images.
    """
    texts = [text_of(header, "AcquisitionDateTime") or ""]
    texts += [
        date + time for d, t in _TIMES if (date := text_of(header, d) or "") and (time := text_of(header, t) or "")
    ]
    return next((at for text in texts if (at := _seconds(text)) is not None), None)


def _seconds(text: str) -> float | None:
    """Of ``YYYYMMDDHHMMSS.FFFFFF&ZZXX`` (DT, PS3.5 6.2), with colons and dots of old writers.

    Examples
    --------
    >>> _seconds("20260102030405.5") - _seconds("202601020304"), _seconds("2026.01.0203:04:05") is None
    (5.5, False)
    """
    digits = text.split("+")[0].split("-")[0].strip()
    date, rest = digits[:8], digits[8:]
    if "." in date:  # ACR-NEMA: YYYY.MM.DD
        date, rest = digits[:10].replace(".", ""), digits[10:]
    whole, _, fraction = rest.replace(":", "").partition(".")
    if not (date.isdigit() and whole.isdigit() and len(whole) >= 4):
        return None
    try:
        at = datetime.strptime(f"{date}{whole[:6]:0<6}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return at.timestamp() + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)
