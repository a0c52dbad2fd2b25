"""RawOutputs -> Segmentation: threshold, decode, non-maximum suppression, mask levels. Pure.

Of thousands of anchors only the few that pass the threshold, compared as the stored steps, are decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.data import RawOutputs, Segmentation, Tensor, TensorSpec
from appliance.geometry import Letterbox
from appliance.layouts import (
    BINS,
    COEFFICIENTS,
    EndToEnd,
    Fused,
    HeadLevel,
    Prototypes,
    RawHead,
    arrange,
)
from appliance.masks import areas_px

Float32s = NDArray[np.float32]

_CANDIDATES_PER_INSTANCE = 8
"""Anchors that go into the suppression, best first, per instance asked for; bounds its time."""
_LEVELS_PER_LOGIT = 4.0
_BORDER = 20 / 1024
"""FastSAM snaps box edges to the border within 20 pixels of its input of 1024; part of the longer side."""
_WHOLE_PICTURE_IOU = 0.9
"""FastSAM takes a box that overlaps the whole picture by more than this as the whole picture."""
_LARGEST_NORMALISED = 16.0
"""Box coordinates in 0..1 stay below, even if a box reaches 15 strides of 32 beyond an input of 32. Those in
pixels do not, as anchors lie all over the input."""


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Anchors over the threshold, best first, equal scores in the order of the outputs."""

    boxes_xyxy: Float32s
    """(K, 4), input pixels."""
    scores: Float32s
    """(K,), 0..1."""
    coefficients: Float32s
    """(K, 32)."""


def postprocess(outputs: RawOutputs, confidence: float, iou: float, max_instances: int = 300) -> Segmentation:
    """Turn a model's outputs into instances, best score first; the same outputs always give the same.

    `confidence`, between 0 and 1, is the least score; of boxes that overlap by more than `iou` the best
    stays, whatever the classes. As in FastSAM, boxes that nearly reach the border reach it, and one that is
    nearly the whole picture is the whole picture. Boxes in which no mask shows are left out.

    Raises `WrongLayout` if the outputs' shapes fit no layout; a loaded model's do.
    """
    candidates, prototypes = _candidates(outputs, confidence, max_instances * _CANDIDATES_PER_INSTANCE)
    kept = _suppress(candidates, iou)[:max_instances]
    boxes = _snap_to_border(candidates.boxes_xyxy[kept], outputs.letterbox)
    boxes = outputs.letterbox.boxes_to_picture(boxes)
    visible = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    kept = kept[visible]
    levels = _mask_levels(prototypes, outputs, candidates.coefficients[kept])
    found = Segmentation(outputs.frame, outputs.letterbox, boxes[visible], candidates.scores[kept], levels)
    drawn = areas_px(found) > 0
    if drawn.all():
        return found
    return replace(
        found, boxes_xyxy=found.boxes_xyxy[drawn], scores=found.scores[drawn], mask_levels=levels[drawn]
    )


def heaviest(
    outputs: RawOutputs,
    weigh: Callable[[Float32s, Float32s], NDArray[np.floating]],
    confidence: float,
    count: int,
    limit: int = 300 * _CANDIDATES_PER_INSTANCE,
) -> Segmentation:
    """The `count` candidates of most weight, heaviest first, as they are before any suppression.

    `weigh` gives the weights (K,) of boxes (K, 4) in picture pixels, clipped to the picture but not snapped
    to its border, and their scores (K,); what weighs nothing is left out. Only the `limit` best of at least
    `confidence` are weighed. A model that suppresses by itself has but what that left.

    Raises `WrongLayout` as `postprocess` does.
    """
    candidates, prototypes = _candidates(outputs, confidence, limit)
    boxes = outputs.letterbox.boxes_to_picture(candidates.boxes_xyxy)
    weights = weigh(boxes, candidates.scores)
    order = np.argsort(-weights, kind="stable")[:count]
    order = order[weights[order] > 0]
    levels = _mask_levels(prototypes, outputs, candidates.coefficients[order])
    return Segmentation(outputs.frame, outputs.letterbox, boxes[order], candidates.scores[order], levels)


def _candidates(outputs: RawOutputs, confidence: float, limit: int) -> tuple[_Candidates, Prototypes]:
    spec = outputs.spec
    match arrange(spec.input, spec.outputs):
        case RawHead() as head:
            return _from_raw_head(head, outputs, confidence, limit), head.prototypes
        case Fused() as fused:
            return _from_fused(fused, outputs, confidence, limit), fused.prototypes
        case EndToEnd() as end_to_end:
            return _from_end_to_end(end_to_end, outputs, confidence, limit), end_to_end.prototypes


def _from_raw_head(head: RawHead, outputs: RawOutputs, confidence: float, limit: int) -> _Candidates:
    least_logit = math.log(confidence / (1 - confidence))
    specs, tensors = outputs.spec.outputs, outputs.tensors
    anchors, logits = [], []
    for level in head.levels:
        classes = _by_anchor(tensors[level.classes], head.channels_last)
        over = _at_least(classes, specs[level.classes], least_logit)
        anchors.append(over)
        logits.append(specs[level.classes].dequantise(classes[over].max(1, initial=_lowest(classes))))
    order = _best_first(np.concatenate(logits), limit)
    level_of = np.repeat(np.arange(len(anchors)), [len(over) for over in anchors])[order]
    anchor_of = np.concatenate(anchors)[order]

    bins = np.array(outputs.spec.bins, np.float32)
    boxes = np.empty((len(order), 4), np.float32)
    coefficients = np.empty((len(order), COEFFICIENTS), np.float32)
    for number, level in enumerate(head.levels):
        rows = np.flatnonzero(level_of == number)
        at = anchor_of[rows]
        distributions = _by_anchor(tensors[level.boxes], head.channels_last)[at]
        boxes[rows] = _decode_boxes(specs[level.boxes].dequantise(distributions), at, level, bins)
        stored = _by_anchor(tensors[level.coefficients], head.channels_last)[at]
        coefficients[rows] = specs[level.coefficients].dequantise(stored)
    scores = np.reciprocal(1 + np.exp(-np.concatenate(logits)[order]), dtype=np.float32)
    return _Candidates(boxes, scores, coefficients)


def _decode_boxes(
    distributions: Float32s, anchors: NDArray[np.intp], level: HeadLevel, bins: Float32s
) -> Float32s:
    """Box edges in input pixels from (K, 64) logits of their distances to the anchor, in strides.

    Each distance is the mean of a softmax over 16 `bins`: Li et al. 2020, "Generalized Focal Loss", eq. 5.
    """
    logits = distributions.reshape(-1, 4, BINS)
    weights = np.exp(logits - logits.max(2, keepdims=True))
    distances = (weights @ bins) / weights.sum(2)
    rows, columns = np.divmod(anchors, level.grid_wh[0])
    centres = np.stack([columns, rows], 1).astype(np.float32) + np.float32(0.5)
    edges: Float32s = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], 1)
    return edges * np.float32(level.stride)


def _from_fused(fused: Fused, outputs: RawOutputs, confidence: float, limit: int) -> _Candidates:
    spec = outputs.spec.outputs[fused.predictions]
    predictions = outputs.tensors[fused.predictions][0]
    if fused.anchors_last:
        predictions = predictions.T
    classes = predictions[:, 4 : 4 + fused.classes]
    over = _at_least(classes, spec, confidence)
    scores = spec.dequantise(classes[over].max(1, initial=_lowest(classes)))
    order = _best_first(scores, limit)
    best = spec.dequantise(predictions[over[order]])
    centres, sizes = best[:, :2], best[:, 2:4]
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)
    boxes = _in_pixels(boxes, spec.dequantise(predictions[:, :2].max()), outputs.letterbox)
    return _Candidates(boxes, scores[order], best[:, 4 + fused.classes :])


def _from_end_to_end(end_to_end: EndToEnd, outputs: RawOutputs, confidence: float, limit: int) -> _Candidates:
    """The columns are left, top, right, bottom, score, class, coefficients."""
    spec = outputs.spec.outputs[end_to_end.detections]
    detections = outputs.tensors[end_to_end.detections][0]
    over = _at_least(detections[:, 4:5], spec, confidence)
    scores = spec.dequantise(detections[over, 4])
    order = _best_first(scores, limit)
    best = spec.dequantise(detections[over[order]])
    boxes = _in_pixels(best[:, :4], spec.dequantise(detections[:, :4].max()), outputs.letterbox)
    return _Candidates(boxes, scores[order], best[:, 6:])


def _in_pixels(boxes: Float32s, largest: Float32s, letterbox: Letterbox) -> Float32s:
    """Boxes in input pixels from boxes in those or in 0..1, told by the largest coordinate of all anchors."""
    if largest > _LARGEST_NORMALISED:
        return boxes
    return boxes * np.array(letterbox.input_wh * 2, np.float32)


def _by_anchor(tensor: Tensor, channels_last: bool) -> Tensor:
    """A view (anchors, channels) of (1, h, w, channels) or (1, channels, h, w)."""
    if channels_last:
        return tensor.reshape(-1, tensor.shape[3])
    return tensor.reshape(tensor.shape[1], -1).T


def _at_least(scores: Tensor, spec: TensorSpec, least: float) -> NDArray[np.intp]:
    """Which rows of (anchors, classes) have a score of at least `least`, compared as stored."""
    threshold = math.ceil(least / spec.scale + spec.zero_point) if spec.quantised else least
    over = scores >= threshold
    return np.flatnonzero(over if over.shape[1] == 1 else over.any(1))


def _lowest(stored: Tensor) -> float:
    """A start for a maximum over no classes; needed only for no rows."""
    return np.iinfo(stored.dtype).min if stored.dtype.kind in "iu" else -np.inf


def _best_first(scores: Float32s, limit: int) -> NDArray[np.intp]:
    return np.argsort(-scores, kind="stable")[:limit]


def _suppress(candidates: _Candidates, iou: float) -> NDArray[np.intp]:
    """Non-maximum suppression over all classes together; indices, best score first."""
    if not len(candidates.scores):
        return np.zeros(0, np.intp)
    boxes = candidates.boxes_xyxy.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    # equal scores stay in their order, as cv2 sorts stably
    kept = cv2.dnn.NMSBoxes(boxes, candidates.scores, 0.0, iou)  # type: ignore[arg-type]
    return np.asarray(kept, np.intp).reshape(-1)


def _snap_to_border(boxes_xyxy: Float32s, letterbox: Letterbox) -> Float32s:
    """FastSAM's treatment of boxes at the border of the picture; input pixels."""
    left, top, width, height = letterbox.content_xywh
    low = np.array([left, top, left, top], np.float32)
    high = low + np.array([width, height, width, height], np.float32)
    near = np.float32(_BORDER * max(letterbox.input_wh))
    boxes = np.clip(boxes_xyxy, low, high)
    boxes[:, :2] = np.where(boxes[:, :2] < low[:2] + near, low[:2], boxes[:, :2])
    boxes[:, 2:] = np.where(boxes[:, 2:] > high[2:] - near, high[2:], boxes[:, 2:])
    # a clipped box lies within the picture, so its share of the picture is its IoU with it
    share = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (width * height)
    boxes[share > _WHOLE_PICTURE_IOU] = [left, top, left + width, top + height]
    return boxes


def _mask_levels(prototypes: Prototypes, outputs: RawOutputs, coefficients: Float32s) -> NDArray[np.uint8]:
    """128 + 4 * logit, saturating, (N, h, w): the logits are coefficients (N, 32) times prototypes."""
    width, height = prototypes.grid_wh
    n = len(coefficients)
    if not n:
        return np.zeros((0, height, width), np.uint8)
    spec = outputs.spec.outputs[prototypes.index]
    basis = _by_anchor(outputs.tensors[prototypes.index], prototypes.channels_last).astype(np.float32)
    factor = _LEVELS_PER_LOGIT
    if spec.quantised:
        basis -= np.float32(spec.zero_point)
        factor *= spec.scale
    weights: Float32s = coefficients * np.float32(factor)
    logits = weights @ basis.T
    levels = np.empty(logits.shape, np.uint8)
    cv2.add(logits, np.full(4, 128.0), dst=levels, dtype=cv2.CV_8U)  # rounds and saturates in one pass
    return levels.reshape(n, height, width)
