"""Whether every stage gets on. A hand-over is progress, and a wait for one is no standstill."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Stage:
    name: str
    longest_s: float
    working_since_s: float | None
    """Monotonic; None in a declared wait."""


class Progress:
    """Since when each stage has been working on what it has in hand.

    Thread-safe without a lock: a stage writes nothing but its own entry, one value at a time.
    """

    def __init__(self) -> None:
        self._by_thread: dict[int, _Stage] = {}

    @contextmanager
    def stage(self, name: str, longest_s: float) -> Iterator[None]:
        """The calling thread is this stage, which should not work longer than that on one item."""
        thread = threading.get_ident()
        self._by_thread[thread] = _Stage(name, longest_s, time.monotonic())
        try:
            yield
        finally:
            del self._by_thread[thread]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A declared wait of the calling thread; what comes after it is new work."""
        stage = self._by_thread.get(threading.get_ident())
        if stage is None:  # the main thread, or a test
            yield
            return
        stage.working_since_s = None
        try:
            yield
        finally:
            stage.working_since_s = time.monotonic()

    def stuck(self) -> tuple[str, ...]:
        """The stages that have been working for longer than they should."""
        now_s = time.monotonic()
        stages = [(stage, stage.working_since_s) for stage in list(self._by_thread.values())]
        return tuple(
            stage.name
            for stage, since_s in stages
            if since_s is not None and now_s - since_s > stage.longest_s
        )


class StopEvent(threading.Event):
    """An event whose wait is a declared one: pauses between attempts are no standstill."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def wait(self, timeout: float | None = None) -> bool:
        """As in `threading.Event`."""
        with self._progress.waiting():
            return super().wait(timeout)
