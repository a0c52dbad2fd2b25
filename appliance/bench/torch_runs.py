"""Runs a checkpoint with torch, one run for each line that comes in. Run by the export environment's Python;
imports nothing of the appliance.

Standard input: a line with the side of the square input in pixels. Standard output: for each the milliseconds
that the run took, network and decoding of boxes, without suppression. Ends with its input.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Read the command line, load, and answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print, as they are imported too, goes to the log
    import torch  # type: ignore[import-not-found]
    from ultralytics.nn.tasks import load_checkpoint  # type: ignore[import-not-found]

    torch.set_num_threads(args.threads)
    model, _ = load_checkpoint(str(args.checkpoint), fuse=True)
    with torch.inference_mode():
        for line in sys.stdin:
            image = torch.rand(1, 3, int(line), int(line))
            start_ns = time.perf_counter_ns()
            model(image)
            print((time.perf_counter_ns() - start_ns) / 1e6, file=answers, flush=True)


if __name__ == "__main__":
    main()
