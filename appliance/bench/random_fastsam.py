"""A checkpoint of FastSAM-s's architecture with random weights: as fast as the trained one, and free of its
licence. Run by the export environment's Python; imports nothing of the appliance.

The architecture is YOLOv8s-seg with one class. BatchNorm gets the statistics of real photographs, without
which numbers explode or vanish from layer to layer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch  # type: ignore[import-not-found]
from ultralytics.nn.tasks import SegmentationModel, yaml_model_load  # type: ignore[import-not-found]

SIDE = 320


def main() -> None:
    """Read the command line, make the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=("n", "s"), required=True, help="s is FastSAM-s")
    parser.add_argument("--photographs", type=Path, required=True, help="a folder of .jpg files")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the file to write")
    args = parser.parse_args()

    architecture = yaml_model_load("yolov8-seg.yaml")
    architecture.update(nc=1, scale=args.scale)
    torch.manual_seed(0)
    model = SegmentationModel(architecture, verbose=False).train()
    model.names = {0: "object"}
    paths = sorted(args.photographs.glob("*.jpg"))
    pictures = np.stack([cv2.resize(_rgb(path), (SIDE, SIDE)) for path in paths])
    batch = torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all that it sees, not a moving one
    with torch.no_grad():
        model(batch)
    torch.save({"model": model.half(), "train_args": {}, "license": "none"}, args.checkpoint)


def _rgb(path: Path) -> np.ndarray:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SystemExit(f"{path} cannot be read as a picture")
    return bgr[:, :, ::-1]


if __name__ == "__main__":
    main()
