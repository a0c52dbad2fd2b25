"""A click means the smallest mask under it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentations import segmentation_of, segmentations

from appliance.data import Segmentation
from appliance.masks import areas_px, containing
from appliance.prompts import pick


@settings(max_examples=100, deadline=None)
@given(segmentations(), st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)))
def test_the_smallest_mask_that_contains_the_point(
    segmentation: Segmentation, part: tuple[float, float]
) -> None:
    width, height = segmentation.letterbox.picture_wh
    xy = part[0] * width, part[1] * height
    hits = containing(segmentation, xy)
    index = pick(segmentation, xy)
    if index is None:
        assert not hits.any()
    elif hits.any():
        assert hits[index]
        assert areas_px(segmentation)[index] == areas_px(segmentation)[hits].min()


def nested() -> Segmentation:
    """A whole of 400 x 300 pixels at (100, 50), a part of 100 x 100 in it at (150, 100), and its twin."""
    boxes = [[150, 100, 250, 200], [100, 50, 500, 350], [150, 100, 250, 200]]
    return segmentation_of(np.full((3, 128, 128), 200, np.uint8), np.array(boxes), (640, 480), (512, 512))


def test_a_part_wins_over_its_whole_and_of_twins_the_better_score() -> None:
    assert pick(nested(), (200, 150)) == 0


def test_the_whole_is_reached_beside_its_part() -> None:
    assert pick(nested(), (300, 300)) == 1


@pytest.mark.parametrize(("beside_px", "expected"), [(1, 1), (4, 1), (6, 1), (9, None)])
@pytest.mark.parametrize("side", ["left", "right", "below"])
def test_a_click_just_beside_a_mask_still_means_it(beside_px: int, expected: int | None, side: str) -> None:
    """The picture is 640 wide, so the reach is 6.4 pixels."""
    xy = {"left": (100 - beside_px, 200), "right": (500 + beside_px, 200), "below": (300, 350 + beside_px)}
    assert pick(nested(), xy[side]) == expected


def test_no_mask_no_pick() -> None:
    assert pick(nested(), (20, 20)) is None
    assert pick(nested(), (-5, 1e6)) is None
    none = segmentation_of(np.zeros((0, 128, 128), np.uint8), np.zeros((0, 4)), (640, 480), (512, 512))
    assert pick(none, (20, 20)) is None
