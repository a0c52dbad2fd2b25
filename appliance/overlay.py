"""Masks and the selection as an RGBA layer, and that layer on a picture. Pure.

Tints come from one look-up over a map of labels, and outlines are polygons drawn with anti-aliasing; they
cover the tints' edges. So the cost grows with the area and the outlines of the objects, not with their number
times the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance import masks
from appliance.data import Layer, RgbaImage, RgbImage, Segmentation, Selection

_TINT = 90
"""Alpha of an object's colour: 35 %."""
_TINT_SELECTED = 110
_DIM = 140
"""Alpha of the black around the selected object."""
_FAINT = 0.4
"""Brightness of the outlines in that black."""
_LABELS = 255
"""Objects per map of labels; 0 is the background."""

Contours = list[NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class _Shape:
    """One object on the canvas."""

    mask: NDArray[np.uint8]
    roi_xyxy: masks.RoiXyxy
    contours: Contours


def draw(
    segmentation: Segmentation,
    selection: Selection | None,
    size_wh: tuple[int, int],
    only_selection: bool = False,
    out: RgbaImage | None = None,
) -> Layer:
    """Draw all objects, large ones first, or the selected one bright among dimmed ones.

    `size_wh` is the layer's size in pixels; the picture is thought of as stretched to it. With
    `only_selection` nothing but the selected object is drawn. A selection that is out of sight dims nothing.
    `out` is a C-contiguous array of that size to draw into; what it held is lost.
    """
    width, height = size_wh
    rgba = np.empty((height, width, 4), np.uint8) if out is None else out
    ids = segmentation.ids if len(segmentation.ids) else np.arange(len(segmentation))
    chosen = [] if selection is None else np.flatnonzero(ids == selection.id).tolist()[:1]
    order = np.argsort(-masks.areas_px(segmentation), kind="stable").tolist()
    others = [] if only_selection else [i for i in order if i not in chosen]
    shapes = {i: _shape(segmentation, i, size_wh) for i in others + chosen}
    rgb = colours(ids)

    dimmed = bool(chosen) and not only_selection
    background = (0, 0, 0, _DIM) if dimmed else (0, 0, 0, 0)
    tinted = chosen or others
    tint = _TINT_SELECTED if chosen else _TINT
    _paint(rgba, [shapes[i] for i in tinted], [(*rgb[i], tint) for i in tinted], background)

    line_px = max(1, round(2 * height / 1080))
    for i in others:
        red, green, blue = (round(_FAINT * c) for c in rgb[i]) if dimmed else rgb[i]
        _outline(rgba, shapes[i], (red, green, blue, 180 if dimmed else 235), line_px)
    white_px = line_px + 1
    for i in chosen:
        _outline(rgba, shapes[i], (*rgb[i], 255), white_px + 2 * line_px)
        _outline(rgba, shapes[i], (255, 255, 255, 255), white_px)
    return Layer(segmentation, rgba, selection_visible=bool(chosen))


def flatten(rgb: RgbImage, layer: Layer) -> RgbImage:
    """Lay a layer over a picture (H, W, 3), which stays as it is; the layer is stretched to the picture."""
    height, width = rgb.shape[:2]
    rgba = layer.rgba
    if rgba.shape[:2] != (height, width):
        rgba = np.asarray(cv2.resize(rgba, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return over(rgb, rgba)


def over(rgb: RgbImage, rgba: RgbaImage) -> RgbImage:
    """An RGBA image laid over a picture of the same size; a new array. Rounding may be off by one."""
    alpha = cv2.cvtColor(cv2.extractChannel(rgba, 3), cv2.COLOR_GRAY2RGB)
    front = cv2.multiply(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), alpha, scale=1 / 255)
    back = cv2.multiply(rgb, cv2.bitwise_not(alpha), scale=1 / 255)
    return np.asarray(cv2.add(front, back, dst=back), np.uint8)


def colours(ids: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """A colour for each id, red first: always the same, neighbours far apart, none of them dark.

    Hues turn by the golden ratio; lightness takes turns. In OKLCH, where equal numbers look equally bright
    (B. Ottosson, "A perceptual color space for image processing", 2020).
    """
    turn = ids * 0.61803398875 % 1
    lightness = np.where(ids % 2, 0.70, 0.82)
    a, b = 0.17 * np.cos(2 * np.pi * turn), 0.17 * np.sin(2 * np.pi * turn)
    lms = (
        np.stack(
            [
                lightness + 0.3963377774 * a + 0.2158037573 * b,
                lightness - 0.1055613458 * a - 0.0638541728 * b,
                lightness - 0.0894841775 * a - 1.2914855480 * b,
            ]
        )
        ** 3
    )
    to_linear_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = (to_linear_rgb @ lms).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [(red, green, blue) for red, green, blue in np.rint(255 * srgb).astype(int).T.tolist()]


def _shape(segmentation: Segmentation, i: int, size_wh: tuple[int, int]) -> _Shape:
    """The pixels of instance i and the polygons around them, in canvas pixels."""
    mask, roi = masks.rasterise(segmentation, i, size_wh)
    if mask.size == 0:
        return _Shape(mask, roi, [])
    found, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=roi[:2])
    # Less than a pixel off, so that the steps from pixel to pixel become slopes.
    return _Shape(mask, roi, [np.asarray(cv2.approxPolyDP(c, 0.8, True), np.int32) for c in found])


def _paint(
    rgba: RgbaImage,
    shapes: list[_Shape],
    tints: list[tuple[int, int, int, int]],
    background: tuple[int, int, int, int],
) -> None:
    """Fill the whole layer: each pixel with the tint of the last shape that has it, or the background."""
    pixels = rgba.view(np.uint32)[..., 0]
    labels = np.empty(pixels.shape, np.uint8)
    for start in range(0, max(1, len(shapes)), _LABELS):
        labels[:] = 0
        batch = slice(start, start + _LABELS)
        for label, shape in enumerate(shapes[batch], 1):
            x0, y0, x1, y1 = shape.roi_xyxy
            region = labels[y0:y1, x0:x1]
            np.maximum(region, shape.mask & np.uint8(label), out=region)
        table = np.zeros((_LABELS + 1, 4), np.uint8)
        table[0] = background
        table[1 : 1 + len(tints[batch])] = np.array(tints[batch], np.uint8).reshape(-1, 4)
        values = table.view(np.uint32)[:, 0]
        if start == 0:
            values.take(labels, out=pixels, mode="clip")
        else:
            np.copyto(pixels, values.take(labels), where=labels != 0)


def _outline(rgba: RgbaImage, shape: _Shape, colour: tuple[int, int, int, int], thickness_px: int) -> None:
    """Draw the polygons around a shape."""
    cv2.polylines(rgba, shape.contours, True, colour, thickness_px, cv2.LINE_AA)
