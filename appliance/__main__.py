"""The command line. `main` returns the exit code."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from appliance import __version__, systemd
from appliance.commands import bench, calibrate, check_model, convert, doctor, evaluate, models, run
from appliance.errors import ApplianceError

_COMMANDS = (run, models, calibrate, convert, check_model, evaluate, bench, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. What a user can cause ends in one line on standard error and a distinct code."""
    options = _parser().parse_args(arguments)
    in_journal = systemd.stderr_is_journal()
    handler = logging.StreamHandler(sys.stderr)
    formatter = systemd.JournalFormatter if in_journal else logging.Formatter
    handler.setFormatter(
        formatter("%(levelname)s %(threadName)s %(name)s: %(message)s" if options.debug else "%(message)s")
    )
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO, handlers=[handler], force=True
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
        systemd.status(str(error))
        print(f"{'<3>' if in_journal else ''}appliance: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:  # while starting up, or in a command that handles no signals
        return 128 + signal.SIGINT
    return exit_code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="log everything, show tracebacks")
    parser = argparse.ArgumentParser(
        prog="appliance",
        description="Outlines every object in a live picture; click one and it stays picked out.",
    )
    parser.add_argument("--version", action="version", version=f"appliance {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for module in _COMMANDS:
        module.add_to(commands, common)
    return parser


if __name__ == "__main__":
    sys.exit(main())
