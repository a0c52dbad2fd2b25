"""Running the programs of other environments: bounded, logged, and stopped with us."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from appliance.errors import ConvertError

LOOK_EVERY_S: Final = 0.25
_PROGRESS: Final = re.compile(rb"^progress (0\.\d+|[01])$", re.MULTILINE)
"""A line of a program's output that says how far it is, 0..1."""
_TAIL: Final = 4096
_REASON_LENGTH: Final = 400


def run_logged(
    step: str,
    command: Sequence[str | Path],
    log_file: Path,
    folder: Path,
    timeout_s: float,
    variables: dict[str, str] | None = None,
    tick: Callable[[float | None], None] = lambda part: None,
) -> None:
    """Run a command in `folder`, its output appended to `log_file`; `tick` is told how far it is.

    Raises `ConvertError`, with the last line of its output, if it fails or takes longer than `timeout_s`.
    """
    with log_file.open("ab") as output:
        output.write(f"$ {' '.join(map(str, command))}\n".encode())
        output.flush()
        beginning = output.tell()
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise ConvertError(f"{step}: {command[0]} cannot be run: {error.strerror}") from error
    try:
        code = _wait(process, time.monotonic() + timeout_s, lambda: tick(_progress(log_file, beginning)))
    except subprocess.TimeoutExpired as error:
        raise ConvertError(f"{step}: not done after {timeout_s:.0f} s; its log is {log_file}") from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code != 0:
        raise ConvertError(f"{step}: {_reason(log_file)} (exit code {code}; its log is {log_file})")


def _wait(process: subprocess.Popen[bytes], end_s: float, look: Callable[[], None]) -> int:
    """The exit code. Raises `subprocess.TimeoutExpired` at `end_s`."""
    while True:
        try:
            return process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end_s:
                raise
            look()


def _progress(log_file: Path, beginning: int) -> float | None:
    """What a program said last about how far it is."""
    try:
        with log_file.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(beginning, end - _TAIL))
            said = _PROGRESS.findall(log.read())
    except FileNotFoundError:  # somebody tidied up the folder, which only the program itself needs
        return None
    return float(said[-1]) if said else None


def _reason(log_file: Path) -> str:
    """The last line that a program wrote."""
    lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "no output")[:_REASON_LENGTH]
