"""Reading photographs: one file, or those in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from appliance.data import RgbImage

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class PhotographUnreadable(Exception):
    """The file holds no picture, or a damaged one."""


def is_photograph(path: Path) -> bool:
    """Whether the name says that it is one."""
    return path.suffix.lower() in SUFFIXES


def in_folder(folder: Path) -> list[Path]:
    """The photographs in a folder, not in those below it, sorted by name; hidden ones left out."""
    return sorted(
        path for path in folder.iterdir() if is_photograph(path) and path.name[0] != "." and path.is_file()
    )


def read(path: Path) -> RgbImage:
    """Read a photograph, the right way up.

    Returns (H, W, 3) uint8, red first, perhaps not writable. Raises `PhotographUnreadable`.
    """
    try:
        with Image.open(path) as image:
            image.load()  # a file that was cut short fails here
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits of grey: Pillow would clip them to 8
                deep = np.asarray(upright)
                return np.repeat((deep >> 8).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
            return np.asarray(upright.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        # Pillow reports damage as any of these, depending on the format.
        raise PhotographUnreadable(str(error) or type(error).__name__) from error
