"""The small pictures on the bar's buttons. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from appliance.display import Command

_OVERSAMPLING = 4
_GRID = 24
"""Icons are drawn on a grid of 24 by 24, whatever their size."""


def icon(command: Command, size_px: int) -> NDArray[np.uint8]:
    """The coverage of a command's icon, (size_px, size_px) uint8, 0..255."""
    large = size_px * _OVERSAMPLING
    image = Image.new("L", (large, large))
    _draw(command, _Grid(ImageDraw.Draw(image), large / _GRID))
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BOX), np.uint8)


class _Grid:
    """Draws shapes given in grid units."""

    def __init__(self, draw: ImageDraw.ImageDraw, unit_px: float) -> None:
        self._draw = draw
        self._unit_px = unit_px

    def _px(self, *xy: float) -> list[float]:
        return [value * self._unit_px for value in xy]

    def box(self, *xyxy: float, radius: float = 0.0, ink: int = 255) -> None:
        self._draw.rounded_rectangle(self._px(*xyxy), radius * self._unit_px, fill=ink)

    def disc(self, x: float, y: float, radius: float, ink: int = 255) -> None:
        self._draw.ellipse(self._px(x - radius, y - radius, x + radius, y + radius), fill=ink)

    def ring(self, x: float, y: float, radius: float, start_deg: float = 0, end_deg: float = 360) -> None:
        """A circle's line, 2 units wide; angles are clockwise from the right."""
        bounds = self._px(x - radius, y - radius, x + radius, y + radius)
        self._draw.arc(bounds, start_deg, end_deg, fill=255, width=round(2 * self._unit_px))

    def line(self, *points: float) -> None:
        """2 units wide, with round ends and corners."""
        self._draw.line(self._px(*points), fill=255, width=round(2 * self._unit_px), joint="curve")
        for x, y in zip(points[::2], points[1::2], strict=True):
            self.disc(x, y, 1)

    def polygon(self, *points: float, ink: int = 255) -> None:
        self._draw.polygon(self._px(*points), fill=ink)


def _draw(command: Command, grid: _Grid) -> None:
    match command:
        case Command.FREEZE:
            grid.box(6, 4, 10, 20, radius=1)
            grid.box(14, 4, 18, 20, radius=1)
        case Command.SNAPSHOT:
            grid.box(8, 4, 16, 10, radius=1.5)
            grid.box(2, 7, 22, 20, radius=2.5)
            grid.disc(12, 13.5, 5, ink=0)
            grid.disc(12, 13.5, 3)
        case Command.RECORD:
            grid.ring(12, 12, 10)
            grid.disc(12, 12, 6)
        case Command.MASKS:
            grid.polygon(12, 9, 22, 14.5, 12, 20, 2, 14.5, ink=150)
            grid.polygon(12, 2, 23, 8.5, 12, 15, 1, 8.5, ink=0)
            grid.polygon(12, 3.5, 22, 9, 12, 14.5, 2, 9)
        case Command.CLEAR:
            grid.line(6, 6, 18, 18)
            grid.line(18, 6, 6, 18)
        case Command.FULLSCREEN:
            for x, inner_x in ((4, 9), (20, 15)):
                for y, inner_y in ((4, 9), (20, 15)):
                    grid.line(x, inner_y, x, y, inner_x, y)
        case Command.HELP:
            grid.ring(12, 12, 10)
            grid.ring(12, 10, 3.6, 180, 80)
            grid.line(12, 12.8, 12, 14.2)
            grid.disc(12, 17.4, 1.3)
        case Command.QUIT:
            grid.ring(12, 13, 8.5, -55, 235)
            grid.line(12, 3, 12, 11)
