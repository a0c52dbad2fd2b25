"""Colours, letters and panels of what is written over the picture. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFont

from appliance.data import RgbaImage

Colour = tuple[int, int, int, int]
"""Red, green, blue and alpha, 0 to 255."""

INK: Colour = (255, 255, 255, 255)
INK_SOFT: Colour = (205, 211, 219, 255)
INK_DARK: Colour = (22, 20, 12, 255)
PANEL: Colour = (14, 17, 22, 200)
PANEL_DENSE: Colour = (14, 17, 22, 245)
CLEAR: Colour = (14, 17, 22, 0)
PRESSED: Colour = (255, 255, 255, 60)
ON: Colour = (64, 156, 255, 235)
RECORDING: Colour = (226, 52, 52, 245)
WARNING: Colour = (255, 186, 48, 240)
TROUBLE: Colour = (178, 34, 34, 235)


def scale_of(size_wh: tuple[int, int]) -> float:
    """How large things are, 1 in a window of 1920 x 1080 pixels; 0.5 at least."""
    return max(0.5, min(size_wh[0] / 1920, size_wh[1] / 1080))


def printable(lines: Sequence[str]) -> tuple[str, ...]:
    """Text in the characters that Pillow's own font has: ASCII and a few more; accents are dropped."""
    table = str.maketrans({"–": "-", "—": "-", "×": "x", "µ": "u", "’": "'"})
    kept = (unicodedata.normalize("NFKD", line.translate(table)) for line in lines)
    return tuple(
        "".join(c if " " <= c <= "~" or c in "·…°±" else "?" for c in line if not unicodedata.combining(c))
        for line in kept
    )


@lru_cache(maxsize=32)
def font_of(size_px: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font."""
    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont)  # it is, whenever a size is given
    return font


def font_px(size: int, scale: float) -> int:
    """A font's size in pixels, never too small to read."""
    return max(11, round(size * scale))


def fit(text: str, font: ImageFont.FreeTypeFont, widest: float) -> str:
    """The text, or its beginning and dots, no wider than `widest` pixels."""
    if font.getlength(text) <= widest:
        return text
    while text and font.getlength(text + "…") > widest:
        text = text[:-1]
    return text + "…"


def rounded(size_wh: tuple[int, int], colour: Colour, radius: float) -> Image.Image:
    """A rectangle with smooth round corners; the same colour everywhere, only the alpha ends."""
    width, height = size_wh
    rgba = np.empty((height, width, 4), np.uint8)
    rgba[:] = colour
    r = int(min(radius, width / 2, height / 2))
    if r:
        centres = np.arange(r) + 0.5 - r
        coverage = (r + 0.5 - np.hypot(centres[:, None], centres)).clip(0, 1)
        corner = np.rint(coverage * colour[3]).astype(np.uint8)
        rgba[:r, :r, 3], rgba[:r, -r:, 3] = corner, corner[:, ::-1]
        rgba[-r:, :r, 3], rgba[-r:, -r:, 3] = corner[::-1], corner[::-1, ::-1]
    return Image.fromarray(rgba)


def finish(image: Image.Image) -> RgbaImage:
    """The image as an array that nobody can write to, (height, width, 4)."""
    rgba = np.array(image)
    rgba.flags.writeable = False
    return rgba
