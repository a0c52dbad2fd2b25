"""The photographs that an evaluation runs on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from appliance.capture.photographs import PhotographUnreadable, in_folder, read
from appliance.data import RgbImage
from appliance.errors import SourceMissing, SourceUnreadable


@dataclass(frozen=True, slots=True)
class Picture:
    """A photograph on the disk."""

    path: Path
    sha256: str
    size_hw: tuple[int, int]

    @property
    def name(self) -> str:
        """Its file name, which tells it apart from the others."""
        return self.path.name

    def rgb(self) -> RgbImage:
        """Its pixels. Raises `SourceUnreadable`."""
        try:
            return read(self.path)
        except PhotographUnreadable as error:
            raise SourceUnreadable(
                f"{self.path} cannot be read: {error}; take it out of the folder"
            ) from error


def find_pictures(folder: Path, limit: int | None) -> list[Picture]:
    """The photographs of a folder by name, the first `limit` of them.

    Raises `SourceMissing` if there is no folder, `SourceUnreadable` if it holds none, or one that is damaged.
    """
    if not folder.is_dir():
        raise SourceMissing(f"there is no folder {folder}; give one with photographs")
    try:
        paths = in_folder(folder)[:limit]
    except OSError as error:
        raise SourceUnreadable(f"the folder {folder} cannot be read: {error.strerror}") from error
    if not paths:
        raise SourceUnreadable(f"there are no photographs in {folder}")
    return [_picture(path) for path in paths]


def _picture(path: Path) -> Picture:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be read: {error.strerror}") from error
    unsized = Picture(path, hashlib.sha256(content).hexdigest(), (0, 0))
    height, width = unsized.rgb().shape[:2]
    return Picture(path, unsized.sha256, (height, width))


def small_jpeg(rgb: RgbImage, longer_px: int, quality: int = 80) -> bytes:
    """A picture as JPEG, made smaller if its longer side is more than `longer_px`."""
    scale = min(1.0, longer_px / max(rgb.shape[:2]))
    size_wh = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    small = cv2.resize(rgb, size_wh, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(
        ".jpg", np.ascontiguousarray(small[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return encoded.tobytes()
