"""What two models say about the same anchors, side by side. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .graph import BOX_CHANNELS, MASK_CHANNELS
from .ranges import Float32s, distances

PROTOTYPE_STRIDE: Final = 4
FINEST_STRIDE: Final = 8
LEAST_LOGIT: Final = -1.7
"""Of a score of 0.15: anchors above are compared."""
MOST_ANCHORS: Final = 100
"""Of each level and picture, the best: a network that sees something everywhere would take minutes."""
TYPICAL_LOGIT, TYPICAL_BOX, TYPICAL_MASK = 0.18, 0.021, 0.020
"""Of a good model of YOLOv8n-seg's size: makes the three count alike in one figure."""


@dataclass(frozen=True, slots=True, eq=False)
class LevelOutputs:
    """One stride's outputs for A anchors, row by row."""

    stride: int
    width: int
    boxes: Float32s
    """(A, 64) logits."""
    logits: Float32s
    """(A,), of the best class."""
    coefficients: Float32s
    """(A, 32)."""


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """A raw head's outputs for one picture."""

    levels: list[LevelOutputs]
    """Finest first."""
    prototypes: Float32s
    """(h, w, 32)."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """K anchors of one level, decoded."""

    logits: Float32s
    """(K,)."""
    boxes_xyxy: Float32s
    """(K, 4), input pixels."""
    mask_logits: list[Float32s]
    """Of every second prototype pixel in the float model's box."""
    rois: list[tuple[slice, slice]]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Means over all anchors compared."""

    logit: float
    """Deviation of the class logit from its median, which a threshold makes up for."""
    box: float
    """1 - IoU."""
    mask: float
    """1 - IoU at prototype resolution."""

    @property
    def total(self) -> float:
        """One figure; about 3 for a good model."""
        return self.logit / TYPICAL_LOGIT + self.box / TYPICAL_BOX + self.mask / TYPICAL_MASK


def arrange(outputs: Sequence[Float32s]) -> Outputs:
    """Tell a raw head's ten outputs (h, w, channels) apart by their shapes."""
    by_height: dict[int, list[Float32s]] = {}
    for output in outputs:
        by_height.setdefault(output.shape[0], []).append(output)
    (prototypes,), *levels = (by_height[height] for height in sorted(by_height, reverse=True))
    arranged = []
    for number, level in enumerate(levels):
        parts = {output.shape[2]: output.reshape(-1, output.shape[2]) for output in level}
        (classes,) = parts.keys() - {BOX_CHANNELS, MASK_CHANNELS}
        boxes, coefficients = parts[BOX_CHANNELS], parts[MASK_CHANNELS]
        stride, width = FINEST_STRIDE << number, level[0].shape[1]
        arranged.append(LevelOutputs(stride, width, boxes, parts[classes].max(1), coefficients))
    return Outputs(arranged, prototypes)


def with_a_score(logits: Float32s) -> NDArray[np.intp]:
    """The anchors of a level, out of logits (A,), on which models are compared, in order."""
    found = np.flatnonzero(logits >= LEAST_LOGIT)
    best = np.argsort(-logits[found], kind="stable")[:MOST_ANCHORS]
    return np.sort(found[best])


def detect(
    outputs: Outputs, anchors: Sequence[NDArray[np.intp]], like: Sequence[Detections] | None = None
) -> list[Detections]:
    """Decode the given anchors of each level. Masks are looked at in the boxes of `like`, or in their own."""
    found = []
    for number, (level, chosen) in enumerate(zip(outputs.levels, anchors, strict=True)):
        boxes = _boxes(level, chosen)
        rois = like[number].rois if like else [_roi(box, outputs.prototypes.shape) for box in boxes]
        coefficients = level.coefficients[chosen]
        masks = [outputs.prototypes[roi] @ row for roi, row in zip(rois, coefficients, strict=True)]
        found.append(Detections(level.logits[chosen], boxes, masks, rois))
    return found


def shortfall(pairs: Sequence[tuple[Detections, Detections]]) -> Shortfall:
    """Compare detections of the same anchors, the float model's first. Without any, nothing is lost."""
    if not sum(len(real.logits) for real, _ in pairs):
        return Shortfall(0.0, 0.0, 0.0)
    logits = np.concatenate([found.logits - real.logits for real, found in pairs])
    boxes = np.concatenate([_box_ious(real.boxes_xyxy, found.boxes_xyxy) for real, found in pairs])
    masks = [
        _mask_iou(a >= 0, b >= 0)
        for real, found in pairs
        for a, b in zip(real.mask_logits, found.mask_logits, strict=True)
    ]
    deviation = float(np.abs(logits - np.median(logits)).mean())
    return Shortfall(deviation, 1 - float(boxes.mean()), 1 - float(np.mean(masks)))


def _boxes(level: LevelOutputs, anchors: NDArray[np.intp]) -> Float32s:
    reach = distances(level.boxes[anchors])
    rows, columns = np.divmod(anchors, level.width)
    centres = np.stack([columns, rows], 1) + np.float32(0.5)
    edges = np.concatenate([centres - reach[:, :2], centres + reach[:, 2:]], 1)
    boxes: Float32s = (edges * level.stride).astype(np.float32)
    return boxes


def _roi(box_xyxy: Float32s, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Every second prototype pixel in a box; at least one."""
    height, width = shape[:2]
    x0, y0, x1, y1 = np.rint(box_xyxy / PROTOTYPE_STRIDE).astype(int).tolist()
    left, top = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return slice(top, max(y1, top + 1), 2), slice(left, max(x1, left + 1), 2)


def _box_ious(a: Float32s, b: Float32s) -> Float32s:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    both = np.maximum(sides, 0).prod(1)
    areas = [np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1) for boxes in (a, b)]
    ious: Float32s = both / np.maximum(areas[0] + areas[1] - both, 1e-6)
    return ious


def _mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0
