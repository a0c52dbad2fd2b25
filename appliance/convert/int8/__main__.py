"""Raw-head ONNX -> float and int8 TFLite. Inputs and outputs are NHWC.

`--pictures` is a .npy of letterboxed pictures, (N, H, W, 3) uint8, red first; the network sees them divided
by 255. Ends with exit code 1 and a last line that says why, if it cannot.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

# onnx2tf builds its graph with Keras 2; TensorFlow reads this when it is imported.
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import onnx2tf  # type: ignore[import-not-found]
import tensorflow as tf  # type: ignore[import-untyped]

from . import exact, flatbuffer, ranges
from .graph import find_head
from .judge import Judge
from .observe import observe

SAMPLES_FILE = "calibration_image_sample_data_20x128x128x3_float32.npy"
FLOAT_PART, OBSERVED_PART = 0.25, 0.25
"""Of the time that all takes: making the float model, running it on the pictures."""
JUDGED_PICTURES = 50
"""The most that variants of a model are compared on."""


def main() -> None:
    """Read the command line, convert, write what was found beside the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--float", type=Path, required=True, help="float TFLite to write")
    parser.add_argument("--tflite", type=Path, required=True, help="int8 TFLite to write")
    parser.add_argument("--facts", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()

    pictures = np.load(args.pictures, mmap_mode="r")
    put_samples(pictures, Path.cwd() / SAMPLES_FILE)
    content = to_float(args.onnx, pictures.shape[1:])
    args.float.write_bytes(content)
    args.tflite.write_bytes(quantise(content, pictures))
    interpreter = tf.lite.Interpreter(str(args.tflite))
    facts = {
        "input": describe(interpreter.get_input_details()[0]),
        "outputs": [describe(output) for output in interpreter.get_output_details()],
        "tools": {"tensorflow": tf.__version__, "onnx2tf": onnx2tf.__version__},
    }
    args.facts.write_text(json.dumps(facts))


def put_samples(pictures: Any, path: Path) -> None:
    """Write the samples that onnx2tf compares the two graphs with; it would download its own if absent."""
    height, width = pictures.shape[1:3]
    rows, columns = np.arange(128) * height // 128, np.arange(128) * width // 128
    chosen = np.arange(20) % len(pictures)
    np.save(path, np.stack([pictures[i][rows][:, columns] for i in chosen]).astype(np.float32) / 255)


def to_float(onnx_path: Path, shape: tuple[int, ...]) -> bytes:
    """The float flatbuffer, for inputs (1, *shape)."""
    model = onnx2tf.convert(
        input_onnx_file_path=str(onnx_path),
        not_use_onnxsim=True,
        disable_model_save=True,
        non_verbose=True,
    )
    function = tf.function(model).get_concrete_function(tf.TensorSpec((1, *shape), tf.float32))
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], model).convert())


def quantise(content: bytes, pictures: Any) -> bytes:
    """The int8 flatbuffer: int8 weights per channel, int8 activations, int8 in and out."""
    _, graph = flatbuffer.read(content)
    if (kind := graph.unknown()) is not None:
        raise SystemExit(f"the network has an operator {kind}, which this converter cannot quantise")
    head = find_head(graph)
    graph = exact.centre_boxes(graph, head)
    say_progress(FLOAT_PART)
    observed = observe(
        content, graph, head, pictures, lambda part: say_progress(FLOAT_PART + part * OBSERVED_PART)
    )
    for level in head.levels:
        observed[level.boxes] = ranges.centred(observed[level.boxes])
    scales = {
        tensor: exact.channel_scales(observed[tensor].low, observed[tensor].high)
        for tensor in exact.scalable(graph)
    }
    for tensor, scale in scales.items():
        product = graph.silu_of(tensor)
        assert product is not None
        for scaled in (tensor, product):
            observed[scaled] = observed[scaled].scaled(scale)
    graph, unscaled = exact.scale_channels(graph, scales)
    chosen = ranges.choose(graph, head, observed, scales, unscaled)
    judge = Judge(content, pictures[:: math.ceil(len(pictures) / JUDGED_PICTURES)])
    variants = list(ranges.first_variants(graph, chosen, list(scales)))
    best, least = b"", math.inf
    for number, variant in enumerate(variants):
        begun = FLOAT_PART + OBSERVED_PART
        say_progress(begun + (1 - begun) * number / len(variants))
        model, _ = flatbuffer.read(content)
        written = flatbuffer.write(model, graph, variant)
        lost = judge(written).total
        if not best or lost < least:
            best, least = written, lost
    return best


def say_progress(part: float) -> None:
    """Tell whoever runs this how much is done, 0..1."""
    sys.stdout.write(f"progress {part:.3f}\n")
    sys.stdout.flush()


def describe(tensor: Any) -> dict[str, Any]:
    """Shape, dtype and quantisation of an input or output, as the sidecar has them."""
    scale, zero_point = tensor["quantization"]
    return {
        "shape": [int(size) for size in tensor["shape"]],
        "dtype": np.dtype(tensor["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero_point),
    }


if __name__ == "__main__":
    main()
