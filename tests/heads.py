"""One random head, arranged in every layout that models come in; for tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.data import Frame, ModelSpec, RawOutputs, TensorSpec
from appliance.geometry import Letterbox
from appliance.layouts import arrange, layout_of

STRIDES = (8, 16, 32)


def spec_of(name: str, shape: tuple[int, ...], dtype: type = np.float32, scale: float = 0.0, zero: int = 0):
    return TensorSpec(name, shape, np.dtype(dtype), scale, zero)


def frame_of(picture_wh: tuple[int, int]) -> Frame:
    return Frame(0, 0, np.zeros((picture_wh[1], picture_wh[0], 3), np.uint8))


@dataclass
class Head:
    """What the ends of the network give, per anchor, in float."""

    input_wh: tuple[int, int]
    boxes: np.ndarray
    """(A, 64)."""
    classes: np.ndarray
    """(A, nc), logits."""
    coefficients: np.ndarray
    """(A, 32)."""
    prototypes: np.ndarray
    """(h, w, 32)."""

    @classmethod
    def random(cls, input_wh: tuple[int, int], classes: int = 3, seed: int = 0) -> Head:
        rng = np.random.default_rng(seed)
        anchors = sum(input_wh[0] * input_wh[1] // stride**2 for stride in STRIDES)
        return cls(
            input_wh,
            rng.normal(0, 2, (anchors, 64)).astype(np.float32),
            rng.normal(-2, 2, (anchors, classes)).astype(np.float32),
            rng.normal(0, 1, (anchors, 32)).astype(np.float32),
            rng.normal(0, 1, (input_wh[1] // 4, input_wh[0] // 4, 32)).astype(np.float32),
        )

    def decoded(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes xyxy (A, 4) in input pixels and scores (A, nc), one anchor after the other."""
        boxes = []
        anchor = iter(self.boxes.astype(np.float64))
        for stride in STRIDES:
            for row in range(self.input_wh[1] // stride):
                for column in range(self.input_wh[0] // stride):
                    weights = np.exp(next(anchor).reshape(4, 16))
                    left, top, right, bottom = (weights * np.arange(16)).sum(1) / weights.sum(1)
                    x, y = column + 0.5, row + 0.5
                    boxes.append(np.array([x - left, y - top, x + right, y + bottom]) * stride)
        return np.array(boxes), 1 / (1 + np.exp(-self.classes.astype(np.float64)))

    def raw(self, channels_last: bool = True, dtype: type = np.float32, shuffle: int = 0) -> RawOutputs:
        """Ten outputs, in any order; stored as steps if the dtype is a whole number."""
        arrays = [self.prototypes]
        start = 0
        for stride in STRIDES:
            w, h = self.input_wh[0] // stride, self.input_wh[1] // stride
            for part in (self.boxes, self.classes, self.coefficients):
                arrays.append(part[start : start + w * h].reshape(h, w, -1))
            start += w * h
        order = np.random.default_rng(shuffle).permutation(len(arrays))
        return self._outputs([arrays[i] for i in order], channels_last, dtype)

    def fused(self, anchors_last: bool = True, pixels: bool = True, channels_last: bool = True) -> RawOutputs:
        boxes, scores = self.decoded()
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        columns = np.concatenate([centres, sizes, scores, self.coefficients], 1)
        if not pixels:
            columns[:, :4] /= self.input_wh * 2
        predictions = columns.T if anchors_last else columns
        return self._outputs([predictions, self.prototypes], channels_last, np.float32)

    def end_to_end(self, pixels: bool = True, rows: int = 50) -> RawOutputs:
        boxes, scores = self.decoded()
        if not pixels:
            boxes = boxes / (self.input_wh * 2)
        best, kind = scores.max(1), scores.argmax(1)
        order = np.argsort(-best, kind="stable")[:rows]
        columns = np.concatenate([boxes, best[:, None], kind[:, None], self.coefficients], 1)[order]
        return self._outputs([self.prototypes, columns], True, np.float32)

    def _outputs(self, arrays: list[np.ndarray], channels_last: bool, dtype: type) -> RawOutputs:
        specs, tensors = [], []
        for number, array in enumerate(arrays):
            if array.ndim == 3 and not channels_last:
                array = array.transpose(2, 0, 1)
            array = np.ascontiguousarray(array[None], np.float32)
            scale, zero = 0.0, 0
            if dtype != np.float32:
                limits = np.iinfo(dtype)
                scale = float(array.max() - array.min()) / 255
                zero = round(limits.min - float(array.min()) / scale)
                array = np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(dtype)
            specs.append(spec_of(f"output {number}", array.shape, dtype, scale, zero))
            tensors.append(array)
        width, height = self.input_wh
        shape = (1, height, width, 3) if channels_last else (1, 3, height, width)
        model_input = spec_of("input", shape)
        layout = layout_of(arrange(model_input, specs))
        spec = ModelSpec("test", model_input, tuple(specs), layout)
        picture_wh = (width * 3 + 5, height * 2)  # odd, and padded above and below
        letterbox = Letterbox.fit(picture_wh, self.input_wh)
        return RawOutputs(frame_of(picture_wh), letterbox, spec, tuple(tensors))
