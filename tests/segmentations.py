"""Segmentations made by hand or at random, for tests."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import strategies as st

from appliance.data import Frame, Segmentation
from appliance.geometry import Letterbox

Wh = tuple[int, int]


def segmentation_of(
    levels: np.ndarray, boxes: np.ndarray, picture_wh: Wh, input_wh: Wh = (128, 128)
) -> Segmentation:
    frame = Frame(0, 0, np.zeros((picture_wh[1], picture_wh[0], 3), np.uint8))
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(1, 0.5, len(boxes), dtype=np.float32)
    return Segmentation(frame, Letterbox.fit(picture_wh, input_wh), boxes, scores, levels)


@st.composite
def segmentations(draw: st.DrawFn, max_side: int = 90) -> Segmentation:
    """Smooth random masks in random boxes, on pictures of odd sizes."""
    side = st.integers(1, max_side)
    picture_wh = draw(side), draw(side)
    input_wh = (draw(st.integers(1, 4)) * 32, draw(st.integers(1, 4)) * 32)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 5))
    grid = (input_wh[1] // 4, input_wh[0] // 4)
    levels = np.stack(
        [cv2.resize(rng.integers(0, 256, (4, 4), dtype=np.uint8), grid[::-1]) for _ in range(n)]
    )
    corners = rng.uniform(0, 1, (n, 2, 2)) * picture_wh
    if draw(st.booleans()):  # edges exactly on pixels and pixel centres are the hard cases
        corners = np.round(corners * 2) / 2
    corners.sort(axis=1)
    return segmentation_of(levels, corners.reshape(n, 4), picture_wh, input_wh)
