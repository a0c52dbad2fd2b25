"""How a picture lies in the model's input: the letterbox, and the two ways through it. Pure.

Coordinates are continuous and count from the top left corner: pixel i covers [i, i + 1), its centre is
i + 0.5. That is the convention of `cv2.resize`, so a resize by s maps x to s * x exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A picture, resized with its aspect kept, centred in a model input and padded.

    The resized picture is whole pixels wide and high, so its two scales differ a little; both are kept,
    so that masks and clicks map exactly.
    """

    picture_wh: tuple[int, int]
    input_wh: tuple[int, int]
    content_xywh: tuple[int, int, int, int]
    """Where the resized picture lies in the input, in input pixels."""

    @classmethod
    def fit(cls, picture_wh: tuple[int, int], input_wh: tuple[int, int]) -> Letterbox:
        """The largest centred copy of the picture that fits into the input."""
        width, height = picture_wh
        scale = min(input_wh[0] / width, input_wh[1] / height)
        content_w = min(input_wh[0], max(1, round(width * scale)))
        content_h = min(input_wh[1], max(1, round(height * scale)))
        left, top = (input_wh[0] - content_w) // 2, (input_wh[1] - content_h) // 2
        return cls(picture_wh, input_wh, (left, top, content_w, content_h))

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Input pixels per picture pixel."""
        return self.content_xywh[2] / self.picture_wh[0], self.content_xywh[3] / self.picture_wh[1]

    def to_input(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points (..., 2) from picture pixels to input pixels."""
        return np.asarray(xy, np.float64) * self.scale_xy + self.content_xywh[:2]

    def to_picture(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points (..., 2) from input pixels to picture pixels; not clipped."""
        picture_xy: NDArray[np.float64] = (np.asarray(xy, np.float64) - self.content_xywh[:2]) / self.scale_xy
        return picture_xy

    def boxes_to_picture(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes (N, 4) from input pixels to picture pixels, clipped to the picture."""
        corners = self.to_picture(np.asarray(xyxy).reshape(-1, 2, 2))
        return np.clip(corners, 0, self.picture_wh).reshape(-1, 4).astype(np.float32)
