"""How much of what a network says is lost from one form of it to the next. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.convert.check.predictions import Float32s, Predictions, strides_of
from appliance.layouts import PROTOTYPE_STRIDE, STRIDES

LEAST_SCORE: Final = 0.15
"""Anchors that come near to being detections are compared; all others may say what they like."""
MOST_ANCHORS: Final = 50
"""Of each stride and picture, best first."""
SURE_SCORE: Final = 0.5
ENOUGH: Final = 3
"""Anchors with that score that a trained network has in most pictures, several for each object."""
MOST_SURE: Final = 300
"""More of them are not looked at."""
AGREEMENT: Final = 0.8
"""IoU of such an anchor's box with the most similar one of another, at the median: 0.91 to 0.99 of a trained
network, since they mean the same object; 0.50 to 0.73 of one with random weights."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Means over N compared anchors; 0 where nothing is lost."""

    anchors: int
    faint: bool
    """The network finds no objects in these pictures, so that 8 bits lose most of the little that it says."""
    score: float
    """Difference of the score, 0..1."""
    box: float
    """1 - IoU."""
    coefficient: float
    """Root mean square difference, as a part of the coefficients' own root mean square."""
    mask: float
    """1 - IoU at prototype resolution, inside the first form's box."""

    def kinds(self) -> Iterator[tuple[str, float]]:
        """The four, by name."""
        yield from (("score", self.score), ("box", self.box))
        yield from (("coefficient", self.coefficient), ("mask", self.mask))


def compare(
    pairs: Sequence[tuple[Predictions, Predictions]], input_wh: tuple[int, int]
) -> tuple[Losses, dict[int, Losses]]:
    """Compare what two forms say about the same pictures, what is true first. All in all, and by stride."""
    strides = strides_of(input_wh)
    best = [_best(true.scores, strides) for true, _ in pairs]
    chosen = [rows[true.scores[rows] >= LEAST_SCORE] for rows, (true, _) in zip(best, pairs, strict=True)]
    faint = 2 * sum(_finds_objects(true) for true, _ in pairs) <= len(pairs)
    chosen = best if faint else chosen
    by_stride = {s: _losses(pairs, [rows[strides[rows] == s] for rows in chosen], faint) for s in STRIDES}
    return _losses(pairs, chosen, faint), by_stride


def _finds_objects(said: Predictions) -> bool:
    boxes = said.boxes_xyxy[said.scores >= SURE_SCORE][:MOST_SURE]
    if len(boxes) < ENOUGH:
        return False
    ious = np.stack([_box_ious(np.broadcast_to(box, boxes.shape), boxes) for box in boxes])
    np.fill_diagonal(ious, 0)
    return bool(np.median(ious.max(1)) >= AGREEMENT)


def _best(scores: Float32s, strides: NDArray[np.int64]) -> NDArray[np.intp]:
    """The anchors with the highest scores of each stride."""
    order = np.argsort(-scores, kind="stable")
    return np.concatenate([order[strides[order] == stride][:MOST_ANCHORS] for stride in STRIDES])


def _losses(
    pairs: Sequence[tuple[Predictions, Predictions]], chosen: Sequence[NDArray[np.intp]], faint: bool
) -> Losses:
    if not (count := sum(map(len, chosen))):
        return Losses(0, faint, 0.0, 0.0, 0.0, 0.0)
    picked = [(true, found, rows) for (true, found), rows in zip(pairs, chosen, strict=True)]
    scores = np.concatenate([np.abs(t.scores[rows] - f.scores[rows]) for t, f, rows in picked])
    ious = np.concatenate([_box_ious(t.boxes_xyxy[rows], f.boxes_xyxy[rows]) for t, f, rows in picked])
    true = np.concatenate([t.coefficients[rows] for t, _, rows in picked])
    found = np.concatenate([f.coefficients[rows] for _, f, rows in picked])
    masks = [_mask_iou(t, f, row) for t, f, rows in picked for row in rows.tolist()]
    return Losses(
        count,
        faint,
        float(scores.mean()),
        1 - float(ious.mean()),
        float(np.sqrt(np.square(found - true).mean() / max(float(np.square(true).mean()), 1e-12))),
        1 - float(np.mean(masks)),
    )


def _box_ious(a: Float32s, b: Float32s) -> Float32s:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    both = np.maximum(sides, 0).prod(1)
    areas = [np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1) for boxes in (a, b)]
    ious: Float32s = both / np.maximum(areas[0] + areas[1] - both, 1e-6)
    return ious


def _mask_iou(true: Predictions, found: Predictions, anchor: int) -> float:
    height, width = true.prototypes.shape[:2]
    left, top, right, bottom = np.rint(true.boxes_xyxy[anchor] / PROTOTYPE_STRIDE).astype(int).tolist()
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    box = slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))
    a, b = (one.prototypes[box] @ one.coefficients[anchor] > 0 for one in (true, found))
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0
