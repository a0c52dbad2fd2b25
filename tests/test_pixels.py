"""Buffers of cameras, padded or not, against plain arithmetic and against packed planes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.capture.pixels import StreamFormat, to_rgb

SIZES = st.tuples(st.integers(1, 40).map(lambda n: 2 * n), st.integers(1, 30).map(lambda n: 2 * n))


def _rows(planes: list[NDArray[np.uint8]], padding: list[int], behind: int) -> NDArray[np.uint8]:
    """Planes one after the other, each row padded with noise, more noise behind."""
    random = np.random.default_rng(1)
    parts = [
        np.hstack([plane, random.integers(0, 256, (len(plane), padding), np.uint8)]).ravel()
        for plane, padding in zip(planes, padding, strict=True)
    ]
    return np.concatenate([*parts, random.integers(0, 256, behind, np.uint8)])


def _yuv_to_rgb(luma: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> NDArray[np.float64]:
    """BT.601, limited range, a chroma value for each 2 x 2 pixels."""
    y = 1.164383 * np.maximum(luma.astype(float) - 16, 0)  # OpenCV clips what is below black first
    u, v = (np.kron(plane.astype(float) - 128, np.ones((2, 2))) for plane in (u, v))
    rgb = np.stack([y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u], axis=2)
    return np.clip(rgb, 0, 255)


@settings(max_examples=60, deadline=None)
@given(size_wh=SIZES, padding=st.sampled_from([0, 2, 22, 64]), behind=st.sampled_from([0, 5, 4096]))
@pytest.mark.parametrize("pixels", ["YUV420", "NV12"])
def test_yuv(pixels: str, size_wh: tuple[int, int], padding: int, behind: int) -> None:
    width, height = size_wh
    random = np.random.default_rng(width * height)
    luma = random.integers(0, 256, (height, width), np.uint8)
    u, v = random.integers(0, 256, (2, height // 2, width // 2), np.uint8)
    if pixels == "YUV420":
        buffer = _rows([luma, u, v], [padding, padding // 2, padding // 2], behind)
        packed = np.concatenate([plane.ravel() for plane in (luma, u, v)]).reshape(-1, width)
        code = cv2.COLOR_YUV2RGB_I420
    else:
        mixed = np.dstack([u, v]).reshape(height // 2, width)
        buffer = _rows([luma, mixed], [padding, padding], behind)
        packed = np.vstack([luma, mixed])
        code = cv2.COLOR_YUV2RGB_NV12
    before = buffer.copy()
    out = np.zeros((height, width, 3), np.uint8)
    to_rgb(buffer, StreamFormat(pixels, size_wh, width + padding), out)
    np.testing.assert_array_equal(out, cv2.cvtColor(packed, code))
    np.testing.assert_allclose(out, _yuv_to_rgb(luma, u, v), atol=2)
    np.testing.assert_array_equal(buffer, before)


@settings(max_examples=40, deadline=None)
@given(
    size_wh=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    padding=st.sampled_from([0, 1, 32]),
    behind=st.sampled_from([0, 100]),
)
@pytest.mark.parametrize("pixels", ["BGR888", "RGB888"])
def test_rgb(pixels: str, size_wh: tuple[int, int], padding: int, behind: int) -> None:
    width, height = size_wh
    picture = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    stored = picture if pixels == "BGR888" else picture[..., ::-1]
    buffer = _rows([stored.reshape(height, -1)], [padding], behind)
    out = np.zeros_like(picture)
    to_rgb(buffer, StreamFormat(pixels, size_wh, width * 3 + padding), out)
    np.testing.assert_array_equal(out, picture)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="MJPEG"):
        to_rgb(np.zeros(12, np.uint8), StreamFormat("MJPEG", (2, 2), 6), np.zeros((2, 2, 3), np.uint8))
