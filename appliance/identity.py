"""The same id from picture to picture for the same object, by the overlap of masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.data import Segmentation

_GRID = 32
"""Masks are compared at so many points across and down the picture."""
_LEAST_SIMILARITY = 0.3
_REMEMBERED_NS = 1_000_000_000
"""How long an object may be out of sight and still get its id back."""
_MOST_REMEMBERED = 600

Float32s = NDArray[np.float32]


class Identities:
    """Gives ids, and remembers the objects of the last second. For one thread.

    Pictures must come in the order in which they were taken. Ids count from 1 and are never given twice.
    """

    def __init__(self) -> None:
        self._next_id = 1
        self._known = _Known(
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros((0, 4), np.float32),
            np.zeros((0, _GRID * _GRID), np.float32),
        )

    def assign(self, segmentation: Segmentation) -> Segmentation:
        """The same instances with ids, known ones where they overlap with objects remembered."""
        now_ns = segmentation.frame.captured_ns
        known = self._known
        # pictures may come less than once in the time: what the last one showed is remembered in any case
        recent = known.seen_ns >= min(now_ns - _REMEMBERED_NS, int(known.seen_ns.max(initial=0)))
        known = known.only(recent)
        picture_wh = np.array(segmentation.letterbox.picture_wh, np.float32)
        boxes = (segmentation.boxes_xyxy.reshape(-1, 2, 2) / picture_wh).reshape(-1, 4)
        masks = _sampled_masks(segmentation)
        ids = np.zeros(len(segmentation), np.int64)
        unmatched = np.ones(len(known.ids), np.bool_)
        for instance, match in _match(_similarities(boxes, masks, known)):
            ids[instance] = known.ids[match]
            unmatched[match] = False
        new = np.flatnonzero(ids == 0)
        ids[new] = self._next_id + np.arange(len(new))
        self._next_id += len(new)

        gone = known.only(unmatched)
        self._known = _Known(
            np.concatenate([ids, gone.ids])[:_MOST_REMEMBERED],
            np.concatenate([np.full(len(ids), now_ns, np.int64), gone.seen_ns])[:_MOST_REMEMBERED],
            np.concatenate([boxes, gone.boxes])[:_MOST_REMEMBERED],
            np.concatenate([masks, gone.masks])[:_MOST_REMEMBERED],
        )
        return replace(segmentation, ids=ids)


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """The objects of the last pictures; M of them, the ones seen last first."""

    ids: NDArray[np.int64]
    """(M,)."""
    seen_ns: NDArray[np.int64]
    """(M,), when the last picture that showed it was taken."""
    boxes: Float32s
    """(M, 4), xyxy in parts of the picture's width and height."""
    masks: Float32s
    """(M, 1024), 0 or 1 at the points of a grid over the picture."""

    def only(self, chosen: NDArray[np.bool_]) -> _Known:
        """Those objects for which `chosen` is true."""
        return _Known(self.ids[chosen], self.seen_ns[chosen], self.boxes[chosen], self.masks[chosen])


def _sampled_masks(segmentation: Segmentation) -> Float32s:
    """(N, 1024), whether each mask covers each point of a grid over the picture."""
    letterbox, levels = segmentation.letterbox, segmentation.mask_levels
    parts = (np.arange(_GRID) + 0.5) / _GRID
    points = np.stack([parts, parts], 1) * letterbox.picture_wh
    columns, rows = (
        (letterbox.to_input(points) * np.array(levels.shape[:0:-1]) / letterbox.input_wh).astype(np.intp).T
    )
    boxes = segmentation.boxes_xyxy[:, :, None]
    across = (boxes[:, 0] <= points[:, 0]) & (points[:, 0] < boxes[:, 2])
    down = (boxes[:, 1] <= points[:, 1]) & (points[:, 1] < boxes[:, 3])
    covered = levels[:, rows[:, None], columns] >= 128
    covered &= across[:, None, :]
    covered &= down[:, :, None]
    return covered.reshape(-1, _GRID * _GRID).astype(np.float32)


def _similarities(boxes: Float32s, masks: Float32s, known: _Known) -> Float32s:
    """(N, M): the mean of the IoUs of masks and of boxes.

    Masks tell nested objects apart, boxes those that are small beside the grid.
    """
    low = np.maximum(boxes[:, None, :2], known.boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], known.boxes[None, :, 2:])
    sides: Float32s = (high - low).clip(0)
    box_ious = _ious(sides[..., 0] * sides[..., 1], _areas(boxes), _areas(known.boxes))
    mask_ious = _ious(masks @ known.masks.T, masks.sum(1), known.masks.sum(1))
    return (box_ious + mask_ious) * np.float32(0.5)


def _areas(boxes: Float32s) -> Float32s:
    areas: Float32s = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _ious(intersections: Float32s, areas: Float32s, other_areas: Float32s) -> Float32s:
    unions = areas[:, None] + other_areas - intersections
    ious: Float32s = intersections / np.maximum(unions, np.finfo(np.float32).tiny)
    return ious


def _match(similarities: Float32s) -> list[tuple[int, int]]:
    """Pairs of row and column, each at most once, the most similar first; greedy."""
    rows, columns = np.nonzero(similarities >= _LEAST_SIMILARITY)
    order = np.argsort(-similarities[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    free_rows, free_columns = set(rows.tolist()), set(columns.tolist())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            pairs.append((row, column))
    return pairs
