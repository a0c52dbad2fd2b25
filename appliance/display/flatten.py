"""A view as one picture, for recordings and stills. Pure."""

from __future__ import annotations

import cv2
import numpy as np

from appliance.data import RgbImage
from appliance.display import View
from appliance.geometry import Letterbox
from appliance.hud import sprites
from appliance.overlay import flatten, over


def flatten_view(view: View, size_wh: tuple[int, int]) -> RgbImage:
    """The view on a canvas of this size: picture, masks, and what is written over them; black around.

    Returns a new array (H, W, 3) uint8, red first.
    """
    width, height = size_wh
    canvas = np.zeros((height, width, 3), np.uint8)
    if view.frame is not None:
        left, top, content_w, content_h = Letterbox.fit(view.frame.size_wh, size_wh).content_xywh
        rgb = view.frame.rgb
        if (content_w, content_h) != view.frame.size_wh:
            rgb = cv2.resize(rgb, (content_w, content_h), interpolation=cv2.INTER_AREA).astype(
                np.uint8, copy=False
            )
        content = canvas[top : top + content_h, left : left + content_w]
        content[:] = flatten(rgb, view.layer) if view.layer is not None else rgb
    for sprite in sprites(view.hud, size_wh, bar=False):
        _lay(canvas, sprite.rgba, sprite.xy)
    return canvas


def _lay(canvas: RgbImage, rgba: RgbImage, xy: tuple[int, int]) -> None:
    """Lay an image over the canvas with its top left corner at xy; what sticks out is cut off."""
    x, y = xy
    height, width = canvas.shape[:2]
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + rgba.shape[1], width), min(y + rgba.shape[0], height)
    if x0 < x1 and y0 < y1:
        region = canvas[y0:y1, x0:x1]
        region[:] = over(
            np.ascontiguousarray(region), np.ascontiguousarray(rgba[y0 - y : y1 - y, x0 - x : x1 - x])
        )
