"""The photographs that the int8 ranges are measured on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.capture.photographs import in_folder
from appliance.data import Frame, Layout, ModelSpec, TensorSpec
from appliance.errors import ConvertError
from appliance.preprocess import Preprocessor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MOST = 100
"""Photographs that a calibration uses; 25 to 100 do equally well."""


def find_pictures(folder: Path) -> list[Path]:
    """The photographs of a folder, by name, hidden ones left out. Raises `ConvertError` if there is none."""
    if not folder.is_dir():
        raise ConvertError(f"calibrate: there is no folder {folder}; give one with photographs")
    try:
        pictures = [path for path in in_folder(folder) if path.suffix.lower() in SUFFIXES]
    except OSError as error:
        raise ConvertError(f"calibrate: the folder {folder} cannot be read: {error.strerror}") from error
    if not pictures:
        raise ConvertError(
            f"calibrate: {folder} holds no .jpg or .png; about 100 varied photographs are needed"
        )
    return pictures


def spread(paths: list[Path], most: int = MOST) -> list[Path]:
    """At most this many of the paths, evenly spread: neighbours in a folder are often alike."""
    if len(paths) <= most:
        return paths
    return [paths[index * len(paths) // most] for index in range(most)]


def load_pictures(paths: list[Path], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8, red first: the photographs as the appliance letterboxes them.

    Raises `ConvertError` for a file that is no picture.
    """
    width, height = size_wh
    unscaled = TensorSpec("pictures", (1, height, width, 3), np.dtype(np.uint8), scale=1 / 255)
    preprocess = Preprocessor(ModelSpec("calibration", unscaled, (), Layout.RAW_HEAD))
    pictures = np.empty((len(paths), height, width, 3), np.uint8)
    for index, path in enumerate(paths):
        try:
            bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        except cv2.error:  # more pixels than OpenCV will read
            bgr = None
        if bgr is None:
            raise ConvertError(f"calibrate: {path} cannot be read as a picture; take it out of the folder")
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        pictures[index] = preprocess(Frame(index, 0, rgb, path.name)).tensor[0]
    return pictures
