"""Masks in pixels: exact geometry, and one answer whichever way it is asked."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentations import segmentation_of, segmentations

from appliance.data import Segmentation
from appliance.masks import areas_px, containing, full_mask, levels_at, rasterise


@settings(max_examples=60, deadline=None)
@given(segmentations(max_side=40))
def test_point_and_full_mask_agree_at_every_pixel(segmentation: Segmentation) -> None:
    masks = np.stack([full_mask(segmentation, i) for i in range(len(segmentation))])
    width, height = segmentation.letterbox.picture_wh
    for y in range(height):
        for x in range(width):
            assert (containing(segmentation, (x + 0.5, y + 0.5)) == masks[:, y, x]).all()


@settings(max_examples=100, deadline=None)
@given(segmentations(), st.integers(1, 200), st.integers(1, 200))
def test_mask_equals_levels_interpolated_in_float(
    segmentation: Segmentation, width: int, height: int
) -> None:
    letterbox = segmentation.letterbox
    _, h, w = segmentation.mask_levels.shape
    xy = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    picture_xy = xy * letterbox.picture_wh / (width, height)
    at = letterbox.to_input(picture_xy) * (w, h) / letterbox.input_wh - 0.5
    at = at.clip(0, (w - 1, h - 1))
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, (w - 1, h - 1))
    fx, fy = np.moveaxis(at - low, -1, 0)
    for i in range(len(segmentation)):
        grid = segmentation.mask_levels[i].astype(float)
        upper = grid[low[..., 1], low[..., 0]] * (1 - fx) + grid[low[..., 1], high[..., 0]] * fx
        lower = grid[high[..., 1], low[..., 0]] * (1 - fx) + grid[high[..., 1], high[..., 0]] * fx
        exact = upper * (1 - fy) + lower * fy
        x0, y0, x1, y1 = segmentation.boxes_xyxy[i]
        px, py = np.moveaxis(picture_xy, -1, 0)
        margin = 1e-6 * max(letterbox.picture_wh)
        surely_in = (px > x0 + margin) & (px < x1 - margin) & (py > y0 + margin) & (py < y1 - margin)
        surely_out = (px < x0 - margin) | (px > x1 + margin) | (py < y0 - margin) | (py > y1 + margin)

        levels, roi = levels_at(segmentation, i, (width, height))
        mask, mask_roi = rasterise(segmentation, i, (width, height))
        assert mask_roi == roi
        assert mask.dtype == np.uint8
        assert mask.shape == levels.shape == (roi[3] - roi[1], roi[2] - roi[0])
        assert ((levels >= 128) * 255 == mask).all()
        in_roi = np.zeros((height, width), bool)
        in_roi[roi[1] : roi[3], roi[0] : roi[2]] = True
        assert in_roi[surely_in].all()
        assert not in_roi[surely_out].any()
        # the error of 1/128 prototype pixel on the steepest slope, in either direction, and of the roundings
        assert np.abs(levels - exact[roi[1] : roi[3], roi[0] : roi[2]]).max(initial=0) < 2 * 255 / 128 + 1.5


def test_plain_levels_stay_as_they_are() -> None:
    for level in range(256):
        segmentation = segmentation_of(np.full((1, 32, 32), level, np.uint8), [[0, 0, 50, 31]], (50, 31))
        levels, _ = levels_at(segmentation, 0, (77, 40))
        assert (levels == level).all()


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [3.6, 2, 4.4, 9], [0, 0, 0, 0], [50, 31, 50, 31]])
def test_box_without_a_pixel_gives_an_empty_mask(box: list[float]) -> None:
    segmentation = segmentation_of(np.full((1, 32, 32), 255, np.uint8), [box], (50, 31))
    mask, (x0, y0, x1, y1) = rasterise(segmentation, 0, (50, 31))
    assert mask.size == 0
    assert mask.shape == (y1 - y0, x1 - x0)
    assert levels_at(segmentation, 0, (50, 31))[0].size == 0
    assert not full_mask(segmentation, 0).any()
    assert np.isfinite(areas_px(segmentation)).all()


def test_no_instances() -> None:
    segmentation = segmentation_of(np.zeros((0, 32, 32), np.uint8), np.zeros((0, 4)), (50, 31))
    assert containing(segmentation, (3, 3)).shape == (0,)
    assert areas_px(segmentation).shape == (0,)


def test_points_outside_the_picture_are_in_no_mask() -> None:
    segmentation = segmentation_of(np.full((1, 32, 32), 255, np.uint8), [[0, 0, 50, 31]], (50, 31))
    for xy in [(-1, 3), (3, -0.01), (50, 3), (1e9, 3), (3, 31)]:
        assert not containing(segmentation, xy).any()
    assert containing(segmentation, (49.99, 30.99)).all()


def test_areas_are_near_the_true_ones() -> None:
    rng = np.random.default_rng(5)
    shapes = []
    for _ in range(40):
        canvas = np.zeros((128, 128), np.uint8)
        cv2.circle(canvas, rng.integers(30, 98, 2).tolist(), int(rng.integers(6, 30)), 255, -1)
        shapes.append(cv2.blur(canvas, (5, 5)))
    boxes = np.tile(np.float32([100, 50, 1100, 700]), (40, 1))
    segmentation = segmentation_of(np.stack(shapes), boxes, (1280, 720), (512, 512))
    true = np.array([full_mask(segmentation, i).sum() for i in range(40)])
    assert np.abs(areas_px(segmentation) - true).max() < 0.06 * true.max()
    assert np.median(np.abs(areas_px(segmentation) - true) / true.clip(1)) < 0.03
