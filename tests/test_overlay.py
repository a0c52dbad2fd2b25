"""The layer: which pixels get which colour, at any size, for up to hundreds of nested objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance import masks, overlay
from appliance.data import Frame, Layer, Segmentation, Selection
from appliance.geometry import Letterbox


def discs(
    discs_xyr: list[tuple[float, float, float]], picture_wh: tuple[int, int] = (320, 180)
) -> Segmentation:
    """Round objects, in picture pixels, as a 256-pixel model with prototypes at a quarter finds them."""
    letterbox = Letterbox.fit(picture_wh, (256, 256))
    grid = letterbox.to_picture((np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1) + 0.5) * 4)
    levels, boxes = [], []
    for x, y, radius in discs_xyr:
        logits = radius - np.hypot(grid[..., 0] - x, grid[..., 1] - y)
        levels.append((128 + 4 * logits).clip(0, 255).astype(np.uint8))
        box = np.array([x - radius, y - radius, x + radius, y + radius])
        boxes.append(box.reshape(2, 2).clip(0, picture_wh).reshape(4))
    width, height = picture_wh
    return Segmentation(
        Frame(0, 0, np.zeros((height, width, 3), np.uint8)),
        letterbox,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.3, len(boxes)).astype(np.float32),
        np.array(levels, np.uint8).reshape(-1, 64, 64),
        np.arange(100, 100 + len(boxes)),
    )


def pixel(layer: Layer, x: float, y: float, picture_wh: tuple[int, int] = (320, 180)) -> tuple[int, ...]:
    """The layer's RGBA under a point of the picture."""
    height, width = layer.rgba.shape[:2]
    column, row = int(x * width / picture_wh[0]), int(y * height / picture_wh[1])
    return tuple(layer.rgba[row, column].tolist())


SIZES = [(320, 180), (1280, 720), (1920, 1080), (333, 187)]


@pytest.mark.parametrize("size_wh", SIZES)
def test_small_objects_lie_on_large_ones_whatever_their_order(size_wh: tuple[int, int]) -> None:
    big, small = (160.0, 90.0, 80.0), (160.0, 90.0, 30.0)
    for order in ([big, small], [small, big]):
        segmentation = discs(order)
        layer = overlay.draw(segmentation, None, size_wh)
        rgb = overlay.colours(segmentation.ids)
        assert layer.rgba.shape == (size_wh[1], size_wh[0], 4)
        assert pixel(layer, 160, 90)[:3] == rgb[order.index(small)]
        assert pixel(layer, 100, 90)[:3] == rgb[order.index(big)]
        assert pixel(layer, 10, 10) == (0, 0, 0, 0)
        assert 0.3 < pixel(layer, 160, 90)[3] / 255 < 0.4


def test_the_outline_is_thin_strong_and_smooth() -> None:
    layer = overlay.draw(discs([(160, 90, 60)]), None, (1920, 1080))
    strong = layer.rgba[..., 3] > 200
    row = strong[540]
    assert 2 <= row[: row.size // 2].sum() <= 4  # one crossing of a line of about 2 pixels
    # The outline follows the circle to within a prototype pixel's interpolation, not in steps of 30 pixels.
    ys, xs = np.nonzero(strong)
    radii = np.hypot(xs + 0.5 - 960, ys + 0.5 - 540)
    assert radii.std() < 4
    assert abs(radii.mean() - 360) < 8


def test_a_selected_object_is_bright_and_the_rest_dark() -> None:
    segmentation = discs([(80, 90, 50), (240, 90, 50)])
    layer = overlay.draw(segmentation, Selection(101, (240, 90)), (1280, 720))
    assert pixel(layer, 240, 90)[:3] == overlay.colours(segmentation.ids)[1]
    assert pixel(layer, 80, 90)[:3] == (0, 0, 0)
    assert pixel(layer, 80, 90)[3] == pixel(layer, 5, 5)[3] > 100
    white = (layer.rgba == 255).all(-1)
    assert white[:, 640:].sum() > 300
    assert not white[:, :640].any()


def test_only_the_selection() -> None:
    segmentation = discs([(80, 90, 50), (240, 90, 50)])
    layer = overlay.draw(segmentation, Selection(100, (80, 90)), (640, 360), only_selection=True)
    assert pixel(layer, 80, 90)[3] > 0
    assert not layer.rgba[:, 330:].any()


def test_without_a_selection_there_is_nothing_to_draw_alone() -> None:
    assert not overlay.draw(discs([(80, 90, 50)]), None, (640, 360), only_selection=True).rgba.any()


def test_a_selection_out_of_sight_dims_nothing() -> None:
    segmentation = discs([(80, 90, 50)])
    lost = overlay.draw(segmentation, Selection(7, (80, 90)), (640, 360))
    assert np.array_equal(lost.rgba, overlay.draw(segmentation, None, (640, 360)).rgba)


def test_an_empty_segmentation_clears_a_recycled_layer() -> None:
    out = np.full((90, 160, 4), 77, np.uint8)
    layer = overlay.draw(discs([]), None, (160, 90), out=out)
    assert layer.rgba is out
    assert not out.any()


def test_hundreds_of_nested_objects() -> None:
    segmentation = discs([(160, 90, 120 - 0.3 * i) for i in range(299)] + [(160, 90, 20)])
    layer = overlay.draw(segmentation, None, (320, 180))
    assert pixel(layer, 160, 90)[:3] == overlay.colours(segmentation.ids)[299]


def test_without_ids_objects_still_have_colours_of_their_own() -> None:
    known = discs([(80, 90, 50), (240, 90, 50)])
    unknown = Segmentation(known.frame, known.letterbox, known.boxes_xyxy, known.scores, known.mask_levels)
    layer = overlay.draw(unknown, None, (320, 180))
    assert pixel(layer, 80, 90) != pixel(layer, 240, 90)


@given(st.integers(0, 10**6))
def test_colours_are_stable_far_apart_and_never_dark(start: int) -> None:
    ids = np.arange(start, start + 5)
    rgb = np.array(overlay.colours(ids))
    assert overlay.colours(ids[2:3]) == overlay.colours(ids)[2:3]
    luma = rgb @ [0.299, 0.587, 0.114]
    assert luma.min() > 90
    apart = np.abs(rgb[:, None] - rgb[None]).sum(-1) + np.eye(5, dtype=int) * 999
    assert apart.min() > 60


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_flatten_is_the_over_operator(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    rgba = rng.integers(0, 256, (height, width, 4), np.uint8)
    before = rgb.copy()
    alpha = rgba[..., 3:] / 255
    expected: NDArray[np.float64] = rgb * (1 - alpha) + rgba[..., :3] * alpha
    got = overlay.flatten(rgb, Layer(discs([]), rgba))
    assert np.abs(got - expected).max() <= 1.01
    assert np.array_equal(rgb, before)


def test_flatten_stretches_the_layer_to_the_picture() -> None:
    segmentation = discs([(160, 90, 60)])
    layer = overlay.draw(segmentation, None, (1280, 720))
    flat = overlay.flatten(np.zeros((180, 320, 3), np.uint8), layer)
    covered = masks.full_mask(segmentation, 0)
    assert (flat.any(-1) & covered).sum() > 0.99 * covered.sum()
    assert not flat[5, 5].any()
