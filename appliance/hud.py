"""What is written over the picture, and the bar of buttons, as small RGBA images with their places. Pure.

Sizes are given for a screen of 1920 x 1080 and scale with the window; below half of that, text would no
longer be readable, so they stay. The parts are remembered: a part that has not changed is the same array.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

from appliance.data import RgbaImage
from appliance.display import Command, Hud
from appliance.icons import icon
from appliance.panels import (
    CLEAR,
    INK,
    INK_DARK,
    INK_SOFT,
    ON,
    PANEL,
    PANEL_DENSE,
    PRESSED,
    RECORDING,
    TROUBLE,
    WARNING,
    Colour,
    finish,
    fit,
    font_of,
    font_px,
    printable,
    rounded,
    scale_of,
)

KEYS = {
    Command.FREEZE: "space",
    Command.SNAPSHOT: "s",
    Command.RECORD: "v",
    Command.MASKS: "m",
    Command.CLEAR: "c",
    Command.FULLSCREEN: "f",
    Command.HELP: "h",
    Command.QUIT: "q",
}
"""The key of each command, in the order of the bar."""

_HELP = {
    Command.FREEZE: "freeze the picture, or let it go on",
    Command.SNAPSHOT: "save the picture, with and without outlines, and its objects",
    Command.RECORD: "start or stop recording a video",
    Command.MASKS: "show all objects, or only the selected one",
    Command.CLEAR: "clear the selection",
    Command.FULLSCREEN: "full screen; Esc leaves it",
    Command.HELP: "show or hide this page",
    Command.QUIT: "quit",
}
_HELP_CLICK = ("click", "pick out the object under the pointer")
_HELP_TOUCH = "Touch works too: tap an object, or a button of the bar."


_MARGIN = 18
_BUTTON_WH = (110, 80)
_BAR_PAD = 8


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A small image and where its top left corner lies in the window, in window pixels."""

    rgba: RgbaImage
    xy: tuple[int, int]


def sprites(
    hud: Hud, size_wh: tuple[int, int], pressed: Command | None = None, bar: bool = True
) -> tuple[Sprite, ...]:
    """All that is to be drawn over a window of `size_wh` pixels, from back to front.

    `pressed` is the button that is held down. Without `bar` there are no buttons: for recordings.
    """
    width, height = size_wh
    scale = scale_of(size_wh)
    margin = round(_MARGIN * scale)
    widest = max(1, width - 2 * margin)
    bottom = height - margin
    parts: list[Sprite] = []
    if bar:
        x, y, _, _ = _bar_xywh(size_wh)
        parts.append(Sprite(_bar(size_wh, hud.active, pressed), (x, y)))
        bottom = y - margin // 2

    left = margin
    if hud.readout:
        panel = _lines(printable(hud.readout), scale, widest)
        parts.append(Sprite(panel, (margin, margin)))
        left += panel.shape[1] + margin
    right, below = width - margin, margin
    if hud.badge:
        pill = _pill(printable([hud.badge])[0], scale, widest, 22, WARNING, INK_DARK)
        right -= pill.shape[1]
        clash = right < left
        y = parts[-1].rgba.shape[0] + 2 * margin if clash else margin
        parts.append(Sprite(pill, (margin if clash else right, y)))
        right -= margin
    for notice in printable(hud.notices):
        pill = _pill(notice, scale, widest, 26, TROUBLE, INK)
        x = (width - pill.shape[1]) // 2
        if x < left or x + pill.shape[1] > right:  # no room beside the readout
            below = max([below, *(part.xy[1] + part.rgba.shape[0] + margin for part in parts[bar:])])
            left, right = 0, width
        parts.append(Sprite(pill, (x, below)))
        below += pill.shape[0] + margin // 2
    if hud.toast:
        pill = _pill(printable([hud.toast])[0], scale, widest, 26, PANEL_DENSE, INK)
        parts.append(Sprite(pill, ((width - pill.shape[1]) // 2, bottom - pill.shape[0])))
    if hud.help:
        page = _help_page(scale, widest)
        place = ((width - page.shape[1]) // 2, max(0, (bottom - page.shape[0]) // 2))
        parts.append(Sprite(page, place))
    return tuple(parts)


def button_at(xy: tuple[float, float], size_wh: tuple[int, int]) -> Command | None:
    """The button under a point of a window, both in window pixels. The bar has no gaps between buttons."""
    x, y, width, height = _bar_xywh(size_wh)
    across, down = (xy[0] - x) / width, (xy[1] - y) / height
    if not (0 <= across < 1 and 0 <= down < 1):
        return None
    return list(KEYS)[int(across * len(KEYS))]


def button_centre(command: Command, size_wh: tuple[int, int]) -> tuple[float, float]:
    """The middle of a button, in window pixels."""
    x, y, width, height = _bar_xywh(size_wh)
    return x + (list(KEYS).index(command) + 0.5) * width / len(KEYS), y + height / 2


def emblem(size_px: int) -> RgbaImage:
    """The appliance's sign, for the window's icon: (size_px, size_px, 4)."""
    image = rounded((size_px, size_px), ON, size_px / 5)
    inner_px = size_px * 3 // 4
    corner = (size_px - inner_px) // 2
    image.paste(INK, (corner, corner), Image.fromarray(icon(Command.MASKS, inner_px)))
    return finish(image)


def _bar_xywh(size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """The bar: at the bottom, in the middle, as wide as the window at most."""
    scale = scale_of(size_wh)
    button_w = max(1, min(round(_BUTTON_WH[0] * scale), size_wh[0] // len(KEYS)))
    width, height = button_w * len(KEYS), round((_BUTTON_WH[1] + 2 * _BAR_PAD) * scale)
    return (size_wh[0] - width) // 2, size_wh[1] - height - round(_MARGIN * scale / 2), width, height


@lru_cache(maxsize=4)
def _lines(lines: tuple[str, ...], scale: float, widest: int) -> RgbaImage:
    """The readout: the first line large, the others smaller."""
    pad = round(16 * scale)
    fonts = [font_of(font_px(30 if i == 0 else 22, scale)) for i in range(len(lines))]
    texts = [fit(line, font, widest - 2 * pad) for line, font in zip(lines, fonts, strict=True)]
    heights = [round(1.35 * font.size) for font in fonts]
    step = 2 * fonts[0].size  # so that the panel does not twitch with every digit
    width = max(font.getlength(text) for text, font in zip(texts, fonts, strict=True))
    width = min(widest, round(-(-width // step) * step) + 2 * pad)
    image = rounded((width, sum(heights) + pad), PANEL, 14 * scale)
    draw = ImageDraw.Draw(image)
    top = pad / 2
    for i, (text, font, height) in enumerate(zip(texts, fonts, heights, strict=True)):
        draw.text((pad, top + height / 2), text, INK_SOFT if i else INK, font, "lm")
        top += height
    return finish(image)


@lru_cache(maxsize=8)
def _pill(text: str, scale: float, widest: int, size: int, colour: Colour, ink: Colour) -> RgbaImage:
    """One line in a panel with round ends."""
    font = font_of(font_px(size, scale))
    height = round(1.9 * font.size)
    text = fit(text, font, widest - height)
    image = rounded((min(widest, round(font.getlength(text)) + height), height), colour, height / 2)
    ImageDraw.Draw(image).text((image.width / 2, height / 2), text, ink, font, "mm")
    return finish(image)


@lru_cache(maxsize=2)
def _help_page(scale: float, widest: int) -> RgbaImage:
    """All keys and what they do."""
    title, body, small = (font_of(font_px(size, scale)) for size in (34, 26, 23))
    rows = [_HELP_CLICK, *((KEYS[command], words) for command, words in _HELP.items())]
    pad, row_h = round(34 * scale), round(1.75 * body.size)
    key_w = round(max(small.getlength(key) for key, _ in rows) + 1.2 * small.size)
    text_w = max(body.getlength(words) for _, words in rows)
    width = min(widest, round(key_w + text_w) + 3 * pad)
    title_h = round(1.9 * title.size)
    image = rounded((width, title_h + row_h * (len(rows) + 1) + round(1.2 * pad)), PANEL_DENSE, 22 * scale)
    draw = ImageDraw.Draw(image)
    draw.text((pad, pad / 2 + title_h / 2), "What you can do", INK, title, "lm")
    top = pad // 2 + title_h
    cap_h = round(0.8 * row_h)
    for key, words in rows:
        middle = top + row_h // 2
        cap = rounded((key_w, cap_h), (255, 255, 255, 40), 8 * scale)
        image.alpha_composite(cap, (pad, middle - cap_h // 2))
        draw.text((pad + key_w / 2, middle), key, INK, small, "mm")
        left = 2 * pad + key_w
        draw.text((left, middle), fit(words, body, width - pad - left), INK_SOFT, body, "lm")
        top += row_h
    draw.text((pad, top + row_h / 2), fit(_HELP_TOUCH, small, width - 2 * pad), WARNING, small, "lm")
    return finish(image)


@lru_cache(maxsize=4)
def _bar(size_wh: tuple[int, int], active: frozenset[Command], pressed: Command | None) -> RgbaImage:
    """The bar with its buttons; labels are left out where they would not fit."""
    scale = scale_of(size_wh)
    _, _, width, height = _bar_xywh(size_wh)
    image = rounded((width, height), PANEL, 20 * scale)
    draw = ImageDraw.Draw(image)
    button_w, gap = width // len(KEYS), max(1, round(3 * scale))
    inner_w, inner_h = button_w - 2 * gap, height - round(2 * _BAR_PAD * scale)
    font = font_of(font_px(20, scale))
    labelled = all(font.getlength(command.value) <= inner_w for command in KEYS)
    icon_px = min(round(34 * scale), inner_w)
    for i, command in enumerate(KEYS):
        left, top = i * button_w + gap, (height - inner_h) // 2
        fill = CLEAR
        if command in active:
            fill = RECORDING if command is Command.RECORD else ON
        for colour in (fill, PRESSED if command is pressed else CLEAR):
            if colour is not CLEAR:
                image.alpha_composite(rounded((inner_w, inner_h), colour, 14 * scale), (left, top))
        centre = left + inner_w / 2
        icon_top = top + (round(8 * scale) if labelled else (inner_h - icon_px) // 2)
        coverage = Image.fromarray(icon(command, icon_px))
        image.paste(INK, (round(centre - icon_px / 2), icon_top), coverage)
        if labelled:
            draw.text((centre, top + inner_h - round(16 * scale)), command.value, INK, font, "mm")
    return finish(image)
