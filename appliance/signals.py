"""The signals that ask a program to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def asking(ask_to_stop: Callable[[], None]) -> Iterator[None]:
    """Call a function, in the main thread, when a signal asks for the end. It must be safe in a handler."""

    def stop(signum: int, stack: FrameType | None) -> None:
        del signum, stack
        ask_to_stop()

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
        numbers.append(signal.SIGHUP)  # the terminal was closed
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
