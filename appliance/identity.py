"""The same id from picture to picture for the same object, by the overlap of masks. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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


def _empty(*shape: int) -> Float32s:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The objects of the last pictures; M of them, the ones seen last first. The default has seen none."""

    next_id: int = 1
    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(M,)."""
    seen_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(M,), when the last picture that showed it was taken."""
    boxes: Float32s = field(default_factory=lambda: _empty(0, 4))
    """(M, 4), xyxy in parts of the picture's width and height."""
    masks: Float32s = field(default_factory=lambda: _empty(0, _GRID * _GRID))
    """(M, 1024), 0 or 1 at the points of a grid over the picture."""


def assign_ids(memory: Memory, segmentation: Segmentation) -> tuple[Segmentation, Memory]:
    """Give the instances ids, known ones where they overlap with objects remembered, and remember them.

    Pictures must come in the order in which they were taken. Ids count from 1 and are never given twice.
    """
    boxes: Float32s = segmentation.boxes_xyxy / np.array(segmentation.letterbox.picture_wh * 2, np.float32)
    masks = _sampled_masks(segmentation)
    ids = np.zeros(len(segmentation), np.int64)
    matched = np.zeros(len(memory.ids), np.bool_)
    for instance, known in _match(_similarities(boxes, masks, memory)):
        ids[instance] = memory.ids[known]
        matched[known] = True
    new = np.flatnonzero(ids == 0)
    ids[new] = memory.next_id + np.arange(len(new))

    now_ns = segmentation.frame.captured_ns
    # pictures may come less than once in the time: what the last one showed is remembered in any case
    last_ns = memory.seen_ns.max(initial=now_ns - _REMEMBERED_NS)
    kept = np.flatnonzero(~matched & (memory.seen_ns >= min(last_ns, now_ns - _REMEMBERED_NS)))
    memory = Memory(
        memory.next_id + len(new),
        np.concatenate([ids, memory.ids[kept]])[:_MOST_REMEMBERED],
        np.concatenate([np.full(len(ids), now_ns), memory.seen_ns[kept]])[:_MOST_REMEMBERED],
        np.concatenate([boxes, memory.boxes[kept]])[:_MOST_REMEMBERED],
        np.concatenate([masks, memory.masks[kept]])[:_MOST_REMEMBERED],
    )
    return replace(segmentation, ids=ids), memory


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


def _similarities(boxes: Float32s, masks: Float32s, memory: Memory) -> Float32s:
    """(N, M): the mean of the IoUs of masks and of boxes.

    Masks tell nested objects apart, boxes those that are small beside the grid.
    """
    low = np.maximum(boxes[:, None, :2], memory.boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], memory.boxes[None, :, 2:])
    sides: Float32s = (high - low).clip(0)
    box_ious = _ious(sides[..., 0] * sides[..., 1], _areas(boxes), _areas(memory.boxes))
    mask_ious = _ious(masks @ memory.masks.T, masks.sum(1), memory.masks.sum(1))
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
