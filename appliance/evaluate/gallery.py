"""The report's pictures: what the reference and the models make of a photograph or a prompt. Pure."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from appliance.data import RgbImage
from appliance.evaluate.masks_rle import Mask, Rle, decode
from appliance.evaluate.matching import Wanted

_TINT = 0.5
_PROMPT = (255, 255, 0)
_MASK = (255, 60, 60)
_AROUND = 1.5
"""How much of the picture to show around an object, in its longer sides."""
_LEAST_PX = 64


def all_masks(rgb: RgbImage, masks: Sequence[Rle]) -> RgbImage:
    """A picture with every mask in a colour of its own, large ones below small ones."""
    drawn = rgb.copy()
    for number, rle in enumerate(sorted(masks, key=lambda rle: -rle.area_px)):
        hue = number * 0.618 % 1  # neighbours in the list get colours far apart
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, 1))
        _tint(drawn, decode(rle), (red, green, blue))
    return drawn


def prompted(rgb: RgbImage, want: Wanted, answer: Rle | None) -> RgbImage:
    """The surroundings of an object with the prompt, box and point, and an answer to it."""
    height, width = rgb.shape[:2]
    left, top, right, bottom = want.box_xyxy
    half = max(_LEAST_PX, _AROUND * max(right - left, bottom - top)) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    x0, y0 = max(0, round(x - half)), max(0, round(y - half))
    x1, y1 = min(width, round(x + half)), min(height, round(y + half))
    scale = max(1, round(256 / max(x1 - x0, y1 - y0)))
    size_wh = (x1 - x0) * scale, (y1 - y0) * scale
    part = np.asarray(cv2.resize(rgb[y0:y1, x0:x1], size_wh, interpolation=cv2.INTER_CUBIC), np.uint8)
    if answer is not None:
        mask = decode(answer)[y0:y1, x0:x1].view(np.uint8)
        _tint(part, cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST).astype(np.bool_), _MASK)
    corners = [round((side - start) * scale) for side, start in zip(want.box_xyxy, (x0, y0) * 2, strict=True)]
    cv2.rectangle(part, (corners[0], corners[1]), (corners[2] - 1, corners[3] - 1), _PROMPT, 1)
    point = tuple(round((side - start) * scale) for side, start in zip(want.point_xy, (x0, y0), strict=True))
    cv2.circle(part, (point[0], point[1]), 3, _PROMPT, -1)
    return part


def _tint(rgb: RgbImage, mask: Mask, colour: tuple[int, int, int]) -> None:
    rgb[mask] = (rgb[mask] * (1 - _TINT) + np.array(colour) * _TINT).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(rgb, outlines, -1, colour, 1)
