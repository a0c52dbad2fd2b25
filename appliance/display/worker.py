"""A thread that works on items beside the one that gives them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_CHECK_S = 0.2


class Worker(Generic[T]):
    """Calls `handle` for each item, in order, on a thread of its own, behind a short queue.

    With `lossless`, `put` waits for a place in the queue; otherwise it never waits and drops the item when
    there is none, which is counted. `handle` must deal with the errors it expects; any other one ends the
    thread with a traceback in the log, and the next `put` raises `RuntimeError`.
    """

    def __init__(
        self, name: str, handle: Callable[[T], None], lossless: bool, finish: Callable[[], None]
    ) -> None:
        """`finish` is called on the thread after the last item."""
        self.dropped = 0
        self._handle = handle
        self._finish = finish
        self._lossless = lossless
        # Pictures are big: two are enough to smooth things out if nothing is lost, four ride out a slow disk.
        self._queue: queue.Queue[T | None] = queue.Queue(2 if lossless else 4)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether items have still to be worked off."""
        return self._thread.is_alive() and self._queue.unfinished_tasks > 0

    def put(self, item: T) -> None:
        """Hand over an item; ignored after `close`."""
        while not self._closing.is_set():
            if not self._thread.is_alive():
                raise RuntimeError(f"the thread {self._thread.name} has failed")
            try:
                self._queue.put(item, block=self._lossless, timeout=_CHECK_S)
            except queue.Full:
                if not self._lossless:
                    self.dropped += 1
                    return
            else:
                return

    def close(self, timeout_s: float) -> bool:
        """Work off what is queued and end; returns whether that was done in time. Safe to call again."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)  # only to wake the thread
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                closing = self._closing.is_set()
                try:
                    item = self._queue.get(block=not closing, timeout=_CHECK_S)
                except queue.Empty:
                    if closing:
                        return
                    continue
                if item is None:
                    return
                self._handle(item)
                del item  # it may hold pooled memory
                self._queue.task_done()
        finally:
            self._finish()


def remaining_s(deadline_s: float) -> float:
    """Seconds until a time of `time.monotonic`, not below 0."""
    return max(0.0, deadline_s - time.monotonic())
