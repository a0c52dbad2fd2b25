"""`appliance calibrate`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from appliance.commands import PROJECT_CONFIG, Commands, photograph_count, positive
from appliance.commands.line import Line, line

_log = logging.getLogger(__name__)

_REMINDER_S = 10.0
"""Without a new photograph, a live source's owner is told what to do."""


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parser."""
    calibrate = commands.add_parser(
        "calibrate", parents=[common], help="collect varied photographs of your own, for convert"
    )
    calibrate.add_argument(
        "--source",
        help="scene, camera, a video or image file, a folder of photographs, or a device such as /dev/video0",
    )
    calibrate.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="may hold some already")
    calibrate.add_argument(
        "--count", type=photograph_count, default=100, help="photographs in all; default: %(default)s"
    )
    calibrate.add_argument("--config", type=Path, default=PROJECT_CONFIG, help="default: %(default)s")
    calibrate.add_argument("--seconds", type=positive, help="end after this time")
    calibrate.set_defaults(command=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    from appliance import stages
    from appliance.app import make_source
    from appliance.config import load
    from appliance.convert.collection import Collection
    from appliance.data import Frame
    from appliance.errors import ApplianceError, SourceUnreadable
    from appliance.metrics import Metrics
    from appliance.notices import Notices

    collection = Collection(options.out, options.count)
    if collection.count:
        _log.info("%s: %d photographs are there already", options.out, collection.count)
    # No screen: every picture of a file counts.
    source = make_source(load(options.config).overridden(source=options.source, display="null"))
    stopping = threading.Event()
    failures: list[ApplianceError] = []
    last_s = time.monotonic()

    def take(frame: Frame) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if collection.offer(frame):
            last_s = now_s
            _show(counter, collection.count, options.count)
        elif source.live and not collection.complete and now_s - last_s > _REMINDER_S:
            last_s = now_s
            _log.info(
                "nothing new for %.0f s: point the camera elsewhere, or change what it sees", _REMINDER_S
            )
        if collection.complete:
            stopping.set()

    if not collection.complete:
        with _stopped_by_signals(stopping), _stopped_after(options.seconds, stopping), line() as counter:
            stages.capture(source, take, stopping, Metrics(), Notices(), False, failures.append)
    for failure in failures:
        raise failure
    if not collection.count:
        raise SourceUnreadable(f"{source.name} gave no picture; give it more time, or look at its connection")
    print(f"{collection.count} photographs in {options.out}; next: {_next_step(collection.count, options)}")
    return 0


def _next_step(count: int, options: argparse.Namespace) -> str:
    convert = f"appliance convert --checkpoint FILE.pt --calibration {options.out}"
    return convert if count >= options.count else f"more of them with the same command, or {convert}"


def _show(counter: Line, count: int, of: int) -> None:
    """A line that counts on a terminal, a line each elsewhere; on standard error."""
    if counter.on_terminal:
        counter.rewrite(f"photograph {count}/{of}", last=count == of)
    else:
        print(f"photograph {count}/{of}", file=sys.stderr, flush=True)


@contextmanager
def _stopped_by_signals(stopping: threading.Event) -> Iterator[None]:
    def stop(signum: int, stack: FrameType | None) -> None:
        del signum, stack
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _stopped_after(seconds: float | None, stopping: threading.Event) -> Iterator[None]:
    timer = threading.Timer(seconds or 0.0, stopping.set)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
