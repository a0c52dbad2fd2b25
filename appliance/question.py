"""What a kiosk asks when its user wants to quit, as an image with buttons. Pure."""

from __future__ import annotations

import enum
from functools import lru_cache

from PIL import ImageDraw

from appliance.data import RgbaImage
from appliance.hud import Sprite
from appliance.panels import INK, INK_SOFT, ON, finish, fit, font_of, font_px, rounded, scale_of

QUESTION = "Stop the appliance?"


class Answer(enum.Enum):
    """The value is what stands on the button."""

    BACK = "go on"
    RESTART = "start again"
    SWITCH_OFF = "switch off"


KEYS = {Answer.BACK: "escape", Answer.RESTART: "r", Answer.SWITCH_OFF: "p"}
"""The key of each answer, in the order of the buttons."""
_CAPS = {Answer.BACK: "Esc", Answer.RESTART: "r", Answer.SWITCH_OFF: "p"}

_PANEL_WH = (900, 330)
_PAD = 36
_BUTTON_H = 150
_GROUND = (38, 43, 52, 255)
"""Over letters too, so nothing shines through."""


def sprite(size_wh: tuple[int, int]) -> Sprite:
    """The question in the middle of a window of so many pixels."""
    x, y, _, _ = _panel_xywh(size_wh)
    return Sprite(_image(size_wh), (x, y))


def answer_at(xy: tuple[float, float], size_wh: tuple[int, int]) -> Answer | None:
    """The button under a point of a window, both in window pixels."""
    for answer in KEYS:
        x, y, width, height = _button_xywh(answer, size_wh)
        if x <= xy[0] < x + width and y <= xy[1] < y + height:
            return answer
    return None


def button_centre(answer: Answer, size_wh: tuple[int, int]) -> tuple[float, float]:
    """The middle of a button, in window pixels."""
    x, y, width, height = _button_xywh(answer, size_wh)
    return x + width / 2, y + height / 2


def _panel_xywh(size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    scale = scale_of(size_wh)
    width, height = min(round(_PANEL_WH[0] * scale), size_wh[0]), round(_PANEL_WH[1] * scale)
    return (size_wh[0] - width) // 2, max(0, (size_wh[1] - height) // 2), width, height


def _button_xywh(answer: Answer, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    scale = scale_of(size_wh)
    left, top, width, height = _panel_xywh(size_wh)
    pad = round(_PAD * scale)
    across = (width - pad * (len(KEYS) + 1)) // len(KEYS)
    button_h = round(_BUTTON_H * scale)
    x = left + pad + list(KEYS).index(answer) * (across + pad)
    return x, top + height - pad - button_h, across, button_h


@lru_cache(maxsize=2)
def _image(size_wh: tuple[int, int]) -> RgbaImage:
    scale = scale_of(size_wh)
    left, top, width, height = _panel_xywh(size_wh)
    title, label, small = (font_of(font_px(size, scale)) for size in (38, 30, 24))
    image = rounded((width, height), _GROUND, 22 * scale)
    draw = ImageDraw.Draw(image)
    first_top = _button_xywh(Answer.BACK, size_wh)[1] - top
    words = fit(QUESTION, title, width - 2 * _PAD * scale)
    draw.text((width / 2, first_top / 2), words, INK, title, "mm")
    for answer in KEYS:
        x, y, button_w, button_h = _button_xywh(answer, size_wh)
        x, y = x - left, y - top
        colour = ON if answer is Answer.BACK else (255, 255, 255, 40)
        image.alpha_composite(rounded((button_w, button_h), colour, 14 * scale), (x, y))
        middle = x + button_w / 2
        draw.text((middle, y + button_h * 0.38), fit(answer.value, label, button_w), INK, label, "mm")
        draw.text((middle, y + button_h * 0.76), _CAPS[answer], INK_SOFT, small, "mm")
    return finish(image)
