"""Rates, milliseconds and drops of a running pipeline. Thread-safe; monotonic time only."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from dataclasses import dataclass

_NS_PER_S = 1_000_000_000
_SLOW_WINDOWS = 4
"""What comes less than twice in a window is still a rate, until it has stayed away for so many windows."""


def percentile(values: list[float], percent: int) -> float:
    """The value that `percent` of the values do not exceed (nearest rank); 0 if there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


class Rate:
    """Events per second over the last `window_s`: (n - 1) events lie between the first and the last of n.

    Of slow events the last two count, so that one in 3 s is not 0 in a window of 2 s.
    """

    def __init__(self, window_s: float) -> None:
        self._window_ns = int(window_s * _NS_PER_S)
        self._marks_ns: deque[int] = deque()

    def mark(self, now_ns: int) -> None:
        """Note an event."""
        self._marks_ns.append(now_ns)
        self._forget(now_ns)

    def per_s(self, now_ns: int) -> float:
        """The rate; falls towards 0 when events stay away."""
        self._forget(now_ns)
        if len(self._marks_ns) < 2:
            return 0.0
        first_ns, last_ns = self._marks_ns[0], self._marks_ns[-1]
        span_ns, events = last_ns - first_ns, len(self._marks_ns) - 1
        overdue = now_ns - last_ns > 3 * span_ns / events
        return events * _NS_PER_S / max(1, (now_ns - first_ns) if overdue else span_ns)

    def _forget(self, now_ns: int) -> None:
        slow_ns = _SLOW_WINDOWS * self._window_ns
        while self._marks_ns:
            kept_ns = self._window_ns if len(self._marks_ns) > 2 else slow_ns
            if now_ns - self._marks_ns[0] <= kept_ns:
                return
            self._marks_ns.popleft()


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """What a stage took lately."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures at one moment."""

    source_per_s: float
    """Pictures that the source gave."""
    pictures_per_s: float
    """Different pictures that were shown."""
    masks_per_s: float
    """Mask sets that were shown."""
    latency_ms: Milliseconds | None
    """Capture of the picture that the masks belong to, to the masks' first appearance; live only."""
    stage_ms: dict[str, Milliseconds]
    """Per stage, by its name: what one item took it, waiting not counted."""
    dropped: int
    """Pictures of the source that were never shown, since the start."""
    shown: int
    """Pictures that were shown, since the start."""
    runs_on: str
    """What runs the model, in words, with what its device does if that is not serving."""


class Metrics:
    """Where stages and the viewer note what they did."""

    def __init__(self, window_s: float = 2.0) -> None:
        self._window_ns = int(window_s * _NS_PER_S)
        self._lock = threading.Lock()
        self._source, self._pictures, self._masks = Rate(window_s), Rate(window_s), Rate(window_s)
        self._took_ms: dict[str, deque[tuple[int, float]]] = {}
        self._dropped = 0
        self._shown = 0
        self._runs_on = ""
        self._last_index: int | None = None

    def runs_on(self, words: str) -> None:
        """What runs the model now."""
        self._runs_on = words

    def captured(self) -> None:
        """The source gave a picture."""
        with self._lock:
            self._source.mark(time.monotonic_ns())

    def took(self, what: str, ms: float) -> None:
        """A stage worked `ms` on an item."""
        now_ns = time.monotonic_ns()
        with self._lock:
            values = self._took_ms.setdefault(what, deque())
            values.append((now_ns, ms))
            while now_ns - values[0][0] > self._window_ns:
                values.popleft()

    def picture_shown(self, index: int) -> None:
        """The picture with this `Frame.index` was shown for the first time."""
        with self._lock:
            self._pictures.mark(time.monotonic_ns())
            self._shown += 1
            if self._last_index is not None:
                self._dropped += max(0, index - self._last_index - 1)
            self._last_index = index

    def picture_passed(self, index: int) -> None:
        """The picture with this `Frame.index` was left out on purpose: no drop."""
        with self._lock:
            self._last_index = index

    def masks_shown(self, captured_ns: int | None) -> None:
        """Masks were shown for the first time; None if their picture was not captured in our time."""
        now_ns = time.monotonic_ns()
        with self._lock:
            self._masks.mark(now_ns)
        if captured_ns is not None:
            self.took("latency", (now_ns - captured_ns) / 1e6)

    def snapshot(self) -> Snapshot:
        """All figures now."""
        now_ns = time.monotonic_ns()
        with self._lock:
            took = {
                what: [ms for at_ns, ms in values if now_ns - at_ns <= self._window_ns]
                or [ms for at_ns, ms in values if now_ns - at_ns <= _SLOW_WINDOWS * self._window_ns][-1:]
                for what, values in self._took_ms.items()
            }
            source_per_s = self._source.per_s(now_ns)
            pictures_per_s = self._pictures.per_s(now_ns)
            masks_per_s = self._masks.per_s(now_ns)
            dropped, shown = self._dropped, self._shown
        summary = {
            what: Milliseconds(statistics.median(ms), percentile(ms, 95)) for what, ms in took.items() if ms
        }
        latency = summary.pop("latency", None)
        return Snapshot(
            source_per_s=source_per_s,
            pictures_per_s=pictures_per_s,
            masks_per_s=masks_per_s,
            latency_ms=latency,
            stage_ms=summary,
            dropped=dropped,
            shown=shown,
            runs_on=self._runs_on,
        )


def statistics_line(figures: Snapshot) -> str:
    """The periodic line for the log."""
    stages = ", ".join(f"{what} {ms.median:.1f}" for what, ms in figures.stage_ms.items())
    latency = ""
    if figures.latency_ms is not None:
        latency = f"latency {figures.latency_ms.median:.0f} ms (95 %: {figures.latency_ms.p95:.0f}), "
    return (
        f"masks {figures.masks_per_s:.1f}/s, pictures {figures.pictures_per_s:.1f}/s of "
        f"{figures.source_per_s:.1f}/s, {latency}dropped {figures.dropped}; ms: {stages}; "
        f"on {figures.runs_on}"
    )
