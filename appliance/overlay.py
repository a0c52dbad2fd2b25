"""Masks and the selection as an RGBA layer, and that layer on a picture. Pure.

Masks are turned into pixels at the layer's own size, and from there into polygons, which are filled and
outlined with anti-aliasing: about 0.2 ms an object.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance import masks
from appliance.data import Layer, RgbaImage, RgbImage, Segmentation, Selection

_TINT = 90
"""Alpha of an object's colour: 35 %."""
_TINT_SELECTED = 110
_DIM = 125
"""Alpha of the black around the selected object."""
_FAINT = 0.4
"""Brightness of the outlines in that black."""


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
    rgb = colours(ids)

    dimmed = bool(chosen) and not only_selection
    background = np.array([0, 0, 0, _DIM if dimmed else 0], np.uint8)
    rgba.view(np.uint32)[:] = background.view(np.uint32)  # several times as fast as four bytes at a time
    line_px = max(1, round(2 * height / 1080))
    for i in others:
        outline = _outline(segmentation, i, size_wh)
        if dimmed:
            red, green, blue = (round(_FAINT * c) for c in rgb[i])
            cv2.polylines(rgba, outline, True, (red, green, blue, 180), line_px, cv2.LINE_AA)
        else:
            cv2.fillPoly(rgba, outline, (*rgb[i], _TINT))
            cv2.polylines(rgba, outline, True, (*rgb[i], 235), line_px, cv2.LINE_AA)
    white_px = line_px + 1
    for i in chosen:
        outline = _outline(segmentation, i, size_wh)
        cv2.fillPoly(rgba, outline, (*rgb[i], _TINT_SELECTED))
        cv2.polylines(rgba, outline, True, (*rgb[i], 255), white_px + 2 * line_px, cv2.LINE_AA)
        cv2.polylines(rgba, outline, True, (255, 255, 255, 255), white_px, cv2.LINE_AA)
    return Layer(segmentation, rgba)


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


def _outline(segmentation: Segmentation, i: int, size_wh: tuple[int, int]) -> list[NDArray[np.int32]]:
    """The polygons around instance i and around its holes, in canvas pixels."""
    mask, roi = masks.rasterise(segmentation, i, size_wh)
    if mask.size == 0:
        return []
    found, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=roi[:2])
    # Less than a pixel off, so that the steps from pixel to pixel become slopes.
    return [np.asarray(cv2.approxPolyDP(contour, 0.8, True), np.int32) for contour in found]
