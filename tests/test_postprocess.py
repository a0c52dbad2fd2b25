"""Outputs become the right instances, whatever the layout, dtype and order they come in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from heads import Head, frame_of, spec_of
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.data import RawOutputs, Segmentation, TensorSpec
from appliance.geometry import Letterbox
from appliance.masks import full_mask
from appliance.postprocess import heaviest, postprocess
from appliance.synthetic import fastsam_spec, synthesise

CONFIDENCE = 0.6


def ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inter = sides.clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return inter / (areas - inter)


def by_hand(head: Head, letterbox: Letterbox, iou: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes in picture pixels, scores and mask logits, one candidate after the other, in double precision."""
    boxes, scores = head.decoded()
    scores = scores.max(1)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] >= CONFIDENCE and not (kept and ious(boxes[i], boxes[kept]).max() > iou):
            kept.append(i)
    near = 20 / 1024 * max(head.input_wh)
    x, y, w, h = letterbox.content_xywh
    found = []
    for left, top, right, bottom in boxes[kept]:
        left, top = (x if left < x + near else left), (y if top < y + near else top)
        right = x + w if right > x + w - near else right
        bottom = y + h if bottom > y + h - near else bottom
        if (right - left) * (bottom - top) > 0.9 * w * h:
            left, top, right, bottom = x, y, x + w, y + h
        found.append([left, top, right, bottom])
    logits = np.einsum("nc,hwc->nhw", head.coefficients[kept].astype(np.float64), head.prototypes)
    mapped = letterbox.boxes_to_picture(np.array(found).reshape(-1, 4))
    visible = ((mapped[:, 2:] - mapped[:, :2]) > 0).all(1)
    return mapped[visible], scores[kept][visible], logits[visible]


def assert_found(found: Segmentation, head: Head, iou: float = 0.7) -> None:
    boxes, scores, logits = by_hand(head, found.letterbox, iou)
    assert len(boxes) > 5
    assert found.scores == pytest.approx(scores, abs=1e-5)
    assert found.boxes_xyxy == pytest.approx(boxes, abs=2e-3)
    exact = (128 + 4 * logits).clip(0, 255)
    assert np.abs(found.mask_levels - exact).max() <= 0.51
    assert found.mask_levels.dtype == np.uint8
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32


ARRANGEMENTS: dict[str, Callable[[Head], RawOutputs]] = {
    "raw head": lambda head: head.raw(),
    "raw head, shuffled": lambda head: head.raw(shuffle=3),
    "raw head, channels first": lambda head: head.raw(channels_last=False),
    "fused": lambda head: head.fused(),
    "fused, anchors first": lambda head: head.fused(anchors_last=False),
    "fused, channels first": lambda head: head.fused(channels_last=False),
    "fused, boxes in 0..1": lambda head: head.fused(pixels=False),
    "end-to-end": lambda head: head.end_to_end(),
    "end-to-end, boxes in 0..1": lambda head: head.end_to_end(pixels=False),
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize(("input_wh", "classes"), [((64, 96), 3), ((96, 64), 1)])
def test_every_layout_gives_the_same(arrangement: str, input_wh: tuple[int, int], classes: int) -> None:
    head = Head.random(input_wh, classes, seed=4)
    outputs = ARRANGEMENTS[arrangement](head)
    assert_found(postprocess(outputs, CONFIDENCE, 0.7), head)


@pytest.mark.parametrize("arrangement", ["raw head", "fused", "raw head, channels first"])
def test_the_heaviest_candidates_are_those_of_most_weight_suppressed_or_not(arrangement: str) -> None:
    head = Head.random((96, 64), 2, seed=4)
    outputs = ARRANGEMENTS[arrangement](head)
    boxes, scores = head.decoded()
    boxes, scores = outputs.letterbox.boxes_to_picture(boxes), scores.max(1)
    weights = np.where(scores >= CONFIDENCE, (boxes[:, 2] - boxes[:, 0]) * scores, 0)
    expected = np.argsort(-weights, kind="stable")[:7]
    found = heaviest(outputs, lambda boxes, scores: (boxes[:, 2] - boxes[:, 0]) * scores, CONFIDENCE, 7)
    assert found.boxes_xyxy == pytest.approx(boxes[expected], abs=2e-3)
    assert found.scores == pytest.approx(scores[expected], abs=1e-5)
    assert len(heaviest(outputs, lambda boxes, scores: scores * (scores > 0.999), CONFIDENCE, 7)) < 7


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_whole_numbers_give_what_their_real_values_give(dtype: type) -> None:
    stored = Head.random((96, 64), 5).raw(dtype=dtype)
    floats = tuple(spec_of(spec.name, spec.shape) for spec in stored.spec.outputs)
    real = tuple(spec.dequantise(t) for spec, t in zip(stored.spec.outputs, stored.tensors, strict=True))
    found = postprocess(stored, CONFIDENCE, 0.7)
    expected = postprocess(
        replace(stored, spec=replace(stored.spec, outputs=floats), tensors=real), CONFIDENCE, 0.7
    )
    assert len(found) > 5
    assert found.scores == pytest.approx(expected.scores, abs=1e-6)
    assert found.boxes_xyxy == pytest.approx(expected.boxes_xyxy, abs=1e-3)
    assert np.abs(found.mask_levels.astype(int) - expected.mask_levels).max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.3),
    st.integers(-128, 127),
    st.sampled_from([np.int8, np.uint8]),
)
def test_the_threshold_in_steps_is_the_threshold(
    confidence: float, scale: float, zero: int, dtype: type
) -> None:
    """Every step of a class tensor passes, or not, exactly as its real value does."""
    outputs = Head.random((64, 64), 1).raw()
    specs, tensors = list(outputs.spec.outputs), list(outputs.tensors)
    lowest = int(np.iinfo(dtype).min)
    zero += 128 if dtype == np.uint8 else 0
    passing = 0
    for i, spec in enumerate(specs):
        if spec.shape[3] == 1:
            specs[i] = TensorSpec(spec.name, spec.shape, np.dtype(dtype), scale, zero)
            steps = np.linspace(0, 255, int(np.prod(spec.shape))).astype(int) + lowest
            tensors[i] = steps.astype(dtype).reshape(spec.shape)
            passing += int(((steps - zero) * scale >= math.log(confidence / (1 - confidence))).sum())
    letterbox = Letterbox.fit((64, 64), (64, 64))
    spec = replace(outputs.spec, outputs=tuple(specs))
    outputs = RawOutputs(frame_of((64, 64)), letterbox, spec, tuple(tensors))
    assert len(postprocess(outputs, confidence, iou=1.0)) == passing


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_nothing_found(arrangement: str) -> None:
    head = Head.random((64, 96))
    found = postprocess(ARRANGEMENTS[arrangement](head), 0.9999999, 0.7)
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.mask_levels.shape == (0, 24, 16)


def test_as_many_as_asked_for_and_the_best_ones() -> None:
    outputs = Head.random((96, 64)).raw()
    found, some = postprocess(outputs, 0.5, 0.7), postprocess(outputs, 0.5, 0.7, max_instances=3)
    assert len(some) == 3
    assert (found.scores[:3] == some.scores).all()
    assert (np.diff(found.scores) <= 0).all()


def single_box(box: list[float], picture_wh: tuple[int, int] = (640, 360)) -> Segmentation:
    """One end-to-end detection in an input of 512 x 512; the box in picture pixels."""
    letterbox = Letterbox.fit(picture_wh, (512, 512))
    rows = np.zeros((1, 300, 38), np.float32)
    rows[0, 0, :4] = letterbox.to_input(np.array(box).reshape(2, 2)).reshape(4)
    rows[0, 0, 4] = 0.9
    outputs = Head.random((512, 512)).end_to_end(rows=300)
    prototypes = np.ones((1, 128, 128, 32), np.float32)
    spec = replace(outputs.spec, outputs=outputs.spec.outputs[::-1])
    return postprocess(RawOutputs(frame_of(picture_wh), letterbox, spec, (rows, prototypes)), 0.5, 0.7)


def test_boxes_near_the_border_reach_it_as_in_fastsam() -> None:
    # 20 pixels at an input of 1024 are 10 at 512, which are 12.5 of a picture that is shrunk by 0.8
    assert single_box([12, 100, 300, 349]).boxes_xyxy.tolist() == [[0, 100, 300, 360]]
    assert single_box([13, 13, 627, 300]).boxes_xyxy == pytest.approx(
        np.array([[13, 13, 627, 300]]), abs=1e-3
    )
    assert single_box([100, 12, 628, 300]).boxes_xyxy == pytest.approx(
        np.array([[100, 0, 640, 300]]), abs=1e-3
    )


def test_a_box_of_nearly_the_whole_picture_is_the_whole_picture() -> None:
    assert single_box([14, 14, 626, 346]).boxes_xyxy.tolist() != [[0, 0, 640, 360]]  # IoU 0.88
    assert single_box([5, 25, 640, 360]).boxes_xyxy.tolist() == [[0, 0, 640, 360]]  # 0.93
    assert single_box([5, 25, 640, 360], (33, 500)).boxes_xyxy.tolist() == [[0, 25, 33, 360]]


def test_what_lies_in_the_padding_only_is_no_instance() -> None:
    assert len(single_box([100, -80, 300, -20])) == 0
    assert single_box([100, -80, 300, 60]).boxes_xyxy[0].tolist() == pytest.approx(
        [100, 0, 300, 60], abs=1e-3
    )


@pytest.mark.parametrize(
    ("objects", "picture_wh", "input_wh", "least_iou"),
    [
        (40, (1280, 720), (512, 512), 0.9),
        (40, (481, 641), (512, 512), 0.9),
        (40, (1280, 720), (640, 384), 0.9),
        (12, (333, 500), (256, 256), 0.8),
        (300, (1280, 720), (512, 512), 0.88),
    ],
)
def test_nested_objects_come_out_as_they_were_put_in(
    objects: int, picture_wh: tuple[int, int], input_wh: tuple[int, int], least_iou: float
) -> None:
    synthetic = synthesise(frame_of(picture_wh), fastsam_spec(input_wh), objects, seed=1)
    found = postprocess(synthetic.outputs, 0.25, 0.7)
    assert len(found) == len(synthetic.boxes_xyxy) == objects
    pairs = [int(ious(box, found.boxes_xyxy).argmax()) for box in synthetic.boxes_xyxy]
    assert sorted(pairs) == list(range(objects))
    for i in range(0, objects, max(1, objects // 40)):
        true, mask = synthetic.mask(i), full_mask(found, pairs[i])
        assert (true & mask).sum() > least_iou * (true | mask).sum()


def test_boxes_without_a_mask_are_no_instances() -> None:
    head = Head.random((96, 64))
    found = postprocess(head.raw(), CONFIDENCE, 0.7)
    head.prototypes = -np.abs(head.prototypes)
    head.coefficients = np.abs(head.coefficients)
    head.coefficients[::2] *= -1
    some = postprocess(head.raw(), CONFIDENCE, 0.7)
    assert 0 < len(some) < len(found)
    assert (some.mask_levels >= 128).all()
    assert len(some.boxes_xyxy) == len(some.scores) == len(some.mask_levels)


def test_the_same_outputs_give_the_same_bits() -> None:
    outputs = synthesise(frame_of((1280, 720)), fastsam_spec(), 60, seed=2).outputs
    first, second = (postprocess(outputs, 0.25, 0.7) for _ in range(2))
    for name in ("boxes_xyxy", "scores", "mask_levels"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_any_number_of_classes() -> None:
    one, many = fastsam_spec(), fastsam_spec(classes=80)
    frame = frame_of((640, 480))
    assert len(postprocess(synthesise(frame, many, 20, 3).outputs, 0.25, 0.7)) == 20
    assert len(postprocess(synthesise(frame, one, 20, 3).outputs, 0.25, 0.7)) == 20
