"""Instances as COCO writes them: https://cocodataset.org/#format-data. Pure."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from pycocotools import mask as rle

from appliance.data import Segmentation
from appliance.masks import full_mask

CATEGORY_ID = 1
"""Of "object", the only category: the network tells objects apart, not what they are."""


class CompressedRle(TypedDict):
    """A mask as COCO's compressed run lengths; `pycocotools.mask.decode` turns it into pixels."""

    size: list[int]
    """Height and width of the picture."""
    counts: str


class Instance(TypedDict):
    """One object of a picture."""

    id: int
    """The object's id from picture to picture; a number from 1 where there is none."""
    category_id: int
    bbox: list[float]
    """Left, top, width, height in picture pixels."""
    area: int
    """Pixels of the mask."""
    score: float
    segmentation: CompressedRle


def instances(segmentation: Segmentation) -> list[Instance]:
    """All instances of a picture, in the order of the segmentation, masks at picture resolution."""
    found: list[Instance] = []
    ids = segmentation.ids.tolist() or range(1, len(segmentation) + 1)
    boxes = segmentation.boxes_xyxy.astype(np.float64)
    for i, number in enumerate(ids):
        left, top, right, bottom = boxes[i]
        mask = full_mask(segmentation, i)
        encoded = rle.encode(np.asfortranarray(mask.view(np.uint8)))
        counts = encoded["counts"]
        found.append(
            {
                "id": number,
                "category_id": CATEGORY_ID,
                "bbox": [round(float(side), 2) for side in (left, top, right - left, bottom - top)],
                "area": int(np.count_nonzero(mask)),
                "score": round(float(segmentation.scores[i]), 4),
                "segmentation": {
                    "size": list(encoded["size"]),
                    "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
                },
            }
        )
    return found
