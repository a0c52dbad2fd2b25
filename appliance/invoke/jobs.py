"""What the parent tells a worker process, and what it hears back: a few bytes each, in one packet each.

The parent sends a `Job`, with the descriptors of the memory of inputs and outputs, and hears READY, or a
`Failure`. For each run it sends the indices of an input's and an outputs' block and hears DONE with the time
that it took, or a `Failure`.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import struct
from dataclasses import dataclass

import numpy as np

from appliance.data import TensorSpec

READY = b"ready"
DONE = b"done"
"""Followed by `TOOK`."""
TOOK = struct.Struct("<d")
"""Milliseconds of a run."""
RUN = struct.Struct("<II")
"""Indices of the input's and of the outputs' block."""
PACKET_NBYTES = 65536


class Trouble(enum.Enum):
    """Why a worker cannot go on."""

    NO_DEVICE = "no device"
    """It was there a moment ago, or is held by another program."""
    NO_LIBRARY = "no library"
    """libedgetpu cannot be loaded."""
    CRASHED = "crashed"
    """The process died while it loaded: the library and the runtime do not fit each other."""
    OLD_RUNTIME = "old runtime"
    """The model is compiled for a newer libedgetpu."""
    MODEL = "model"
    """The model cannot be used, or has changed on the disk."""
    LOST = "lost"
    """The process died, got stuck or reported an error after it had worked."""

    @property
    def final(self) -> bool:
        """Whether another attempt is of no use."""
        return self in (Trouble.OLD_RUNTIME, Trouble.MODEL)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker cannot go on, and the same in words, one line."""

    trouble: Trouble
    words: str

    def packet(self) -> bytes:
        """For the parent."""
        return json.dumps([self.trouble.value, self.words[:2000]]).encode()

    @classmethod
    def of(cls, packet: bytes) -> Failure:
        """From the worker."""
        trouble, words = json.loads(packet)
        return cls(Trouble(trouble), words)


@dataclass(frozen=True, slots=True)
class EdgeTpuJob:
    """Run a compiled model on an Edge TPU."""

    model: str
    library: str
    device: str
    """What we call it: "usb:0"."""
    option: str
    """What libedgetpu calls it; empty for any."""


@dataclass(frozen=True, slots=True)
class SleepingJob:
    """Stand in for a device that takes its time without using the processor."""

    invoke_ms: float
    outputs: str
    """A file of outputs, given in turn: each as the tensors' bytes one after the other."""


Work = EdgeTpuJob | SleepingJob


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and the tensors that it takes and gives."""

    work: Work
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    input_blocks: int
    output_blocks: int

    def packet(self) -> bytes:
        """For the worker."""
        specs = [
            {**dataclasses.asdict(spec), "dtype": spec.dtype.str} for spec in (self.input, *self.outputs)
        ]
        return json.dumps(
            {
                "edge_tpu": isinstance(self.work, EdgeTpuJob),
                "work": dataclasses.asdict(self.work),
                "specs": specs,
                "blocks": [self.input_blocks, self.output_blocks],
            }
        ).encode()

    @classmethod
    def of(cls, packet: bytes) -> Job:
        """From the parent."""
        content = json.loads(packet)
        model_input, *outputs = (
            TensorSpec(**{**spec, "dtype": np.dtype(spec["dtype"]), "shape": tuple(spec["shape"])})
            for spec in content["specs"]
        )
        work = (EdgeTpuJob if content["edge_tpu"] else SleepingJob)(**content["work"])
        return cls(work, model_input, tuple(outputs), *content["blocks"])
