"""Put the scored demo model into its place, with a sidecar that says what it is.

python models/training/publish.py CONVERTED.tflite FIGURES.json models/demo.tflite
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def main() -> None:
    """Copy the model; merge what `appliance convert` and `score.py` wrote."""
    converted, figures, model = (Path(argument) for argument in sys.argv[1:4])
    sidecar = json.loads(converted.with_suffix(".json").read_text(encoding="utf-8"))
    sidecar |= {
        "name": "demo",
        "demo": True,
        "origin": "trained by scripts/train with Ultralytics on pictures of the generated scene",
        "accuracy": json.loads(figures.read_text(encoding="utf-8")),
    }
    shutil.copyfile(converted, model)
    model.with_suffix(".json").write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
