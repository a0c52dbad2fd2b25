from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from appliance import coco
from appliance.data import Frame, Segmentation
from appliance.geometry import Letterbox
from appliance.masks import full_mask


def blobs(picture_wh: tuple[int, int], count: int, seed: int = 0, ids: bool = True) -> Segmentation:
    """Random masks in random boxes."""
    rng = np.random.default_rng(seed)
    width, height = picture_wh
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * picture_wh
    return Segmentation(
        Frame(7, 123, np.zeros((height, width, 3), np.uint8)),
        Letterbox.fit(picture_wh, (128, 128)),
        corners.reshape(-1, 4).astype(np.float32),
        np.sort(rng.uniform(0.2, 1, count))[::-1].astype(np.float32),
        rng.integers(60, 200, (count, 32, 32)).astype(np.uint8),
        np.arange(10, 10 + count) if ids else np.zeros(0, np.int64),
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 6), st.integers(0, 99))
def test_masks_come_back_exactly_after_json(width: int, height: int, count: int, seed: int) -> None:
    segmentation = blobs((width, height), count, seed)
    found = json.loads(json.dumps(coco.instances(segmentation)))
    assert len(found) == count
    for i, instance in enumerate(found):
        mask = full_mask(segmentation, i)
        encoded = instance["segmentation"]
        assert encoded["size"] == [height, width]
        assert isinstance(encoded["counts"], str)
        np.testing.assert_array_equal(rle.decode(encoded).astype(bool), mask)
        assert instance["area"] == mask.sum() == rle.area(encoded)


def test_boxes_scores_and_ids() -> None:
    segmentation = blobs((97, 61), 5)
    for i, instance in enumerate(coco.instances(segmentation)):
        left, top, right, bottom = segmentation.boxes_xyxy[i].tolist()
        assert instance["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.006)
        assert instance["score"] == pytest.approx(float(segmentation.scores[i]), abs=1e-4)
        assert instance["id"] == 10 + i
        assert instance["category_id"] == 1
    assert [instance["id"] for instance in coco.instances(blobs((40, 30), 3, ids=False))] == [1, 2, 3]
