"""The subcommands, one module for each group of them.

Each module has `add_to(commands, common)`, which adds its parsers; the default `command` of each takes the
parsed options and returns the exit code. What a command alone needs is imported when it runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # argparse has no public name for it
else:
    Commands = object

PROJECT_CONFIG = Path(__file__).resolve().parents[2] / "config.yaml"
"""The project's own, which is also the reference."""


def positive(text: str) -> float:
    """A positive number, for `type=`."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return number


def photograph_count(text: str) -> int:
    """A number of photographs, 1 or more, for `type=`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of photographs")
    return number


def model_size(text: str) -> tuple[int, int]:
    """Width and height from "512" or "640x384", for `type=`."""
    sides = text.split("x")
    try:
        width, height = int(sides[0]), int(sides[-1])
    except ValueError:
        width = height = 0
    if len(sides) > 2 or min(width, height) < 32 or width % 32 or height % 32:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: multiples of 32, such as 512 or 640x384")
    return width, height
