"""Running a TFLite model on the CPU."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from appliance.data import Inference, Tensor
from appliance.invoke import runtime
from appliance.notices import Notices
from appliance.pool import Pool

_log = logging.getLogger(__name__)


class TfliteBackend:
    """The CPU backend; see `appliance.invoke.Backend`."""

    def __init__(self, path: Path, threads: int | None = None, content: bytes | None = None) -> None:
        """Load a model; `threads` as the machine has them if None; `content` if the file was read already.

        Raises `ModelMissing`, `NotAModel`, `NeedsEdgeTpu`, `WrongLayout`, or `ModelError` for a sidecar that
        cannot be read.
        """
        threads = threads or default_threads()
        # The runtime gets the bytes, not the path: a file that is replaced meanwhile then does no harm.
        self._interpreter: runtime.Interpreter | None
        self._interpreter = runtime.load(path, content or runtime.read(path), threads)
        self._input_index = int(self._interpreter.get_input_details()[0]["index"])
        self._output_indices = [int(details["index"]) for details in self._interpreter.get_output_details()]
        self.spec = runtime.model_spec(path, self._interpreter)
        self._started: Tensor | None = None
        self._inputs = Pool(self.spec.input.shape, self.spec.input.dtype)
        self.name = f"CPU, {threads} {'thread' if threads == 1 else 'threads'} ({runtime.runtime()[1]})"
        _log.info(
            "%s: %s, input %d x %d, %s",
            self.spec.name,
            self.spec.layout.value,
            *self.spec.input_wh,
            self.name,
        )

    def open(self, notices: Notices, say: Callable[[str], None], stopping: threading.Event) -> None:
        """Say what runs; there is nothing that could change."""
        del notices, stopping
        say(self.name)

    def lease(self) -> Tensor:
        """Memory for an input."""
        return self._inputs.lease()

    def start(self, tensor: Tensor) -> None:
        """Note the input: the processor that would run the model is needed until `finish`."""
        self._started = tensor

    def finish(self) -> Inference:
        """Run the model on what was started."""
        if self._started is None:
            raise RuntimeError("nothing was started")
        tensor, self._started = self._started, None
        return self.invoke(tensor)

    def invoke(self, tensor: Tensor) -> Inference:
        """Run the model on one input of `spec.input`'s shape and dtype; the outputs are fresh copies."""
        if self._interpreter is None:
            raise RuntimeError("the backend is closed")
        start_ns = time.monotonic_ns()
        self._interpreter.set_tensor(self._input_index, tensor)
        self._interpreter.invoke()
        tensors = tuple(self._interpreter.get_tensor(index) for index in self._output_indices)
        return Inference(self.spec, tensors, (time.monotonic_ns() - start_ns) / 1e6)

    def close(self) -> None:
        """Free the model."""
        self._interpreter = None


def default_threads() -> int:
    """All cores that this process may use, but for one of four or more, which the other stages need."""
    cores = len(os.sched_getaffinity(0))
    return cores - 1 if cores >= 4 else cores
