"""The model's input: every dtype and layout, any picture size, against arithmetic done plainly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.data import Frame, Layout, ModelSpec, TensorSpec
from appliance.preprocess import PADDING, Preprocessor


def _spec(shape: tuple[int, ...], dtype: str, scale: float = 0.0, zero_point: int = 0) -> ModelSpec:
    return ModelSpec("m", TensorSpec("in", shape, np.dtype(dtype), scale, zero_point), (), Layout.RAW_HEAD)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 500),
    shape=st.sampled_from([(1, 64, 64, 3), (1, 96, 160, 3), (1, 3, 64, 64), (1, 3, 160, 96)]),
    kind=st.sampled_from(
        [("int8", 1 / 255, -128), ("uint8", 0.02, 5), ("int8", 0.0186, -14), ("float32", 0.0, 0)]
    ),
)
def test_input_is_the_letterboxed_picture_in_the_models_steps(
    width: int, height: int, shape: tuple[int, ...], kind: tuple[str, float, int]
) -> None:
    spec = _spec(shape, *kind)
    rgb = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    made = Preprocessor(spec)(Frame(0, 0, rgb))

    left, top, content_w, content_h = made.letterbox.content_xywh
    expected = np.full((*spec.input_wh[::-1], 3), PADDING, np.uint8)
    expected[top : top + content_h, left : left + content_w] = cv2.resize(rgb, (content_w, content_h))
    stored = made.tensor[0] if spec.nhwc else made.tensor[0].transpose(1, 2, 0)
    real = spec.input.dequantise(stored)
    step = spec.input.scale or 1e-6
    limits = (-np.inf, np.inf)
    if spec.input.quantised:
        info = np.iinfo(spec.input.dtype)
        limits = ((info.min - kind[2]) * step, (info.max - kind[2]) * step)
    assert made.tensor.shape == shape
    assert made.tensor.dtype == np.dtype(kind[0])
    np.testing.assert_allclose(real, np.clip(expected / 255, *limits), atol=step / 2 + 1e-6)


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(33, 700), height=st.integers(33, 500), off_wh=st.sampled_from([(0, 0), (1, 0), (0, -1)])
)
def test_a_small_picture_is_used_if_it_fits_exactly(width: int, height: int, off_wh: tuple[int, int]) -> None:
    preprocessor = Preprocessor(_spec((1, 96, 160, 3), "uint8", 1 / 255, 0))
    rgb = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    resized = preprocessor(Frame(0, 0, rgb))
    left, top, content_w, content_h = resized.letterbox.content_xywh
    small = np.full((content_h + off_wh[1], content_w + off_wh[0], 3), 7, np.uint8)
    made = preprocessor(Frame(0, 0, rgb, small=small))
    assert made.letterbox == resized.letterbox
    content = made.tensor[0, top : top + content_h, left : left + content_w].copy()
    if off_wh == (0, 0):
        assert (content == 7).all()
        made.tensor[0, top : top + content_h, left : left + content_w] = resized.tensor[
            0, top : top + content_h, left : left + content_w
        ]
    np.testing.assert_array_equal(made.tensor, resized.tensor)


def test_an_input_is_not_overwritten_while_it_is_held() -> None:
    preprocessor = Preprocessor(_spec((1, 32, 32, 3), "uint8", 1 / 255, 0))
    white = preprocessor(Frame(0, 0, np.full((32, 32, 3), 255, np.uint8)))
    black = preprocessor(Frame(1, 0, np.zeros((32, 32, 3), np.uint8)))
    assert white.tensor.min() == 255
    assert black.tensor.max() == 0


@pytest.mark.parametrize("size_wh", [(1280, 720), (4608, 2592)])
def test_memory_is_recycled(size_wh: tuple[int, int]) -> None:
    preprocessor = Preprocessor(_spec((1, 64, 64, 3), "uint8", 1 / 255, 0))
    rgb = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    addresses = {preprocessor(Frame(n, 0, rgb)).tensor.ctypes.data for n in range(10)}
    assert len(addresses) <= 2
