"""Running the programs of other environments: bounded, logged, and stopped with us."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Final

from appliance.errors import ConvertError

LOOK_EVERY_S: Final = 0.25
_PROGRESS: Final = re.compile(rb"^progress (0\.\d+|[01])$", re.MULTILINE)
"""A line of a program's output that says how far it is, 0..1."""
_TAIL: Final = 4096
_REASON_LENGTH: Final = 400
_Handler = Callable[[int, FrameType | None], object] | int | None
"""Of a signal."""


class NotStarted(Exception):
    """A program that cannot be run; says why."""


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
            code = run(
                command, folder, output, timeout_s, lambda: tick(_progress(log_file, beginning)), variables
            )
        except NotStarted as error:
            raise ConvertError(f"{step}: {error}") from error
    if code is None:
        raise ConvertError(f"{step}: not done after {timeout_s:.0f} s; its log is {log_file}")
    if code != 0:
        raise ConvertError(f"{step}: {reason(log_file, code)} (exit code {code}; its log is {log_file})")


def run(
    command: Sequence[str | Path],
    folder: Path,
    output: IO[bytes],
    timeout_s: float,
    look: Callable[[], None] = lambda: None,
    variables: Mapping[str, str] | None = None,
) -> int | None:
    """Run a command in `folder`; its exit code, or None if it was not done in time. `look` is called often.

    Nothing of it runs on, however this ends: with an exception of `look`, too, and with a signal that asks
    this process to end. Raises `NotStarted`.
    """
    with _heeding_signals() as received:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # it may have children of its own, which are to end with it
            )
        except OSError as error:
            raise NotStarted(f"{command[0]} cannot be run: {error.strerror}") from error
        end_s = time.monotonic() + timeout_s
        try:
            while time.monotonic() < end_s and not received:
                try:
                    return process.wait(min(LOOK_EVERY_S, timeout_s))
                except subprocess.TimeoutExpired:
                    look()
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _heeding_signals() -> Iterator[list[int]]:
    """Hold back the signals that ask for the end until the child has ended; those that came are listed.

    It has a process group of its own, so they reach this process alone, and Python would let SIGTERM end that
    at once. They take effect afterwards, as exceptions, so that everything is tidied up.
    """
    received: list[int] = []

    def note(number: int, stack: FrameType | None) -> None:
        del stack
        received.append(number)

    before: dict[int, _Handler] = {}
    if threading.current_thread() is threading.main_thread():  # which alone may handle signals
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for handled, how in before.items():
            signal.signal(handled, how)
    if received:
        handler = before[received[0]]
        if callable(handler):
            handler(received[0], None)  # Python's own for SIGINT raises KeyboardInterrupt
        raise SystemExit(128 + received[0])


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


def reason(log_file: Path, code: int) -> str:
    """Why a program failed: what ended it, or the last line that it wrote."""
    if code == -signal.SIGKILL:
        return "it was killed, as happens when memory runs out"
    lines = [line.strip() for line in log_file.read_bytes().splitlines()]
    said = [line.decode(errors="replace") for line in lines if line and not _PROGRESS.fullmatch(line)]
    return said[-1][:_REASON_LENGTH] if said else "no output"
