"""A click means the smallest mask under it."""

from __future__ import annotations

import numpy as np
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
    else:
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


def test_no_mask_no_pick() -> None:
    assert pick(nested(), (20, 20)) is None
    assert pick(nested(), (-5, 1e6)) is None
    none = segmentation_of(np.zeros((0, 128, 128), np.uint8), np.zeros((0, 4)), (640, 480), (512, 512))
    assert pick(none, (20, 20)) is None
