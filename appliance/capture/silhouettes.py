"""Outlines of the scene's things: pure functions from a random generator to an anti-aliased silhouette.

Everything is drawn in unit coordinates (the square -1..1), and the random draws do not depend on the size, so
that the same generator gives the same outline at every size.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]
"""(N, 2), a closed polygon in unit coordinates."""
Gray = NDArray[np.uint8]

_OVERSAMPLING = 3
_MARGIN = 0.96
"""Outlines are scaled to reach this far, which leaves a transparent rim around every sprite."""
_TURN = np.linspace(0, 2 * np.pi, 181)[:-1]


def _polar(radius: NDArray[np.float64], angle: NDArray[np.float64] = _TURN) -> Outline:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _ellipse(rng: np.random.Generator) -> list[Outline]:
    return [_polar(np.ones(180)) * (1, rng.uniform(0.6, 1.0))]


def _ball(rng: np.random.Generator) -> list[Outline]:
    del rng
    return [_polar(np.ones(180))]


def _blob(rng: np.random.Generator) -> list[Outline]:
    radius = np.ones(180)
    for order in range(2, 6):
        radius += rng.uniform(0, 0.32) / order * np.cos(order * _TURN + rng.uniform(0, 2 * np.pi))
    return [_polar(radius) * (1, rng.uniform(0.65, 1.0))]


def _polygon(rng: np.random.Generator) -> list[Outline]:
    corners = int(rng.integers(3, 7))
    angle = (np.arange(corners) + rng.uniform(-0.12, 0.12, corners)) * 2 * np.pi / corners + np.pi / 4
    return [_polar(rng.uniform(0.9, 1.0, corners), angle) * (1, rng.uniform(0.7, 1.0))]


def _star(rng: np.random.Generator) -> list[Outline]:
    points = int(rng.integers(5, 8))
    angle = np.arange(2 * points) * np.pi / points - np.pi / 2
    return [_polar(np.tile([1.0, rng.uniform(0.42, 0.6)], points), angle)]


def _flower(rng: np.random.Generator) -> list[Outline]:
    return [_polar(1 + rng.uniform(0.1, 0.22) * np.cos(int(rng.integers(5, 9)) * _TURN))]


def _ring(rng: np.random.Generator) -> list[Outline]:
    outer = _polar(np.ones(180)) * (1, rng.uniform(0.75, 1.0))
    return [outer, outer * rng.uniform(0.35, 0.5)]


def _leaf(rng: np.random.Generator) -> list[Outline]:
    along = np.linspace(0, np.pi, 90)
    width = rng.uniform(0.35, 0.55) * np.sin(along) ** rng.uniform(0.8, 1.3)
    upper = np.stack([-np.cos(along), width], axis=1)
    bend = rng.uniform(-0.25, 0.25)
    outline = np.concatenate([upper, upper[::-1] * (1, -1)])
    outline[:, 1] += bend * outline[:, 0] ** 2
    return [outline]


def _capsule(rng: np.random.Generator) -> list[Outline]:
    half_width = rng.uniform(0.28, 0.45)
    outline = _polar(np.full(180, half_width))
    outline[:, 0] += np.sign(np.cos(_TURN)) * (1 - half_width)
    return [outline]


def _crescent(rng: np.random.Generator) -> list[Outline]:
    outer = _polar(np.ones(90), np.linspace(0.25 * np.pi, 1.75 * np.pi, 90))
    reach = rng.uniform(0.1, 0.3)
    inner = outer[::-1] * (0.72 - reach, 0.96) + (reach + 0.12, 0)
    return [np.concatenate([outer, inner])]


def _mug(rng: np.random.Generator) -> list[Outline]:
    taper = rng.uniform(0.0, 0.12)
    body = np.array([(-0.75, -0.8), (0.45, -0.8), (0.45 - taper, 0.8), (-0.75 + taper, 0.8)])
    handle = _polar(np.ones(180))
    half_height = rng.uniform(0.4, 0.55)
    return [body, handle * (0.5, half_height) + (0.45, 0), handle * (0.27, half_height - 0.2) + (0.5, 0)]


def _mushroom(rng: np.random.Generator) -> list[Outline]:
    cap = _polar(np.ones(90), np.linspace(np.pi, 2 * np.pi, 90)) * (1, rng.uniform(0.7, 1.0))
    stem_width = rng.uniform(0.25, 0.4)
    stem = np.array(
        [(stem_width, 0), (stem_width * 1.15, 0.85), (-stem_width * 1.15, 0.85), (-stem_width, 0)]
    )
    return [np.concatenate([cap, stem])]


_SHAPES: tuple[tuple[Callable[[np.random.Generator], list[Outline]], float], ...] = (
    (_ellipse, 0.0),
    (_ball, 0.0),
    (_ball, 0.0),
    (_blob, 0.02),
    (_blob, 0.02),
    (_polygon, 0.1),
    (_star, 0.07),
    (_flower, 0.02),
    (_ring, 0.0),
    (_leaf, 0.02),
    (_capsule, 0.0),
    (_crescent, 0.04),
    (_mug, 0.05),
    (_mushroom, 0.05),
)
"""How each kind of outline is drawn, and by how much its corners are rounded (unit coordinates)."""


def silhouette(rng: np.random.Generator, size_px: int) -> Gray:
    """A random outline, filled: (size_px, size_px) uint8, 0 outside, 255 inside, soft only along the edge.

    The first outline of a shape is its outside; an outline that lies within it is a hole.
    """
    draw, rounding = _SHAPES[int(rng.integers(len(_SHAPES)))]
    outlines = draw(rng)
    if rng.random() < 0.5:
        outlines = [outline * (-1, 1) for outline in outlines]
    reach = max(float(np.abs(outline).max()) for outline in outlines)
    side_px = size_px * _OVERSAMPLING
    filled = np.zeros((side_px, side_px), np.uint8)
    to_px = _MARGIN / reach * side_px / 2
    polygons = [np.rint((outline * to_px + side_px / 2) * 16).astype(np.int32) for outline in outlines]
    if draw is _mug:  # body and handle overlap, and only the handle has a hole
        cv2.fillPoly(filled, [polygons[1], polygons[2]], 255, shift=4)
        cv2.fillPoly(filled, [polygons[0]], 255, shift=4)
    else:
        cv2.fillPoly(filled, polygons, 255, shift=4)
    if rounding:
        blurred = cv2.GaussianBlur(filled, (0, 0), rounding * side_px / 2, borderType=cv2.BORDER_CONSTANT)
        filled = cv2.threshold(blurred, 127, 255, cv2.THRESH_BINARY)[1].astype(np.uint8)
    return cv2.resize(filled, (size_px, size_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
