"""`appliance convert`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.commands import Commands, model_size
from appliance.commands.line import Line, bar, line

if TYPE_CHECKING:
    from appliance.convert.journal import News


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parser."""
    convert = commands.add_parser(
        "convert",
        parents=[common],
        help="checkpoint -> int8 TFLite, for the CPU and the Edge TPU",
        description="Converts a network in steps, each of which is kept and done again only if something has "
        "changed. Checks what each form of it says. Writes NAME.tflite, NAME.json, NAME.tar and, where "
        "edgetpu_compiler is installed, NAME_edgetpu.tflite.",
    )
    source = convert.add_mutually_exclusive_group(required=True)
    source.add_argument("network", nargs="?", metavar="NAME", help="one that is known by name: fastsam-s")
    source.add_argument(
        "--checkpoint", type=Path, metavar="FILE.pt", help="of a YOLOv8-seg, YOLO11-seg or FastSAM model"
    )
    convert.add_argument(
        "--size",
        type=_size,
        default=(512, 512),
        help="512 (default), WIDTHxHEIGHT, or auto: the largest of 512, 448, 416, 384, 320 that compiles",
    )
    convert.add_argument(
        "--calibration", type=Path, required=True, metavar="FOLDER", help="about 100 varied photographs"
    )
    convert.add_argument("--out", type=Path, default=Path("models"), help="default: %(default)s")
    convert.set_defaults(command=_convert)


def _size(text: str) -> tuple[int, int] | None:
    return None if text == "auto" else model_size(text)


def _convert(options: argparse.Namespace) -> int:
    from appliance.convert import convert, get_checkpoint  # what they need is not needed to run the appliance
    from appliance.convert.journal import log_news

    with line() as progress:
        show = partial(_rewrite, progress) if progress.on_terminal else log_news
        checkpoint = options.checkpoint or get_checkpoint(options.network, show)
        made = convert(checkpoint, options.size, options.calibration, options.out, show=show)
    print(made.operators)
    if made.elsewhere is not None:
        print(f"\nTo compile it for the Edge TPU, on an x86-64 machine ({made.elsewhere.script}):\n")
        print(made.elsewhere.commands)
    for path in (made.model, made.compiled, made.bundle):
        if path is not None:
            print(path)
    return 0


def _rewrite(progress: Line, news: News) -> None:
    """On a terminal: one line for each step, and a bar while it is under way."""
    if news.kept:
        text = "unchanged, kept"
    elif news.ended:
        text = f"done in {news.took_s:.1f} s"
    elif news.part is None:
        text = f"{news.what}, {news.took_s:.0f} s" if news.took_s else news.what
    else:
        text = f"{bar(news.part)} {news.took_s:.0f} s"
    progress.rewrite(f"{news.step}: {text}", last=news.ended)
