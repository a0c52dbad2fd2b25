"""What it costs that the device lives in a process of its own."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.data import Frame, ModelSpec, Tensor
from appliance.invoke.blocks import nbytes, tensors
from appliance.invoke.edgetpu import EdgeTpuBackend
from appliance.invoke.jobs import SleepingJob
from appliance.invoke.worker import Sleeping
from appliance.notices import Notices
from appliance.synthetic import fastsam_spec, synthesise

_INVOKE_MS = 10.0
_RUNS = 300
_WARM_UP = 20
_OBJECTS = 40


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """What `appliance bench worker` prints: medians."""

    in_process_ms: float
    worker_ms: float
    overhead_ms: float


@contextmanager
def recorded(spec: ModelSpec, outputs: Sequence[Sequence[Tensor]]) -> Iterator[Path]:
    """A file of outputs for a `SleepingJob`."""
    blocks = np.zeros((len(outputs), nbytes(spec.outputs)), np.uint8)
    for block, made in zip(blocks, outputs, strict=True):
        for view, tensor in zip(tensors(block, spec.outputs), made, strict=True):
            view[...] = tensor
    with tempfile.NamedTemporaryFile() as file:
        file.write(blocks.tobytes())
        file.flush()
        yield Path(file.name)


def sleeping_backend(invoke_ms: float, spec: ModelSpec, file: Path) -> EdgeTpuBackend:
    """The real worker process, around a device that sleeps."""
    job = SleepingJob(invoke_ms, str(file))
    return EdgeTpuBackend(spec, lambda: job, None, must_work=True, patient=True)


def bench_worker() -> WorkerFigures:
    """Run a device of 10 ms here and in a worker, in turn, with inputs and outputs of FastSAM-s's size."""
    spec = fastsam_spec()
    frame = Frame(0, 0, np.zeros((512, 512, 3), np.uint8))
    outputs = synthesise(frame, spec, _OBJECTS, seed=1).outputs.tensors
    here_ms, there_ms = [], []
    with recorded(spec, [outputs]) as file:
        here = Sleeping(_INVOKE_MS, file, spec.outputs)
        own = [np.empty(output.shape, output.dtype) for output in spec.outputs]
        there = sleeping_backend(_INVOKE_MS, spec, file)
        there.open(Notices(), lambda words: None, threading.Event())
        try:
            for _ in range(_WARM_UP + _RUNS):
                tensor = there.lease()
                start_ns = time.monotonic_ns()
                here.run(tensor, own)
                between_ns = time.monotonic_ns()
                there.start(tensor)
                there.finish()
                here_ms.append((between_ns - start_ns) / 1e6)
                there_ms.append((time.monotonic_ns() - between_ns) / 1e6)
        finally:
            there.close()
    in_process_ms = statistics.median(here_ms[_WARM_UP:])
    worker_ms = statistics.median(there_ms[_WARM_UP:])
    return WorkerFigures(
        in_process_ms=round(in_process_ms, 3),
        worker_ms=round(worker_ms, 3),
        overhead_ms=round(worker_ms - in_process_ms, 3),
    )
