"""One text file that says all that somebody who helps from afar would ask for."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from appliance import __version__
from appliance.doctor.checks import as_text
from appliance.doctor.examination import examine
from appliance.doctor.machine import Machine
from appliance.doctor.service import UNIT, log_selection
from appliance.errors import OutputNotWritable

_BENCH_S = 60.0
_INVOKE_MS = "150"
"""About what FastSAM-s at 512 is expected to take on an Edge TPU."""
_EFFICIENT = 0.95
_BENCHES = (
    ("worker", "--json"),
    ("pipeline", "--worker", "--invoke-ms", _INVOKE_MS, "--seconds", "5", "--json"),
)
_BOOT = ("boot/firmware/config.txt", "boot/firmware/cmdline.txt")
_LOG_LINES = "200"
_IN_ADDRESS = re.compile(r"(?<=:/)(/?)[^\s\"'<>]*@")
"""User and password, up to the last @: passwords may hold one, and a slash. In a path, // has become /."""
_NAMED = re.compile(
    r"(?i)(\b\w*(?:password|passwd|passphrase|secret|token|api_?key|psk|pwd|auth)\w*[\"']?\s*[:=]\s*)(\S.*?)(?=&|\s*$)",
    re.MULTILINE,
)
_HIDDEN = "***"


def write_report(path: Path, config: Path) -> Path:
    """Write the file; its path. Raises `OutputNotWritable`."""
    text = report(config, Machine())
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputNotWritable(f"{path} cannot be written: {error.strerror}; use --out FILE") from error
    return path


def report(config: Path, machine: Machine) -> str:
    """The whole text. What cannot be found out is a line in it."""
    sections: tuple[tuple[str, Callable[[], str]], ...] = (
        ("appliance", lambda: f"{__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("doctor", lambda: as_text(examine(config, machine.root, machine.environment))),
        *((f"bench {' '.join(bench)}", lambda bench=bench: _bench(machine, *bench)) for bench in _BENCHES),
        ("versions", _versions),
        (f"configuration {config}", lambda: without_comments(config.read_text(encoding="utf-8"))),
        *((path, lambda path=path: without_comments((machine.root / path).read_text())) for path in _BOOT),
        (f"log of {UNIT}", lambda: _log(machine)),
    )
    return "\n".join(f"== {title}\n\n{without_secrets(_said(section))}\n" for title, section in sections)


def without_secrets(text: str) -> str:
    """The text with user names and passwords of addresses, and values that are named so, masked."""
    return _NAMED.sub(rf"\g<1>{_HIDDEN}", _IN_ADDRESS.sub(rf"\g<1>{_HIDDEN}@", text))


def without_comments(text: str) -> str:
    """The lines that count."""
    lines = [re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line) or "nothing is set"


def _said(section: Callable[[], str]) -> str:
    try:
        return section()
    except Exception as error:  # noqa: BLE001 - the rest of the report is needed all the more
        return f"cannot be found out: {type(error).__name__}: {error}"


def _bench(machine: Machine, *arguments: str) -> str:
    command = [sys.executable, "-m", "appliance", "bench", *arguments]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_BENCH_S,
        check=False,
        env=machine.environment,
    )
    if done.returncode:
        return f"failed with code {done.returncode}:\n{done.stderr.strip()[-2000:]}"
    figures = json.loads(done.stdout)
    lines = [f"{name}: {value}" for name, value in figures.items()]
    if figures.get("efficiency", 1) < _EFFICIENT:
        lines.append(
            f"warn: less than {_EFFICIENT:.0%} of the device's speed arrives: is the machine busy or hot?"
        )
    return "\n".join(lines)


def _versions() -> str:
    system = " ".join((platform.system(), platform.release(), platform.machine()))
    found = {
        f"{distribution.name} {distribution.version}" for distribution in importlib.metadata.distributions()
    }
    cores = f"{len(os.sched_getaffinity(0))} cores"
    return "\n".join((system, cores, f"Python {sys.version}", *sorted(found, key=str.lower)))


def _log(machine: Machine) -> str:
    how = ("--no-pager", "--no-hostname", "--output", "short-iso")
    said = machine.ask("journalctl", *log_selection(machine.root), "--lines", _LOG_LINES, *how)
    return "journalctl is missing, or fails" if said is None else said or "empty, or not for this user"
