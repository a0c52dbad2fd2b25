"""The command line. `main` returns the exit code."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from appliance import __version__
from appliance.app import App, build
from appliance.config import PROJECT_ROOT, Config, load
from appliance.errors import ApplianceError, NoScreen

_log = logging.getLogger("appliance")
_DEMO_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. What a user can cause ends in one line on standard error and a distinct code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(levelname)s %(threadName)s %(name)s: %(message)s" if options.debug else "%(message)s",
        stream=sys.stderr,
        force=True,
    )
    # A thread that holds the interpreter lock gives it up after 1 ms instead of 5, so that the stage that
    # feeds the device does not wait for one that draws.
    sys.setswitchinterval(0.001)
    try:
        exit_code: int = options.command(options)
        sys.stdout.flush()
    except ApplianceError as error:
        if options.debug:
            raise
        print(f"appliance: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:  # while starting up, or in a command that handles no signals
        return 128 + signal.SIGINT
    return exit_code


def _run(options: argparse.Namespace) -> int:
    config = load(options.config)
    config = config.overridden(source=options.source, model=options.model, display=options.display)
    _run_until_stopped(build(config), options.seconds)
    return 0


def _demo(options: argparse.Namespace) -> int:
    config = Config().relative_to(PROJECT_ROOT).overridden(source="scene")
    try:
        _run_until_stopped(build(config.overridden(display="screen")), options.seconds)
    except NoScreen as error:
        seconds = options.seconds or _DEMO_S
        _log.warning("%s", error)
        _log.warning("so: %.0f s of the demo as a video and a still, in %s", seconds, config.output)
        _run_until_stopped(build(config.overridden(display="files")), seconds)
    return 0


def _run_until_stopped(app: App, seconds: float | None) -> None:
    def stop(signum: int, stack: FrameType | None) -> None:
        del signum, stack
        app.ask_to_stop()

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
        numbers.append(signal.SIGHUP)  # the terminal was closed
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        app.run(seconds)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _convert(options: argparse.Namespace) -> int:
    from appliance.convert import convert  # what it needs is not needed to run the appliance

    print(convert(options.checkpoint, options.size, options.calibration, options.out))
    return 0


def _bench_pipeline(options: argparse.Namespace) -> int:
    from appliance.bench import bench_pipeline

    figures = asdict(bench_pipeline(options.invoke_ms, options.seconds))
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")
    return 0


def _size(text: str) -> tuple[int, int]:
    """Width and height from "512" or "640x384"."""
    sides = text.split("x")
    try:
        width, height = int(sides[0]), int(sides[-1])
    except ValueError:
        width = height = 0
    if len(sides) > 2 or min(width, height) < 32 or width % 32 or height % 32:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: multiples of 32, such as 512 or 640x384")
    return width, height


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return number


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="log everything, show tracebacks")
    parser = argparse.ArgumentParser(
        prog="appliance",
        description="Outlines every object in a live picture; click one and it stays picked out.",
    )
    parser.add_argument("--version", action="version", version=f"appliance {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[common], help="run the appliance")
    run.add_argument(
        "--source",
        help="scene, a video or image file, a folder of photographs, or a device such as /dev/video0",
    )
    run.add_argument("--model", help="a .tflite file")
    run.add_argument("--display", choices=("screen", "files", "null"), help="where the picture goes")
    run.add_argument("--config", type=Path, default=PROJECT_ROOT / "config.yaml", help="default: %(default)s")
    run.add_argument("--seconds", type=_positive, help="end after this time")
    run.set_defaults(command=_run)

    demo = commands.add_parser(
        "demo", parents=[common], help="the generated scene, on a screen or in a video"
    )
    demo.add_argument("--seconds", type=_positive, help="end after this time")
    demo.set_defaults(command=_demo)

    convert = commands.add_parser("convert", parents=[common], help="checkpoint -> int8 TFLite")
    convert.add_argument("--checkpoint", type=Path, required=True, help="a YOLOv8-seg or FastSAM .pt file")
    convert.add_argument("--size", type=_size, default=(512, 512), help="512 (default) or WIDTHxHEIGHT")
    convert.add_argument("--calibration", type=Path, required=True, help="a folder of photographs")
    convert.add_argument("--out", type=Path, default=Path("models"), help="default: %(default)s")
    convert.set_defaults(command=_convert)

    bench = commands.add_parser("bench", help="measure").add_subparsers(required=True, metavar="WHAT")
    pipeline = bench.add_parser(
        "pipeline", parents=[common], help="the whole pipeline around a device that takes a given time"
    )
    pipeline.add_argument("--invoke-ms", type=_positive, required=True, help="what the device takes")
    pipeline.add_argument("--seconds", type=_positive, default=10.0, help="default: %(default)s")
    pipeline.add_argument("--json", action="store_true", help="one JSON object on standard output")
    pipeline.set_defaults(command=_bench_pipeline)
    return parser


if __name__ == "__main__":
    sys.exit(main())
