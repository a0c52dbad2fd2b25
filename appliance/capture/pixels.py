"""A camera's buffer -> RGB. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.data import RgbImage


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How pictures lie in a buffer."""

    pixels: str
    """libcamera's name, one of `FORMATS`. Those of RGB name the bytes from the last to the first."""
    size_wh: tuple[int, int]
    """In pixels; even for YUV."""
    stride: int
    """Bytes from one row to the next, of the first plane; rows may be padded."""


FORMATS = ("BGR888", "RGB888", "YUV420", "NV12")


def to_rgb(buffer: NDArray[np.uint8], form: StreamFormat, out: RgbImage) -> None:
    """Fill `out`, (H, W, 3), from a buffer, (n,) uint8, that holds a picture and perhaps more after it.

    YUV is taken as BT.601 of limited range, which is what `cv2.cvtColor` knows. Raises `ValueError` for a
    format that is not one of `FORMATS`.
    """
    width, height = form.size_wh
    stride = form.stride
    match form.pixels:
        case "BGR888" | "RGB888":
            pixels = _split(buffer[: height * stride].reshape(height, stride), width)
            if form.pixels == "BGR888":
                np.copyto(out, pixels)
            else:
                cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=out)
        case "YUV420":
            # Rows of chroma are half as long, padding included, so the whole is an image `stride` wide.
            planes = buffer[: height * stride * 3 // 2].reshape(height * 3 // 2, stride)
            if stride == width:
                cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420, dst=out)
            else:
                np.copyto(out, cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)[:, :width])
        case "NV12":
            rows = buffer[: height * stride * 3 // 2].reshape(height * 3 // 2, stride)
            luma, chroma = rows[:height, :width], _split(rows[height:], width // 2, 2)
            cv2.cvtColorTwoPlane(luma, chroma, cv2.COLOR_YUV2RGB_NV12, dst=out)
        case _:
            raise ValueError(f"unknown format {form.pixels}")


def _split(rows: NDArray[np.uint8], width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Rows of bytes, padded or not, as (H, W, channels) in the same memory."""
    shape = (rows.shape[0], width, channels)
    return np.lib.stride_tricks.as_strided(rows, shape, (rows.strides[0], channels, 1), writeable=False)
