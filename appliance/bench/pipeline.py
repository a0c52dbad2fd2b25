"""How much of a device's speed arrives on the screen."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.app import wire
from appliance.bench.worker import recorded, sleeping_backend
from appliance.capture.scene import Scene
from appliance.config import Config
from appliance.data import Frame, Inference, ModelSpec, RgbImage, Tensor
from appliance.display import View
from appliance.display.null import NullDisplay
from appliance.metrics import Metrics, Milliseconds, Snapshot
from appliance.notices import Notices
from appliance.pool import Pool
from appliance.synthetic import fastsam_spec, synthesise

_RATE_HZ = 60
_SIZE_WH = (1280, 720)
_PICTURES = 60
_OBJECTS = 40
"""What FastSAM finds in a usual picture."""
_OUTPUTS = 4
_WARM_UP_S = 2.0


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
    latency_ms: Milliseconds | None
    dropped: int
    """Pictures of the source that were not shown, in the measured time."""
    cpu_cores: float
    """Processor time of the process, without its worker, by elapsed time."""


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
        self._inputs = Pool(spec.input.shape, spec.input.dtype)
        self.spec = spec
        self._invoke_s = invoke_ms / 1000
        self._due_s = 0.0
        self._outputs = itertools.cycle(outputs)

    def open(self, notices: Notices, say: Callable[[str], None], stopping: threading.Event) -> None:
        del notices, stopping
        say(self.name)

    def lease(self) -> Tensor:
        return self._inputs.lease()

    def start(self, tensor: Tensor) -> None:
        del tensor
        self._due_s = time.monotonic() + self._invoke_s

    def finish(self) -> Inference:
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        return Inference(self.spec, next(self._outputs), self._invoke_s * 1e3)

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Reading:
    figures: Snapshot
    at_ns: int
    cpu_ns: int


class _Gauge(NullDisplay):
    """Shows nothing, though all is drawn; reads the figures when the measured time begins and ends."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._begins_ns = time.monotonic_ns() + int(_WARM_UP_S * 1e9)
        self.before: _Reading | None = None
        self.after: _Reading | None = None

    def show(self, view: View) -> None:
        """Take a picture off the pipeline."""
        super().show(view)
        if self.before is None and time.monotonic_ns() >= self._begins_ns:
            self.before = self._read()

    def close(self) -> None:
        """Nothing more is shown: what ends after this does not count."""
        super().close()
        self.after = self._read()

    def _read(self) -> _Reading:
        return _Reading(self._metrics.snapshot(), time.monotonic_ns(), time.process_time_ns())


def bench_pipeline(invoke_ms: float, seconds: float, worker: bool) -> PipelineFigures:
    """Run the whole pipeline, drawing included, on 1280x720 pictures at 60/s for `seconds`.

    Masks are of FastSAM's kind and number: some 40, nested and overlapping, at 512 x 512. With `worker` the
    device is in a process of its own, as an Edge TPU is.
    """
    scene = Scene(seed=1, size_wh=_SIZE_WH, rate_hz=_RATE_HZ)
    pictures = [scene.render(index)[0] for index in range(_PICTURES)]
    spec = fastsam_spec()
    outputs = [
        synthesise(Frame(0, 0, pictures[0]), spec, _OBJECTS, seed).outputs.tensors for seed in range(_OUTPUTS)
    ]
    metrics = Metrics(window_s=seconds)
    gauge = _Gauge(metrics)
    source = _ReadyPictures(pictures, _RATE_HZ)
    with recorded(spec, outputs) as file:
        device = _SleepingDevice(invoke_ms, spec, outputs)
        backend = sleeping_backend(invoke_ms, spec, file) if worker else device
        wire(Config(), source, backend, gauge, metrics).run(_WARM_UP_S + seconds)

    before, last = gauge.before, gauge.after
    assert before is not None
    assert last is not None
    after, elapsed_ns = last.figures, last.at_ns - before.at_ns
    limit_per_s = 1000 / invoke_ms
    return PipelineFigures(
        invoke_ms=invoke_ms,
        masks_per_s=round(after.masks_per_s, 3),
        limit_per_s=round(limit_per_s, 3),
        efficiency=round(after.masks_per_s / limit_per_s, 4),
        pictures_per_s=round(after.pictures_per_s, 2),
        source_per_s=round(after.source_per_s, 2),
        latency_ms=_rounded(after.latency_ms),
        dropped=after.dropped - before.figures.dropped,
        cpu_cores=round((last.cpu_ns - before.cpu_ns) / elapsed_ns, 2),
    )


def _rounded(value: Milliseconds | None) -> Milliseconds | None:
    return None if value is None else Milliseconds(round(value.median, 1), round(value.p95, 1))
