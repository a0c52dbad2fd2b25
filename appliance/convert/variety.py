"""How different photographs are, and which of them add something to a calibration set. Pure."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.data import RgbImage

CELLS: Final = 8
"""A picture's side, in the cells that are compared."""
LEAST_DIFFERENCE: Final = 0.05
"""Between two photographs of a set. A camera's noise makes 0.005, a tenth more light 0.04, a step aside by a
twentieth of the picture 0.07; two photographs of different things are 0.1 to 0.4 apart."""

Signature = NDArray[np.float32]
"""(8, 8, 3), 0..1: the mean colours of a picture's cells."""


def signature(rgb: RgbImage) -> Signature:
    """What is compared of a picture (H, W, 3) of any size."""
    cells = cv2.resize(rgb, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, np.float32) / np.float32(255)


def difference(a: Signature, b: Signature) -> float:
    """0 for pictures that look alike, 1 for black and white: a distance, root mean square."""
    return float(np.sqrt(np.square(a - b).mean()))


class Variety:
    """The signatures of a set in which no two pictures look alike. For one thread."""

    def __init__(self) -> None:
        self._known: list[Signature] = []

    def add(self, rgb: RgbImage) -> None:
        """Take a picture into the set, whatever it looks like."""
        self._known.append(signature(rgb))

    def is_new(self, rgb: RgbImage) -> bool:
        """Whether a picture is unlike all in the set."""
        seen = signature(rgb)
        return all(difference(seen, known) >= LEAST_DIFFERENCE for known in self._known)
