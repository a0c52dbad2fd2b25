"""The second look: what a prompt means, by the first pass and one or two runs on crops around it. Pure.

    target = aim(box, point, outputs, instance)   the prompt's box, or one guessed from its point
    crops(picture, target, input)                 where to look again, best first
    gather(target, outputs, crop)                 what the first pass, or a run on a crop, says: Evidence
    merge(target, [evidence, ...])                one mask

A pass is not asked for its instances, but for the candidates, before suppression and down to very low scores,
that explain the prompt best. Each counts by how well it does, so a crop's answer that explains the prompt
worse than the first pass did changes little, and one that does not explain it changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.data import Frame, RawOutputs, RgbImage
from appliance.masks import RoiXyxy, containing, levels_at
from appliance.postprocess import heaviest

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, picture pixels."""
Point = tuple[float, float]
"""x, y, picture pixels."""

LEAST_SCORE = 0.003
"""Of a candidate. A prompt tells far more than a score whether there is an object."""
_PER_PASS = 3
"""Candidates that a pass may answer with."""
_IOU_POWER, _SCORE_POWER = 3.0, 0.25
_BESIDE_POINT = 0.25
"""Factor on the weight of a candidate whose mask leaves out the prompt's point."""
_AT_POINT = 16
"""Candidates that are asked whether their mask contains a point."""
_ZERO_LEVEL = 127.5
"""Between level 127, outside, and 128, inside."""
_LOUDEST = 24.0
"""A vote at most: a logit of 6, so that one pass cannot shout all others down."""
_GROWN = 0.15
"""By how much of its sides a box that was guessed grows on each side, for the object may be larger."""

_CLOSE = 1.8
"""Side of the close crop, in longer sides of the box."""
_CLOSE_LARGEST = 0.75
"""Of the picture's longer side: an object that fills more than half of the picture gets less around it..."""
_CLOSE_LEAST = 1.1
"""...down to this, in longer sides of the box."""
_WORTHWHILE = 0.8
"""A crop with a side of more than this part of the picture's shows nothing that the first pass did not."""
_ENLARGEMENT = 5.0
"""Input pixels per picture pixel at most: beyond it, there is nothing more to see."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is looked for."""

    box_xyxy: Box
    """Where it is."""
    point_xy: Point | None
    """A point in it."""
    exact: bool
    """The box was given, so that all of the object lies in it; otherwise it is a guess."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a picture, whole pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What one pass says about the pixels of the target, and how much that counts."""

    roi_xyxy: RoiXyxy
    """Picture pixels that it is about: (h, w) of them; perhaps none."""
    votes: NDArray[np.float32]
    """(h, w), sum over the candidates of weight times mask logit times 4: object where the sum is above 0."""
    boxes: NDArray[np.float32]
    """(n, 4), picture pixels: the candidates' own boxes."""
    weights: NDArray[np.float32]
    """(n,): how well they explain the target, 0..1."""


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """The mask that a prompt means."""

    mask: NDArray[np.uint8]
    """(h, w), 0 or 255."""
    roi_xyxy: RoiXyxy
    """The part of the picture that it is for; there is nothing outside."""


def aim(box: Box | None, point: Point | None, first: RawOutputs, instance_xyxy: Box | None) -> Target | None:
    """What a prompt of a box, a point in an object, or both is looking for.

    `instance_xyxy` is the box of the first pass' instance that the point picks, if it picks one. Without a
    box and an instance, the target is the candidate of the first pass with the best score, however low, whose
    mask contains the point; None if there is not even that.
    """
    if box is not None:
        return Target(box, point, exact=True)
    if point is None:
        return None
    if instance_xyxy is not None:
        return Target(instance_xyxy, point, exact=False)
    x, y = point

    def weigh(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.floating]:
        around = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
        return np.where(around, scores, 0)

    near = heaviest(first, weigh, LEAST_SCORE, _AT_POINT)
    hits = np.flatnonzero(containing(near, point))
    return Target(_box_of(near.boxes_xyxy[hits[0]]), point, exact=False) if len(hits) else None


def crops(picture_wh: tuple[int, int], box_xyxy: Box, input_wh: tuple[int, int]) -> tuple[Crop, ...]:
    """Where to look again at what is in a box, best first: none, one or two.

    The first is close, with the object in the middle; the second lies halfway, as sizes go, between that and
    the whole picture, which is what tells an object from its parts. Both are square, or as near as the
    picture lets them, and move into the picture rather than reach beyond it.
    """
    longer = max(picture_wh)
    side = max(box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1])
    least = max(input_wh) / _ENLARGEMENT
    close = max(min(_CLOSE * side, _CLOSE_LARGEST * longer), _CLOSE_LEAST * side, least)
    sides = (close, math.sqrt(close * longer))
    return tuple(_crop(picture_wh, box_xyxy, side) for side in sides if side <= _WORTHWHILE * longer)


def _crop(picture_wh: tuple[int, int], box: Box, side: float) -> Crop:
    starts, lengths = [], []
    for axis in (0, 1):
        length = min(max(round(side), 1), picture_wh[axis])
        centre = (box[axis] + box[axis + 2]) / 2
        starts.append(min(max(round(centre - length / 2), 0), picture_wh[axis] - length))
        lengths.append(length)
    return Crop(starts[0], starts[1], lengths[0], lengths[1])


def cut(frame: Frame, crop: Crop) -> Frame:
    """The part of a picture as a picture of its own; shares its memory."""
    rgb: RgbImage = frame.rgb[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    return replace(frame, rgb=rgb)


def gather(target: Target, outputs: RawOutputs, crop: Crop | None = None) -> Evidence:
    """What a pass over a crop, or over the whole picture, says about a target.

    Raises `WrongLayout` as `postprocess` does.
    """
    left, top = (crop.left, crop.top) if crop else (0, 0)
    offset = np.array([left, top, left, top], np.float32)
    box = np.array(target.box_xyxy, np.float32) - offset

    def weigh(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.floating]:
        weights: NDArray[np.floating] = _ious(boxes, box) ** _IOU_POWER * scores**_SCORE_POWER
        return weights

    asked = _PER_PASS if target.point_xy is None else 2 * _PER_PASS
    found = heaviest(outputs, weigh, LEAST_SCORE, asked)
    weights = weigh(found.boxes_xyxy, found.scores)
    if target.point_xy is not None:
        x, y = target.point_xy
        weights = np.where(containing(found, (x - left, y - top)), weights, _BESIDE_POINT * weights)
    best = np.argsort(-weights, kind="stable")[:_PER_PASS]
    weights = weights[best].astype(np.float32)

    region = box if target.exact else _grown(box)
    region = np.clip(region, 0, np.array(outputs.letterbox.picture_wh * 2, np.float32))
    asked_about = replace(found, boxes_xyxy=np.repeat(region[None], len(found), 0))
    roi, votes = (0, 0, 0, 0), np.zeros((0, 0), np.float32)
    for weight, i in zip(weights.tolist(), best.tolist(), strict=True):
        levels, (x0, y0, x1, y1) = levels_at(asked_about, i, outputs.letterbox.picture_wh)
        vote = np.clip(levels.astype(np.float32) - np.float32(_ZERO_LEVEL), -_LOUDEST, _LOUDEST)
        votes = vote * weight if not votes.size else votes + vote * weight
        roi = x0 + left, y0 + top, x1 + left, y1 + top
    return Evidence(roi, votes, found.boxes_xyxy[best] + offset, weights)


def merge(target: Target, evidence: Iterable[Evidence]) -> Refined | None:
    """The mask of a target by all that was gathered; None if nothing explains it.

    Of a guessed box the mean of the candidates' boxes, by weight, takes the place.
    """
    counted = [one for one in evidence if one.votes.size and one.weights.any()]
    if not counted:
        return None
    x0, y0 = (min(one.roi_xyxy[axis] for one in counted) for axis in (0, 1))
    x1, y1 = (max(one.roi_xyxy[axis] for one in counted) for axis in (2, 3))
    votes = np.zeros((y1 - y0, x1 - x0), np.float32)
    for one in counted:
        left, top, right, bottom = one.roi_xyxy
        votes[top - y0 : bottom - y0, left - x0 : right - x0] += one.votes
    if not target.exact:
        boxes = np.concatenate([one.boxes for one in counted])
        weights = np.concatenate([one.weights for one in counted])
        box = np.average(boxes, axis=0, weights=weights)
        across, down = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
        votes[(down < box[1]) | (down >= box[3])] = 0
        votes[:, (across < box[0]) | (across >= box[2])] = 0
    mask = (votes > 0).view(np.uint8)
    np.negative(mask, out=mask)  # 1 becomes 255
    return Refined(mask, (x0, y0, x1, y1))


def _ious(boxes: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of boxes (n, 4) with a box (4,)."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    ious: NDArray[np.float32] = shared / np.maximum(areas - shared, np.finfo(np.float32).tiny)
    return ious


def _grown(box: NDArray[np.float32]) -> NDArray[np.float32]:
    margin = np.tile(box[2:] - box[:2], 2) * np.float32(_GROWN) * np.array([-1, -1, 1, 1], np.float32)
    grown: NDArray[np.float32] = box + margin
    return grown


def _box_of(box: NDArray[np.float32]) -> Box:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom
