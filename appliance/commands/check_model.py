"""`appliance check-model`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from appliance.commands import Commands
from appliance.errors import NotForEdgeTpu


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parser."""
    check = commands.add_parser(
        "check-model",
        parents=[common],
        help="which ops of a model would run on the Edge TPU",
        description="Holds every op of a .tflite file against what an Edge TPU can run, or says what is left "
        "outside in a compiled one. Needs no Edge TPU.",
        epilog=f"Exit code: 0 if nothing is left to the CPU, {NotForEdgeTpu.exit_code} otherwise.",
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--json", action="store_true", help="one JSON object on standard output")
    check.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    from appliance.convert.edgetpu import graph, table  # the doctor does without NumPy

    name = str(options.file)
    report = graph.check(options.file)
    print(json.dumps(table.as_json(report, name)) if options.json else table.as_text(report, name))
    return 0 if report.all_mapped else NotForEdgeTpu.exit_code
