"""How far the clocks of those who send are from ours, as far as their images tell.

DICOM tells nobody's time: neither C-ECHO nor any answer of a PACS carries one.  What does is the header of an
image: when it was made (Instance Creation Date and Time, else Content Date and Time), by the clock of the scanner.
An image cannot come before it was made, so one that does shows that the sender's clock is ahead of ours, by at
least so much.  The other way round it is an upper bound only: the clock is behind, or the image came late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.errors import InvalidDicomError

from qc_node.ledger import Ledger
from qc_node.operations.diagnosis import Diagnosis, fine, warning
from qc_node.operations.machine import span

SERIES, PER_SENDER = 200, 10
"""So many of the newest series are looked at, and so many of one sender's at most."""
TOLERANCE_S = 60.0
DATES = (("InstanceCreationDate", "InstanceCreationTime"), ("ContentDate", "ContentTime"))
OFFSET = "TimezoneOffsetFromUTC"


class Lag(NamedTuple):
    """One image: who sent it, and how many seconds after it was made it came; negative: before."""

    calling_ae: str
    seconds: float


def lags(ledger: Ledger, root: Path) -> Iterator[Lag]:
    """The lag of the last image of each of the newest series that is there and says when it was made."""
    seen: dict[str, int] = {}
    for series in ledger.series.recent(SERIES):
        sender = series["calling_ae"]
        if seen.get(sender, 0) >= PER_SENDER:
            continue
        images = ledger.instances.of_series(series["series_id"])
        made = made_at(root / images[-1]["path"]) if images else None
        if made is not None:
            seen[sender] = seen.get(sender, 0) + 1
            yield Lag(sender, images[-1]["received_at"] - made)


def made_at(path: Path) -> float | None:
    """When an image was made, in seconds since the epoch; None where it does not say, or cannot be read.

    Local times are of the zone that the header states, else of this machine.
    """
    try:
        tags = [name for pair in DATES for name in pair]
        ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*tags, OFFSET])
        offset = str(ds.get(OFFSET, "") or "").strip()
        for date, time in DATES:
            if ds.get(date) and ds.get(time):
                text = f"{ds.get(date)}{str(ds.get(time)).partition('.')[0]:0<6}"
                local = datetime.strptime(text, "%Y%m%d%H%M%S")
                if not offset:
                    return local.timestamp()
                zone = timedelta(minutes=int(offset[0] + "1") * (int(offset[1:3]) * 60 + int(offset[3:5])))
                return (local - zone).replace(tzinfo=UTC).timestamp()
    except (OSError, ValueError, InvalidDicomError, OverflowError):
        return None
    return None


def findings(measured: Iterable[Lag]) -> Iterator[Diagnosis]:
    """A sentence for each sender, by the least lag of its images."""
    by_sender: dict[str, list[float]] = {}
    for lag in measured:
        by_sender.setdefault(lag.calling_ae, []).append(lag.seconds)
    for sender, found in sorted(by_sender.items()):
        least = min(found)
        images = f"{len(found)} images" if len(found) > 1 else "one image"
        if least < -TOLERANCE_S:
            yield warning(
                f"The clock of {sender} is ahead of ours, or ours is behind: of {images} one says that it was made"
                f" {span(-least)} after it came (the time zone of this machine counts, too)."
            )
        else:
            yield fine(
                f"The clock of {sender} is not ahead of ours, and behind by {span(max(least, 0.0))} at most"
                f" (the least time from made to received, of {images})."
            )
