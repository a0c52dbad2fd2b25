"""Frame -> ModelInput: letterbox and quantise, in two passes over a small picture. Pure."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.data import Frame, ModelInput, ModelSpec, Tensor, TensorSpec
from appliance.geometry import Letterbox
from appliance.pool import Pool

PADDING = 114
"""Grey of the letterbox's bars, 0..255; YOLOv8 is trained with it."""


class Preprocessor:
    """Makes inputs for one model."""

    def __init__(self, spec: ModelSpec, lease: Callable[[], Tensor] | None = None) -> None:
        """`lease` gives memory for an input that nobody else holds; by default it is the preprocessor's."""
        self._spec = spec
        self._table = _quantisation_table(spec.input)
        width, height = spec.input_wh
        self._resized = Pool((height, width, 3), np.uint8)
        self._lease = lease or Pool(spec.input.shape, spec.input.dtype).lease

    def __call__(self, frame: Frame) -> ModelInput:
        """Resize the picture into the letterbox, map 0..255 to the input's steps, pad with grey.

        A `Frame.small` that has just the letterbox's size is taken as it is: it shows the same view, so
        everything maps as if the picture had been resized.
        """
        letterbox = Letterbox.fit(frame.size_wh, self._spec.input_wh)
        left, top, width, height = letterbox.content_xywh
        small = self._resized.lease()
        content = small[top : top + height, left : left + width]
        if frame.small is not None and frame.small.shape == content.shape:
            np.copyto(content, frame.small)
        else:
            # cv2.resize keeps a pixel's area in place, as Letterbox assumes. Bilinear, as in training.
            cv2.resize(frame.rgb, (width, height), dst=content, interpolation=cv2.INTER_LINEAR)
        small[:top], small[top + height :] = PADDING, PADDING
        small[:, :left], small[:, left + width :] = PADDING, PADDING
        tensor = self._lease()
        if self._spec.nhwc:
            cv2.LUT(small, self._table, dst=tensor[0])
        else:
            tensor[0] = cv2.LUT(small, self._table).transpose(2, 0, 1)
        return ModelInput(frame, letterbox, tensor)


def _quantisation_table(spec: TensorSpec) -> NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int8]:
    """What each of 256 colour values becomes: real = value / 255, stored = real / scale + zero point."""
    real = np.arange(256, dtype=np.float64) / 255
    if not spec.quantised:
        return real.astype(np.float32)
    limits = np.iinfo(spec.dtype)
    steps = np.rint(real / spec.scale) + spec.zero_point
    stored: NDArray[np.float64] = np.clip(steps, limits.min, limits.max)
    return stored.astype(np.uint8) if spec.dtype == np.uint8 else stored.astype(np.int8)
