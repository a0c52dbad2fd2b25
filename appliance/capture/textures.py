"""Surfaces of the generated scene: procedural textures, cuttings of photographs, backgrounds. Pure.

Like silhouettes, they are made in unit coordinates: the same generator gives the same surface at every size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.data import RgbImage

Real = NDArray[np.float32]
Colours = NDArray[np.float32]
"""(N, 3), red first, 0..255."""

PALETTES: tuple[tuple[int, ...], ...] = (
    (0xE4572E, 0x17BEBB, 0xFFC914, 0x2E282A, 0x76B041, 0xF7F3E3),
    (0x264653, 0x2A9D8F, 0xE9C46A, 0xF4A261, 0xE76F51, 0xFAF3DD),
    (0xF94144, 0xF8961E, 0xF9C74F, 0x90BE6D, 0x43AA8B, 0x577590),
    (0x5F0F40, 0x9A031E, 0xFB8B24, 0xE36414, 0x0F4C5C, 0xFFF1D0),
    (0x355070, 0x6D597A, 0xB56576, 0xE56B6F, 0xEAAC8B, 0xF2E9E4),
    (0x006D77, 0x83C5BE, 0xEDF6F9, 0xFFDDD2, 0xE29578, 0x3D405B),
)


def colours(rng: np.random.Generator, palette: tuple[int, ...], count: int) -> Colours:
    """`count` different colours of a palette, each varied a little."""
    picked = rng.choice(len(palette), count, replace=False)
    rgb = np.array([[palette[i] >> 16, palette[i] >> 8 & 255, palette[i] & 255] for i in picked], np.float32)
    return np.clip(
        rgb * rng.uniform(0.85, 1.1, (count, 1)) + rng.uniform(-12, 12, (count, 3)), 4, 250
    ).astype(np.float32)


def noise(rng: np.random.Generator, size_wh: tuple[int, int], cells: int, octaves: int = 4) -> Real:
    """Soft fractal noise, (H, W) float32, 0..1; `cells` across the picture's width in its coarsest octave."""
    width, height = size_wh
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        across = cells * 2**octave
        grid = rng.random((across + 1, across + 1)).astype(np.float32)
        rows = grid[: max(2, min(across + 1, round((across + 1) * height / width)))]
        total += cv2.resize(rows, size_wh, interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    low, high = float(total.min()), float(total.max())
    scaled: Real = (total - low) / np.float32(max(high - low, 1e-6))
    return scaled


def _grid(size_px: int) -> tuple[Real, Real]:
    axis = (np.arange(size_px, dtype=np.float32) + 0.5) * (2 / size_px) - 1
    return np.broadcast_to(axis, (size_px, size_px)), np.broadcast_to(axis[:, None], (size_px, size_px))


def _ramp(value: Real, stops: Colours) -> Real:
    """Colours (..., 3) for values of 0..1: the stops at equal distances, linear between."""
    position = np.clip(value, 0, 1) * (len(stops) - 1)
    low = np.minimum(position.astype(np.intp), len(stops) - 2)
    part = (position - low)[..., None]
    mixed: Real = (stops[low] * (1 - part) + stops[low + 1] * part).astype(np.float32)
    return mixed


def _edge(distance: Real, size_px: int) -> Real:
    """0 or 1, and a step of about a pixel between, where `distance` (unit coordinates) changes its sign."""
    step: Real = np.clip(distance * np.float32(size_px / 3) + np.float32(0.5), 0, 1)
    return step


def _plain(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    grain = noise(rng, (size_px, size_px), 3, 5)
    surface: Real = (stops[0] * (0.88 + 0.24 * grain[..., None])).astype(np.float32)
    return surface


def _marble(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    warp = noise(rng, (size_px, size_px), 2, 5)
    x, y = _grid(size_px)
    wave = np.sin(x * rng.uniform(-3, 3) + y * rng.uniform(-3, 3) + warp * rng.uniform(6, 12))
    return _ramp(wave.astype(np.float32) / 2 + np.float32(0.5), stops)


def _clouds(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    return _ramp(noise(rng, (size_px, size_px), 2, 5), stops)


def _bands(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    _, y = _grid(size_px)
    ripple = noise(rng, (size_px, size_px), 3, 4)
    wave: Real = np.sin(y * rng.uniform(5, 11) + ripple * rng.uniform(1, 3.5)).astype(np.float32)
    return _ramp((wave / 2 + 0.5).astype(np.float32), stops)


def _stripes(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    x, y = _grid(size_px)
    turn = rng.uniform(0, np.pi)
    count = rng.uniform(2.5, 6)
    wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * np.pi * count).astype(np.float32)
    return _ramp(_edge(wave / np.float32(np.pi * count), size_px), stops[:2])


def _wedges(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    x, y = _grid(size_px)
    x0, y0 = rng.uniform(-0.3, 0.3, 2)
    radius = np.hypot(x - x0, y - y0)
    count = int(rng.integers(3, 6))
    wave = np.sin(np.arctan2(y - y0, x - x0) * count + rng.uniform(0, 6)) * radius / count
    hub = _edge(np.float32(0.14) - radius, size_px)[..., None]
    surface: Real = _ramp(_edge(wave.astype(np.float32), size_px), stops[:2]) * (1 - hub) + stops[2] * hub
    return surface


def _dots(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    x, y = _grid(size_px)
    turn, count = rng.uniform(0, np.pi), rng.uniform(2.0, 4.0)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    u, v = (u * count + 100.5) % 1 - 0.5, (v * count + 100.5) % 1 - 0.5
    inside = (rng.uniform(0.22, 0.36) - np.hypot(u, v)) / count
    return _ramp(_edge(inside.astype(np.float32), size_px), stops[:2])


def _circles(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    x, y = _grid(size_px)
    spiral = np.arctan2(y, x) * int(rng.integers(0, 3))
    count = rng.uniform(2, 4.5)
    wave = np.sin(np.hypot(x, y) * np.pi * 2 * count + spiral).astype(np.float32)
    return _ramp(_edge(wave / np.float32(2 * np.pi * count), size_px), stops[:2])


def _terrazzo(rng: np.random.Generator, size_px: int, stops: Colours) -> Real:
    surface = np.empty((size_px, size_px, 3), np.float32)
    surface[:] = stops[0]
    for _ in range(int(rng.integers(12, 34))):
        centre = rng.uniform(0, size_px * 16, 2)
        corners = rng.uniform(0.03, 0.12, 6)[:, None] * size_px * 16
        angle = np.arange(6) * np.pi / 3
        points = np.rint(centre + corners * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.int32)
        colour = stops[int(rng.integers(1, len(stops)))]
        cv2.fillPoly(surface, [points], [float(c) for c in colour], cv2.LINE_AA, shift=4)
    return surface


_TEXTURES: tuple[Callable[[np.random.Generator, int, Colours], Real], ...] = (
    _plain,
    _plain,
    _marble,
    _clouds,
    _bands,
    _stripes,
    _wedges,
    _dots,
    _circles,
    _terrazzo,
)


def texture(
    rng: np.random.Generator,
    size_px: int,
    palette: tuple[int, ...],
    photographs: Sequence[RgbImage],
    photograph_share: float,
) -> Real:
    """A random surface, (size_px, size_px, 3) float32, 0..255, red first."""
    stops = colours(rng, palette, 3)
    of_photograph = rng.random() < photograph_share
    kind = int(rng.integers(len(_TEXTURES)))
    if not (of_photograph and photographs):
        return _TEXTURES[kind](rng, size_px, stops)
    surface = _cutting(rng, photographs, (size_px, size_px), rng.uniform(0.3, 0.8))
    return _toned(surface, stops[0])


def background(
    rng: np.random.Generator,
    size_wh: tuple[int, int],
    palette: tuple[int, ...],
    photographs: Sequence[RgbImage],
) -> RgbImage:
    """A picture to lay things on, (H, W, 3) uint8: a photograph, a little out of focus, in soft uneven light.

    Without photographs it is a procedural surface.
    """
    width, height = size_wh
    stops = colours(rng, palette, 3)
    defocus = rng.uniform(0.0005, 0.004)
    if photographs:
        surface = _toned(_cutting(rng, photographs, size_wh, rng.uniform(0.7, 1.0)), stops[0])
    else:
        kind = _TEXTURES[int(rng.integers(len(_TEXTURES)))]
        stops = (stops * 0.5 + stops.mean(axis=0) * 0.5).astype(np.float32)
        square = kind(rng, max(width, height), stops)
        surface = square[:height, :width]
    surface = cv2.GaussianBlur(surface, (0, 0), max(0.3, defocus * width)).astype(np.float32)
    light = 0.7 + 0.5 * noise(rng, size_wh, 2, 2)
    grain = rng.normal(0, 2.0, (256, 256)).astype(np.float32)
    tiles = np.tile(grain, (height // 256 + 1, width // 256 + 1))[:height, :width]
    return np.clip(surface * light[..., None] + tiles[..., None], 0, 255).astype(np.uint8)


def _cutting(
    rng: np.random.Generator, photographs: Sequence[RgbImage], size_wh: tuple[int, int], extent: float
) -> Real:
    """A part of a photograph, `extent` of the largest that has the wanted aspect; perhaps mirrored."""
    photograph = photographs[int(rng.integers(len(photographs)))]
    height, width = photograph.shape[:2]
    scale = min(width / size_wh[0], height / size_wh[1]) * extent
    cut_w, cut_h = max(2, round(size_wh[0] * scale)), max(2, round(size_wh[1] * scale))
    left, top = int(rng.random() * (width - cut_w)), int(rng.random() * (height - cut_h))
    part = photograph[top : top + cut_h, left : left + cut_w]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    smaller = cut_w > size_wh[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    fitted: Real = np.clip(cv2.resize(part, size_wh, interpolation=how), 0, 255).astype(np.float32)
    return fitted


def _toned(surface: Real, colour: Colours) -> Real:
    """Give a grey photograph a colour, and leave a coloured one alone."""
    if float((surface.max(axis=2) - surface.min(axis=2)).mean()) > 8:
        return surface
    gray = surface.mean(axis=2, keepdims=True)
    tint = colour / max(float(colour.mean()), 40.0)
    toned: Real = np.clip(gray * (0.6 + 0.4 * tint), 0, 255).astype(np.float32)
    return toned
