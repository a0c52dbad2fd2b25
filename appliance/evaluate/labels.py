"""Labelled polygons: for PICTURE.jpg a PICTURE.txt, a line per object: its class, then x y pairs in 0..1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from appliance.errors import EvaluateError
from appliance.evaluate.masks_rle import Rle, encode

_BEYOND: Final = 0.1
"""By so much of the picture a corner may lie outside: some programs round or smooth. Pixels lie farther."""


def read_polygons(folder: Path, sizes_hw: Mapping[str, tuple[int, int]]) -> dict[str, list[Rle]]:
    """The masks of every picture (file name -> height, width), filled at its resolution; empty ones left out.

    A picture without a file has no objects. Raises `EvaluateError` if none has one, or if one cannot be read.
    """
    if not any((folder / f"{Path(name).stem}.txt").exists() for name in sizes_hw):
        raise EvaluateError(f"{folder} has no polygons for these pictures: NAME.txt for NAME.jpg is needed")
    return {name: _masks(folder / f"{Path(name).stem}.txt", *size) for name, size in sizes_hw.items()}


def _masks(path: Path, height: int, width: int) -> list[Rle]:
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluateError(f"{path} cannot be read: {error}") from error
    masks = []
    for number, line in enumerate(lines, start=1):
        try:
            corners = np.array(line.split()[1:], np.float64).reshape(-1, 2)
        except ValueError as error:
            raise EvaluateError(f"{path}, line {number}: should be a class and pairs of numbers") from error
        if not len(corners):
            continue
        if len(corners) < 3:
            raise EvaluateError(
                f"{path}, line {number}: should be a polygon, which has three corners or more, and no box"
            )
        if not ((corners > -_BEYOND) & (corners < 1 + _BEYOND)).all():
            raise EvaluateError(
                f"{path}, line {number}: should have x as a part of the picture's width and y of its height, "
                "0..1"
            )
        filled = np.zeros((height, width), np.uint8)
        cv2.fillPoly(filled, [np.rint(corners * (width, height)).astype(np.int32)], 1)
        if filled.any():
            masks.append(encode(filled.view(np.bool_)))
    return masks
