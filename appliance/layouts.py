"""Which output of a model is which, told by shapes alone: converters shuffle order and names. Pure.

All three layouts are heads of the YOLOv8-seg kind: strides 8, 16 and 32, box distributions of 4 x 16 bins,
32 mask coefficients, prototypes at a quarter of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.data import Layout, TensorSpec
from appliance.errors import WrongLayout

STRIDES = (8, 16, 32)
PROTOTYPE_STRIDE = 4
COEFFICIENTS = 32
BINS = 16
"""Of the distribution over each of the four distances from anchor to box edge."""
BOX_CHANNELS = 4 * BINS
END_TO_END_COLUMNS = 6 + COEFFICIENTS
END_TO_END_ROWS = 300
"""At most; fewer where the input has fewer anchors."""

COARSEST_SCORE_SCALE = 0.1
"""Fewer than ten steps between score 0 and 1 make the boxes and coefficients on that scale worthless too."""

Wh = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Where the mask prototypes are."""

    index: int
    """In the model's outputs."""
    grid_wh: Wh
    channels_last: bool
    """(1, h, w, 32) rather than (1, 32, h, w)."""


@dataclass(frozen=True, slots=True)
class HeadLevel:
    """The three outputs of one stride; indices into the model's outputs."""

    stride: int
    grid_wh: Wh
    boxes: int
    classes: int
    coefficients: int


@dataclass(frozen=True, slots=True)
class RawHead:
    """Ten outputs, all (1, h, w, channels) or all (1, channels, h, w)."""

    levels: tuple[HeadLevel, ...]
    prototypes: Prototypes

    @property
    def channels_last(self) -> bool:
        """Whether the channels are the last axis of all ten outputs."""
        return self.prototypes.channels_last


@dataclass(frozen=True, slots=True)
class Fused:
    """Predictions (1, 4 + classes + 32, anchors), or transposed, and prototypes."""

    predictions: int
    classes: int
    anchors_last: bool
    prototypes: Prototypes


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """Detections (1, 300, 38), NMS done, and prototypes."""

    detections: int
    prototypes: Prototypes


Arrangement = RawHead | Fused | EndToEnd


def layout_of(arrangement: Arrangement) -> Layout:
    """The layout that an arrangement belongs to."""
    match arrangement:
        case RawHead():
            return Layout.RAW_HEAD
        case Fused():
            return Layout.FUSED
        case EndToEnd():
            return Layout.END_TO_END


def input_wh_of(model_input: TensorSpec) -> Wh:
    """Width and height of an input (1, H, W, 3) or (1, 3, H, W).

    Raises `WrongLayout` for other shapes, for sides that are no multiple of 32, and for dtypes other than
    int8, uint8 and float32.
    """
    match model_input.shape:
        case (1, height, width, 3) | (1, 3, height, width) if height and width:
            if height % STRIDES[-1] == 0 and width % STRIDES[-1] == 0:
                _check_dtype(model_input)
                return width, height
    raise WrongLayout(
        "the model's input should be (1, height, width, 3) or (1, 3, height, width) with sides that are "
        f"multiples of 32, but is {model_input.shape}"
    )


def arrange(model_input: TensorSpec, outputs: Sequence[TensorSpec]) -> Arrangement:
    """Find out which output is which.

    Raises `WrongLayout` if the shapes fit no layout, or fit in more than one way.
    """
    input_wh = input_wh_of(model_input)
    for output in outputs:
        _check_dtype(output)
    if len(outputs) == 1 + 3 * len(STRIDES):
        return _raw_head(input_wh, outputs)
    if len(outputs) == 2:
        return _fused_or_end_to_end(input_wh, outputs)
    raise WrongLayout(
        f"the model should have 10 outputs (raw head) or 2 (fused, end-to-end), but has {_shapes(outputs)}"
    )


def check_scores(arrangement: Arrangement, outputs: Sequence[TensorSpec]) -> None:
    """Refuse a quantised model whose scores share so coarse a scale with boxes that they mean nothing.

    Raises `WrongLayout`.
    """
    match arrangement:
        case RawHead():
            return
        case Fused(predictions=index) | EndToEnd(detections=index):
            scale = outputs[index].scale
    if scale > COARSEST_SCORE_SCALE:
        raise WrongLayout(
            "the model is of no use in 8 bits: its boxes, scores and mask coefficients share one scale of "
            f"{scale:.3g}, so a score has {int(1 / scale)} steps between 0 and 1; convert it with a raw head"
        )


def _raw_head(input_wh: Wh, outputs: Sequence[TensorSpec]) -> RawHead:
    found = [
        head for channels_last in (True, False) if (head := _raw_head_as(input_wh, outputs, channels_last))
    ]
    if len(found) == 1:
        return found[0]
    grids = ", ".join(f"{w} x {h}" for w, h in (_grid(input_wh, stride) for stride in STRIDES))
    expected = (
        f"outputs of {BOX_CHANNELS} (boxes), {COEFFICIENTS} (coefficients) and n (classes; not 32 or 64, "
        f"which look like those) channels on grids (width x height) of {grids}, and {COEFFICIENTS} channels "
        f"of prototypes on {' x '.join(map(str, _grid(input_wh, PROTOTYPE_STRIDE)))}"
    )
    raise WrongLayout(
        f"a raw-head model with an input of {input_wh[0]} x {input_wh[1]} should have {expected}, "
        f"but this one has {_shapes(outputs)}"
    )


def _raw_head_as(input_wh: Wh, outputs: Sequence[TensorSpec], channels_last: bool) -> RawHead | None:
    """The raw head, if all outputs have their channels there and fit in one way only."""
    by_grid: dict[Wh, dict[int, list[int]]] = {}
    for index, output in enumerate(outputs):
        if len(output.shape) != 4 or output.shape[0] != 1:
            return None
        height, width, channels = _height_width_channels(output.shape, channels_last)
        by_grid.setdefault((width, height), {}).setdefault(channels, []).append(index)

    prototype_grid = _grid(input_wh, PROTOTYPE_STRIDE)
    if by_grid.get(prototype_grid, {}).keys() != {COEFFICIENTS}:
        return None
    levels = []
    class_counts = set()
    for stride in STRIDES:
        grid = _grid(input_wh, stride)
        by_channels = by_grid.get(grid, {})
        if len(by_channels) != 3 or any(len(indices) != 1 for indices in by_channels.values()):
            return None
        if not by_channels.keys() >= {BOX_CHANNELS, COEFFICIENTS}:
            return None
        (classes,) = by_channels.keys() - {BOX_CHANNELS, COEFFICIENTS}
        class_counts.add(classes)
        boxes, coefficients = by_channels[BOX_CHANNELS][0], by_channels[COEFFICIENTS][0]
        levels.append(HeadLevel(stride, grid, boxes, by_channels[classes][0], coefficients))
    if len(class_counts) != 1:
        return None
    prototypes = by_grid[prototype_grid][COEFFICIENTS][0]
    return RawHead(tuple(levels), Prototypes(prototypes, prototype_grid, channels_last))


def _fused_or_end_to_end(input_wh: Wh, outputs: Sequence[TensorSpec]) -> Fused | EndToEnd:
    anchors = sum(int(np.prod(_grid(input_wh, stride))) for stride in STRIDES)
    for index in (0, 1):
        prototypes = _prototypes(input_wh, 1 - index, outputs[1 - index].shape)
        if prototypes is None or len(outputs[index].shape) != 3 or outputs[index].shape[0] != 1:
            continue
        _, rows, columns = outputs[index].shape
        fitting: list[Fused | EndToEnd] = [
            Fused(index, channels - 4 - COEFFICIENTS, anchors_last, prototypes)
            for channels, length, anchors_last in ((rows, columns, True), (columns, rows, False))
            if length == anchors and channels > 4 + COEFFICIENTS
        ]
        if columns == END_TO_END_COLUMNS and rows <= END_TO_END_ROWS:
            fitting.append(EndToEnd(index, prototypes))
        if len(fitting) == 1:
            return fitting[0]
    width, height = _grid(input_wh, PROTOTYPE_STRIDE)
    raise WrongLayout(
        f"a model with two outputs and an input of {input_wh[0]} x {input_wh[1]} should have predictions "
        f"(1, 4 + classes + {COEFFICIENTS}, {anchors}), their transpose, or detections "
        f"(1, {END_TO_END_ROWS}, {END_TO_END_COLUMNS}), and prototypes "
        f"(1, {height}, {width}, {COEFFICIENTS}) or (1, {COEFFICIENTS}, {height}, {width}), "
        f"each in one way only, but this one has {_shapes(outputs)}"
    )


def _prototypes(input_wh: Wh, index: int, shape: tuple[int, ...]) -> Prototypes | None:
    width, height = _grid(input_wh, PROTOTYPE_STRIDE)
    last, first = (1, height, width, COEFFICIENTS), (1, COEFFICIENTS, height, width)
    if shape not in (last, first) or last == first:
        return None
    return Prototypes(index, (width, height), shape == last)


def _height_width_channels(shape: tuple[int, ...], channels_last: bool) -> tuple[int, int, int]:
    return (shape[1], shape[2], shape[3]) if channels_last else (shape[2], shape[3], shape[1])


def _grid(input_wh: Wh, stride: int) -> Wh:
    return input_wh[0] // stride, input_wh[1] // stride


def _check_dtype(spec: TensorSpec) -> None:
    whole = spec.dtype in (np.int8, np.uint8)
    if whole != spec.quantised or not (whole or spec.dtype == np.float32):
        raise WrongLayout(
            "the model's inputs and outputs should be int8 or uint8 with a scale, or float32 without, but "
            f"{spec.name!r} is {spec.dtype} with scale {spec.scale:g}"
        )


def _shapes(outputs: Sequence[TensorSpec]) -> str:
    return ", ".join(str(output.shape) for output in outputs) or "none"
