"""What a network says about every anchor, read out of any layout that has one row for each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.data import ModelSpec
from appliance.errors import WrongLayout
from appliance.layouts import BINS, COEFFICIENTS, STRIDES, Fused, Prototypes, RawHead, arrange

Float32s = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Of one picture: A anchors, those of stride 8 first, each stride row by row."""

    boxes_xyxy: Float32s
    """(A, 4), input pixels."""
    scores: Float32s
    """(A,), 0..1, of the best class."""
    coefficients: Float32s
    """(A, 32)."""
    prototypes: Float32s
    """(h, w, 32), a quarter of the input."""


def strides_of(input_wh: tuple[int, int]) -> NDArray[np.int64]:
    """(A,), the stride of each anchor."""
    counts = [(input_wh[0] // stride) * (input_wh[1] // stride) for stride in STRIDES]
    return np.repeat(np.array(STRIDES, np.int64), counts)


def read(spec: ModelSpec, outputs: Sequence[Float32s]) -> Predictions:
    """Read a model's outputs, real values in the order of `spec.outputs`.

    Raises `WrongLayout` for a model whose detections no longer belong to anchors.
    """
    match arrange(spec.input, spec.outputs):
        case RawHead() as head:
            return _raw_head(head, spec, outputs)
        case Fused() as fused:
            predictions = outputs[fused.predictions][0]
            rows = predictions.T if fused.anchors_last else predictions
            prototypes = _prototypes(fused.prototypes, outputs)
            return from_fused(rows, prototypes, spec.input_wh)
        case _:
            raise WrongLayout("an end-to-end model has no anchors: its outputs cannot be compared one by one")


def from_fused(rows: Float32s, prototypes: Float32s, input_wh: tuple[int, int]) -> Predictions:
    """From rows (A, 4 + classes + 32): centre and size in input pixels or in 0..1, scores, coefficients."""
    scale = np.array(input_wh * 2 if rows[:, :4].max() <= 2 else (1, 1, 1, 1), np.float32)
    centres, sizes = rows[:, :2], rows[:, 2:4]
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1) * scale
    scores = rows[:, 4 : rows.shape[1] - COEFFICIENTS].max(1)
    return Predictions(boxes, scores, rows[:, -COEFFICIENTS:], prototypes)


def _raw_head(head: RawHead, spec: ModelSpec, outputs: Sequence[Float32s]) -> Predictions:
    boxes, scores, coefficients = [], [], []
    bins = np.array(spec.bins, np.float32)
    for level in head.levels:
        logits = _by_anchor(outputs[level.boxes], head.channels_last).reshape(-1, 4, BINS)
        weights = np.exp(logits - logits.max(2, keepdims=True))
        distances = weights @ bins / weights.sum(2)
        rows, columns = np.divmod(np.arange(len(distances)), level.grid_wh[0])
        centres = np.stack([columns, rows], 1) + np.float32(0.5)
        edges = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], 1)
        boxes.append((edges * level.stride).astype(np.float32))
        best = _by_anchor(outputs[level.classes], head.channels_last).max(1)
        scores.append((1 / (1 + np.exp(-np.clip(best, -50, 50)))).astype(np.float32))
        coefficients.append(_by_anchor(outputs[level.coefficients], head.channels_last))
    return Predictions(
        np.concatenate(boxes),
        np.concatenate(scores),
        np.concatenate(coefficients),
        _prototypes(head.prototypes, outputs),
    )


def _by_anchor(output: Float32s, channels_last: bool) -> Float32s:
    rows = output if channels_last else output.transpose(0, 2, 3, 1)
    flat: Float32s = rows.reshape(-1, rows.shape[3])
    return flat


def _prototypes(prototypes: Prototypes, outputs: Sequence[Float32s]) -> Float32s:
    output = outputs[prototypes.index]
    grid: Float32s = output[0] if prototypes.channels_last else output[0].transpose(1, 2, 0)
    return grid
