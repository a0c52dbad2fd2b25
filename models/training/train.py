"""Train the demo model; `scripts/train` runs this in an environment that has what it needs.

The pictures are generated while it trains, all from the seed.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import photographs
import torch
import yaml
from dataset import Batches
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import SegmentationModel
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.torch_utils import ModelEMA

NETWORK = Path(__file__).parent / "demo.yaml"


def new_model() -> SegmentationModel:
    """The untrained network."""
    model = SegmentationModel(yaml.safe_load(NETWORK.read_text()), ch=3, nc=1, verbose=False)
    model.args = get_cfg(overrides={"task": "segment"})
    model.names = {0: "object"}
    return model


def optimiser(model: torch.nn.Module, decay: float) -> torch.optim.Optimizer:
    """AdamW; biases and batch normalisation do not decay."""
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    )


def save(path: Path, model: torch.nn.Module, input_wh: tuple[int, int], pictures: int) -> None:
    """In the form that `ultralytics.YOLO(path)` loads."""
    args = {**DEFAULT_CFG_DICT, "task": "segment", "imgsz": max(input_wh), "model": NETWORK.name}
    plain = copy.deepcopy(model).half().eval()
    if hasattr(plain, "criterion"):
        del plain.criterion
    checkpoint = {
        "model": plain, "ema": None, "train_args": args, "epoch": -1, "pictures": pictures,
        "date": datetime.now(UTC).isoformat(), "license": "AGPL-3.0 (https://ultralytics.com/license)",
    }  # fmt: skip
    partial = path.with_suffix(".partial")
    torch.save(checkpoint, partial)
    partial.replace(path)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True, help="scikit-image's folder skimage/data")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 288), metavar=("W", "H"))
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3, help="the highest learning rate")
    parser.add_argument(
        "--mask-stride", type=int, default=4, help="input pixels per pixel of the masks in the loss"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    model = new_model()
    if options.start:
        model.load_state_dict(torch.load(options.start, weights_only=False)["model"].float().state_dict())
    model.to(memory_format=torch.channels_last).train()
    adam = optimiser(model, 5e-4)
    averaged = ModelEMA(model, decay=0.9995, tau=1000)
    size = tuple(options.size)
    images = photographs.read(options.photographs, photographs.TRAINED)
    batches = iter(
        torch.utils.data.DataLoader(
            Batches(options.seed, size, options.batch, options.mask_stride, images),
            batch_size=None,
            num_workers=1,
            prefetch_factor=4,
        )
    )
    steps, warm_up = options.pictures // options.batch, 300
    options.out.parent.mkdir(parents=True, exist_ok=True)
    began, shown = time.monotonic(), Counter[str]()
    for step in range(steps):
        rate = (
            options.lr
            * min(1.0, (step + 1) / warm_up)
            * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)
        )
        for group in adam.param_groups:
            group["lr"] = rate
        batch = next(batches)
        batch["img"] = (batch["img"].float() / 255).contiguous(memory_format=torch.channels_last)
        loss, parts = model(batch)
        adam.zero_grad()
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        adam.step()
        averaged.update(model)
        shown.update({name: float(value) for name, value in parts.items()})
        if (step + 1) % 50 == 0:
            means = " ".join(f"{name} {value / 50:.3f}" for name, value in shown.items())
            elapsed_s = time.monotonic() - began
            print(
                f"{(step + 1) * options.batch} pictures, {elapsed_s:.0f} s, rate {rate:.1e}: {means}",
                flush=True,
            )
            shown.clear()
        if (step + 1) % 500 == 0:
            save(options.out.with_suffix(".last.pt"), averaged.ema, size, (step + 1) * options.batch)
    save(options.out, averaged.ema, size, steps * options.batch)


if __name__ == "__main__":
    main()
