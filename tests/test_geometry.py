"""Letterboxes map exactly both ways, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.geometry import Letterbox

pictures = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
inputs = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda wh: (32 * wh[0], 32 * wh[1]))
parts = st.tuples(st.floats(-1, 2), st.floats(-1, 2))


@given(pictures, inputs, parts)
@example((1, 1), (512, 512), (1, 1))
@example((5000, 1), (32, 1280), (0.5, 0.5))
def test_points_come_back(
    picture_wh: tuple[int, int], input_wh: tuple[int, int], part: tuple[float, float]
) -> None:
    letterbox = Letterbox.fit(picture_wh, input_wh)
    xy = np.array(part) * picture_wh
    assert letterbox.to_picture(letterbox.to_input(xy)) == pytest.approx(xy, rel=1e-9, abs=1e-6)


@given(pictures, inputs)
@example((1, 1), (512, 512))
@example((1, 5000), (1280, 32))
def test_the_picture_fills_its_place_in_the_input(
    picture_wh: tuple[int, int], input_wh: tuple[int, int]
) -> None:
    letterbox = Letterbox.fit(picture_wh, input_wh)
    left, top, width, height = letterbox.content_xywh
    assert left >= 0
    assert top >= 0
    assert width >= 1
    assert height >= 1
    assert left + width <= input_wh[0]
    assert top + height <= input_wh[1]
    assert width == input_wh[0] or height == input_wh[1]
    assert abs(input_wh[0] - width - 2 * left) <= 1
    assert abs(input_wh[1] - height - 2 * top) <= 1
    # the aspect is kept to the nearest pixel
    scale = min(input_wh[0] / picture_wh[0], input_wh[1] / picture_wh[1])
    assert abs(width - max(1, picture_wh[0] * scale)) <= 0.5
    assert abs(height - max(1, picture_wh[1] * scale)) <= 0.5
    corners = letterbox.to_input(np.array([[0, 0], picture_wh]))
    assert corners == pytest.approx(np.array([[left, top], [left + width, top + height]]))


@given(pictures, inputs, st.lists(st.tuples(parts, parts), min_size=1, max_size=4))
def test_boxes_come_back_clipped(
    picture_wh: tuple[int, int], input_wh: tuple[int, int], corners: list[tuple[tuple[float, float], ...]]
) -> None:
    letterbox = Letterbox.fit(picture_wh, input_wh)
    boxes = np.array(corners) * picture_wh
    back = letterbox.boxes_to_picture(letterbox.to_input(boxes).reshape(-1, 4))
    assert back.dtype == np.float32
    expected = boxes.clip(0, picture_wh).reshape(-1, 4)
    assert back == pytest.approx(expected, rel=1e-6, abs=1e-3)
