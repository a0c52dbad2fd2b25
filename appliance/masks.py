"""The pixels of masks: from prototype levels to any canvas that the picture is stretched to. Pure.

A pixel belongs to an instance if the instance's levels, bilinearly interpolated at the pixel's centre, reach
128 and the centre lies in its box (left and top edges included, right and bottom ones not). Interpolation is
separable, one axis after the other, in fixed point: several times as fast as `cv2.warpAffine` or `cv2.remap`,
the same on every machine, and exactly the same for one point as for a whole mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.data import Segmentation

RoiXyxy = tuple[int, int, int, int]
"""Left, top, right, bottom in canvas pixels; right and bottom are outside."""

_FRACTION_BITS = 6  # positions are kept to 1/64 of a prototype pixel
_STEPS = 1 << _FRACTION_BITS
_ROW_SHIFT = 4  # 8 bits of level + 6 of fraction, cut to 10, leave room for 6 more in 16


@dataclass(frozen=True, slots=True)
class _Samples:
    """Where samples along one axis fall among the prototype pixels."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.uint16]
    """Of `upper`, in 64ths."""


def _samples(
    segmentation: Segmentation, axis: int, centres: NDArray[np.floating[Any]], canvas_length: int
) -> _Samples:
    """Prototype pixels around canvas coordinates; axis 0 is x, 1 is y."""
    letterbox = segmentation.letterbox
    prototypes = segmentation.mask_levels.shape[2 - axis]
    content, start = letterbox.content_xywh[2 + axis], letterbox.content_xywh[axis]
    input_px = centres * (content / canvas_length) + start
    position = input_px * (prototypes / letterbox.input_wh[axis]) - 0.5
    fixed = np.rint(position * _STEPS).astype(np.int64)
    lower = fixed >> _FRACTION_BITS
    return _Samples(
        lower.clip(0, prototypes - 1),
        (lower + 1).clip(0, prototypes - 1),
        (fixed & (_STEPS - 1)).astype(np.uint16),
    )


def _roi(segmentation: Segmentation, i: int, size_wh: tuple[int, int]) -> RoiXyxy:
    """The canvas pixels whose centres lie in the box of instance i; empty ones have no width or height."""
    edges: list[int] = []
    for axis in (0, 1):
        length = size_wh[axis]
        scale = length / segmentation.letterbox.picture_wh[axis]
        first, last = segmentation.boxes_xyxy[i, axis::2].tolist()
        start = min(max(math.ceil(first * scale - 0.5), 0), length)
        edges += [start, min(max(math.ceil(last * scale - 0.5), start), length)]
    return edges[0], edges[2], edges[1], edges[3]


def _interpolate(
    segmentation: Segmentation, i: int, roi: RoiXyxy, size_wh: tuple[int, int]
) -> NDArray[np.uint16]:
    """Levels times 256 in the ROI."""
    x0, y0, x1, y1 = roi
    if x0 == x1 or y0 == y1:
        return np.zeros((y1 - y0, x1 - x0), np.uint16)
    across = _samples(segmentation, 0, np.arange(x0, x1) + 0.5, size_wh[0])
    down = _samples(segmentation, 1, np.arange(y0, y1) + 0.5, size_wh[1])
    top = int(down.lower[0])
    rows = segmentation.mask_levels[i, top : int(down.upper[-1]) + 1].astype(np.uint16)
    wide = _blend(rows.take(across.lower, 1), rows.take(across.upper, 1), across.weight)
    wide = _cut(wide)
    return _blend(wide.take(down.lower - top, 0), wide.take(down.upper - top, 0), down.weight[:, None])


def _blend(
    lower: NDArray[np.uint16], upper: NDArray[np.uint16], weight: NDArray[np.uint16]
) -> NDArray[np.uint16]:
    """Weighted sum times 64, in the memory of `lower`; spoils `upper`."""
    lower *= np.uint16(_STEPS) - weight
    upper *= weight
    lower += upper
    return lower


def _cut(blended: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Round to 10 bits, in place, so that a second blend fits into 16; a plain level becomes 4 * level."""
    blended += np.uint16(1 << (_ROW_SHIFT - 1))
    blended >>= np.uint16(_ROW_SHIFT)
    return blended


def levels_at(
    segmentation: Segmentation, i: int, size_wh: tuple[int, int]
) -> tuple[NDArray[np.uint8], RoiXyxy]:
    """The levels of instance i on a canvas that the picture is stretched to; `rasterise` compares them.

    Returns (h, w) uint8, the object where they are at least 128, and the part of the canvas that they are
    for: the pixels whose centres lie in the box; it may be empty.
    """
    roi = _roi(segmentation, i, size_wh)
    levels = _interpolate(segmentation, i, roi, size_wh)
    levels >>= np.uint16(8)
    return levels.astype(np.uint8), roi


def rasterise(
    segmentation: Segmentation, i: int, size_wh: tuple[int, int]
) -> tuple[NDArray[np.uint8], RoiXyxy]:
    """The mask of instance i on a canvas that the picture is stretched to.

    Returns (h, w) uint8, 0 or 255, and the part of the canvas that it is for; it may be empty.
    """
    roi = _roi(segmentation, i, size_wh)
    mask = (_interpolate(segmentation, i, roi, size_wh) >= 128 * 256).view(np.uint8)
    np.negative(mask, out=mask)  # 1 becomes 255
    return mask, roi


def full_mask(segmentation: Segmentation, i: int) -> NDArray[np.bool_]:
    """The mask of instance i as (H, W) bool at picture resolution."""
    width, height = segmentation.letterbox.picture_wh
    mask, (x0, y0, x1, y1) = rasterise(segmentation, i, (width, height))
    full = np.zeros((height, width), np.bool_)
    full[y0:y1, x0:x1] = mask
    return full


def containing(segmentation: Segmentation, xy: tuple[float, float]) -> NDArray[np.bool_]:
    """Which instances contain a point in picture pixels, as (N,) bool.

    At a pixel's centre this is exactly that pixel of `full_mask`.
    """
    x, y = xy
    width, height = segmentation.letterbox.picture_wh
    boxes = segmentation.boxes_xyxy
    inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
    across = _samples(segmentation, 0, np.array([x], np.float64), width)
    down = _samples(segmentation, 1, np.array([y], np.float64), height)
    levels = segmentation.mask_levels

    def row(at: NDArray[np.intp]) -> NDArray[np.uint16]:
        left, right = (levels[:, at[0], column].astype(np.uint16) for column in (across.lower, across.upper))
        return _cut(_blend(left, right, across.weight))

    reached: NDArray[np.bool_] = _blend(row(down.lower), row(down.upper), down.weight)[:, 0] >= 128 * 256
    return inside & reached


def areas_px(segmentation: Segmentation) -> NDArray[np.float32]:
    """The areas of all instances in square picture pixels, (N,) float32; approximate, but cheap.

    The part of the prototype pixels in the box whose level is at least 128, times the area of the box.
    """
    boxes = segmentation.boxes_xyxy
    levels = segmentation.mask_levels
    grid_wh = np.array(levels.shape[:0:-1])
    corners = segmentation.letterbox.to_input(boxes.reshape(-1, 2, 2)) * (
        grid_wh / segmentation.letterbox.input_wh
    )
    first = np.rint(corners[:, 0]).astype(int).clip(0, grid_wh - 1)
    last = np.maximum(np.rint(corners[:, 1]).astype(int), first + 1)
    parts = np.zeros(len(segmentation), np.float32)
    for i, ((x0, y0), (x1, y1)) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        in_box = levels[i, y0:y1, x0:x1]
        parts[i] = np.count_nonzero(in_box & 128) / in_box.size
    areas: NDArray[np.float32] = parts * (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas
