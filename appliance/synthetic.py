"""Outputs of FastSAM's kind for chosen objects: some 40, up to 300, nested and overlapping, with the truth.

For tests and for `bench pipeline`, where no trained FastSAM is at hand. The prototypes are cosines and sines
of six octaves, along x and along y: sums of them give a rounded blob of any place and size, which repeats
beyond the object's box, just as real masks have strays there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.data import Frame, Layout, ModelSpec, RawOutputs, Tensor, TensorSpec
from appliance.geometry import Letterbox
from appliance.layouts import BINS, BOX_CHANNELS, COEFFICIENTS, PROTOTYPE_STRIDE, STRIDES

_OCTAVES = 6
_GAIN = 4.0
"""Of a mask's middle over its edge, in units of the prototypes' amplitude."""
_AMPLITUDE = 4.0
"""Of the prototypes: gives logits of 16 in the middle of a mask."""
_BOX_SCALE, _BOX_ZERO_POINT = 0.09, 20
_CLASS_SCALE, _CLASS_ZERO_POINT = 0.08, 90
_COEFFICIENT_SCALE, _COEFFICIENT_ZERO_POINT = 0.19, 0
_PROTOTYPE_SCALE, _PROTOTYPE_ZERO_POINT = 1 / 30, 0
_ANCHORS_PER_OBJECT = 7
"""Neighbouring anchors fire for the same object; suppression leaves the best."""
_SMALLEST = 1 / 32
"""Side of an object, as a part of the input's longer side: four prototype pixels at 512."""
_MOST_OVERLAP = 0.6
"""IoU of two objects' boxes; suppression at 0.7 keeps them both."""

Boxes = NDArray[np.float64]
"""(N, 4) or (4,), xyxy."""


@dataclass(frozen=True, slots=True, eq=False)
class Synthetic:
    """A model's outputs and what they should become."""

    outputs: RawOutputs
    boxes_input: Boxes
    """(N, 4), the objects' boxes in input pixels."""
    coefficients: NDArray[np.float32]
    """(N, 32), as quantised."""

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(N, 4), picture pixels."""
        return self.outputs.letterbox.boxes_to_picture(self.boxes_input)

    def mask(self, i: int) -> NDArray[np.bool_]:
        """The true mask of object i, (H, W), picture pixels."""
        letterbox = self.outputs.letterbox
        width, height = letterbox.picture_wh
        x = letterbox.to_input(np.stack([np.arange(width) + 0.5, np.zeros(width)], 1))[:, 0]
        y = letterbox.to_input(np.stack([np.zeros(height), np.arange(height) + 0.5], 1))[:, 1]
        box, side = self.boxes_input[i], max(letterbox.input_wh)
        across, down, constant, _ = np.split(
            self.coefficients[i], (2 * _OCTAVES, 4 * _OCTAVES, 4 * _OCTAVES + 1)
        )
        logits = (_waves(y, side) @ down)[:, None] + _waves(x, side) @ across + constant
        in_box = ((y >= box[1]) & (y < box[3]))[:, None] & (x >= box[0]) & (x < box[2])
        mask: NDArray[np.bool_] = (logits >= 0) & in_box
        return mask


def fastsam_spec(input_wh: tuple[int, int] = (512, 512), classes: int = 1) -> ModelSpec:
    """A raw-head int8 model as `convert` makes it from FastSAM-s."""
    width, height = input_wh
    int8 = np.dtype(np.int8)
    outputs = []
    for stride in STRIDES:
        grid = (1, height // stride, width // stride)
        outputs += [
            TensorSpec(f"box{stride}", (*grid, BOX_CHANNELS), int8, _BOX_SCALE, _BOX_ZERO_POINT),
            TensorSpec(f"class{stride}", (*grid, classes), int8, _CLASS_SCALE, _CLASS_ZERO_POINT),
            TensorSpec(
                f"coefficient{stride}",
                (*grid, COEFFICIENTS),
                int8,
                _COEFFICIENT_SCALE,
                _COEFFICIENT_ZERO_POINT,
            ),
        ]
    grid = (1, height // PROTOTYPE_STRIDE, width // PROTOTYPE_STRIDE)
    outputs.append(
        TensorSpec("prototype", (*grid, COEFFICIENTS), int8, _PROTOTYPE_SCALE, _PROTOTYPE_ZERO_POINT)
    )
    model_input = TensorSpec("images", (1, height, width, 3), int8, 1 / 255, -128)
    return ModelSpec("synthetic FastSAM-s", model_input, tuple(outputs), Layout.RAW_HEAD, demo=True)


def synthesise(frame: Frame, spec: ModelSpec, objects: int, seed: int) -> Synthetic:
    """Outputs of a model like `fastsam_spec` for a picture of nested objects: the same for the same seed.

    In a small input fewer objects than asked for may find room.
    """
    rng = np.random.default_rng(seed)
    letterbox = Letterbox.fit(frame.size_wh, spec.input_wh)
    boxes = _nested_boxes(letterbox, objects + objects // 2, rng)  # not all of them find a free anchor
    tensors: list[Tensor] = []
    for output in spec.outputs:
        noise = rng.normal(0, 1, output.shape)
        tensors.append(_quantise(output, noise * 0.5 - 9 if output.name.startswith("class") else noise))
    coefficients = np.array([_coefficients(box, max(spec.input_wh)) for box in boxes])
    placed = _place(boxes, coefficients, objects, spec, tensors, rng)
    stored = spec.outputs[2].dequantise(_quantise(spec.outputs[2], coefficients))
    tensors[-1] = _quantise(spec.outputs[-1], _prototypes(spec.input_wh, rng))
    return Synthetic(RawOutputs(frame, letterbox, spec, tuple(tensors)), boxes[placed], stored[placed])


def _nested_boxes(letterbox: Letterbox, objects: int, rng: np.random.Generator) -> Boxes:
    """Boxes in input pixels, inside the picture: wholes, parts of those, and groups around them."""
    left, top, width, height = letterbox.content_xywh
    low, high = np.array([left, top]), np.array([left + width, top + height])
    smallest = _SMALLEST * max(letterbox.input_wh)
    boxes: list[Boxes] = []
    for _ in range(200 * objects):
        if len(boxes) == objects:
            break
        kind = rng.uniform() if boxes else 0.0
        if kind < 0.4:  # a whole
            size = np.array([width, height]) * np.exp(rng.uniform(np.log(0.04), np.log(0.45), 2))
            centre = rng.uniform(low, high)
        else:
            inner = boxes[rng.integers(len(boxes))]
            # a part in a whole, or a group around a whole
            factor = rng.uniform(0.25, 0.65, 2) if kind < 0.85 else rng.uniform(1.4, 2.5, 2)
            size = (inner[2:] - inner[:2]) * factor
            centre = (inner[:2] + inner[2:]) / 2 + rng.uniform(-0.35, 0.35, 2) * (inner[2:] - inner[:2])
        size = np.clip(size, smallest, [width, height])
        centre = np.clip(centre, low + size / 2, high - size / 2)
        box = np.concatenate([centre - size / 2, centre + size / 2])
        if not boxes or _ious(box, np.array(boxes)).max() < _MOST_OVERLAP:
            boxes.append(box)
    return np.array(boxes).reshape(-1, 4)


def _ious(box: Boxes, boxes: Boxes) -> NDArray[np.float64]:
    overlap = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inter = overlap.clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    shares: NDArray[np.float64] = inter / (areas - inter)
    return shares


def _place(
    boxes: Boxes,
    coefficients: NDArray[np.float64],
    objects: int,
    spec: ModelSpec,
    tensors: list[Tensor],
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Write objects into free anchors in the middle of their boxes; returns the first that found one."""
    taken = [np.zeros(tensors[3 * number].shape[1:3], np.bool_) for number in range(len(STRIDES))]
    placed: list[int] = []
    for i, box in enumerate(boxes):
        if len(placed) == objects:
            break
        # best the stride at which the box is some 6 cells large
        sizes = max(box[2] - box[0], box[3] - box[1]) / np.array(STRIDES)
        for number in np.argsort(np.abs(np.log(sizes / 6))).tolist():
            cells = _free_cells(box, STRIDES[number], taken[number])
            if cells:
                break
        else:
            continue
        placed.append(i)
        best = rng.uniform(0.5, 2.5)
        for rank, (row, column) in enumerate(cells):
            taken[number][row, column] = True
            centre = np.array([column, row]) + 0.5
            distances = np.concatenate(
                [centre - box[:2] / STRIDES[number], box[2:] / STRIDES[number] - centre]
            )
            at = (0, row, column)
            values = (_distributions(distances), np.array([best - 0.35 * rank]), coefficients[i])
            for offset, value in enumerate(values):
                index = 3 * number + offset
                tensors[index][at] = _quantise(spec.outputs[index], value)
    return np.array(placed, np.intp)


def _free_cells(box: Boxes, stride: int, taken: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Rows and columns of free anchors inside the box, nearest to its middle first.

    An anchor tells the distances to the edges as up to 15 strides.
    """
    rows, columns = np.nonzero(~taken)
    x, y = (columns + 0.5) * stride, (rows + 0.5) * stride
    nearest_px = np.minimum.reduce([x - box[0], y - box[1], box[2] - x, box[3] - y])
    farthest_px = np.maximum.reduce([x - box[0], y - box[1], box[2] - x, box[3] - y])
    inside = (nearest_px > 0) & (farthest_px < (BINS - 1) * stride)
    from_middle = np.hypot(x - (box[0] + box[2]) / 2, y - (box[1] + box[3]) / 2)[inside]
    nearest = np.flatnonzero(inside)[np.argsort(from_middle, kind="stable")[:_ANCHORS_PER_OBJECT]]
    return list(zip(rows[nearest].tolist(), columns[nearest].tolist(), strict=True))


def _distributions(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (64,) over bins whose mean is each distance: two neighbouring bins share it."""
    logits = np.full((4, BINS), -12.0)
    for row, distance in zip(logits, distances.clip(0, BINS - 1.02), strict=True):
        lower = int(distance)
        part = min(max(distance - lower, 0.002), 0.998)
        row[lower], row[lower + 1] = 3 + math.log(1 - part), 3 + math.log(part)
    return logits.reshape(-1)


def _waves(x: NDArray[np.floating[Any]], side: int) -> NDArray[np.float64]:
    """Cosines and sines of all octaves, (len(x), 12); octave k has half a period of side / 2**k."""
    phases = x[:, None] * (math.pi / side * 2.0 ** np.arange(_OCTAVES))
    return np.concatenate([np.cos(phases), np.sin(phases)], 1)


def _axis_weights(start: float, end: float, side: int) -> tuple[NDArray[np.float64], float]:
    """Weights (12,) of the waves along one axis, and a constant: 0 in the middle, minus gain at the edges."""
    octave = min(max(math.floor(math.log2(side / (end - start))), 0), _OCTAVES - 1)
    rate = math.pi / side * 2**octave
    gain = _GAIN / (1 - math.cos(rate * (end - start) / 2))
    weights = np.zeros(2 * _OCTAVES)
    middle = rate * (start + end) / 2
    weights[[octave, _OCTAVES + octave]] = gain * math.cos(middle), gain * math.sin(middle)
    return weights, -gain


def _coefficients(box: Boxes, side: int) -> NDArray[np.float64]:
    """Coefficients (32,) of a blob that touches the box in the middle of each edge."""
    across, x_constant = _axis_weights(box[0], box[2], side)
    down, y_constant = _axis_weights(box[1], box[3], side)
    unused = np.zeros(COEFFICIENTS - 4 * _OCTAVES - 1)
    return np.concatenate([across, down, [_GAIN + x_constant + y_constant], unused])


def _prototypes(input_wh: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """(1, h, w, 32): waves along x, along y, a constant, and some that no object uses."""
    width, height = (length // PROTOTYPE_STRIDE for length in input_wh)
    side = max(input_wh)
    prototypes = rng.uniform(-1, 1, (1, height, width, COEFFICIENTS))
    prototypes[0, :, :, : 2 * _OCTAVES] = _waves((np.arange(width) + 0.5) * PROTOTYPE_STRIDE, side)
    y_waves = _waves((np.arange(height) + 0.5) * PROTOTYPE_STRIDE, side)
    prototypes[0, :, :, 2 * _OCTAVES : 4 * _OCTAVES] = y_waves[:, None]
    prototypes[0, :, :, 4 * _OCTAVES] = 1
    return prototypes * _AMPLITUDE


def _quantise(spec: TensorSpec, real: NDArray[np.float64]) -> Tensor:
    stored: Tensor = np.clip(np.rint(real / spec.scale) + spec.zero_point, -128, 127).astype(np.int8)
    return stored
