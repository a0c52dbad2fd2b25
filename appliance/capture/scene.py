"""The generated scene: textured things that move over a photograph, and exactly which pixels each one is.

Pure: picture `index` depends on the seed, the size, the rate and the photographs, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.capture.silhouettes import Gray, silhouette
from appliance.capture.textures import PALETTES, background, texture
from appliance.data import RgbaImage, RgbImage

Labels = NDArray[np.uint8]
"""(H, W): 0 is the background, k the visible pixels of object k."""

_ROOM = 1.2
"""The background is this much larger than the picture, so that the picture can pan over it."""
_SHADOW_REDUCTION = 4


@dataclass(frozen=True, slots=True)
class Photographs:
    """What the scene cuts its background and some of its surfaces from."""

    backgrounds: tuple[RgbImage, ...]
    textures: tuple[RgbImage, ...]


@cache
def packaged_photographs() -> Photographs:
    """The photographs that come with the package."""
    folder = resources.files("appliance.capture") / "photos"

    def read(names: Sequence[str]) -> tuple[RgbImage, ...]:
        encoded = [np.frombuffer((folder / name).read_bytes(), np.uint8) for name in names]
        return tuple(
            cv2.cvtColor(_decoded(data), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False) for data in encoded
        )

    return Photographs(
        read(("rocket.jpg", "gravel.jpg")), read(("chelsea.jpg", "astronaut.jpg", "coffee.jpg"))
    )


def _decoded(data: NDArray[np.uint8]) -> RgbImage:
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.uint8, copy=False)


@dataclass(frozen=True, slots=True)
class _Wave:
    """mean + swing * sin(2 pi (t / period_s + phase))."""

    mean: float
    swing: float
    period_s: float
    phase: float

    def at(self, time_s: float) -> float:
        return self.mean + self.swing * float(np.sin(2 * np.pi * (time_s / self.period_s + self.phase)))


@dataclass(frozen=True, slots=True, eq=False)
class _Thing:
    """One object. Lengths are in picture heights, the origin is the top left corner."""

    sprite: RgbaImage
    """Square; alpha premultiplied."""
    shadow: Gray
    """How much of the light is taken away; its own square, `_SHADOW_REDUCTION` times coarser."""
    shadow_offset: float
    x: _Wave
    y: _Wave
    angle: _Wave
    scale: _Wave
    drift_per_s: float
    """Along x; 0 for a thing that stays in the picture."""
    orbit: float
    """The stretch of x after which a drifting thing comes in again on the other side."""

    def pose(self, time_s: float) -> tuple[float, float, float, float]:
        """x, y, angle (radians), scale."""
        x = self.x.at(time_s)
        if self.drift_per_s:
            margin = (self.orbit - 16 / 9) / 2
            x = (x + self.drift_per_s * time_s + margin) % self.orbit - margin
        return x, self.y.at(time_s), self.angle.at(time_s), self.scale.at(time_s)


class Scene:
    """A seeded moving scene with ground truth.

    `things` objects, labelled 1 to `things`, of which some are out of sight at any moment.
    """

    def __init__(
        self,
        seed: int,
        size_wh: tuple[int, int] = (1280, 720),
        rate_hz: float = 30.0,
        photographs: Photographs | None = None,
    ) -> None:
        self.size_wh = size_wh
        self.rate_hz = rate_hz
        photographs = packaged_photographs() if photographs is None else photographs
        rng = np.random.default_rng(seed)
        palette = PALETTES[int(rng.integers(len(PALETTES)))]
        width, height = size_wh
        room_wh = (round(width * _ROOM), round(height * _ROOM))
        self._background = background(rng, room_wh, palette, photographs.backgrounds)
        self._pan = (
            _Wave(0.5, 0.48, rng.uniform(35, 60), rng.random()),
            _Wave(0.5, 0.48, rng.uniform(25, 45), rng.random()),
        )
        self._light = rng.uniform(-2.6, -1.6)
        """Where the light comes from: the angle in the picture, y down."""
        count = int(rng.integers(11, 17))
        diameters = np.sort(np.exp(rng.uniform(np.log(0.11), np.log(0.5), count)))[::-1]
        # A low-discrepancy sequence (R2, of Roberts 2018) spreads the things over the picture.
        homes = (rng.random(2) + np.outer(np.arange(count), (0.7548776662, 0.5698402910))) % 1
        children = rng.spawn(count)
        self._things = tuple(
            self._thing(child, palette, photographs.textures, float(diameters[k]), k / count, homes[k])
            for k, child in enumerate(children)
        )

    @property
    def things(self) -> int:
        """How many objects there are, in and out of sight."""
        return len(self._things)

    def _thing(
        self,
        rng: np.random.Generator,
        palette: tuple[int, ...],
        photographs: Sequence[RgbImage],
        diameter: float,
        order: float,
        home: NDArray[np.float64],
    ) -> _Thing:
        size_px = max(8, round(diameter * self.size_wh[1]))
        alpha = silhouette(rng, size_px)
        surface = texture(rng, size_px, palette, photographs, 0.3)
        lit = _lit(surface, alpha, self._light, rng.uniform(0.25, 1.0), rng.uniform(0.1, 0.6))
        opacity = alpha.astype(np.float32)[..., None] / 255
        sprite = np.concatenate([np.clip(lit, 0, 255) * opacity, opacity * 255], axis=2)
        shadow_offset = rng.uniform(0.02, 0.05) + 0.02 * order
        drifting = rng.random() < 0.45
        aspect = self.size_wh[0] / self.size_wh[1]
        speed = rng.uniform(0.04, 0.13) * (1 if rng.random() < 0.5 else -1)
        return _Thing(
            sprite=np.rint(sprite).astype(np.uint8),
            shadow=_shadow(alpha, shadow_offset / diameter, rng.uniform(0.4, 0.65)),
            shadow_offset=shadow_offset,
            x=_Wave(
                (0.06 + 0.88 * home[0]) * aspect, rng.uniform(0.05, 0.25), rng.uniform(12, 25), rng.random()
            ),
            y=_Wave(0.1 + 0.8 * home[1], rng.uniform(0.04, 0.18), rng.uniform(8, 18), rng.random()),
            angle=_Wave(rng.uniform(-0.5, 0.5), rng.uniform(0.1, 0.4), rng.uniform(6, 15), rng.random()),
            scale=_Wave(1.0, rng.uniform(0.02, 0.08), rng.uniform(5, 12), rng.random()),
            drift_per_s=speed if drifting else 0.0,
            orbit=aspect + 1.4 * diameter + 0.3,
        )

    def render(self, index: int) -> tuple[RgbImage, Labels]:
        """Picture `index`, (H, W, 3) uint8, and its labels, (H, W) uint8."""
        width, height = self.size_wh
        rgb = np.empty((height, width, 3), np.uint8)
        labels = np.empty((height, width), np.uint8)
        self.draw(index, rgb, labels)
        return rgb, labels

    def draw(self, index: int, rgb: RgbImage, labels: Labels | None = None) -> None:
        """The same as `render`, into arrays of the caller's."""
        time_s = index / self.rate_hz
        width, height = self.size_wh
        room_h, room_w = self._background.shape[:2]
        left = (room_w - width) * self._pan[0].at(time_s)
        top = (room_h - height) * self._pan[1].at(time_s)
        move = np.array([[1, 0, left], [0, 1, top]], np.float64)
        cv2.warpAffine(self._background, move, (width, height), dst=rgb, flags=_BACKWARD)
        if labels is not None:
            labels[:] = 0
        for label, thing in enumerate(self._things, start=1):
            x, y, angle, scale = thing.pose(time_s)
            away = thing.shadow_offset
            shadow_xy = ((x - away * np.cos(self._light)) * height, (y - away * np.sin(self._light)) * height)
            _lay_shadow(rgb, thing.shadow, shadow_xy, angle, scale * _SHADOW_REDUCTION)
            _lay_sprite(rgb, labels, label, thing.sprite, (x * height, y * height), angle, scale)


_BACKWARD = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def _placed(
    side_px: int, centre_xy: tuple[float, float], angle: float, scale: float, picture: RgbImage
) -> tuple[slice, slice, NDArray[np.float64]] | None:
    """Where a square, turned and scaled about its centre, lies in the picture.

    Returns rows, columns and the (2, 3) map from that region's pixel indices to the square's, or None if it
    is out of sight.
    """
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    reach = side_px * scale * (abs(cos) + abs(sin)) / 2
    left, top = max(0, int(centre_xy[0] - reach)), max(0, int(centre_xy[1] - reach))
    right = min(picture.shape[1], int(centre_xy[0] + reach) + 2)
    bottom = min(picture.shape[0], int(centre_xy[1] + reach) + 2)
    if right <= left or bottom <= top:
        return None
    turn = np.array([[cos, sin], [-sin, cos]]) / scale
    # Pixel i has its centre at i + 0.5 on either side.
    origin = turn @ (np.array([left + 0.5, top + 0.5]) - centre_xy) + (side_px / 2 - 0.5)
    return slice(top, bottom), slice(left, right), np.column_stack([turn, origin])


def _lay_shadow(
    rgb: RgbImage, shadow: Gray, centre_xy: tuple[float, float], angle: float, scale: float
) -> None:
    placed = _placed(shadow.shape[0], centre_xy, angle, scale, rgb)
    if placed is None:
        return
    rows, columns, back = placed
    region = rgb[rows, columns]
    taken = cv2.warpAffine(shadow, back, (region.shape[1], region.shape[0]), flags=_BACKWARD)
    left_over = cv2.cvtColor(cv2.bitwise_not(taken), cv2.COLOR_GRAY2RGB)
    region[:] = cv2.multiply(region, left_over, scale=1 / 255)


def _lay_sprite(
    rgb: RgbImage,
    labels: Labels | None,
    label: int,
    sprite: RgbaImage,
    centre_xy: tuple[float, float],
    angle: float,
    scale: float,
) -> None:
    placed = _placed(sprite.shape[0], centre_xy, angle, scale, rgb)
    if placed is None:
        return
    rows, columns, back = placed
    region = rgb[rows, columns]
    warped = cv2.warpAffine(sprite, back, (region.shape[1], region.shape[0]), flags=_BACKWARD)
    alpha = cv2.extractChannel(warped, 3)
    behind = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2RGB)
    under = cv2.multiply(region, behind, scale=1 / 255)
    region[:] = cv2.add(under, cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB))
    if labels is not None:
        np.copyto(labels[rows, columns], np.uint8(label), where=alpha >= 128)


def _lit(
    surface: NDArray[np.float32], alpha: Gray, light: float, roundness: float, gloss: float
) -> NDArray[np.float32]:
    """Shade a surface as if it bulged towards the viewer: Lambert's law, and a highlight (Blinn-Phong).

    `roundness` is the part of the half-width that the bulge takes up, 1 for a ball.
    """
    inside = (alpha >= 128).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float32)
    bevel = max(float(depth.max()) * roundness, 1.0)
    rise = np.clip(depth / bevel, 0, 1)
    height = np.sqrt(1 - (1 - rise) ** 2).astype(np.float32) * bevel
    height = cv2.GaussianBlur(height, (0, 0), max(0.6, bevel * 0.08)).astype(np.float32)
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    towards = np.array([np.cos(light) * 0.55, np.sin(light) * 0.55, 0.83])
    lambert = np.clip((-slope_x * towards[0] - slope_y * towards[1] + towards[2]) / length, 0, 1)
    half = towards + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    highlight = np.clip((-slope_x * half[0] - slope_y * half[1] + half[2]) / length, 0, 1) ** 40
    shaded = surface * (0.42 + 0.72 * lambert)[..., None] + (gloss * 150 * highlight)[..., None]
    result: NDArray[np.float32] = shaded.astype(np.float32)
    return result


def _shadow(alpha: Gray, softness: float, strength: float) -> Gray:
    """The soft shadow of a silhouette, in a square with room for its blur, reduced by `_SHADOW_REDUCTION`."""
    side_px = alpha.shape[0]
    reduced = max(2, side_px // _SHADOW_REDUCTION)
    small = cv2.resize(alpha, (reduced, reduced), interpolation=cv2.INTER_AREA)
    sigma = max(0.6, softness * reduced * 0.6)
    rim = int(sigma * 2.5) + 1
    padded = cv2.copyMakeBorder(small, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=0)
    blurred = cv2.GaussianBlur(padded, (0, 0), sigma)
    shadow: Gray = np.rint(blurred * strength).astype(np.uint8)
    return shadow
