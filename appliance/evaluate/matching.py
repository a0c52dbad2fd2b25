"""Which of a model's masks a prompt means, and how well masks fit: as the FastSAM paper counts. Pure.

The reference's masks take the place of a person: of each the box and the deepest point are the prompts, and
the model's answer is compared with the mask. The prompts of the original code (FastSAM, fastsam/prompt.py):

- box: the mask with the largest shared / (box + mask - shared);
- point: all masks that contain the point, together;
- point and box: the original has no such mode, and the paper does not say how it mixed them. Here it is the
  box's rule among the masks that contain the point, and the box's rule alone if there are none.

Best match asks for nothing: it is the model's mask that fits best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.evaluate.masks_rle import Box, Mask, Point, Rle, box_of, decode, deepest_point, ious

SURE_SCORE: Final = 0.35
"""Reference masks above it are those that a model should not lose to its threshold."""
MATCHED_IOU: Final = 0.5
"""A mask of a model is precise if it overlaps a mask of the reference by this."""
PLAIN_KINDS: Final = ("best_match", "point", "box", "point_box")

Figures = dict[str, "float | dict[str, int] | None"]
"""Mean IoU by the object's size, and `n`, how many objects each mean is of; None of no objects."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A mask of the reference, and the prompts that it stands for."""

    rle: Rle
    part: float
    """Of the picture that it covers."""
    score: float
    """1 for labels."""
    box_xyxy: Box
    point_xy: Point


def wanted(rle: Rle, score: float) -> Wanted | None:
    """What a reference mask asks for; None if it is empty."""
    mask = decode(rle)
    if not mask.any():
        return None
    return Wanted(rle, float(mask.mean()), score, box_of(mask), deepest_point(mask))


@dataclass(frozen=True, slots=True)
class Fits:
    """IoU with what was wanted, by prompt; 0 where a model has no answer."""

    best_match: float
    point: float
    box: float
    point_box: float


def fits(masks: Sequence[Rle], wanted_ones: Sequence[Wanted]) -> list[Fits]:
    """How a model's masks of a picture answer the prompts of that picture."""
    overlaps = ious(masks, [want.rle for want in wanted_ones])
    pixels = np.array([decode(rle) for rle in masks], np.bool_)
    return [_fits(pixels, overlaps[:, column], want) for column, want in enumerate(wanted_ones)]


def _fits(masks: NDArray[np.bool_], overlaps: NDArray[np.float64], want: Wanted) -> Fits:
    if not len(masks):
        return Fits(0.0, 0.0, 0.0, 0.0)
    x, y = (int(value) for value in want.point_xy)
    union: Mask = np.asarray(masks[masks[:, y, x]].any(0), np.bool_)
    return Fits(
        best_match=float(overlaps.max()),
        point=iou(union, decode(want.rle)),
        box=float(overlaps[box_agreement(masks, want.box_xyxy).argmax()]),
        point_box=float(overlaps[_by_point_and_box(masks, want)]),
    )


def _by_point_and_box(masks: NDArray[np.bool_], want: Wanted) -> int:
    x, y = (int(value) for value in want.point_xy)
    hits, agreement = masks[:, y, x], box_agreement(masks, want.box_xyxy)
    return int((np.where(hits, agreement, -1.0) if hits.any() else agreement).argmax())


def point_box_answer(masks: Sequence[Rle], want: Wanted) -> Rle | None:
    """The mask that a point and a box mean; None if there are no masks."""
    if not masks:
        return None
    return masks[_by_point_and_box(np.array([decode(rle) for rle in masks], np.bool_), want)]


def box_agreement(masks: NDArray[np.bool_], box: Box) -> NDArray[np.float64]:
    """(N,) of masks (N, H, W): shared / (box + mask - shared), the box in whole pixels."""
    left, top, right, bottom = (int(side) for side in box)
    shared = masks[:, top:bottom, left:right].sum((1, 2), dtype=np.float64)
    areas = masks.sum((1, 2), dtype=np.float64)
    agreement: NDArray[np.float64] = shared / ((right - left) * (bottom - top) + areas - shared)
    return agreement


def iou(ours: Mask, theirs: Mask) -> float:
    """Area shared by area covered by either; 0 of two empty masks."""
    return float((ours & theirs).sum() / max(1, (ours | theirs).sum()))


def means(values: Sequence[float], wanted_ones: Sequence[Wanted], sure: bool = False) -> Figures:
    """Mean IoU by size: all, over 5 % of the picture, under 5 % and under 1 %; with `sure` by score, too."""
    value, part = np.array(values, np.float64), np.array([want.part for want in wanted_ones], np.float64)
    groups: dict[str, NDArray[np.bool_]] = {
        "all": np.ones(len(part), np.bool_),
        "over_5": part >= 0.05,
        "under_5": part < 0.05,
        "under_1": part < 0.01,
    }
    if sure:
        groups["score_over_35"] = np.array([want.score > SURE_SCORE for want in wanted_ones], np.bool_)
    figures: Figures = {
        name: round(float(value[group].mean()), 4) if group.any() else None for name, group in groups.items()
    }
    figures["n"] = {name: int(group.sum()) for name, group in groups.items()}
    return figures


def compare(
    masks: Mapping[str, Sequence[Rle]], truth: Mapping[str, Sequence[Wanted]], sure: bool = False
) -> dict[str, Figures]:
    """A model's masks against a reference, both by picture: mean IoU by prompt kind."""
    everything = [want for wants in truth.values() for want in wants]
    answers = [fit for name, wants in truth.items() for fit in fits(masks[name], wants)]
    return {
        kind: means([float(getattr(answer, kind)) for answer in answers], everything, sure)
        for kind in PLAIN_KINDS
    }


def precision(masks: Mapping[str, Sequence[Rle]], truth: Mapping[str, Sequence[Wanted]]) -> float | None:
    """The part of a model's masks that overlap one of the reference by `MATCHED_IOU`; None of no masks."""
    matched = [
        bool((row >= MATCHED_IOU).any())
        for name, wants in truth.items()
        for row in ious(masks[name], [want.rle for want in wants])
    ]
    return round(sum(matched) / len(matched), 4) if matched else None


def box_only(truth: Mapping[str, Sequence[Wanted]]) -> Figures:
    """What the prompt's box itself, filled, reaches: what an answer to a box has to be better than."""
    everything = [want for wants in truth.values() for want in wants]
    values = []
    for want in everything:
        left, top, right, bottom = want.box_xyxy
        values.append(want.rle.area_px / ((right - left) * (bottom - top)))
    return means(values, everything)
