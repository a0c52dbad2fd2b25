"""`appliance convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.commands import Commands, model_size


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parser."""
    convert = commands.add_parser("convert", parents=[common], help="checkpoint -> int8 TFLite")
    convert.add_argument("--checkpoint", type=Path, required=True, help="a YOLOv8-seg or FastSAM .pt file")
    convert.add_argument("--size", type=model_size, default=(512, 512), help="512 (default) or WIDTHxHEIGHT")
    convert.add_argument("--calibration", type=Path, required=True, help="a folder of photographs")
    convert.add_argument("--out", type=Path, default=Path("models"), help="default: %(default)s")
    convert.set_defaults(command=_convert)


def _convert(options: argparse.Namespace) -> int:
    from appliance.convert import convert  # what it needs is not needed to run the appliance

    print(convert(options.checkpoint, options.size, options.calibration, options.out))
    return 0
