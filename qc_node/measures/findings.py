"""What is found in a CT or X-ray series: physically certain by itself, or far outside what is normal.

Whatever is less is a measure, and the baseline says how unusual it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from qc_node.domain.measure import ImageFinding, Measured, Unusual
from qc_node.domain.technique import Technique

MODALITIES = frozenset({"CT", "CR", "DX", "MG"})

FAR = 8.0
"""From so many spreads on, a series is far outside what is normal for its scanner and protocol."""

METAL_SHARE, METAL_STREAKS = 0.01, 15.0
"""Metal is said from this share of the body (%) on, and where its streaks are as strong (HU): a clip is not."""

CUT, CUT_ON_PURPOSE = 5.0, 40.0
"""Share of the outline (%) from which a body is cut, and from which a small field was chosen on purpose."""

DEVIATION = 6.0
"""Four times the target, or a quarter.  AAPM TG-116 acts from 3 on, which in practice many images reach (AAPM
TG-232): that is what the baseline is for."""

CONTRADICTION = 1.0
"""A Deviation Index that differs this much from its own parts is not believed."""

GRAIN = 2.0
"""Noise (%) of the dense half of the body that quanta alone explain: about four times what images at hand have."""

CLIPPED = 5.0
"""Share of the body (%) without detail."""

Values = Mapping[str, float]


def of(measured: Measured, technique: Technique, unusual: Sequence[Unusual]) -> tuple[ImageFinding, ...]:
    """Findings of a CT or X-ray series, one of each kind at most; none for other modalities.

    Parameters
    ----------
    unusual
        What the baseline of the scanner says; only single series count here (kind ``outlier``).
    """
    if technique.modality not in MODALITIES:
        return ()
    certain = [finding for rule in CERTAIN if (finding := rule(measured.values)) is not None]
    found: dict[str, ImageFinding] = {}
    for finding in (*certain, *_far_outside(unusual, measured.values)):
        found.setdefault(finding.kind, finding)
    return tuple(found.values())


def _metal(values: Values) -> ImageFinding | None:
    share, streaks = values.get("metal_share", 0.0), values.get("metal_streaks", 0.0)
    if share < METAL_SHARE or streaks < METAL_STREAKS:
        return None
    return ImageFinding("metal", f"Metal, or contrast agent as dense, makes streaks of {streaks:.0f} HU.")


def _truncation(values: Values) -> ImageFinding | None:
    cut = values.get("cut_outline", 0.0)
    if not CUT <= cut <= CUT_ON_PURPOSE:
        return None
    return ImageFinding("truncation", f"The field of view cuts the body along {cut:.0f} % of its outline.")


def _stated_underexposure(values: Values) -> ImageFinding | None:
    deviation = _believed_deviation(values)
    if deviation > -DEVIATION:
        return None
    times = 10 ** (-deviation / 10)
    return ImageFinding("underexposure", f"By its header the exposure was {times:.1f} times below its target.")


def _stated_overexposure(values: Values) -> ImageFinding | None:
    deviation = _believed_deviation(values)
    if deviation < DEVIATION:
        return None
    times = 10 ** (deviation / 10)
    return ImageFinding("overexposure", f"By its header the exposure was {times:.1f} times its target.")


def _believed_deviation(values: Values) -> float:
    """The Deviation Index, 0 where there is none or it contradicts its own parts."""
    sound = values.get("deviation_index_error", 0.0) <= CONTRADICTION
    return values.get("deviation_index", 0.0) if sound else 0.0


def _grain(values: Values) -> ImageFinding | None:
    grain = values.get("grain", 0.0)
    if grain < GRAIN:
        return None
    return ImageFinding(
        "underexposure", f"Noise is {grain:.1f} % of the body's grey values: too little radiation."
    )


def _black(values: Values) -> ImageFinding | None:
    share = values.get("black_clipped", 0.0)
    if share < CLIPPED:
        return None
    return ImageFinding("overexposure", f"{share:.0f} % of the body is black without detail.")


def _white(values: Values) -> ImageFinding | None:
    share = values.get("white_clipped", 0.0)
    if share < CLIPPED:
        return None
    return ImageFinding("clipping", f"{share:.0f} % of the body is white without detail.")


CERTAIN: tuple[Callable[[Values], ImageFinding | None], ...] = (
    _metal,
    _truncation,
    _stated_underexposure,
    _stated_overexposure,
    _grain,
    _black,
    _white,
)
"""Physically certain, in the order of importance within a kind: what the header states, then what is seen."""

OVER = ImageFinding("overexposure", "The Deviation Index is far above the usual.")
UNDER = ImageFinding("underexposure", "The Deviation Index is far below the usual.")

FAR_ABOVE: Mapping[str, ImageFinding] = {
    "noise_hu": ImageFinding("noise", "There is far more noise than usual."),
    "cut_outline": ImageFinding("truncation", "Far more of the body is cut than usual."),
    "grain": ImageFinding("noise", "There is far more noise than usual."),
    "black_clipped": ImageFinding("clipping", "Far more of the body is black without detail than usual."),
    "white_clipped": ImageFinding("clipping", "Far more of the body is white without detail than usual."),
}
"""What it means when a measure is far above normal; only those that get worse upwards are called unusual."""

FAR_BELOW: Mapping[str, ImageFinding] = {
    "field_level": ImageFinding("overexposure", "The image is far darker than usual: too much radiation."),
}
"""What it means when a measure is far below normal; likewise."""


def _far_outside(unusual: Sequence[Unusual], values: Values) -> Iterator[ImageFinding]:
    missed = OVER if values.get("deviation_index", 0.0) > 0 else UNDER
    for one in unusual:
        meaning = {**FAR_ABOVE, "target_miss": missed} if one.z > 0 else FAR_BELOW
        if one.kind == "outlier" and abs(one.z) >= FAR and one.measure in meaning:
            yield meaning[one.measure]
