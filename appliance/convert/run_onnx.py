"""What an ONNX says about pictures. Run by the TFLite environment's Python; imports nothing of the appliance.

`--pictures` is a .npy, (N, H, W, 3) uint8, red first; `--said` gets each output by its name,
(N, channels, h, w).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-not-found]


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--said", type=Path, required=True, help=".npz file to write")
    parser.add_argument("--facts", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()

    session = onnxruntime.InferenceSession(str(args.onnx), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    (entry,) = session.get_inputs()
    images = np.load(args.pictures).astype(np.float32).transpose(0, 3, 1, 2) / 255
    said = [session.run(names, {entry.name: image[np.newaxis]}) for image in images]
    outputs: dict[str, Any] = {name: np.concatenate([one[i] for one in said]) for i, name in enumerate(names)}
    np.savez(args.said, **outputs)
    args.facts.write_text(json.dumps({"tools": {"onnxruntime": onnxruntime.__version__}}))


if __name__ == "__main__":
    main()
