"""Checkpoint -> raw-head ONNX. Run by the export environment's Python; imports nothing of the appliance.

The graph takes `images` (1, 3, H, W) float32, 0..1, and ends at the head's last convolutions: per stride S of
8, 16 and 32 the box distributions `box_S` (1, 64, H/S, W/S), the class logits `class_S` (1, nc, H/S, W/S) and
the mask coefficients `mask_S` (1, 32, H/S, W/S); and the prototypes `prototypes` (1, 32, H/4, W/4). Sigmoid,
DFL and NMS are left to the reader: in int8, boxes, scores and coefficients need a scale each.

`--said` gets what the checkpoint itself says about `--pictures`, (N, H, W, 3) uint8, with Ultralytics' own
code: `rows` (N, 4 + nc + 32, A), with boxes as centre and size in pixels, and `prototypes` (N, 32, H/4, W/4).

Ends with exit code 1 and a last line that says why, if it cannot.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import pickle
import traceback
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx  # type: ignore[import-not-found]
import onnxslim  # type: ignore[import-not-found]
import torch  # type: ignore[import-not-found]
from ultralytics.nn.modules.head import Segment  # type: ignore[import-not-found]
from ultralytics.nn.tasks import load_checkpoint  # type: ignore[import-not-found]

OPSET = 17
STRIDES = (8, 16, 32)
BOX_CHANNELS = 64
MASK_CHANNELS = 32


def main() -> None:
    """Read the command line, export, write what was found beside the ONNX."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--pictures", type=Path, required=True, help="a .npy")
    parser.add_argument("--said", type=Path, required=True, help=".npz file to write")
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--facts", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()

    model, checkpoint = load(args.checkpoint)
    say(model, np.load(args.pictures), args.said)
    export(model, tuple(args.size), args.onnx)
    packages = ("torch", "ultralytics", "onnx", "onnxslim")
    names = model.names if isinstance(model.names, dict) else dict(enumerate(model.names))
    facts = {
        "classes": [str(name) for _, name in sorted(names.items())],
        "licence": str(checkpoint.get("license") or "unknown"),
        "bins": [float(value) for value in model.model[-1].dfl.conv.weight.flatten()],
        "tools": {package: importlib.metadata.version(package) for package in packages},
    }
    args.facts.write_text(json.dumps(facts))


def load(path: Path) -> tuple[Any, dict[str, Any]]:
    """The segmentation model, float32, BatchNorm folded in, and the checkpoint it came in."""
    try:
        model, checkpoint = load_checkpoint(str(path), fuse=True)
    except (TypeError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        traceback.print_exc()
        raise SystemExit(
            f"{path.name} is damaged, no YOLO checkpoint, or needs classes other than those of Ultralytics"
        ) from error
    head = model.model[-1]
    if type(head) is not Segment:
        raise SystemExit(
            f"{path.name} ends in {type(head).__name__}, not in a YOLOv8/YOLO11 segmentation head; "
            "give a -seg checkpoint"
        )
    strides = tuple(int(stride) for stride in model.stride)
    if (strides, 4 * head.reg_max, head.nm) != (STRIDES, BOX_CHANNELS, MASK_CHANNELS):
        raise SystemExit(
            f"{path.name} has strides {strides}, {4 * head.reg_max} box and {head.nm} mask channels; "
            f"needed are {STRIDES}, {BOX_CHANNELS} and {MASK_CHANNELS}"
        )
    channels = next(model.parameters()).shape[1]  # of the first convolution
    if channels != 3:
        raise SystemExit(
            f"{path.name} takes pictures of {channels} channels; needed are 3, red, green and blue"
        )
    return model, checkpoint


def say(model: Any, pictures: Any, path: Path) -> None:
    """Write what the model says about pictures."""
    rows, prototypes = [], []
    with torch.inference_mode():
        for picture in pictures:
            image = torch.from_numpy(picture.transpose(2, 0, 1)[np.newaxis].astype(np.float32) / 255)
            (predictions, prototype), _ = model(image)
            rows.append(predictions[0].numpy())
            prototypes.append(prototype[0].numpy())
    np.savez(path, rows=np.stack(rows), prototypes=np.stack(prototypes))


def export(model: Any, size_wh: tuple[int, int], onnx_path: Path) -> None:
    """Write the raw-head graph of `model` for one input size, simplified."""
    head = model.model[-1]

    def raw_forward(head: Any, features: list[Any]) -> tuple[Any, ...]:
        outputs = []
        for feature, box, logits, mask in zip(features, head.cv2, head.cv3, head.cv4, strict=True):
            outputs += [box(feature), logits(feature), mask(feature)]
        return (*outputs, head.proto(features[0]))

    head.forward = types.MethodType(raw_forward, head)
    names = [f"{part}_{stride}" for stride in STRIDES for part in ("box", "class", "mask")]
    image = torch.zeros(1, 3, size_wh[1], size_wh[0])
    with torch.inference_mode():
        torch.onnx.export(
            model,
            (image,),
            str(onnx_path),
            opset_version=OPSET,
            dynamo=False,
            input_names=["images"],
            output_names=[*names, "prototypes"],
        )
    onnx.save(onnxslim.slim(onnx.load(onnx_path)), onnx_path)


if __name__ == "__main__":
    main()
