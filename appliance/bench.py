"""Measurements of the appliance itself, on any machine."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from appliance.app import wire
from appliance.capture.scene import Scene
from appliance.config import Config
from appliance.data import Frame, ModelSpec, RgbImage, Tensor
from appliance.display import View
from appliance.display.null import NullDisplay
from appliance.metrics import Metrics, Snapshot
from appliance.synthetic import fastsam_like

_RATE_HZ = 60
_SIZE_WH = (1280, 720)
_PICTURES = 60
_WARM_UP_S = 2.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Capture of a picture to the first showing of its masks, in ms."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class PipelineFigures:
    """What `appliance bench pipeline` prints."""

    invoke_ms: float
    masks_per_s: float
    limit_per_s: float
    """What the device alone would allow: 1000 / invoke_ms."""
    efficiency: float
    """masks_per_s / limit_per_s."""
    pictures_per_s: float
    source_per_s: float
    latency_ms: Latency
    dropped: int
    """Pictures of the source that were not shown, in the measured time."""
    cpu_cores: float
    """Processor time of the whole process by elapsed time."""


class _ReadyPictures:
    """A live source of pictures made beforehand, so that making them does not count."""

    name = "pictures made beforehand"
    live = True

    def __init__(self, pictures: list[RgbImage], rate_hz: int) -> None:
        self._pictures = pictures
        self._interval_ns = 1_000_000_000 // rate_hz
        self._start_ns = 0
        self._next = 0

    def open(self) -> None:
        self._start_ns = time.monotonic_ns()

    def read(self, timeout_s: float) -> Frame | None:
        del timeout_s  # the next picture is never far
        due_ns = self._start_ns + self._next * self._interval_ns
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        frame = Frame(self._next, time.monotonic_ns(), self._pictures[self._next % len(self._pictures)])
        self._next += 1
        return frame

    def close(self) -> None:
        pass


class _SleepingDevice:
    """A backend that takes its time without using the processor, and gives outputs of FastSAM's kind."""

    def __init__(self, invoke_ms: float, spec: ModelSpec, outputs: list[tuple[Tensor, ...]]) -> None:
        self.name = f"a device of {invoke_ms:g} ms"
        self.spec = spec
        self._invoke_s = invoke_ms / 1000
        self._outputs = itertools.cycle(outputs)

    def invoke(self, tensor: Tensor) -> tuple[Tensor, ...]:
        del tensor
        time.sleep(self._invoke_s)
        return next(self._outputs)

    def close(self) -> None:
        pass


class _Gauge(NullDisplay):
    """Takes the readings at the start of the measured time; shows nothing, though all is drawn."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics
        self._warm_ns: int | None = None
        self.before: Snapshot | None = None
        self.before_ns = 0
        self.before_cpu_s = 0.0

    def show(self, view: View) -> None:
        super().show(view)
        now_ns = time.monotonic_ns()
        if self._warm_ns is None:
            self._warm_ns = now_ns + int(_WARM_UP_S * 1e9)
        if self.before is None and now_ns >= self._warm_ns:
            self.before = self._metrics.snapshot()
            self.before_ns = now_ns
            self.before_cpu_s = time.process_time()


def bench_pipeline(invoke_ms: float, seconds: float) -> PipelineFigures:
    """Run the whole pipeline, drawing included, on 1280x720 pictures at 60/s for `seconds`.

    Masks are FastSAM's kind and number: some 40, nested and overlapping, at 512 x 512.
    """
    scene = Scene(seed=1, size_wh=_SIZE_WH, rate_hz=_RATE_HZ)
    pictures = [scene.render(index)[0] for index in range(_PICTURES)]
    raise NotImplementedError
