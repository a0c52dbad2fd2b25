"""`appliance doctor`, `appliance report` and `appliance check-config`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from appliance.commands import PROJECT_CONFIG, Commands
from appliance.doctor.checks import Verdict, as_text, worst
from appliance.doctor.configuration import load_whole
from appliance.doctor.examination import examine

_INSTALLED = Path("/etc/appliance/config.yaml")


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    usual = _INSTALLED if _INSTALLED.exists() else PROJECT_CONFIG
    doctor = commands.add_parser(
        "doctor",
        parents=[common],
        help="what is there, what is missing, and what to do about it",
        description="One line for each check: ok, warn or fail, and below it what to do.",
        epilog="Exit code: 0 if nothing failed (warnings are no failures), 1 otherwise.",
    )
    doctor.add_argument("--config", type=Path, default=usual, help="default: %(default)s")
    doctor.add_argument("--json", action="store_true", help="one JSON object on standard output")
    doctor.set_defaults(command=_doctor)

    report = commands.add_parser(
        "report",
        parents=[common],
        help="one text file to attach to a question: doctor, figures, versions, configuration",
        description="Takes about half a minute. Passwords and keys are left out; read it before you send it.",
    )
    report.add_argument("--config", type=Path, default=usual, help="default: %(default)s")
    report.add_argument("--out", type=Path, default=Path("appliance-report.txt"), help="default: %(default)s")
    report.set_defaults(command=_report)

    check = commands.add_parser(
        "check-config",
        parents=[common],
        help="whether a configuration file is right",
        epilog="Exit code: 0 if it is, 2 if it is not.",
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check_config)


def _doctor(options: argparse.Namespace) -> int:
    checks = examine(options.config)
    verdict = worst(checks)
    if options.json:
        lines = [
            {"name": check.name, "verdict": check.verdict.value, "words": check.words, "advice": check.advice}
            for check in checks
        ]
        print(json.dumps({"verdict": verdict.value, "checks": lines}))
    else:
        print(as_text(checks))
    return int(verdict is Verdict.FAIL)


def _report(options: argparse.Namespace) -> int:
    from appliance.doctor.report import write_report

    print(write_report(options.out, options.config))
    return 0


def _check_config(options: argparse.Namespace) -> int:
    config = load_whole(options.file)
    from appliance.invoke.pairs import locate  # needs NumPy, which the doctor does without

    locate(Path(config.model.file))
    print(f"{options.file}: ok")
    return 0
