"""The float reference's masks, by Ultralytics. Run by the export environment's Python; imports nothing of the
appliance.

    predict(imgsz=(H, W), conf=0.25, iou=0.7, agnostic_nms=True, max_det=300, retina_masks=True, rect=False)

`agnostic_nms`: masks of objects, whatever the class. `retina_masks`: mask logits are interpolated to the
picture's own pixels before they are compared with 0. `rect=False`: letterboxed into the whole input, as
for a TFLite model.

Two rules are the appliance's, so that a difference between a model and the reference is one between networks.
Boxes are treated at the border of the picture as in the original FastSAM, before masks are cut to them. And a
mask keeps the pixels whose centres lie in its box; Ultralytics takes those whose index does, which is half a
pixel to the right of and below it.

Writes a line of JSON for each picture: `name`, `size` (height, width), `invoke_ms`, and
`instances` with `score`, `bbox` (left, top, width, height) and `counts`, the mask as COCO's uncompressed run
lengths. Pictures whose line is there already are left out, so a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch  # type: ignore[import-not-found]
from ultralytics import YOLO  # type: ignore[import-not-found]
from ultralytics.engine.results import Results  # type: ignore[import-not-found]
from ultralytics.models.yolo.segment import SegmentationPredictor  # type: ignore[import-not-found]
from ultralytics.nn.modules.head import Segment  # type: ignore[import-not-found]
from ultralytics.utils import ops  # type: ignore[import-not-found]
from ultralytics.utils.nms import TorchNMS  # type: ignore[import-not-found]

BORDER = 20 / 1024
"""Of the input's longer side: a box that comes this near to the border of the picture reaches it."""
WHOLE_PICTURE = 0.9
"""A box of more than this share of the picture is the whole picture."""


def main() -> None:
    """Read the command line, segment every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--pictures", type=Path, required=True, help="a JSON list of paths")
    parser.add_argument("--lines", type=Path, required=True, help="the file to write, or to go on with")
    parser.add_argument("--memory", type=Path, required=True, help="gets this process' peak memory in bytes")
    args = parser.parse_args()

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    paths = [Path(path) for path in json.loads(args.pictures.read_text())]
    lines = args.lines.read_text().splitlines() if args.lines.exists() else []
    done = {json.loads(line)["name"] for line in lines}
    settings = {
        "imgsz": (args.size[1], args.size[0]),
        "conf": 0.25,
        "iou": 0.7,
        "agnostic_nms": True,
        "max_det": 300,
        "retina_masks": True,
        "rect": False,
        "device": "cpu",
        "verbose": False,
    }
    stand_in_for_torchvision()
    model = YOLO(str(args.checkpoint), task="segment")
    if not isinstance(model.model.model[-1], Segment):
        raise SystemExit(f"{args.checkpoint.name} gives no masks; give a -seg checkpoint")
    with args.lines.open("a") as file:
        for path in paths:
            if path.name not in done:
                file.write(json.dumps({"name": path.name, **segment(model, path, settings)}) + "\n")
                file.flush()
    args.memory.write_text(str(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def stand_in_for_torchvision() -> None:
    """Give Ultralytics its own NMS as torchvision's, which is all that predicting imports it for.

    The environment has torchvision's metadata only: its wheels fit one build of torch each.
    """
    ops = types.SimpleNamespace(nms=TorchNMS.nms)
    sys.modules["torchvision"] = types.SimpleNamespace(ops=ops)  # type: ignore[assignment]


class Predictor(SegmentationPredictor):  # type: ignore[misc]
    """Ultralytics' own, but for the two rules."""

    def construct_result(self, pred: Any, img: Any, orig_img: Any, img_path: Any, proto: Any) -> Any:
        """The instances of one picture: `pred` (N, 6 + 32), boxes in input pixels, best score first."""
        shape_hw = orig_img.shape[:2]
        boxes = at_border(ops.scale_boxes(img.shape[2:], pred[:, :4], shape_hw), shape_hw, img.shape[2:])
        masks = ops.process_mask_native(proto, pred[:, 6:], boxes - 0.5, shape_hw)
        shown = masks.amax((-2, -1)) > 0 if len(masks) else torch.zeros(0, dtype=torch.bool)
        found = torch.cat([boxes, pred[:, 4:6]], 1)
        return Results(
            orig_img, path=img_path, names=self.model.names, boxes=found[shown], masks=masks[shown]
        )


def at_border(boxes: Any, shape_hw: tuple[int, int], input_hw: tuple[int, int]) -> Any:
    """FastSAM's treatment of boxes (N, 4), picture pixels, at the border of the picture."""
    height, width = shape_hw
    near = BORDER * max(input_hw) * max(height / input_hw[0], width / input_hw[1])
    first, last = boxes[:, :2], boxes[:, 2:]
    whole = torch.tensor([width, height], dtype=boxes.dtype)
    first = torch.where(first < near, torch.zeros_like(first), first)
    last = torch.where(last > whole - near, whole, last)
    share = (last - first).prod(1, keepdim=True) / (width * height)
    everything = torch.cat([torch.zeros_like(whole), whole])
    return torch.where(share > WHOLE_PICTURE, everything, torch.cat([first, last], 1))


def segment(model: Any, path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """All instances of a picture, best score first."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SystemExit(f"{path} cannot be read as a picture; take it out of the folder")
    (result,) = model.predict(bgr, predictor=Predictor, **settings)
    instances = []
    if result.masks is not None:
        masks = result.masks.data.to(torch.uint8).numpy()
        for mask, box, score in zip(masks, result.boxes.xyxy.numpy(), result.boxes.conf.numpy(), strict=True):
            left, top, right, bottom = (float(side) for side in box)
            bbox = [round(side, 2) for side in (left, top, right - left, bottom - top)]
            instances.append({"score": round(float(score), 5), "bbox": bbox, "counts": run_lengths(mask)})
    return {
        "size": list(bgr.shape[:2]),
        "invoke_ms": round(float(result.speed["inference"]), 2),
        "instances": instances,
    }


def run_lengths(mask: Any) -> list[int]:
    """COCO's run lengths of a (H, W) mask of 0 and 1: column after column, beginning with those of 0."""
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = [0, *changes.tolist(), len(flat)]
    runs = np.diff(edges).tolist()
    return [0, *runs] if flat[0] else runs


if __name__ == "__main__":
    main()
