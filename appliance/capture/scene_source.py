"""The generated scene as a live source: the one that is always there."""

from __future__ import annotations

import time

import numpy as np

from appliance.capture.scene import Scene
from appliance.data import Frame
from appliance.pool import Pool

_SECOND_NS = 1_000_000_000


class SceneSource:
    """Pictures of a `Scene`, at its rate. Live.

    Like a camera it waits for nobody: pictures whose time has passed are left out, and `Frame.index` says so.
    """

    name = "scene"
    live = True

    def __init__(self, seed: int, size_wh: tuple[int, int] = (1280, 720), rate_hz: float = 30.0) -> None:
        self.scene = Scene(seed, size_wh, rate_hz)
        """`scene.render(frame.index)` gives a frame's picture again, and its labels."""
        width, height = size_wh
        self._pool = Pool((height, width, 3), np.uint8)
        self._start_ns: int | None = None
        """When picture 0 is, or would have been, due; None while closed."""
        self._next_index = 0

    def open(self) -> None:
        """Start the clock: the next picture is due at once."""
        self._start_ns = time.monotonic_ns() - self._after_start_ns(self._next_index)

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture, at its time; None if that is later than the timeout.

        `Frame.captured_ns` is the time at which it was due.
        """
        if self._start_ns is None:
            raise RuntimeError("the source is closed")
        now_ns = time.monotonic_ns()
        newest_index = int((now_ns - self._start_ns) * self.scene.rate_hz / _SECOND_NS)
        index = max(self._next_index, newest_index)
        due_ns = self._start_ns + self._after_start_ns(index)
        wait_s = (due_ns - now_ns) / _SECOND_NS
        if wait_s > timeout_s:
            time.sleep(timeout_s)
            return None
        time.sleep(max(0.0, wait_s))
        rgb = self._pool.lease()
        self.scene.draw(index, rgb)
        self._next_index = index + 1
        return Frame(index, due_ns, rgb)

    def close(self) -> None:
        """Stop the clock."""
        self._start_ns = None

    def _after_start_ns(self, index: int) -> int:
        return round(index * _SECOND_NS / self.scene.rate_hz)
