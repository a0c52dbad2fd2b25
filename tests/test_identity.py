"""Ids stay with their objects from picture to picture."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from heads import frame_of
from segmentations import segmentation_of

from appliance.data import Segmentation
from appliance.identity import Identities
from appliance.postprocess import postprocess
from appliance.synthetic import fastsam_spec, synthesise

PERIOD_NS = 150_000_000


def at(segmentation: Segmentation, captured_ns: int, keep: np.ndarray | None = None) -> Segmentation:
    """The same instances, or some of them in some order, in a later picture."""
    keep = np.arange(len(segmentation)) if keep is None else keep
    return replace(
        segmentation,
        frame=replace(segmentation.frame, captured_ns=captured_ns),
        boxes_xyxy=segmentation.boxes_xyxy[keep],
        scores=segmentation.scores[keep],
        mask_levels=segmentation.mask_levels[keep],
    )


def crowd(objects: int = 40) -> Segmentation:
    synthetic = synthesise(frame_of((1280, 720)), fastsam_spec(), objects, seed=5)
    return postprocess(synthetic.outputs, 0.25, 0.7)


def discs(*circles: tuple[float, float, float]) -> Segmentation:
    """Discs of x, y, radius in a picture of 512 x 512."""
    levels = []
    for x, y, radius in circles:
        canvas = np.zeros((512, 512), np.uint8)
        cv2.circle(canvas, (round(x), round(y)), round(radius), 255, -1)
        levels.append(cv2.resize(canvas, (128, 128), interpolation=cv2.INTER_AREA))
    boxes = [[x - r, y - r, x + r, y + r] for x, y, r in circles]
    masks = np.array(levels, np.uint8).reshape(-1, 128, 128)
    return segmentation_of(masks, np.array(boxes), (512, 512), (512, 512))


def test_new_objects_get_new_ids_and_nothing_else_changes() -> None:
    segmentation = crowd()
    found = Identities().assign(segmentation)
    assert sorted(found.ids.tolist()) == list(range(1, 41))
    assert found.ids.dtype == np.int64
    assert found.mask_levels is segmentation.mask_levels


def test_ids_follow_the_objects_whatever_their_order() -> None:
    identities, segmentation = Identities(), crowd(300)
    first = identities.assign(at(segmentation, 0)).ids
    rng = np.random.default_rng(0)
    for number in range(1, 5):
        order = rng.permutation(len(segmentation))
        ids = identities.assign(at(segmentation, number * PERIOD_NS, order)).ids
        assert (ids == first[order]).all()


def test_ids_follow_moving_objects() -> None:
    identities = Identities()
    ids = []
    for step in range(20):
        moving = discs((100 + 15 * step, 200, 60), (400 - 15 * step, 350, 50), (100 + 15 * step, 190, 20))
        ids.append(identities.assign(at(moving, step * PERIOD_NS)).ids.tolist())
    assert ids == [[1, 2, 3]] * 20


def test_an_object_that_flickers_keeps_its_id() -> None:
    identities, segmentation = Identities(), crowd()
    first = identities.assign(at(segmentation, 0)).ids
    rng = np.random.default_rng(1)
    gone = np.zeros(40, int)
    for number in range(1, 30):
        seen = (rng.uniform(size=40) < 0.6) | (gone == 5)
        gone = np.where(seen, 0, gone + 1)
        ids = identities.assign(at(segmentation, number * PERIOD_NS, np.flatnonzero(seen))).ids
        assert (ids == first[seen]).all()


def test_an_object_that_was_gone_for_long_is_new() -> None:
    identities, one, two = Identities(), discs((100, 100, 50)), discs((400, 400, 50))
    assert identities.assign(at(one, 0)).ids.tolist() == [1]
    assert identities.assign(at(two, 900_000_000)).ids.tolist() == [2]
    assert identities.assign(at(one, 950_000_000)).ids.tolist() == [1]
    assert identities.assign(at(two, 1_800_000_000)).ids.tolist() == [2]
    assert identities.assign(at(one, 2_000_000_000)).ids.tolist() == [3]


def test_slow_pictures_keep_ids_too() -> None:
    identities, one = Identities(), discs((100, 100, 50))
    for number in range(5):
        assert identities.assign(at(one, number * 5_000_000_000)).ids.tolist() == [1]


def test_nested_objects_of_one_centre_are_not_mixed_up() -> None:
    identities = Identities()
    assert identities.assign(
        at(discs((256, 256, 200), (256, 256, 150), (256, 256, 100)), 0)
    ).ids.tolist() == [1, 2, 3]
    shrunk = at(discs((256, 256, 98), (260, 250, 195), (250, 260, 147)), PERIOD_NS)
    assert identities.assign(shrunk).ids.tolist() == [3, 1, 2]


def test_objects_smaller_than_the_grid() -> None:
    identities = Identities()
    first = identities.assign(at(discs((100, 100, 5), (112, 100, 5), (100, 112, 5)), 0)).ids.tolist()
    moved = identities.assign(at(discs((101, 112, 5), (101, 101, 5), (113, 99, 5)), PERIOD_NS)).ids.tolist()
    assert [first[2], first[0], first[1]] == moved


def test_pictures_without_objects() -> None:
    identities = Identities()
    assert identities.assign(discs()).ids.shape == (0,)
    assert identities.assign(discs((100, 100, 50))).ids.tolist() == [1]
    assert identities.assign(discs()).ids.shape == (0,)
    assert identities.assign(discs((100, 100, 50))).ids.tolist() == [1]
