"""The photographs of the demo model: those that scikit-image carries, all CC0 or in the public domain.

HELD_OUT is never seen in training, neither behind the objects nor on them. The appliance's own scene has its
backgrounds from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

from appliance.capture.scene import Photographs
from appliance.data import RgbImage

TRAINED = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coins.png",
    "grass.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png", "retina.jpg", "text.png",
)  # fmt: skip
HELD_OUT = ("coffee.jpg", "gravel.jpg", "rocket.jpg")


def read(folder: Path, names: Sequence[str]) -> tuple[RgbImage, ...]:
    """The named photographs, red first. Raises `FileNotFoundError`."""
    images = []
    for name in names:
        image = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
        if image is None:
            raise FileNotFoundError(folder / name)
        images.append(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))
    return tuple(images)


def held_out() -> Photographs:
    """For scoring: backgrounds and surfaces that the network has not seen. They come with the appliance."""
    with resources.as_file(resources.files("appliance.capture") / "photos") as folder:
        images = read(folder, HELD_OUT)
    return Photographs(images, images)
