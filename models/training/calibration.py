"""Pictures to measure the int8 ranges on: of the kind that is trained on, from a seed of their own.

python models/training/calibration.py SKIMAGE_DATA FOLDER
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import cv2
import photographs
from dataset import SCENE_WH, samples

SEED = 99
PICTURES = 200


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    images = photographs.read(Path(sys.argv[1]), photographs.TRAINED)
    for number, sample in enumerate(itertools.islice(samples(SEED, SCENE_WH, images), PICTURES)):
        cv2.imwrite(str(folder / f"{number:03}.png"), cv2.cvtColor(sample.rgb, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
