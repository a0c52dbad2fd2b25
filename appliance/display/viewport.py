"""Where the picture lies in the window, and what lies under the pointer. Pure.

A window has two kinds of coordinates: *window pixels*, that are drawn, and *points*, in which the pointer is
reported. On a high-DPI screen a point is several pixels wide. Both count from the top left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.geometry import Letterbox

MAX_LAYER_WIDTH_PX = 1920
"""Larger layers cost more than they show: the prototypes are coarser anyway."""


@dataclass(frozen=True, slots=True)
class Viewport:
    """A picture in a window: as large as fits, its aspect kept, centred."""

    picture_wh: tuple[int, int]
    window_wh: tuple[int, int]
    """In window pixels."""

    @property
    def rect_xywh(self) -> tuple[int, int, int, int]:
        """The picture's rectangle, window pixels."""
        return self._letterbox.content_xywh

    def to_picture(self, xy: tuple[float, float]) -> tuple[float, float] | None:
        """Map window pixels to picture pixels; None beside the picture."""
        left, top, width, height = self.rect_xywh
        if not (left <= xy[0] < left + width and top <= xy[1] < top + height):
            return None
        x, y = self._letterbox.to_picture(np.array(xy, np.float64)).tolist()
        return x, y

    @property
    def layer_wh(self) -> tuple[int, int]:
        """The size for a layer over the picture: that of its rectangle, up to a limit."""
        _, _, width, height = self.rect_xywh
        if width <= MAX_LAYER_WIDTH_PX:
            return width, height
        return MAX_LAYER_WIDTH_PX, max(1, round(height * MAX_LAYER_WIDTH_PX / width))

    @property
    def _letterbox(self) -> Letterbox:
        return Letterbox.fit(self.picture_wh, self.window_wh)


def pointer_px(
    point_xy: tuple[int, int], window_points_wh: tuple[int, int], window_wh: tuple[int, int]
) -> tuple[float, float]:
    """The window pixels of the middle of the point that the pointer is on."""
    return (
        (point_xy[0] + 0.5) * window_wh[0] / window_points_wh[0],
        (point_xy[1] + 0.5) * window_wh[1] / window_points_wh[1],
    )
