"""Why there is no picture, in the middle of the screen. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from appliance.data import RgbaImage
from appliance.hud import Sprite
from appliance.panels import (
    INK,
    INK_SOFT,
    PANEL_DENSE,
    finish,
    fit,
    font_of,
    font_px,
    printable,
    rounded,
    scale_of,
)

_WIDTH = 1500
_PAD = 48


def sprite(lines: tuple[str, ...], size_wh: tuple[int, int]) -> Sprite:
    """A title and paragraphs, however long, for a window of so many pixels."""
    image = _image(printable(lines), size_wh)
    height, width = image.shape[:2]
    return Sprite(image, ((size_wh[0] - width) // 2, max(0, (size_wh[1] - height) // 2)))


def wrapped(text: str, font: ImageFont.FreeTypeFont, widest: float) -> Iterator[str]:
    """The text in lines no wider than `widest` pixels, broken between words; a long word is cut."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".lstrip()
        if line and font.getlength(longer) > widest:
            yield fit(line, font, widest)
            longer = word
        line = longer
    yield fit(line, font, widest)


@lru_cache(maxsize=2)
def _image(lines: tuple[str, ...], size_wh: tuple[int, int]) -> RgbaImage:
    scale = scale_of(size_wh)
    pad, width = round(_PAD * scale), min(round(_WIDTH * scale), size_wh[0])
    title, body = (font_of(font_px(size, scale)) for size in (44, 30))
    rows: list[tuple[str, ImageFont.FreeTypeFont, int]] = []
    for number, paragraph in enumerate(lines):
        font = body if number else title
        for line in wrapped(paragraph, font, width - 2 * pad):
            rows.append((line, font, round(1.4 * font.size)))
        rows.append(("", font, round(0.7 * body.size)))
    del rows[-1:]
    height = min(size_wh[1], sum(row_h for _, _, row_h in rows) + 2 * pad)
    image = rounded((width, height), PANEL_DENSE, 22 * scale)
    draw, top = ImageDraw.Draw(image), pad
    for line, font, row_h in rows:
        draw.text((pad, top + row_h / 2), line, INK if font is title else INK_SOFT, font, "lm")
        top += row_h
    return finish(image)
