"""What a run of a model costs: time and memory, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from appliance.data import Frame
from appliance.errors import EvaluateError
from appliance.evaluate.passes import BackendName, Segmenter
from appliance.evaluate.pictures import Picture

_RUNS: Final = 30
_WARM_UP: Final = 3
_LONGEST_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one model on one machine."""

    invoke_ms: list[float]
    """Of single runs: the network alone, without what comes before and after it."""
    peak_memory_bytes: int
    """Of the process: interpreter, model, and one picture. What a device itself holds is not seen."""
    runs_on: str
    """In words."""


def measure(model: Path, backend: BackendName, pictures: Sequence[Picture]) -> Cost:
    """Run a model on some pictures. Raises `EvaluateError` if that fails where `answer_all` did not."""
    context = multiprocessing.get_context("spawn")  # a fresh process: its peak is the model's
    # Ctrl-C reaches it too, and is for this process alone to say something about.
    with context.Pool(1, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        task = pool.apply_async(_measure, (model, backend, list(pictures)))
        try:
            return task.get(_LONGEST_S)
        except multiprocessing.TimeoutError as error:
            raise EvaluateError(f"{model.name} took more than {_LONGEST_S:.0f} s for {_RUNS} runs") from error


def _measure(model: Path, backend: BackendName, pictures: Sequence[Picture]) -> Cost:
    segment = Segmenter(model, backend)
    taken_ms = []
    try:
        for number in range(_WARM_UP + _RUNS):
            ready = segment.preprocess(Frame(number, 0, pictures[number % len(pictures)].rgb()))
            start_ns = time.perf_counter_ns()
            segment.backend.start(ready.tensor)
            made = segment.backend.finish()
            if made is not None and number >= _WARM_UP:
                taken_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        peak = sum(
            resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return Cost(taken_ms, peak * 1024, segment.backend.name)
    finally:
        segment.backend.close()


def summary(invoke_ms: Sequence[float]) -> dict[str, float | None]:
    """Median and 95th percentile in ms, and how many a second the median allows."""
    if not invoke_ms:
        return {"median_ms": None, "p95_ms": None, "per_second": None}
    median, p95 = (float(value) for value in np.percentile(invoke_ms, [50, 95]))
    return {"median_ms": round(median, 2), "p95_ms": round(p95, 2), "per_second": round(1000 / median, 2)}
