"""`appliance bench`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from appliance.commands import Commands, positive


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    bench = commands.add_parser("bench", help="measure").add_subparsers(required=True, metavar="WHAT")
    pipeline = bench.add_parser(
        "pipeline", parents=[common], help="the whole pipeline around a device that takes a given time"
    )
    pipeline.add_argument("--invoke-ms", type=positive, required=True, help="what the device takes")
    pipeline.add_argument("--seconds", type=positive, default=10.0, help="default: %(default)s")
    pipeline.add_argument("--worker", action="store_true", help="the device in a process of its own")
    pipeline.add_argument("--json", action="store_true", help="one JSON object on standard output")
    pipeline.set_defaults(command=_pipeline)

    worker = bench.add_parser(
        "worker", parents=[common], help="what it costs that a device lives in a process of its own"
    )
    worker.add_argument("--json", action="store_true", help="one JSON object on standard output")
    worker.set_defaults(command=_worker)

    invoke = bench.add_parser(
        "invoke", parents=[common], help="the network alone: torch, float and int8 TFLite, in turn"
    )
    invoke.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE.pt",
        help="one that was converted at 512; default: FastSAM-s's architecture with random weights",
    )
    invoke.add_argument("--json", action="store_true", help="one JSON object on standard output")
    invoke.set_defaults(command=_invoke)


def _pipeline(options: argparse.Namespace) -> int:
    from appliance.bench.pipeline import bench_pipeline

    _print_figures(asdict(bench_pipeline(options.invoke_ms, options.seconds, options.worker)), options.json)
    return 0


def _worker(options: argparse.Namespace) -> int:
    from appliance.bench.worker import bench_worker

    _print_figures(asdict(bench_worker()), options.json)
    return 0


def _invoke(options: argparse.Namespace) -> int:
    from appliance.bench.invoke import bench_invoke, random_fastsam

    _print_figures(asdict(bench_invoke(options.checkpoint or random_fastsam())), options.json)
    return 0


def _print_figures(figures: dict[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")
