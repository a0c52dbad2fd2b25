"""From the pointer to the picture, exactly, at any window, picture and pixel density."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from appliance.display.viewport import MAX_LAYER_WIDTH_PX, Viewport, pointer_px

sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@given(sizes, sizes, st.data())
def test_picture_pixels_survive_the_way_to_the_window_and_back(
    picture_wh: tuple[int, int], window_wh: tuple[int, int], data: st.DataObject
) -> None:
    viewport = Viewport(picture_wh, window_wh)
    left, top, width, height = viewport.rect_xywh
    x = data.draw(st.floats(0, 1, exclude_max=True)) * picture_wh[0]
    y = data.draw(st.floats(0, 1, exclude_max=True)) * picture_wh[1]
    got = viewport.to_picture((left + x * width / picture_wh[0], top + y * height / picture_wh[1]))
    if got is not None:  # rounding may push a point on the edge out
        assert math.isclose(got[0], x, abs_tol=1e-6 * max(picture_wh))
        assert math.isclose(got[1], y, abs_tol=1e-6 * max(picture_wh))
    else:
        assert min(x, y, picture_wh[0] - x, picture_wh[1] - y) < 1e-6 * max(picture_wh)


@given(sizes, sizes, st.integers(-50, 5050), st.integers(-50, 5050))
def test_every_window_pixel_is_on_the_picture_or_beside_it(
    picture_wh: tuple[int, int], window_wh: tuple[int, int], column: int, row: int
) -> None:
    viewport = Viewport(picture_wh, window_wh)
    left, top, width, height = viewport.rect_xywh
    got = viewport.to_picture((column + 0.5, row + 0.5))
    inside = left <= column < left + width and top <= row < top + height
    assert (got is not None) == inside
    if got is not None:
        assert 0 <= got[0] < picture_wh[0]
        assert 0 <= got[1] < picture_wh[1]


@given(sizes, sizes)
def test_the_picture_keeps_its_aspect_and_fills_the_window(
    picture_wh: tuple[int, int], window_wh: tuple[int, int]
) -> None:
    left, top, width, height = Viewport(picture_wh, window_wh).rect_xywh
    assert width == window_wh[0] or height == window_wh[1]
    assert abs(2 * left + width - window_wh[0]) <= 1
    assert abs(2 * top + height - window_wh[1]) <= 1
    scale = min(window_wh[0] / picture_wh[0], window_wh[1] / picture_wh[1])
    assert abs(width - max(1, scale * picture_wh[0])) <= 0.5 + 1e-9
    assert abs(height - max(1, scale * picture_wh[1])) <= 0.5 + 1e-9


@given(sizes, sizes)
def test_layers_have_the_rectangle_s_size_up_to_a_limit(
    picture_wh: tuple[int, int], window_wh: tuple[int, int]
) -> None:
    viewport = Viewport(picture_wh, window_wh)
    _, _, width, height = viewport.rect_xywh
    layer_w, layer_h = viewport.layer_wh
    assert layer_w == min(width, MAX_LAYER_WIDTH_PX)
    assert abs(layer_h - height * layer_w / width) <= 1


@given(st.integers(0, 1919), st.integers(0, 1079), st.sampled_from([1.0, 1.25, 1.5, 2.0, 3.0]))
def test_on_dense_screens_a_point_is_the_middle_of_its_pixels(column: int, row: int, density: float) -> None:
    window_wh = (round(1920 * density), round(1080 * density))
    x, y = pointer_px((column, row), (1920, 1080), window_wh)
    assert math.isclose(x, (column + 0.5) * density)
    assert math.isclose(y, (row + 0.5) * density)
