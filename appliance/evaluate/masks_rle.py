"""Masks as COCO's run lengths: small to keep, and quick to compare. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

if TYPE_CHECKING:
    from pycocotools.mask import _EncodedRLE as CocoRle  # type: ignore[attr-defined]
else:
    CocoRle = dict

Mask = NDArray[np.bool_]
"""(H, W) at the picture's resolution."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, picture pixels."""
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rle:
    """A mask as COCO's compressed run lengths."""

    height: int
    width: int
    counts: str

    @property
    def area_px(self) -> int:
        """Pixels of the mask."""
        return int(coco.area(as_coco(self)))

    @property
    def part(self) -> float:
        """Of the picture that the mask covers, 0..1."""
        return self.area_px / (self.height * self.width)


def as_coco(rle: Rle) -> CocoRle:
    """As pycocotools takes it."""
    return {"size": [rle.height, rle.width], "counts": rle.counts.encode("ascii")}


def encode(mask: Mask) -> Rle:
    """Run lengths of a mask."""
    made = coco.encode(np.asfortranarray(mask.view(np.uint8)))
    counts = made["counts"]
    return Rle(mask.shape[0], mask.shape[1], counts.decode("ascii") if isinstance(counts, bytes) else counts)


def from_run_lengths(size_hw: tuple[int, int], counts: Sequence[int]) -> Rle:
    """Of COCO's uncompressed run lengths: column after column, beginning with those of 0."""
    values = np.arange(len(counts)) % 2 == 1
    return encode(np.repeat(values, counts).reshape(size_hw[1], size_hw[0]).T)


def decode(rle: Rle) -> Mask:
    """The pixels."""
    pixels: NDArray[np.uint8] = np.ascontiguousarray(coco.decode(as_coco(rle)))
    return pixels.view(np.bool_)


def ious(ours: Sequence[Rle], theirs: Sequence[Rle]) -> NDArray[np.float64]:
    """(len(ours), len(theirs)): area shared by area covered by either; 0 of two empty masks."""
    if not ours or not theirs:
        return np.zeros((len(ours), len(theirs)))
    found = coco.iou([as_coco(rle) for rle in ours], [as_coco(rle) for rle in theirs], [0] * len(theirs))
    return np.nan_to_num(np.asarray(found, np.float64))


def box_of(mask: Mask) -> Box:
    """The smallest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def deepest_point(mask: Mask) -> Point:
    """The centre of the pixel farthest from all pixels outside, as which the picture's border counts."""
    padded = np.pad(mask.view(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x) + 0.5, float(y) + 0.5
