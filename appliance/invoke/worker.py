"""The worker process: owns the device and the interpreter, and may die of them.

Started as `python -m appliance.invoke.worker FD PID`: its end of a socket, and its parent. `jobs` has what
is said. What it, the runtime or the driver writes to standard error, its parent logs.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from appliance.data import Tensor, TensorSpec
from appliance.errors import ModelError
from appliance.invoke import runtime
from appliance.invoke.blocks import Blocks, nbytes, tensors
from appliance.invoke.jobs import (
    DONE,
    PACKET_NBYTES,
    READY,
    RUN,
    TOOK,
    EdgeTpuJob,
    Failure,
    Job,
    SleepingJob,
    Trouble,
)

_NAME = b"appliance-tpu"
"""In `ps`; the kernel keeps 15 bytes."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_NEWER = "requires runtime version"
"""In what libedgetpu says of a model that is compiled for a newer one."""


class _Engine(Protocol):
    def run(self, tensor: Tensor, outputs: Sequence[Tensor]) -> None:
        """Run the model once."""


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


class _EdgeTpu:
    """A compiled model in the real runtime, with libedgetpu as its delegate."""

    def __init__(self, work: EdgeTpuJob, job: Job) -> None:
        try:
            delegate = runtime.load_delegate(
                Path(work.library), {"device": work.option} if work.option else {}
            )
        except OSError as error:
            raise _Failed(
                Failure(Trouble.NO_LIBRARY, f"{work.library} cannot be loaded: {_line(error)}")
            ) from error
        except ValueError as error:
            words = f"{work.device} does not answer: does another program hold it, is it short of power?"
            raise _Failed(Failure(Trouble.NO_DEVICE, words)) from error
        path = Path(work.model)
        try:
            self._interpreter = runtime.load(path, runtime.read(path), 1, [delegate])
        except ModelError as error:
            trouble = Trouble.OLD_RUNTIME if _NEWER in str(error.__cause__) else Trouble.MODEL
            raise _Failed(Failure(trouble, str(error))) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        found = [runtime.tensor_spec(details) for details in (*inputs, *outputs)]
        if found != [job.input, *job.outputs]:
            words = f"{path} has changed since the appliance started: start it again"
            raise _Failed(Failure(Trouble.MODEL, words))
        self._input = int(inputs[0]["index"])
        self._outputs = [int(details["index"]) for details in outputs]
        try:
            # The first run brings the weights to the device, and shows whether the libraries fit each other.
            self._interpreter.invoke()
        except RuntimeError as error:
            raise _Failed(Failure(Trouble.CRASHED, _line(error))) from error

    def run(self, tensor: Tensor, outputs: Sequence[Tensor]) -> None:
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        for index, output in zip(self._outputs, outputs, strict=True):
            output[...] = self._interpreter.tensor(index)()


class Sleeping:
    """A device for measurements: takes its time, and gives outputs that were made beforehand."""

    def __init__(self, invoke_ms: float, file: Path, specs: Sequence[TensorSpec]) -> None:
        self._invoke_s = invoke_ms / 1000
        content, step = np.fromfile(file, np.uint8), nbytes(specs)
        self._outputs = itertools.cycle(
            [tensors(content[start : start + step], specs) for start in range(0, len(content), step)]
        )

    def run(self, tensor: Tensor, outputs: Sequence[Tensor]) -> None:
        """Sleep, and give the next outputs."""
        del tensor
        time.sleep(self._invoke_s)
        for output, made in zip(outputs, next(self._outputs), strict=True):
            output[...] = made


def main(fd: int, parent_pid: int) -> int:
    """Serve until the parent is gone; returns the exit code."""
    _die_with(parent_pid)
    with socket.socket(fileno=fd) as parent:
        packet, fds, _, _ = socket.recv_fds(parent, PACKET_NBYTES, 2)
        if not packet:
            return 0
        job = Job.of(packet)
        inputs = Blocks(nbytes([job.input]), job.input_blocks, fds[0])
        outputs = Blocks(nbytes(job.outputs), job.output_blocks, fds[1])
        try:
            engine = _engine(job)
            parent.send(READY)
            while packet := parent.recv(RUN.size):
                taken, given = RUN.unpack(packet)
                start_ns = time.monotonic_ns()
                engine.run(tensors(inputs[taken], [job.input])[0], tensors(outputs[given], job.outputs))
                parent.send(DONE + TOOK.pack((time.monotonic_ns() - start_ns) / 1e6))
        except _Failed as failed:
            parent.send(failed.failure.packet())
            return 1
        except (RuntimeError, ValueError) as error:  # what a runtime raises in `invoke`
            parent.send(Failure(Trouble.LOST, _line(error)).packet())
            return 1
    return 0


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _engine(job: Job) -> _Engine:
    if isinstance(job.work, SleepingJob):
        return Sleeping(job.work.invoke_ms, Path(job.work.outputs), job.outputs)
    return _EdgeTpu(job.work, job)


def _die_with(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that started it is gone, whatever it hangs in."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NAME, _NAME, 0, 0, 0)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent_pid:  # it was gone before
        os._exit(1)
    # A service's stop goes to all its processes; this one ends when its parent lets it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
