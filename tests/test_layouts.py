"""Layouts are told by shapes alone, and what fits none, or more than one, is refused."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from heads import STRIDES, Head, spec_of
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.data import Layout, TensorSpec
from appliance.errors import WrongLayout
from appliance.layouts import EndToEnd, Fused, RawHead, arrange, check_scores, input_wh_of, layout_of

Shape = tuple[int, ...]
sides = st.integers(1, 20).map(lambda n: 32 * n)


def raw_shapes(width: int, height: int, classes: int, channels_last: bool) -> dict[str, Shape]:
    shapes = {}
    for name, stride, channels in [("prototypes", 4, 32)] + [
        (f"{kind}{stride}", stride, channels)
        for stride in STRIDES
        for kind, channels in (("boxes", 64), ("classes", classes), ("coefficients", 32))
    ]:
        h, w = height // stride, width // stride
        shapes[name] = (1, h, w, channels) if channels_last else (1, channels, h, w)
    return shapes


def outputs_of(shapes: list[Shape], **of_spec: object) -> list[TensorSpec]:
    return [spec_of("x", shape, **of_spec) for shape in shapes]


@settings(max_examples=150, deadline=None)
@given(
    sides,
    sides,
    st.integers(1, 1000).filter(lambda n: n not in (32, 64)),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_raw_head_in_any_order_size_and_channel_order(
    width: int, height: int, classes: int, channels_last: bool, input_nhwc: bool, random
) -> None:
    named = list(raw_shapes(width, height, classes, channels_last).items())
    random.shuffle(named)
    model_input = spec_of("input", (1, height, width, 3) if input_nhwc else (1, 3, height, width))
    head = arrange(model_input, outputs_of([shape for _, shape in named]))
    assert isinstance(head, RawHead)
    assert layout_of(head) is Layout.RAW_HEAD
    assert head.channels_last == channels_last
    assert named[head.prototypes.index][0] == "prototypes"
    for level, stride in zip(head.levels, STRIDES, strict=True):
        assert level.stride == stride
        assert level.grid_wh == (width // stride, height // stride)
        assert named[level.boxes][0] == f"boxes{stride}"
        assert named[level.classes][0] == f"classes{stride}"
        assert named[level.coefficients][0] == f"coefficients{stride}"


@settings(max_examples=100, deadline=None)
@given(sides, sides, st.integers(1, 200), st.booleans(), st.booleans(), st.booleans())
def test_fused_either_way_round(
    width: int, height: int, classes: int, anchors_last: bool, channels_last: bool, swapped: bool
) -> None:
    anchors = sum(width * height // stride**2 for stride in STRIDES)
    channels = 4 + classes + 32
    predictions = (1, channels, anchors) if anchors_last else (1, anchors, channels)
    h, w = height // 4, width // 4
    shapes: list[Shape] = [predictions, (1, h, w, 32) if channels_last else (1, 32, h, w)]
    model_input = spec_of("input", (1, height, width, 3))
    outputs = outputs_of(shapes[::-1] if swapped else shapes)
    looks_end_to_end = predictions[2] == 38 and predictions[1] <= 300
    if h == w == 32 or channels == anchors or looks_end_to_end:
        with pytest.raises(WrongLayout):
            arrange(model_input, outputs)
        return
    fused = arrange(model_input, outputs)
    assert isinstance(fused, Fused)
    assert (fused.classes, fused.anchors_last) == (classes, anchors_last)
    assert fused.predictions == int(swapped)
    assert fused.prototypes.index == 1 - int(swapped)
    assert fused.prototypes.channels_last == channels_last


def test_end_to_end() -> None:
    for shapes in permutations([(1, 300, 38), (1, 160, 160, 32)]):
        found = arrange(spec_of("input", (1, 640, 640, 3)), outputs_of(list(shapes)))
        assert isinstance(found, EndToEnd)
        assert shapes[found.detections] == (1, 300, 38)


@pytest.mark.parametrize("classes", [32, 64])
def test_class_counts_that_look_like_other_outputs_are_refused(classes: int) -> None:
    shapes = raw_shapes(256, 256, classes, True)
    with pytest.raises(WrongLayout, match="not 32 or 64"):
        arrange(spec_of("input", (1, 256, 256, 3)), outputs_of(list(shapes.values())))


@pytest.mark.parametrize(
    "shape", [(1, 250, 256, 3), (2, 256, 256, 3), (1, 256, 256, 1), (1, 1, 1, 3), (256, 3)]
)
def test_inputs_that_fit_nothing(shape: Shape) -> None:
    with pytest.raises(WrongLayout, match="multiples of 32"):
        input_wh_of(spec_of("input", shape))


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ([(1, 1001)], r"\(1, 1001\)"),
        ([(1, 37, 1344), (1, 64, 63, 32)], r"\(1, 64, 63, 32\)"),
        ([(1, 36, 1344), (1, 64, 64, 32)], r"\(1, 36, 1344\)"),
        ([(1, 37, 8400), (1, 64, 64, 32)], r"\(1, 37, 8400\)"),
        ([(1, 300, 6), (1, 64, 64, 32)], r"\(1, 300, 6\)"),
        ([], "none"),
    ],
)
def test_the_message_says_what_was_expected_and_what_was_found(shapes: list[Shape], found: str) -> None:
    with pytest.raises(WrongLayout, match=f"should have .* has .*{found}"):
        arrange(spec_of("input", (1, 256, 256, 3)), outputs_of(shapes))


def test_a_raw_head_with_one_output_changed_is_refused() -> None:
    shapes = raw_shapes(256, 320, 5, True)
    for name in shapes:
        changed = dict(shapes)
        changed[name] = (*shapes[name][:3], shapes[name][3] + 1)
        with pytest.raises(WrongLayout):
            arrange(spec_of("input", (1, 320, 256, 3)), outputs_of(list(changed.values())))


def test_dtypes_that_cannot_be_read_are_refused() -> None:
    shapes = [(1, 37, 1344), (1, 64, 64, 32)]
    for dtype, scale in ((np.int16, 0.1), (np.float16, 0.0), (np.int8, 0.0), (np.float32, 0.1)):
        with pytest.raises(WrongLayout, match="should be int8 or uint8"):
            arrange(spec_of("input", (1, 256, 256, 3)), outputs_of(shapes, dtype=dtype, scale=scale))


@pytest.mark.parametrize(("scale", "useful"), [(0.0235, True), (0.32, False), (4.0, False)])
def test_one_coarse_scale_for_all_is_refused(scale: float, useful: bool) -> None:
    outputs = outputs_of([(1, 300, 38), (1, 64, 64, 32)], dtype=np.int8, scale=scale)
    arrangement = arrange(spec_of("input", (1, 256, 256, 3)), outputs)
    if useful:
        check_scores(arrangement, outputs)
    else:
        with pytest.raises(WrongLayout, match="no use in 8 bits"):
            check_scores(arrangement, outputs)


def test_the_test_heads_are_what_they_say() -> None:
    head = Head.random((64, 96))
    assert head.raw().spec.layout is Layout.RAW_HEAD
    assert head.fused().spec.layout is Layout.FUSED
    assert head.end_to_end().spec.layout is Layout.END_TO_END
