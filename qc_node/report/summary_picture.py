"""The QC summary as a picture: what people see in any viewer, without a plug-in.

Drawn at 1024 x 1024 for viewports half that size: no text is smaller than 26 pixels.  Colour is never alone: each
tone has the shape that the pages give it.  Nothing of the patient is written into the pixels: no name, no number,
no date of birth, and no free text of a header, which may hold any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from qc_node.domain.wording import Card, Tone
from qc_node.report.documents import DISCLAIMER

Picture = npt.NDArray[np.uint8]

SIDE: Final = 1024
"""Rows and columns."""
MID_PLANES: Final = ("axial", "coronal", "sagittal")

COLOURS: Final = {
    Tone.GOOD: (74, 197, 116),
    Tone.USABLE: (240, 190, 70),
    Tone.POOR: (242, 104, 94),
    Tone.OPEN: (168, 176, 186),
}
"""One for each tone; each stands out from the ground by 6:1 or more (WCAG 2.2, 1.4.3 asks for 4.5)."""
_GROUND = (14, 17, 22)
_TEXT = (236, 240, 244)
_FAINT = (176, 184, 194)
_LONGEST = 600
"""Characters of one sentence that are looked at: more never fits."""
_FRAME = (60, 66, 74)
_MARGIN = 40
_HEADLINE, _DETAIL, _NOTES = (62, 50, 40), (38, 32), (32, 28)
_SMALL, _DISCLAIMER = 27, 32
"""Heights of letters in pixels; those after the first for text that does not fit otherwise."""
_VIEW = 304
_VIEW_TOP = 88
_HEAD_TOP = _VIEW_TOP + _VIEW + 52
"""The verdict stands in the middle: viewers write their own words into corners and along the upper edge, and OHIF
lays its player over the upper middle of an image of this modality."""
_TEXT_TOP = _HEAD_TOP + 134
_FOOT_TOP = SIDE - 172


@dataclass(frozen=True)
class SummaryPage:
    """What one picture says.

    Attributes
    ----------
    title
        Which series, e.g. ``MR, series 5, 176 images``.
    card
        The verdict as the pages show it.
    notes
        Further sentences, mismatches with the order above all.
    views
        At most three pictures as uint8 ``(H, W)``, with what is written below each: the mid-planes ``axial``,
        ``coronal``, ``sagittal`` before all others.
    measured
        The measures in a few words each, on two lines at most; the first ones where there is room for no more.
    unusual
        What of them is unusual, a sentence each.
    footer
        Lines about model and time.
    """

    title: str
    card: Card
    notes: Sequence[str] = ()
    views: Mapping[str, Picture] | None = None
    footer: Sequence[str] = ()
    measured: Sequence[str] = ()
    unusual: Sequence[str] = ()


def draw(page: SummaryPage) -> Picture:
    """The picture, RGB uint8 ``(1024, 1024, 3)``; the same page gives the same pixels.

    Text that does not fit is written smaller, and at the least size ends with an ellipsis: the report holds all of
    it.
    """
    image = Image.new("RGB", (SIDE, SIDE), _GROUND)
    pen = ImageDraw.Draw(image)
    colour = COLOURS[page.card.tone]
    pen.rectangle((0, 0, SIDE, 14), fill=colour)
    _lines(pen, [f"QC summary: {page.title}"], (_MARGIN, 32), (_SMALL,), _FAINT, bottom=80)
    _views(image, pen, page.views or {})
    _shape(pen, page.card.tone, (_MARGIN + 34, _HEAD_TOP + 48), 34)
    _lines(pen, [page.card.headline], (_MARGIN + 96, _HEAD_TOP), _HEADLINE, colour, bottom=_TEXT_TOP - 6)
    detail = _without(page.card.detail, page.notes)
    # What to do is for whoever stands at the scanner; the picture is read when the patient has left.
    sure = f"{page.card.sure}." if page.card.sure else ""
    said = [part for part in (detail, sure) if part]
    bottom = _measures(pen, page)
    at = _lines(pen, said, (_MARGIN, _TEXT_TOP), _DETAIL, _TEXT, bottom=bottom - (92 if page.notes else 0))
    at += 12 if said else 0
    _lines(pen, page.notes, (_MARGIN, at), _NOTES, COLOURS[Tone.USABLE], bottom=bottom)
    pen.line((_MARGIN, _FOOT_TOP, SIDE - _MARGIN, _FOOT_TOP), fill=_FAINT, width=1)
    _lines(pen, page.footer, (_MARGIN, _FOOT_TOP + 12), (_SMALL,), _FAINT, bottom=SIDE - 54)
    _lines(pen, [DISCLAIMER], (_MARGIN, SIDE - 52), (_DISCLAIMER,), _TEXT, bottom=SIDE)
    return np.asarray(image, dtype=np.uint8)


def _measures(pen: ImageDraw.ImageDraw, page: SummaryPage) -> int:
    """Write the measures above the foot, what is unusual above them; returns where other text must end.

    They take what the verdict and the mismatches can spare: two lines beside mismatches, else three.
    """
    font, step, width = _font(_SMALL), round(1.22 * _SMALL), SIDE - 2 * _MARGIN
    most = 2 if page.notes else 3
    unusual = [_cut_to(words[:_LONGEST], font, width) for words in page.unusual[: most - 1]]
    measured = _listed(page.measured, font, width)[: most - len(unusual)][:2]
    if not (measured or unusual):
        return _FOOT_TOP - 4
    top = _FOOT_TOP - 6 - step * (len(measured) + len(unusual))
    at = _lines(pen, unusual, (_MARGIN, top), (_SMALL,), COLOURS[Tone.USABLE], bottom=_FOOT_TOP)
    _lines(pen, measured, (_MARGIN, at), (_SMALL,), _FAINT, bottom=_FOOT_TOP)
    return top - 8


def _listed(items: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of the items with commas between; none is broken, and one that is too long for a line is left out."""
    lines: list[str] = []
    for item in items:
        longer = f"{lines[-1]}, {item}" if lines else item
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        elif font.getlength(item) <= width:
            lines.append(item)
    return lines


def _without(detail: str, notes: Sequence[str]) -> str:
    """What a card says beside the sentences that stand below it on lines of their own."""
    for note in notes:
        detail = detail.replace(note, "")
    return " ".join(detail.split())


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the same letters on every machine."""
    return ImageFont.load_default(size)


def _lines(
    pen: ImageDraw.ImageDraw,
    sentences: Sequence[str],
    at: tuple[int, int],
    sizes: Sequence[int],
    colour: tuple[int, int, int],
    *,
    bottom: int,
) -> int:
    """Write sentences above `bottom`, each from a line of its own, in the first of `sizes` in which they fit.

    Returns where the next line would begin.
    """
    x, y = at
    width = SIDE - _MARGIN - x
    for size in sizes:
        font, step = _font(size), round(1.22 * size)
        room = max(0, (bottom - y) // step)
        lines = [line for words in sentences if words for line in _wrapped(words[:_LONGEST], font, width)]
        if len(lines) <= room:
            break
    shown = lines[:room]
    if shown and len(lines) > room:
        shown[-1] = _cut(shown[-1], font, width)
    for line in shown:
        pen.text((x, y), line, fill=colour, font=font)
        y += step
    return y


def _wrapped(sentence: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in sentence.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_cut_to(line, font, width) for line in lines]


def _cut_to(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    return line if font.getlength(line) <= width else _cut(line, font, width)


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while line and font.getlength(f"{line} …") > width:
        line = line[:-1]
    return f"{line.rstrip()} …"


def _shape(pen: ImageDraw.ImageDraw, tone: Tone, centre: tuple[int, int], radius: int) -> None:
    """The shape of a tone: disc, triangle, square, ring (as :data:`qc_node.domain.wording.SHAPES`)."""
    x, y = centre
    box = (x - radius, y - radius, x + radius, y + radius)
    colour = COLOURS[tone]
    if tone is Tone.GOOD:
        pen.ellipse(box, fill=colour)
    elif tone is Tone.USABLE:
        pen.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=colour)
    elif tone is Tone.POOR:
        pen.rectangle(box, fill=colour)
    else:
        pen.ellipse(box, outline=colour, width=8)


def _views(image: Image.Image, pen: ImageDraw.ImageDraw, views: Mapping[str, Picture]) -> None:
    gap = (SIDE - 2 * _MARGIN - 3 * _VIEW) // 2
    order = [*MID_PLANES, *(name for name in views if name not in MID_PLANES)]
    usable = {
        name: view for name in order if (view := views.get(name)) is not None and view.ndim == 2 and view.size
    }
    only = not set(usable) & set(MID_PLANES)
    if not usable:
        _lines(
            pen,
            ["No mid-planes are kept."],
            (_MARGIN, _VIEW_TOP + _VIEW // 2),
            (_SMALL,),
            _FAINT,
            bottom=_HEAD_TOP,
        )
    for column, name in enumerate([*usable][:3] if only else MID_PLANES):
        view = usable.get(name)
        if view is None:
            continue
        left = _MARGIN + column * (_VIEW + gap)
        pen.rectangle((left - 1, _VIEW_TOP - 1, left + _VIEW, _VIEW_TOP + _VIEW), outline=_FRAME)
        picture = Image.fromarray(np.ascontiguousarray(view))
        scale = _VIEW / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        image.paste(picture, (left + (_VIEW - size[0]) // 2, _VIEW_TOP + (_VIEW - size[1]) // 2))
        pen.text((left, _VIEW_TOP + _VIEW + 8), name, fill=_FAINT, font=_font(_SMALL))
