"""The second look: where it looks, what counts, and that it pays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from heads import Head, frame_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appliance.data import RawOutputs
from appliance.geometry import Letterbox
from appliance.masks import containing, full_mask
from appliance.postprocess import heaviest
from appliance.refine import Box, Crop, Evidence, Refined, Target, aim, crops, cut, gather, merge

INPUT_WH = (512, 512)


@st.composite
def boxes_in(draw: st.DrawFn, picture_wh: tuple[int, int]) -> Box:
    sides = []
    for length in picture_wh:
        first, second = sorted(draw(st.tuples(*[st.floats(0, length)] * 2)))
        sides.append((first, max(second, min(first + 1, length))))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


@st.composite
def pictures_with_boxes(draw: st.DrawFn) -> tuple[tuple[int, int], Box]:
    picture_wh = draw(st.tuples(st.integers(2, 4000), st.integers(2, 4000)))
    return picture_wh, draw(boxes_in(picture_wh))


@given(pictures_with_boxes())
def test_crops_lie_in_the_picture_around_the_box_from_close_to_wide(
    drawn: tuple[tuple[int, int], Box],
) -> None:
    picture_wh, box = drawn
    found = crops(picture_wh, box, INPUT_WH)
    assert len(found) <= 2
    for crop in found:
        assert 0 <= crop.left < crop.left + crop.width <= picture_wh[0]
        assert 0 <= crop.top < crop.top + crop.height <= picture_wh[1]
        assert crop.left <= box[0] + 1
        assert crop.top <= box[1] + 1
        assert crop.left + crop.width >= box[2] - 1
        assert crop.top + crop.height >= box[3] - 1
        # A square, but for what the picture has no pixels for.
        side = max(crop.width, crop.height)
        assert crop.width in (side, picture_wh[0])
        assert crop.height in (side, picture_wh[1])
        assert side <= 0.8 * max(picture_wh) + 1
        assert max(INPUT_WH) / side <= 5.0 + 0.05
    sides = [max(crop.width, crop.height) for crop in found]
    assert sides == sorted(sides)


def test_a_small_object_gets_two_crops_a_large_one_a_closer_one_and_a_huge_one_none() -> None:
    picture_wh = (1280, 720)
    close, wide = crops(picture_wh, (600, 300, 700, 400), INPUT_WH)
    assert close == Crop(560, 260, 180, 180)
    assert wide == Crop(410, 110, 480, 480)
    assert crops(picture_wh, (200, 100, 900, 600), INPUT_WH) == (Crop(70, 0, 960, 720),)
    assert crops(picture_wh, (0, 0, 1280, 720), INPUT_WH) == ()


def test_a_crop_of_a_picture_is_its_pixels() -> None:
    frame = frame_of((40, 30))
    rgb = np.random.default_rng(0).integers(0, 256, frame.rgb.shape, dtype=np.uint8)
    assert np.array_equal(cut(replace(frame, rgb=rgb), Crop(5, 7, 11, 3)).rgb, rgb[7:10, 5:16])


def random_outputs(seed: int) -> RawOutputs:
    return Head.random((128, 96), classes=1, seed=seed).raw(dtype=np.int8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.data())
def test_a_pass_over_a_crop_says_the_same_as_one_over_a_picture_elsewhere(
    seed: int, data: st.DataObject
) -> None:
    outputs = random_outputs(seed)
    box = data.draw(boxes_in(outputs.letterbox.picture_wh))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, top = data.draw(st.tuples(st.integers(0, 900), st.integers(0, 900)))
    here = gather(Target(box, (x, y), True), outputs)
    moved = (box[0] + left, box[1] + top, box[2] + left, box[3] + top)
    # Numbers as large as these leave float32 a few thousandths of a pixel.
    assume(min(abs(side % 1 - 0.5) for side in box) > 0.01)
    there = gather(
        Target(moved, (x + left, y + top), True), outputs, Crop(left, top, *outputs.letterbox.picture_wh)
    )
    if here.votes.size:
        assert there.roi_xyxy == tuple(np.add(here.roi_xyxy, (left, top, left, top)))
    assert np.allclose(there.weights, here.weights, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.booleans(), st.data())
def test_the_mask_lies_in_the_box_and_is_that_of_the_only_candidate(
    seed: int, exact: bool, data: st.DataObject
) -> None:
    outputs = random_outputs(seed)
    picture_wh = outputs.letterbox.picture_wh
    box = data.draw(boxes_in(picture_wh))
    target = Target(box, None, exact)
    evidence = gather(target, outputs)
    refined = merge(target, [evidence])
    if refined is None:
        assert not evidence.votes.size
        return
    x0, y0, x1, y1 = refined.roi_xyxy
    assert refined.mask.shape == (y1 - y0, x1 - x0)
    assert set(np.unique(refined.mask)) <= {0, 255}
    if exact:
        assert x0 + 0.5 >= box[0] - 1e-3
        assert x1 - 0.5 <= box[2] + 1e-3
    again = merge(target, [evidence, evidence])
    assert again is not None
    assert np.array_equal(again.mask, refined.mask)


def evidence_of(sign: float, weight: float, roi: tuple[int, int, int, int] = (2, 3, 12, 9)) -> Evidence:
    shape = roi[3] - roi[1], roi[2] - roi[0]
    return Evidence(
        roi,
        np.full(shape, sign * weight * 10, np.float32),
        np.array([roi], np.float32),
        np.array([weight], np.float32),
    )


TARGET = Target((2, 3, 12, 9), None, exact=True)


def test_what_explains_the_prompt_better_wins_and_what_explains_nothing_changes_nothing() -> None:
    yes, no = evidence_of(1, 0.5), evidence_of(-1, 0.2)
    for order in ([yes, no], [no, yes], [yes, evidence_of(-1, 0)], [yes]):
        refined = merge(TARGET, order)
        assert refined is not None
        assert refined.roi_xyxy == (2, 3, 12, 9)
        assert (refined.mask == 255).all()
    assert merge(TARGET, []) is None
    assert merge(TARGET, [evidence_of(1, 0)]) is None


def test_a_pass_that_saw_a_part_has_a_vote_on_that_part_only() -> None:
    refined = merge(TARGET, [evidence_of(1, 0.3), evidence_of(-1, 0.9, (2, 3, 7, 9))])
    assert refined is not None
    assert (refined.mask[:, :5] == 0).all()
    assert (refined.mask[:, 5:] == 255).all()


def test_of_a_guessed_box_the_mean_of_what_was_found_takes_the_place() -> None:
    wide = evidence_of(1, 0.5, (0, 0, 20, 20))
    narrow = replace(wide, boxes=np.array([[6, 6, 10, 10]], np.float32))
    target = Target((2, 3, 12, 9), (8, 8), exact=False)
    refined = merge(target, [replace(wide, boxes=np.array([[2, 2, 14, 14]], np.float32)), narrow])
    assert refined is not None
    rows, columns = np.nonzero(refined.mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (4, 4, 12, 12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.floats(0, 1), st.floats(0, 1))
def test_a_point_without_an_instance_aims_at_a_candidate_that_contains_it(
    seed: int, across: float, down: float
) -> None:
    outputs = random_outputs(seed)
    width, height = outputs.letterbox.picture_wh
    point = across * (width - 1), down * (height - 1)
    target = aim(None, point, outputs, None)
    near = heaviest(outputs, lambda boxes, scores: scores, 0.003, 10_000)
    if target is None:
        return
    assert not target.exact
    same = np.isclose(near.boxes_xyxy, target.box_xyxy).all(1)
    assert (same & containing(near, point)).any()


def test_a_box_is_taken_at_its_word_and_an_instance_as_a_guess() -> None:
    outputs = random_outputs(0)
    assert aim((1, 2, 30, 40), (5, 6), outputs, (0, 0, 9, 9)) == Target((1, 2, 30, 40), (5, 6), exact=True)
    assert aim(None, (5, 6), outputs, (0, 0, 9, 9)) == Target((0, 0, 9, 9), (5, 6), exact=False)
    assert aim(None, None, outputs, (0, 0, 9, 9)) is None


def test_the_point_decides_between_twins_in_the_same_box() -> None:
    """Two candidates of the same score; the mask of one is the left half, of the other the right."""
    head = Head.random((64, 64), classes=1)
    head.boxes[:] = 0
    head.boxes[:, 3::16] = 20  # every distance is 3 strides
    head.classes[:] = -20
    head.coefficients[:] = 0
    head.prototypes[:] = 0
    head.prototypes[:, :8, 0] = 1
    head.prototypes[:, 8:, 0] = -1
    for anchor, sign in ((27, 5), (28, -5)):  # beside each other, in the middle
        head.classes[anchor] = 3
        head.coefficients[anchor, 0] = sign
    raw = head.raw()
    outputs = RawOutputs(frame_of((64, 64)), Letterbox.fit((64, 64), (64, 64)), raw.spec, raw.tensors)
    for x, left_is in ((14.0, 255), (48.0, 0)):
        target = Target((8, 4, 56, 52), (x, 28), exact=True)
        refined = merge(target, [gather(target, outputs)])
        assert isinstance(refined, Refined)
        assert (refined.mask[:, :20] == left_is).all()
        assert (refined.mask[:, 28:] == 255 - left_is).all()


def test_a_single_candidate_is_its_own_mask_in_its_box() -> None:
    head = Head.random((128, 96), classes=1, seed=3)
    head.classes[:] = -20
    head.classes[100] = 2
    outputs = head.raw()
    found = heaviest(outputs, lambda boxes, scores: scores, 0.003, 5)
    assert len(found) == 1
    left, top, right, bottom = found.boxes_xyxy[0].tolist()
    target = Target((left, top, right, bottom), None, exact=True)
    refined = merge(target, [gather(target, outputs)])
    assert refined is not None
    x0, y0, x1, y1 = refined.roi_xyxy
    mask = np.zeros(found.frame.rgb.shape[:2], np.bool_)
    mask[y0:y1, x0:x1] = refined.mask > 0
    assert np.array_equal(mask, full_mask(found, 0))
    assert mask.any()
    assert not mask[y0:y1, x0:x1].all()
